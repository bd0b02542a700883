"""A tiny backbone and a label source in memory: for tests of what works with any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from probekit.api import (
    NEGATIVE,
    POSITIVE,
    BackbonePlugin,
    Batch,
    FeatureMap,
    ImageRef,
    InputGeometry,
    Issue,
    LabelSourcePlugin,
    Layer,
    Parameters,
    Prepared,
    Provenance,
    WeightsInfo,
    read_taps,
)

if TYPE_CHECKING:
    import torch


class TinyParameters(Parameters):
    """Of :class:`TinyBackbone`."""

    weights: Literal["bundled", "random"] = "bundled"
    width: int = 8


class TinyBackbone:
    """Three seeded convolutions: ``stem`` (width channels, stride 4), ``body`` (twice that, stride 8), ``head`` (the
    same, stride 8). Pads right and below to a multiple of 8. ``bundled`` has fixed weights, whatever the seed.

    Attributes:
        loads: how often any instance loaded; ``forwards``: images passed through any instance; neither counts what
            happens on the meta device, without weights. Tests reset them.
    """

    loads = 0
    forwards = 0

    def __init__(self, parameters: TinyParameters, seed: int = 0) -> None:
        self._parameters = parameters
        self._seed = seed if parameters.weights == "random" else 12345

    @property
    def layers(self) -> Mapping[str, Layer]:
        """Three taps."""
        width = self._parameters.width
        return {"stem": Layer(width, (4, 4)), "body": Layer(2 * width, (8, 8)), "head": Layer(2 * width, (8, 8))}

    @property
    def family(self) -> str:
        """Its own."""
        return "tiny"

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """What the numbers depend on besides the weights."""
        return {"width": self._parameters.width, "pad": 8}

    def weights(self) -> WeightsInfo:
        """No file; the digest names the seed."""
        if self._parameters.weights == "random":
            return WeightsInfo("random", f"random:{self._seed}", f"random, seed {self._seed}")
        return WeightsInfo("bundled", "sha256:" + hashlib.sha256(b"tiny").hexdigest(), "made by a seed")

    def twin(self) -> Mapping[str, Any] | None:
        """The same with random weights."""
        return {**self._parameters.model_dump(), "weights": "random"}

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        """Builds all three convolutions."""
        import torch

        TinyBackbone.loads += device.type != "meta"
        width = self._parameters.width
        generator = torch.Generator().manual_seed(self._seed)
        modules = {
            "stem": torch.nn.Conv2d(3, width, 4, 4),
            "body": torch.nn.Conv2d(width, 2 * width, 2, 2),
            "head": torch.nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        }
        for module in modules.values():
            fan_in = module.weight[0].numel()
            for parameter in module.parameters():
                values = torch.randn(parameter.shape, generator=generator)
                parameter.data = values * (2 / fan_in) ** 0.5 if parameter.dim() > 1 else values * 0.1
        self._modules = {name: module.to(device, dtype).eval() for name, module in modules.items()}

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """[-1, 1], padded with zeros to a multiple of 8."""
        import torch

        height, width = image.shape[:2]
        padded = torch.zeros(3, -(-height // 8) * 8, -(-width // 8) * 8)
        padded[:, :height, :width] = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
        return Prepared(padded, InputGeometry(height, width, height, width, padded.shape[1], padded.shape[2]))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """Convolution, ReLU, three times."""
        TinyBackbone.forwards += 0 if batch.tensor.is_meta else len(batch.geometry)
        modules = self._modules

        def call() -> None:
            modules["head"](modules["body"](modules["stem"](batch.tensor).relu()).relu())

        taps = read_taps({name: modules[name] for name in layers}, call, dict.fromkeys(layers, 1))
        return [
            {name: FeatureMap(taps[name][i].relu(), geometry.grid(*taps[name].shape[2:])) for name in layers}
            for i, geometry in enumerate(batch.geometry)
        ]


TINY = BackbonePlugin(
    "tiny",
    "three convolutions, for tests",
    "probekit.testing.fakes:TinyBackbone",
    TinyParameters,
    default_layers=("body",),
)
"""The descriptor of :class:`TinyBackbone`."""


class DiscParameters(Parameters):
    """Of :class:`DiscSource`."""

    groups: int = 10
    images: int = 2
    height: int = 96
    width: int = 128
    radius: float = 12.0


class DiscSource:
    """Grey noise with bright discs (concept ``disc``) and darker squares (concept ``square``), in memory, seeded.

    ``groups`` groups of ``images`` images each; every image holds both concepts.

    Attributes:
        opened: images decoded by any instance. Tests reset it.
    """

    opened = 0

    def __init__(self, parameters: DiscParameters, cache: Path | None = None, seed: int = 0) -> None:
        self._parameters, self._seed = parameters, seed

    @property
    def concepts(self) -> Sequence[str]:
        """Two."""
        return ("disc", "square")

    @property
    def provenance(self) -> Provenance:
        """A renderer."""
        return Provenance("renderer", detail="discs and squares")

    def check(self) -> Sequence[Issue]:
        """Nothing can be wrong."""
        return ()

    def images(self) -> Sequence[ImageRef]:
        """Named by group and place in it."""
        p = self._parameters
        return [
            ImageRef(name, f"g{group:02d}", p.height, p.width, self._digest(name))
            for group in range(p.groups)
            for name in (f"g{group:02d}-{i}" for i in range(p.images))
        ]

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Renders one image."""
        DiscSource.opened += 1
        disc, square = self.mask(image, "disc"), self.mask(image, "square")
        noise = self._random(image, "noise").normal(110, 25, (image.height, image.width, 3))
        return np.clip(noise + 60 * disc[..., None] - 40 * square[..., None], 0, 255).astype(np.uint8)

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """Exact: one shape somewhere."""
        p = self._parameters
        y, x = np.mgrid[: image.height, : image.width] + 0.5
        centre_y, centre_x = self._random(image, concept).uniform(p.radius, (p.height - p.radius, p.width - p.radius))
        dy, dx = np.abs(y - centre_y), np.abs(x - centre_x)
        inside = dy**2 + dx**2 < p.radius**2 if concept == "disc" else np.maximum(dy, dx) < p.radius
        return np.where(inside, POSITIVE, NEGATIVE).astype(np.uint8)

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """By the parameters."""
        return self._digest(f"{image.id}/{concept}")

    def _digest(self, name: str) -> str:
        return "sha256:" + hashlib.sha256(f"{self._parameters!r} {self._seed} {name}".encode()).hexdigest()

    def _random(self, image: ImageRef, what: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, *hashlib.sha256(f"{image.id}/{what}".encode()).digest()[:8]])


DISCS = LabelSourcePlugin(
    "discs", "discs and squares in memory, for tests", "probekit.testing.fakes:DiscSource", DiscParameters
)
"""The descriptor of :class:`DiscSource`."""
