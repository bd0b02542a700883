"""From a mask of pixels to labels of cells: exact shares of each cell's footprint, on any axis-aligned grid.

A cell's footprint is a rectangle of original pixels that may cut through pixels and reach beyond the photograph. Its
*labelled* part is what lies inside the photograph on pixels that are not void, and its *share* is the positive area
over the labelled area: a half-covered cell at the border is judged by the half that can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, VOID, Grid

TOLERANCE = 1e-9
"""Shares this close count as equal: rounding in a grid's steps must not move a cell over a threshold."""


@dataclass(frozen=True)
class CellAreas:
    """What each cell's footprint holds, as shares of the whole footprint, each (rows, columns) float64.

    Attributes:
        positive: on positive pixels.
        void: on void pixels.
        inside: within the photograph (positive, negative and void pixels together).
    """

    positive: NDArray[np.float64]
    void: NDArray[np.float64]
    inside: NDArray[np.float64]

    @property
    def labelled(self) -> NDArray[np.float64]:
        """Inside the photograph and not on void pixels: the denominator of ``share``."""
        return np.maximum(self.inside - self.void, 0.0)

    @property
    def share(self) -> NDArray[np.float64]:
        """Positive area over labelled area, in [0, 1]; NaN where nothing of the cell is labelled."""
        labelled = self.labelled
        share = np.full(labelled.shape, np.nan)
        np.divide(self.positive, labelled, out=share, where=labelled > TOLERANCE)
        return np.clip(share, 0.0, 1.0, out=share)


@dataclass(frozen=True)
class CellLabels:
    """The labels of one image's cells for one concept.

    Attributes:
        values: (rows, columns) int8 of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
        between: how many cells are void because their share lies strictly between the two thresholds.
        outside: how many because more than half of the footprint lies outside the photograph, or are padding.
        unlabelled: how many of the others because more than half is outside or on void pixels.
    """

    values: NDArray[np.int8]
    between: int
    outside: int
    unlabelled: int


def cell_areas(mask: NDArray[np.uint8], grid: Grid) -> CellAreas:
    """Integrates a mask over the footprint of every cell, exactly: a pixel counts by the part that the cell covers.

    The mask is read in strips of one row of cells, so that nothing of its size is allocated.

    Args:
        mask: (height, width) of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
        grid: cells in the mask's pixels; they may be finer than a pixel and reach beyond the mask.
    """
    height, width = mask.shape
    affine = grid.to_pixels
    edges_y = _edges(affine.offset_y, affine.step_y, grid.rows, height)
    edges_x = _edges(affine.offset_x, affine.step_x, grid.columns, width)
    area = affine.step_x * affine.step_y
    inside = np.outer(np.diff(edges_y), np.diff(edges_x)) / area
    highest = mask.max(initial=NEGATIVE)
    if highest > VOID:
        raise ValueError(f"a mask holds {highest}: only {NEGATIVE}, {POSITIVE} and {VOID} mean anything")
    has_void = bool(highest == VOID)
    return CellAreas(
        positive=_integrate(mask, POSITIVE, has_void, edges_y, edges_x) / area,
        void=_integrate(mask, VOID, True, edges_y, edges_x) / area if has_void else np.zeros_like(inside),
        inside=inside,
    )


def label_cells(mask: NDArray[np.uint8], grid: Grid, positive: float, negative: float) -> CellLabels:
    """Labels every cell of a grid by the positive share of the labelled part of its footprint.

    A cell is void where it is padding, where more than half of its footprint lies outside the photograph or on void
    pixels, and where its share lies strictly between the thresholds. Else it is positive where the share reaches
    ``positive`` and negative where it does not exceed ``negative``.

    Args:
        mask: (height, width) of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
        grid: cells in the mask's pixels.
        positive: threshold in (0, 1].
        negative: threshold in [0, ``positive``].
    """
    if not 0.0 <= negative <= positive <= 1.0 or positive == 0.0:
        raise ValueError(f"need 0 <= negative <= positive <= 1 and positive > 0, not {negative} and {positive}")
    areas = cell_areas(mask, grid)
    outside = (areas.inside < 0.5 - TOLERANCE) | ~grid.valid
    unlabelled = ~outside & (areas.labelled < 0.5 - TOLERANCE)
    judged = ~(outside | unlabelled)
    share = areas.share
    is_positive = judged & (share >= positive - TOLERANCE)
    is_negative = judged & ~is_positive & (share <= negative + TOLERANCE)
    values = np.full(share.shape, VOID, dtype=np.int8)
    values[is_positive] = POSITIVE
    values[is_negative] = NEGATIVE
    between = judged & ~is_positive & ~is_negative
    return CellLabels(values, int(between.sum()), int(outside.sum()), int(unlabelled.sum()))


def _edges(offset: float, step: float, cells: int, length: int) -> NDArray[np.float64]:
    """The borders between cells along one axis, clipped to the photograph, shape (cells + 1,)."""
    return np.clip(offset + step * np.arange(cells + 1, dtype=np.float64), 0.0, float(length))


def _integrate(
    mask: NDArray[np.uint8],
    value: int,
    compare: bool,
    edges_y: NDArray[np.float64],
    edges_x: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Area of ``mask == value`` in every cell, in square pixels; without ``compare`` the mask is 0 and 1 already."""
    height, width = mask.shape

    def indicator(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return (rows == value).view(np.uint8) if compare else rows

    cuts = np.floor(edges_y).astype(np.int64)
    parts = edges_y - cuts
    strips = np.zeros((len(edges_y) - 1, width), dtype=np.float64)
    for i, strip in enumerate(strips):
        first, last = cuts[i], cuts[i + 1]
        if last > first:
            # Sums of at most 255 ones fit a byte, which is several times faster than any wider sum.
            for start in range(first, last, 255):
                strip += np.add.reduce(indicator(mask[start : min(start + 255, last)]), axis=0, dtype=np.uint8)
        if parts[i + 1] > 0.0 and last < height:
            strip += parts[i + 1] * indicator(mask[last])
        if parts[i] > 0.0 and first < height:
            strip -= parts[i] * indicator(mask[first])
    return np.diff(_antiderivative(strips, edges_x), axis=1)


def _antiderivative(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral of each row, constant within a pixel, from 0 to each edge, shape (rows, edges)."""
    width = values.shape[1]
    cumulative = np.zeros((values.shape[0], width + 1), dtype=np.float64)
    np.cumsum(values, axis=1, out=cumulative[:, 1:])
    cuts = np.floor(edges).astype(np.int64)
    parts = edges - cuts
    return cumulative[:, cuts] + parts * values[:, np.minimum(cuts, width - 1)]
