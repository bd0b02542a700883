"""Large images cut into overlapping tiles, each run through a network by itself.

A tile is a *window* that the network sees and a *core* that it answers for. The cores are a partition of the photograph
along borders of reference cells, so that each reference cell is scored by exactly one tile, with context around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from probekit.api import Affine, Grid


@dataclass(frozen=True)
class Rectangle:
    """Whole original pixels: columns ``x`` to ``right`` (exclusive), rows ``y`` to ``bottom`` (exclusive)."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column past the rectangle."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row past the rectangle."""
        return self.y + self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns) to index an image with."""
        return slice(self.y, self.bottom), slice(self.x, self.right)


@dataclass(frozen=True)
class Tile:
    """One tile of a photograph of ``image_height`` by ``image_width`` pixels."""

    window: Rectangle
    core: Rectangle
    image_height: int
    image_width: int

    def place(self, grid: Grid) -> Grid:
        """The grid of a feature map of this window, moved to where the window lies in the photograph."""
        return replace(grid, to_pixels=grid.to_pixels.shifted(self.window.x, self.window.y))

    def owns(self, grid: Grid) -> NDArray[np.bool_]:
        """Which cells of a placed native grid are this tile's: valid ones whose centre lies in its core.

        Cores are half open, save at the right and lower border of the photograph.

        Args:
            grid: in the photograph's pixels (see :meth:`place`).

        Returns:
            (rows, columns).
        """
        x, y = grid.to_pixels.centers_x(grid.columns), grid.to_pixels.centers_y(grid.rows)
        in_x = (x >= self.core.x) & ((x < self.core.right) | (self.core.right == self.image_width))
        in_y = (y >= self.core.y) & ((y < self.core.bottom) | (self.core.bottom == self.image_height))
        owned: NDArray[np.bool_] = np.outer(in_y, in_x) & grid.valid
        return owned

    def reference(self, cell: int) -> tuple[Grid, tuple[slice, slice]]:
        """The reference cells of ``cell`` pixels in this tile's core, as a grid in the photograph's pixels, and where
        they lie in the whole reference grid (rows, columns). ``cell`` is the one that the tiles were cut with."""
        rows = slice(self.core.y // cell, -(-self.core.bottom // cell))
        columns = slice(self.core.x // cell, -(-self.core.right // cell))
        n_rows, n_columns = rows.stop - rows.start, columns.stop - columns.start
        affine = Affine(float(cell), float(cell), float(self.core.x), float(self.core.y))
        return Grid(n_rows, n_columns, affine, n_rows, n_columns), (rows, columns)


def cut_tiles(height: int, width: int, size: int, overlap: int, cell: int) -> tuple[Tile, ...]:
    """Cuts a photograph into tiles of at most ``size`` by ``size`` pixels, row by row.

    An axis not longer than ``size`` is not cut. Else all windows are ``size`` long and neighbours share at least
    ``overlap`` pixels; windows start at multiples of ``cell``, save the last, which ends with the photograph. A core
    ends at the multiple of ``cell`` nearest to the middle of the overlap, so at least ``(overlap - cell) / 2`` inside
    its window.

    Args:
        height, width: of the photograph.
        size, overlap: in pixels; ``overlap + cell <= size``.
        cell: side of a reference cell.
    """
    if overlap < 0 or cell < 1 or overlap + cell > size:
        raise ValueError(f"tiles of {size} px cannot overlap by {overlap} px: a cell of {cell} px must be left between")
    return tuple(
        Tile(Rectangle(x, y, w, h), Rectangle(core_x, core_y, core_w, core_h), height, width)
        for y, h, core_y, core_h in _cut_axis(height, size, overlap, cell)
        for x, w, core_x, core_w in _cut_axis(width, size, overlap, cell)
    )


def _cut_axis(length: int, size: int, overlap: int, cell: int) -> list[tuple[int, int, int, int]]:
    """One axis: (window start, window length, core start, core length) of each tile."""
    if length <= size:
        return [(0, length, 0, length)]
    step = (size - overlap) // cell * cell
    starts = [*range(0, length - size, step), length - size]
    # A multiple of the cell always lies in the overlap (the next start, or where it would have been), so the one
    # nearest to its middle does.
    middles = [(before + after + size) / 2 for before, after in pairwise(starts)]
    borders = [0, *(int(middle / cell + 0.5) * cell for middle in middles), length]
    return [
        (start, size, first, last - first)
        for start, (first, last) in zip(starts, pairwise(borders), strict=True)
        if last > first  # the windows before and after meet: this one has nothing to answer for
    ]
