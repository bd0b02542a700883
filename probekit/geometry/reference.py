"""The grid on which all models are scored and compared, and how a model's score map is read on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Affine, Grid

POINTS = 4
"""A score map is read at this many points along each side of a reference cell."""

_TOLERANCE = 1e-6
"""Index coordinates this close to the border of the valid cells lie inside: steps are quotients, rounded."""


def reference_grid(height: int, width: int, cell: int) -> Grid:
    """Cells of ``cell`` by ``cell`` original pixels from the top left; the last row and column may reach beyond the
    photograph (their labels are void where more than half of them does)."""
    rows, columns = -(-height // cell), -(-width // cell)
    return Grid(rows, columns, Affine(float(cell), float(cell)), rows, columns)


class Resampler:
    """Reads score maps of one native grid on a reference grid.

    A map is read bilinearly between the centres of its valid cells (clamped beyond the outermost centres) at 4 x 4
    points spread evenly over each reference cell, and averaged over the points that lie inside the photograph. Finer
    and coarser native grids are treated alike; no cell of padding is ever touched. Both steps are separable: one small
    matrix an axis.

    Where the grids agree this is not the identity but a slight blur, (1/8, 3/4, 1/8) along each axis; an affine ramp is
    returned exactly wherever no point is clamped.

    Args:
        native: cells of the feature map, in original pixels (a tile's grid moved to its place).
        reference: cells to score, in original pixels; the whole photograph's or the part that a tile owns.
        height, width: of the photograph.
    """

    def __init__(self, native: Grid, reference: Grid, height: int, width: int) -> None:
        at, to = native.to_pixels, reference.to_pixels
        self.native = native
        self.reference = reference
        self._y, valid_y = _axis(
            at.offset_y, at.step_y, native.valid_rows, to.offset_y, to.step_y, reference.rows, height
        )
        self._x, valid_x = _axis(
            at.offset_x, at.step_x, native.valid_columns, to.offset_x, to.step_x, reference.columns, width
        )
        self.valid: NDArray[np.bool_] = np.outer(valid_y, valid_x) & reference.valid
        """(reference rows, columns): all points inside the photograph, at least one, lie in valid native cells."""
        self.valid.setflags(write=False)
        self._matrices = {np.dtype(t): (self._y.astype(t), self._x.T.astype(t)) for t in (np.float32, np.float64)}

    def __call__(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Resamples score maps.

        Args:
            scores: (..., native rows, native columns), float32 or float64; summed in their own precision.

        Returns:
            (..., reference rows, reference columns) of the same dtype. Finite also where not ``valid`` (read at the
            nearest valid cells), to be masked by the caller.
        """
        native = self.native
        if scores.shape[-2:] != (native.rows, native.columns):
            raise ValueError(f"score maps of {scores.shape[-2:]}, the grid has {(native.rows, native.columns)} cells")
        y, x = self._matrices[scores.dtype]
        content = scores[..., : native.valid_rows, : native.valid_columns]
        result: NDArray[np.floating[Any]] = np.matmul(y, np.matmul(content, x))
        return result


def _axis(
    offset: float, step: float, valid: int, start: float, cell: float, cells: int, length: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One axis of a resampler: weights (cells, valid native cells), each row summing to 1, and which cells can be
    read without clamping to valid ground."""
    if valid < 1:
        raise ValueError("a grid without valid cells cannot be read")
    at = start + cell * (np.arange(cells)[:, None] + (np.arange(POINTS) + 0.5) / POINTS)
    inside = np.asarray(at < length)
    # A sliver of a cell that no point falls into is read where the photograph ends; it is never valid.
    none: NDArray[np.bool_] = ~np.any(inside, axis=1)
    index = (np.minimum(at, float(length)) - offset) / step
    covered = (index >= -_TOLERANCE) & (index <= valid + _TOLERANCE)
    weight = np.where(none[:, None], 1.0, inside)
    weight /= weight.sum(axis=1, keepdims=True)
    center = np.clip(index - 0.5, 0.0, valid - 1.0)
    below = np.minimum(np.floor(center).astype(np.int64), max(valid - 2, 0))
    part = center - below
    matrix = np.zeros((cells, valid))
    row = np.broadcast_to(np.arange(cells)[:, None], at.shape)
    np.add.at(matrix, (row, below), weight * (1.0 - part))
    np.add.at(matrix, (row, np.minimum(below + 1, valid - 1)), weight * part)
    valid_cells: NDArray[np.bool_] = np.all(covered | ~inside, axis=1) & ~none
    return matrix, valid_cells
