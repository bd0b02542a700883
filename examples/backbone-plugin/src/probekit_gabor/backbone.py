"""The backbone ``gabor``: filters that nobody trained, as a frozen network."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probekit.api import Batch, FeatureMap, InputGeometry, Layer, Prepared, WeightsInfo, read_taps
from probekit.api.checkpoints import random_digest
from probekit_gabor.filters import Energy, gabor_filters, unit_norm
from probekit_gabor.parameters import GaborParameters

STRIDE = 8  # of the last layer: the input is padded to a multiple of it


class Gabor:
    """Two layers: ``filters``, the responses themselves, and ``energy``, how strong each pair of them is."""

    def __init__(self, parameters: GaborParameters, *, seed: int) -> None:
        self._parameters = parameters
        self._seed = seed
        self._modules: dict[str, nn.Module] = {}

    @property
    def layers(self) -> Mapping[str, Layer]:
        """In the order of depth."""
        pairs = 3 * self._parameters.orientations * len(self._parameters.wavelengths)
        return {"filters": Layer(2 * pairs, (4.0, 4.0)), "energy": Layer(pairs, (8.0, 8.0))}

    @property
    def family(self) -> str:
        """Which kind of model this is."""
        return "gabor"

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """What the features depend on besides the weights."""
        return {**self._parameters.model_dump(mode="json", exclude={"weights"}), "range": [-1, 1], "pad_to": STRIDE}

    def weights(self) -> WeightsInfo:
        """Made, not read: the digest is that of the filters' numbers."""
        if self._parameters.weights == "random":
            return WeightsInfo("random", random_digest(self._seed), f"random, seed {self._seed}")
        digest = hashlib.sha256(self._filters().numpy().tobytes()).hexdigest()
        return WeightsInfo("bundled", f"sha256:{digest}", "Gabor filters")

    def twin(self) -> Mapping[str, Any]:
        """The same network with random weights."""
        return {**self._parameters.model_dump(mode="json"), "weights": "random"}

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        """Builds the network. A kernel of 16 at stride 4 with 6 pixels of padding is centred on its cell."""
        filters = self._filters()
        conv = nn.Conv2d(3, len(filters), filters.shape[-1], stride=4, padding=6, bias=False)
        conv.weight = nn.Parameter(filters, requires_grad=False)
        modules: dict[str, nn.Module] = {"filters": conv, "energy": Energy()}
        self._modules = {name: module.to(device, dtype).eval() for name, module in modules.items()}

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Scales to [-1, 1], shrinks, and repeats the last pixels right and below up to a multiple of the stride."""
        height, width = image.shape[:2]
        rows, columns = (max(1, round(side / self._parameters.shrink)) for side in (height, width))
        pixels = torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32)[None] / 127.5 - 1
        small = nn.functional.interpolate(pixels, (rows, columns), mode="bilinear", antialias=True)
        padded = nn.functional.pad(small, (0, -columns % STRIDE, 0, -rows % STRIDE), mode="replicate")[0]
        return Prepared(padded, InputGeometry(height, width, rows, columns, *padded.shape[1:]))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """One pass; it ends at the last of ``layers``."""
        network = nn.Sequential(*self._modules.values())
        modules = {name: self._modules[name] for name in layers}
        maps = read_taps(modules, lambda: network(batch.tensor), axes=dict.fromkeys(layers, 1))
        return [
            {name: FeatureMap(maps[name][i], geometry.grid(*maps[name].shape[2:])) for name in layers}
            for i, geometry in enumerate(batch.geometry)
        ]

    def _filters(self) -> torch.Tensor:
        bank = gabor_filters(self._parameters.orientations, self._parameters.wavelengths)
        if self._parameters.weights == "bundled":
            return bank
        return unit_norm(torch.randn(bank.shape, generator=torch.Generator().manual_seed(self._seed)))
