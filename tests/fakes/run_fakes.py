"""A plugin for tests of whole runs: a backbone that holds the truth in one channel, a label source that misbehaves.

``tests/conftest.py`` makes a distribution of it, so that a child process finds it as it finds any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from probekit.api import (
    BackbonePlugin,
    Batch,
    FeatureMap,
    ImageRef,
    InputGeometry,
    LabelSourcePlugin,
    Layer,
    Parameters,
    Prepared,
    Provenance,
    UnreadableImageError,
    Weights,
    WeightsInfo,
    hookimpl,
    read_taps,
)
from probekit.api.checkpoints import file_digest
from probekit.testing.fakes import DISCS, TINY, DiscParameters, DiscSource


class PlantedParameters(Parameters):
    """Of :class:`PlantedBackbone`."""

    channels: int = 6
    order: tuple[int, ...] | None = None
    weights: Weights = "bundled"
    stride: int = 8
    crop: bool = False
    nan_on_white: bool = False
    kind: str = "planted"


class PlantedBackbone:
    """One cell a ``stride`` by ``stride`` block. Channel 2 is the block's brightness, which is what a disc is; the
    others are seeded sums of pixels with zero mean: noise. ``order`` permutes the channels, ``crop`` drops what does
    not fill a block instead of padding, random weights have no channel of truth.

    Attributes:
        loads, forwards: of all instances; tests reset them.
    """

    loads = 0
    forwards = 0

    def __init__(self, parameters: PlantedParameters, seed: int = 0) -> None:
        self.p, self.seed = parameters, seed

    @property
    def layers(self) -> Mapping[str, Layer]:
        return {"cells": Layer(self.p.channels, (self.p.stride, self.p.stride))}

    @property
    def family(self) -> str:
        return self.p.kind

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        return {**self.p.model_dump(mode="json", exclude={"weights", "nan_on_white"})}

    def weights(self) -> WeightsInfo:
        if self.p.weights == "random":
            return WeightsInfo("random", f"random: seed {self.seed}", "random")
        if isinstance(self.p.weights, Path):
            return WeightsInfo("file", file_digest(self.p.weights), self.p.weights.name)
        return WeightsInfo("bundled", "sha256:planted", "planted")

    def twin(self) -> Mapping[str, Any]:
        return {**self.p.model_dump(), "weights": "random"}

    def load(self, layers: Sequence[str], device: Any, dtype: Any) -> None:
        import torch

        type(self).loads += 1
        size = self.p.stride
        kernels = torch.randn(self.p.channels, 3, size, size, generator=torch.Generator().manual_seed(7 + self.seed))
        kernels -= kernels.mean(dim=(1, 2, 3), keepdim=True)
        if self.p.weights != "random":
            kernels[2] = 1.0 / (3 * size * size)
        self.kernels = kernels[list(self.p.order)] if self.p.order else kernels

    def prepare(self, image: Any) -> Prepared:
        import torch

        height, width = image.shape[:2]
        size = self.p.stride
        if self.p.crop:
            rows, columns = height // size * size, width // size * size
        else:
            rows, columns = -(-height // size) * size, -(-width // size) * size
        tensor = torch.zeros(3, rows, columns)
        tensor[:, :height, :width] = torch.from_numpy(image[:rows, :columns].astype(np.float32) / 255).permute(2, 0, 1)
        inside = min(rows, height), min(columns, width)
        return Prepared(tensor, InputGeometry(*inside, *inside, rows, columns))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        import torch

        type(self).forwards += len(batch.geometry)
        kernels = self.kernels.to(batch.tensor.dtype)
        maps = torch.nn.functional.conv2d(batch.tensor, kernels, stride=self.p.stride)
        if self.p.nan_on_white:
            maps[batch.tensor.amin(dim=(1, 2, 3)) == 1.0, 3] = float("nan")
        return [
            {"cells": FeatureMap(one, geometry.grid(*one.shape[1:]))}
            for one, geometry in zip(maps, batch.geometry, strict=True)
        ]


class WiredParameters(Parameters):
    """Of :class:`WiredBackbone`."""

    axes: bool = True


class WiredBackbone:
    """Cells of 8 by 8 pixels through two ways: ``early`` (24 channels, 0 to 2 the brightness) and, after it and from
    the pixels too, ``side`` (16 channels, 3 the brightness). Of ``late`` channel 0 is what ``early`` knows of the
    brightness, channel 1 what ``side`` knows, both with a little of all else; 2 to 7 are noise."""

    def __init__(self, parameters: WiredParameters, seed: int = 0) -> None:
        self.axes = parameters.axes

    @property
    def layers(self) -> Mapping[str, Layer]:
        return {name: Layer(width, (8, 8)) for name, width in (("early", 24), ("side", 16), ("late", 8))}

    @property
    def family(self) -> str:
        return "wired"

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        return {"pad": 8}

    def weights(self) -> WeightsInfo:
        return WeightsInfo("bundled", "sha256:wired", "wired")

    def twin(self) -> None:
        return None

    def load(self, layers: Sequence[str], device: Any, dtype: Any) -> None:
        import torch

        generator = torch.Generator().manual_seed(5)

        def conv(width: int, size: int, bright: Sequence[int]) -> Any:
            module = torch.nn.Conv2d(3, width, size, size, bias=True)
            kernels = torch.randn(module.weight.shape, generator=generator) / 8
            kernels[list(bright)] = 1.0 / (3 * size * size)
            module.weight, module.bias = torch.nn.Parameter(kernels), torch.nn.Parameter(torch.ones(width))
            return module.to(device, dtype)

        self.early, self.side = conv(24, 8, (0, 1, 2)), conv(16, 8, (3,))
        mix = torch.randn(8, 40, generator=generator) * 0.05
        mix[:2] *= 0.02
        mix[0, :3], mix[1, 24 + 3] = 1 / 3, 1.0
        self.late = torch.nn.Conv2d(40, 8, 1, bias=False)
        self.late.weight = torch.nn.Parameter(mix[:, :, None, None])
        self.late.to(device, dtype)

    def prepare(self, image: Any) -> Prepared:
        import torch

        height, width = image.shape[:2]
        tensor = torch.zeros(3, -(-height // 8) * 8, -(-width // 8) * 8)
        tensor[:, :height, :width] = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
        return Prepared(tensor, InputGeometry(height, width, height, width, *tensor.shape[1:]))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        import torch

        modules = {"early": self.early, "side": self.side, "late": self.late}

        def call() -> None:
            self.late(torch.cat([self.early(batch.tensor), self.side(batch.tensor)], dim=1))

        maps = read_taps(
            {name: modules[name] for name in layers}, call, dict.fromkeys(modules, 1) if self.axes else None
        )
        return [
            {name: FeatureMap(maps[name][i], geometry.grid(*maps[name].shape[2:])) for name in layers}
            for i, geometry in enumerate(batch.geometry)
        ]


class OddParameters(DiscParameters):
    """Of :class:`OddSource`: lists of images (``g00-1``) or groups (``g00``)."""

    poisoned: tuple[str, ...] = ()
    white: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    shuffled: bool = False
    roads: int | None = None
    concept: str | None = None
    model: str | None = None


class OddSource(DiscSource):
    """Discs and squares, some of whose images are rubbish, all white, undecodable, or without masks; their groups may
    lie on a few ``roads``."""

    _parameters: OddParameters

    @property
    def concepts(self) -> Sequence[str]:
        return super().concepts if self._parameters.concept is None else (self._parameters.concept,)

    @property
    def provenance(self) -> Provenance:
        model = self._parameters.model
        return super().provenance if model is None else Provenance("model", family=model)

    def images(self) -> Sequence[ImageRef]:
        images = [image for image in super().images() if not self._is(image, self._parameters.left_out)]
        roads = self._parameters.roads
        return images if roads is None else [replace(i, outer=f"road {int(i.group[1:]) % roads}") for i in images]

    def open(self, image: ImageRef) -> Any:
        p = self._parameters
        if self._is(image, p.broken):
            raise UnreadableImageError("no photograph")
        pixels = self._plain().open(image)
        if self._is(image, p.white):
            return np.full_like(pixels, 255)
        if self._is(image, p.poisoned):
            return np.random.default_rng(1).integers(0, 256, pixels.shape, dtype=np.uint8)
        return pixels

    def mask(self, image: ImageRef, concept: str) -> Any:
        if self._is(image, self._parameters.empty):
            return np.zeros((image.height, image.width), np.uint8)
        if self._parameters.shuffled and concept == "disc":
            # A label that has to do with another image only.
            others = [other for other in super().images() if other.id != image.id]
            return super().mask(others[hash_of(image.id) % len(others)], "square")
        return super().mask(image, concept)

    def _digest(self, name: str) -> str:
        """Of the image alone: what is left out elsewhere does not change it."""
        p = self._parameters
        image = ImageRef(name.partition("/")[0], name[:3], 0, 0, "")
        kinds = [self._is(image, of) for of in (p.poisoned, p.white)]
        return self._plain()._digest(f"{name} {kinds} {p.shuffled}")

    def _plain(self) -> DiscSource:
        return DiscSource(
            DiscParameters(**self._parameters.model_dump(include=set(DiscParameters.model_fields))), seed=self._seed
        )

    @staticmethod
    def _is(image: ImageRef, names: Sequence[str]) -> bool:
        return image.id in names or image.group in names


def hash_of(text: str) -> int:
    return sum(ord(character) * 31**place for place, character in enumerate(text))


PLANTED = BackbonePlugin(
    "planted", "one channel is the truth", "run_fakes:PlantedBackbone", PlantedParameters, default_layers=("cells",)
)
WIRED = BackbonePlugin(
    "wired", "two ways from pixels to a layer", "run_fakes:WiredBackbone", WiredParameters, default_layers=("late",)
)
ODD = LabelSourcePlugin("odd", "discs, with faults", "run_fakes:OddSource", OddParameters)


@hookimpl
def probekit_backbones() -> list[BackbonePlugin]:
    return [TINY, PLANTED, WIRED]


@hookimpl
def probekit_label_sources() -> list[LabelSourcePlugin]:
    return [DISCS, ODD]
