"""What one channel does on the reference cells, and which cells show it best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.evaluate.scores import average_precision, best_f1_threshold

WINDOW = 64
"""Longest side of an exemplar's window, in reference cells; an axis that is not longer is shown whole."""

STEP = WINDOW // 2
"""Windows start at multiples of it (the last ends with the image), so that exemplars near each other share one."""

TAILS = (0.1, 99.9)
"""Percentiles of a channel over all reference cells at which its scale ends."""


@dataclass(frozen=True)
class Profile:
    """A channel by itself on the scored cells of a concept.

    Attributes:
        inside, outside: means over positive cells and over negative ones; NaN without any.
        deviation: population deviation of all.
        alone: average precision in the direction that was asked for, at natural prevalence; NaN without positives.
        threshold: the channel's value at which it alone has the best F1; NaN without positives.
    """

    inside: float
    outside: float
    deviation: float
    alone: float
    threshold: float

    @property
    def selectivity(self) -> float:
        """(inside - outside) / deviation; NaN where the channel does not vary or a class is absent."""
        return (self.inside - self.outside) / self.deviation if self.deviation > 0 else float("nan")


def profile(values: NDArray[np.float32], positive: NDArray[np.bool_], against: bool = False) -> Profile:
    """Describes one channel.

    Args:
        values: at the scored cells, (n,).
        positive: where the concept is, (n,).
        against: low values speak for the concept (its coefficient is negative).
    """
    scores = -values if against else values
    threshold, _ = best_f1_threshold(scores, positive)
    varies = len(values) > 0 and values.min() < values.max()  # the deviation of equal numbers may round
    return Profile(
        _mean(values[positive]),
        _mean(values[~positive]),
        float(values.std(dtype=np.float64)) if varies else 0.0,
        average_precision(scores, positive),
        -threshold if against else threshold,
    )


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def extreme_cells(
    values: NDArray[np.float32],
    offsets: NDArray[np.int64],
    groups: NDArray[np.integer[Any]],
    count: int,
) -> NDArray[np.int64]:
    """The highest cells, at most one an image, and of different groups while there are enough.

    Args:
        values: of all cells, image by image; ``-inf`` for those that are not asked for, (n,).
        offsets: where each image's cells begin, and n, (images + 1,); no image is without cells.
        groups: of every cell, (n,).
        count: so many at most.

    Returns:
        Flat places, the highest first; ties to the earlier image, and in it to the earlier cell.
    """
    if not len(values):
        return np.empty(0, dtype=np.int64)
    highest = np.maximum.reduceat(values, offsets[:-1])
    # Of an image that ties among its cells the first one; all images' ties in one pass.
    at = np.flatnonzero(values == np.repeat(highest, np.diff(offsets)))
    best = at[np.searchsorted(at, offsets[:-1])]
    best = best[values[best] > -np.inf]
    best = best[np.argsort(-values[best], kind="stable")]
    _, first = np.unique(groups[best], return_index=True)
    new_group = np.zeros(len(best), dtype=bool)
    new_group[first] = True
    taken = np.concatenate([np.flatnonzero(new_group), np.flatnonzero(~new_group)])[:count]
    return np.asarray(best[np.sort(taken)])


def window(cell: int, length: int) -> tuple[int, int]:
    """One axis of the window around a cell.

    Args:
        cell: row or column, from 0.
        length: of the image along this axis, in cells.

    Returns:
        Its first cell and its length: a whole axis of at most ``WINDOW`` cells, else ``WINDOW`` of them that begin at a
        multiple of ``STEP`` (or end with the image) and hold the cell at least a quarter of the window inside, save
        near the image's border.
    """
    start = (cell - STEP // 2) // STEP * STEP
    return max(0, min(start, length - WINDOW)), min(length, WINDOW)


def scale(values: NDArray[np.float32]) -> tuple[float, float]:
    """The scale on which a channel is shown: the percentiles ``TAILS`` of its cells; their ends where the channel is
    the same between these; 0, 0 for none.

    Args:
        values: at all reference cells, (n,).
    """
    if not len(values):
        return 0.0, 0.0
    low, high = (float(value) for value in np.percentile(values, TAILS))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def quantise(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Values as bytes: 0 at ``low`` and below, 255 at ``high`` and above, the nearest step between; 0 where the scale
    is empty."""
    if not low < high:
        return np.zeros(values.shape, dtype=np.uint8)
    steps = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(steps, 0.0, 255.0)).astype(np.uint8)
