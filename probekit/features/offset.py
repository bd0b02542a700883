"""Where a network's features really lie: the impulse measurement.

A feature map says, by its affine, where each cell's centre lies on the photograph. Whether the network's features do
lie there is measured: a small patch of pixels around a cell's centre is changed, and the centroid of what that moves in
the map, weighted by squared change (so that attention, which moves everything a little, does not drag it), is read
through the same affine. It should come back to where the patch was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.api import Backbone, Batch, FeatureMap, Grid

PLACES = (0.2, 0.5, 0.8)
"""The impulses stand at these shares of the valid rows and columns: nine positions."""

PATCHES = (0.5, 1.0, 2.0)
"""Sides of the patch, in cells. The next one is tried where nothing moved: a chain of strided 1 x 1 convolutions (a
ResNet whose residual branches start at zero) looks at few pixels of a cell."""


Point = tuple[float, float]


@dataclass(frozen=True)
class Offset:
    """What nine impulses gave at one layer. Positions are (x, y) in original pixels.

    Attributes:
        cell: size of a cell, (x, y) in original pixels.
        impulses: centres of the changed patches, shape (9, 2); a patch stands at a cell's centre, to half a pixel.
        centroids: where the change came back, shape (9, 2); NaN where nothing changed.
    """

    cell: tuple[float, float]
    impulses: NDArray[np.float64]
    centroids: NDArray[np.float64]

    @property
    def deviations(self) -> NDArray[np.float64]:
        """Centroid minus impulse, shape (9, 2), in original pixels."""
        return self.centroids - self.impulses

    @property
    def own(self) -> Point:
        """The network's own offset: the mean deviation, (x, y) in original pixels.

        Negative x: a cell's features show what lies to the right of its centre. Strided convolutions with 'same'
        padding have -(stride - 1) / 2 before training.
        """
        x, y = self.deviations.mean(axis=0)
        return float(x), float(y)

    @property
    def worst(self) -> float:
        """The largest deviation along either axis, in cells; .5 is the cell's edge."""
        return float(np.abs(self.deviations / self.cell).max())


def measure_offset(
    backbone: Backbone, layers: Sequence[str], image: NDArray[np.uint8], device: torch.device, dtype: torch.dtype
) -> dict[str, Offset]:
    """Measures where the features of each layer lie, by nine impulses in one photograph.

    Runs the network once as it is and nine times (or a few more, see ``PATCHES``) for each distinct grid.

    Args:
        backbone: loaded with ``layers`` on ``device`` in ``dtype``.
        layers: the taps to measure.
        image: (height, width, 3) RGB; odd sizes show more. It is not modified.
        device, dtype: what the backbone was loaded with.
    """
    plain = _forward(backbone, layers, image, device, dtype)
    by_grid: dict[Grid, list[str]] = {}
    for layer in layers:
        by_grid.setdefault(plain[layer].grid, []).append(layer)
    impulses: dict[str, list[Point]] = {layer: [] for layer in layers}
    centroids: dict[str, list[Point]] = {layer: [] for layer in layers}
    for grid, members in by_grid.items():
        for row, column in _positions(grid):
            silent = list(members)
            for side in PATCHES:
                changed, centre = _with_impulse(image, grid, row, column, side)
                moved = _forward(backbone, silent, changed, device, dtype)
                found = {layer: _centroid(plain[layer], moved[layer]) for layer in silent}
                last = side == PATCHES[-1]
                for layer in [layer for layer in silent if last or not np.isnan(found[layer][0])]:
                    silent.remove(layer)
                    impulses[layer].append(centre)
                    centroids[layer].append(found[layer])
                if not silent:
                    break
    cells = {layer: plain[layer].grid.to_pixels for layer in layers}
    return {
        layer: Offset((cell.step_x, cell.step_y), np.array(impulses[layer]), np.array(centroids[layer]))
        for layer, cell in cells.items()
    }


def _forward(
    backbone: Backbone, layers: Sequence[str], image: NDArray[np.uint8], device: torch.device, dtype: torch.dtype
) -> Mapping[str, FeatureMap]:
    prepared = backbone.prepare(image)
    batch = Batch(prepared.tensor[None].to(device, dtype), [prepared.geometry])
    with torch.inference_mode():
        return backbone.forward(batch, layers)[0]


def _positions(grid: Grid) -> list[tuple[int, int]]:
    """Nine valid cells, (row, column)."""
    rows = [round(place * (grid.valid_rows - 1)) for place in PLACES]
    columns = [round(place * (grid.valid_columns - 1)) for place in PLACES]
    return [(row, column) for row in rows for column in columns]


def _with_impulse(
    image: NDArray[np.uint8], grid: Grid, row: int, column: int, side: float
) -> tuple[NDArray[np.uint8], Point]:
    """A copy with a patch of ``side`` cells turned to the other end of the scale, and the patch's centre (x, y)."""
    affine = grid.to_pixels
    y0, y1 = _span(affine.offset_y + affine.step_y * (row + 0.5), side * affine.step_y, image.shape[0])
    x0, x1 = _span(affine.offset_x + affine.step_x * (column + 0.5), side * affine.step_x, image.shape[1])
    changed = image.copy()
    changed[y0:y1, x0:x1] = np.where(image[y0:y1, x0:x1] < 128, 255, 0)
    return changed, ((x0 + x1) / 2, (y0 + y1) / 2)


def _span(centre: float, width: float, size: int) -> tuple[int, int]:
    """About ``width`` pixels [first, last) around ``centre``, at least one, all inside the image."""
    pixels = max(1, round(width))
    first = round(centre - pixels / 2)
    return min(max(first, 0), size - 1), max(min(first + pixels, size), 1)


def _centroid(plain: FeatureMap, moved: FeatureMap) -> Point:
    """Centroid (x, y) of the squared change, in original pixels; NaN where nothing changed."""
    change = (moved.values.double() - plain.values.double()).square().sum(dim=0).cpu().numpy()
    total = change.sum()
    if not total > 0:
        return float("nan"), float("nan")
    grid = plain.grid
    x = change.sum(axis=0) @ grid.to_pixels.centers_x(grid.columns) / total
    y = change.sum(axis=1) @ grid.to_pixels.centers_y(grid.rows) / total
    return float(x), float(y)
