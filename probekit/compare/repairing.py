"""Whole groups re-paired at random between two models: what the correlation of unrelated channels is held against.

Features of model a in one group meet features of model b in another, image by image in their order, cell by nearest
cell. Both models saw the same cells, but not the other group's: what the two models see in common is lost. What a place
in the image alone explains (sky above, road below) is no relation, and is taken out before.

- Permutations are drawn from all of them, those that leave some groups with themselves too: with the observed pairing
  they form a group, which is what makes the level of a permutation test hold whatever the number of draws.
- Each cell of a is used once in every draw, so that groups keep their weight; where b's group has fewer images, they
  start over. (Cropped to the fewer, the weights would change with the draw, and cells would be lost.)
- A trend over the image is fitted to each channel first, on all cells, and taken out; what it leaves is re-paired.
  (Re-paired with the rest, a trend would be weakened by the distance to the nearest cell, in the draws but not as
  observed, and each channel that follows it would seem a match.)
- More than ``MOST`` groups are joined at random to as many parts, which are re-paired as wholes. The permutations of
  the parts are a subgroup of those of the groups: the level holds, and work and memory are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legval
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from probekit.compare.cross_products import Singles
from probekit.evaluate.intervals import LEAST_GROUPS

Ints = NDArray[np.integer[Any]]

MOST = 160
"""Parts that are re-paired."""

FOLDS = 5
"""Folds of parts that a share of variance is held out by."""

LEVELS, DEGREE = 32, 10
"""Of the trend over the image: steps in the row and in the column, and the degree of what depends on both."""


@dataclass(frozen=True, eq=False)
class Repairing:
    """The cells of a sample, and how their groups are re-paired; the same for all layers and channels.

    Attributes:
        order: cells by part, each part's by image, (n,).
        starts: where each part begins in ``order``, (M + 1,).
        nearest: for every cell in ``order`` and each part, the place in that part of the cell that it meets, (M, n);
            in its own part itself. Without draws (0, n).
        trend: functions of the place in the image, orthogonal over the cells with mean square 1, the first constant, in
            ``order``, (n, K).
        folds: of each part, (M,).
        drawn: the part of a that meets each part of b, (draws, M).
        groups: that the cells lie in.
        reason: why nothing is drawn.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    nearest: NDArray[np.int32]
    trend: Singles
    folds: NDArray[np.int64]
    drawn: NDArray[np.int64]
    groups: int
    reason: str | None

    @property
    def parts(self) -> int:
        """M, that are re-paired: the groups, where there are not too many."""
        return len(self.starts) - 1

    @property
    def draws(self) -> int:
        """Random pairings."""
        return len(self.drawn)

    @cached_property
    def part(self) -> NDArray[np.int64]:
        """Of each cell in ``order``, (n,)."""
        return np.repeat(np.arange(self.parts), np.diff(self.starts))

    def inverses(self, weights: NDArray[np.float64]) -> tuple[Singles, Singles]:
        """Inverses of the trends' weighted products, over all parts (K, K), and over all others than each (M, K, K).

        Args:
            weights: of the cells of each part, (M,).
        """
        trends = np.split(self.trend.astype(np.float64), self.starts[1:-1])
        own = np.stack([weight * trend.T @ trend for weight, trend in zip(weights, trends, strict=True)])
        whole = own.sum(axis=0)
        both = (np.linalg.pinv(of, rcond=1e-3, hermitian=True) for of in (whole, whole - own))
        everything, without = (np.asarray(of, dtype=np.float32) for of in both)
        return everything, without

    @cached_property
    def by_fold(self) -> list[NDArray[np.int64]]:
        """The parts of each fold."""
        return [np.flatnonzero(self.folds == fold) for fold in range(int(self.folds.max()) + 1)]


def repair(image: Ints, group: Ints, row: Ints, column: Ints, *, rng: np.random.Generator, draws: int) -> Repairing:
    """Draws re-pairings of the groups of a sample of cells.

    Args:
        image, group: index of each cell's image and group, (n,); an image lies in one group.
        row, column: its place on the image's grid, (n,).
        draws: random pairings; none with fewer than 12 groups.

    Returns:
        8 bytes a cell and ``MOST`` at most: 32 MB for 50,000 cells.
    """
    if not len(image):
        raise ValueError("no cells")
    groups = len(np.unique(group))
    part = _parts(image, group, rng)
    order = np.lexsort((image, part))
    starts = np.searchsorted(part[order], np.arange(part.max() + 2))
    place = np.stack([row, column], axis=1).astype(np.float64)[order]
    sizes = np.diff(starts)
    folds = np.empty(len(sizes), dtype=np.int64)
    folds[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes)) % FOLDS
    reason = None
    if groups < LEAST_GROUPS:
        reason = f"too few groups to re-pair: {groups} sampled, a test needs {LEAST_GROUPS}"
    elif not draws:
        reason = "no re-pairing was asked for"
    drawn = rng.permuted(np.tile(np.arange(len(sizes)), (draws if reason is None else 0, 1)), axis=1)
    nearest = np.empty((0, len(order)), dtype=np.int32)
    if reason is None:
        nearest = _nearest(_image_numbers(image[order], starts), place, starts)
    return Repairing(order, starts, nearest, _trend(place), folds, drawn, groups, reason)


def _parts(image: Ints, group: Ints, rng: np.random.Generator) -> NDArray[np.int64]:
    """The part of each cell, (n,): its group, or one of ``MOST`` that groups are dealt to, by their images."""
    _, group = np.unique(group, return_inverse=True)
    of_image = group[np.unique(image, return_index=True)[1]]
    count = np.bincount(of_image)
    if len(count) <= MOST:
        return np.asarray(group, dtype=np.int64)
    shuffled = rng.permutation(len(count))
    dealt = np.empty(len(count), dtype=np.int64)
    dealt[shuffled[np.argsort(-count[shuffled], kind="stable")]] = np.arange(len(count)) % MOST
    return dealt[group]


def _image_numbers(image: Ints, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each cell's image within its part, (n,); cells by part and image."""
    changes = np.concatenate([[0], np.cumsum(image[1:] != image[:-1])]).astype(np.int64)
    return changes - np.repeat(changes[starts[:-1]], np.diff(starts))


def _nearest(number: NDArray[np.int64], place: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int32]:
    """See ``Repairing.nearest``. The number of the image is a third coordinate, farther than any two cells."""
    apart = 4.0 * (np.ptp(place, axis=0).sum() + 1)
    found = np.empty((len(starts) - 1, len(place)), dtype=np.int32)
    for part, (start, stop) in enumerate(pairwise(starts)):
        own = slice(start, stop)
        tree = cKDTree(np.column_stack([place[own], apart * number[own]]))
        meets = number % (number[own].max() + 1)
        found[part] = tree.query(np.column_stack([place, apart * meets]))[1]
        found[part, own] = np.arange(stop - start)
    return found


def _trend(place: NDArray[np.float64]) -> Singles:
    """See ``Repairing.trend``: steps in the row, steps in the column, and smooth functions of both."""
    low, span = place.min(axis=0), np.maximum(np.ptp(place, axis=0), 1)
    at = (place - low) / span
    levels = min(LEVELS, max(4, len(place) // 50))
    steps = [np.eye(levels)[np.minimum((x * levels).astype(np.int64), levels - 1)] for x in at.T]
    x, y = (2 * at - 1).T
    one = np.eye(DEGREE)
    waves = [legval(x, one[i]) * legval(y, one[j]) for i in range(1, DEGREE) for j in range(1, DEGREE + 1 - i)]
    centred = np.column_stack([*steps, *waves])
    centred -= centred.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    kept = left[:, size > 1e-6 * np.sqrt(len(place))] * np.sqrt(len(place))
    return np.column_stack([np.ones(len(place)), kept]).astype(np.float32)
