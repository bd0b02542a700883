"""``random-conv``: how far one layer of filters gets that nobody trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from probekit.api import InputGeometry, WeightsInfo
from probekit_baselines.cells import CellBackbone
from probekit_baselines.parameters import RandomConvParameters


class RandomConv(CellBackbone):
    """Seeded random filters, ReLU, averaged over the filter positions that are centred in the cell.

    Filters stand every 4 pixels and are 8 wide (every 2 and 6 wide, or every pixel and 3 wide, where a cell's side is
    no multiple). Positions that reach over the photograph's border are left out, so padding never enters; a cell that
    has none (a photograph smaller than a filter) is 0.
    """

    name = "random-conv"

    def __init__(self, parameters: RandomConvParameters, seed: int = 0) -> None:
        super().__init__(parameters, seed)
        self._parameters = parameters
        self.channels = parameters.features
        self._stride, self._margin = (4, 2) if self.cell % 4 == 0 else (2, 2) if self.cell % 2 == 0 else (1, 1)
        self._size = self._stride + 2 * self._margin
        generator = torch.Generator().manual_seed(seed)
        shape = (self.channels, 3, self._size, self._size)
        self._weight = torch.randn(shape, generator=generator) * (2 / (3 * self._size**2)) ** 0.5
        self._bias = torch.randn(self.channels, generator=generator) * 0.5

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The cell's side and the number of filters."""
        return {"cell": self.cell, "features": self.channels}

    def weights(self) -> WeightsInfo:
        """Random, by the seed."""
        return WeightsInfo("random", f"random:seed={self.seed},torch={torch.__version__}", f"random, seed {self.seed}")

    def twin(self) -> Mapping[str, Any] | None:
        """Itself: another seed makes other filters."""
        return self._parameters.model_dump()

    def describe(self, pixels: torch.Tensor, geometry: InputGeometry) -> torch.Tensor:
        """See the class."""
        weight, bias = self._weight.to(pixels.device), self._bias.to(pixels.device)
        scaled = (pixels / 255 - 0.5) * 4
        responses = F.conv2d(scaled[None], weight, bias, stride=self._stride, padding=self._margin)[0].relu()
        per_cell = self.cell // self._stride
        inside = torch.outer(
            self._inside(geometry.image_height, responses.shape[1], pixels.device),
            self._inside(geometry.image_width, responses.shape[2], pixels.device),
        )
        total = F.avg_pool2d((responses * inside)[None], per_cell, divisor_override=1)[0]
        return total / F.avg_pool2d(inside[None], per_cell, divisor_override=1).clamp(min=1)

    def _inside(self, size: int, positions: int, device: torch.device) -> torch.Tensor:
        """1 for each filter position along an axis that lies on the photograph with all its pixels."""
        start = torch.arange(positions, device=device) * self._stride - self._margin
        return ((start >= 0) & (start + self._size <= size)).float()
