"""What the baselines share: a photograph in its own pixels, padded to whole cells of the reference grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.api import Batch, FeatureMap, InputGeometry, Layer, Prepared, WeightsInfo
from probekit_baselines.parameters import CellParameters

LAYER = "cells"


class CellBackbone(ABC):
    """A backbone with one layer, ``cells``, one cell of ``cell`` by ``cell`` original pixels each.

    A subclass gives ``channels``, ``name`` and ``describe``. Its input are the pixels as they are, 0 to 255, which
    every floating-point type holds exactly; zeros right and below fill the last cells, and no value depends on them.
    """

    name: str
    channels: int

    def __init__(self, parameters: CellParameters, seed: int = 0) -> None:
        self.cell = parameters.cell
        self.seed = seed

    @abstractmethod
    def describe(self, pixels: torch.Tensor, geometry: InputGeometry) -> torch.Tensor:
        """One photograph, (3, rows * cell, columns * cell) float32, to (channels, rows, columns)."""

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The one layer."""
        return {LAYER: Layer(self.channels, (float(self.cell), float(self.cell)))}

    @property
    def family(self) -> str:
        """The baseline's name."""
        return self.name

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The cell's side."""
        return {"cell": self.cell}

    def weights(self) -> WeightsInfo:
        """There are none."""
        return WeightsInfo("none", "none", "no weights")

    def twin(self) -> Mapping[str, Any] | None:
        """Nothing to make random."""
        return None

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:  # noqa: B027
        """Nothing to load."""

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """The pixels, padded to whole cells."""
        height, width = image.shape[:2]
        rows, columns = -(-height // self.cell), -(-width // self.cell)
        padded = np.zeros((3, rows * self.cell, columns * self.cell), dtype=np.float32)
        padded[:, :height, :width] = image.transpose(2, 0, 1)
        return Prepared(torch.from_numpy(padded), InputGeometry(height, width, height, width, *padded.shape[1:]))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """Each photograph by itself."""
        maps = []
        for pixels, geometry in zip(batch.tensor, batch.geometry, strict=True):
            values = self.describe(pixels.float(), geometry).to(batch.tensor.dtype)
            maps.append({LAYER: FeatureMap(values, geometry.grid(*values.shape[1:]))})
        return maps


def relative_position(geometry: InputGeometry, cell: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of each cell's centre, from 0 at the left (upper) border of the image to 1 at the other.

    Each (rows, columns) float64. In a tile they are relative to the tile.
    """
    rows, columns = geometry.input_height // cell, geometry.input_width // cell
    y = (torch.arange(rows, dtype=torch.float64, device=device) + 0.5) * cell / geometry.image_height
    x = (torch.arange(columns, dtype=torch.float64, device=device) + 0.5) * cell / geometry.image_width
    return x.expand(rows, columns), y[:, None].expand(rows, columns)


def pixels_inside(size: int, cells: int, cell: int, device: torch.device) -> torch.Tensor:
    """How many of each cell's ``cell`` pixels along an axis lie on an image of ``size`` pixels, (cells,) float64."""
    starts = torch.arange(cells, dtype=torch.float64, device=device) * cell
    return (size - starts).clamp(0, cell)
