"""Two models on the same groups: intervals and tests of their difference, and what becomes of many tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.special import stdtr, stdtrit

from probekit.evaluate.groups import BINS, SINGLE_RANKS
from probekit.evaluate.intervals import Floats, Interval, jackknife_error, too_few

EXACT_GROUPS = 12
"""Up to so many groups all exchanges are tried."""

SWAPS = 9999
"""Exchanges drawn where there are more."""

_AT_ONCE = 2**21
"""Numbers of a block: exchanged groups by draw, and sums of bins by draw."""

_GROUPS_AT_ONCE = 1024
"""A multiple of 8: their exchanges are whole bytes."""

_IN_CACHE = 2**15
"""Sums of bins by draw that are scored at once."""

_DENSE = 0.1
"""From this share of numbers that are not 0 a dense product is faster than a sparse one."""

_EXACT_SINGLES = 2.0**23
"""Halves up to here are exact in float32."""


def difference_df(deleted: Floats, positives: NDArray[np.number[Any]]) -> Floats:
    """Degrees of freedom of a difference: min(groups with a positive - 1, D), at least 1.

    Args:
        deleted: the difference without each group, (..., G).
        positives: positive cells of each group, (G,).
    """
    _, by_kurtosis = jackknife_error(deleted)
    return np.asarray(np.clip(by_kurtosis, 1.0, max(1.0, float((np.asarray(positives) > 0).sum()) - 1)))


def difference_interval(
    value: float, deleted: Floats, positives: NDArray[np.number[Any]], *, level: float = 0.95
) -> Interval:
    """The interval of a difference of scores: jackknife of groups on the raw difference, Student's t.

    Args:
        value: of all groups.
        deleted: the difference without each group, (G,).
        positives: positive cells of each group, (G,).
    """
    reason = too_few(positives)
    if reason is None and not (np.isfinite(value) and np.isfinite(deleted).all()):
        reason = "the difference is not defined without one of the groups"
    if reason is not None:
        return Interval(value, reason=reason)
    error, df = float(jackknife_error(deleted)[0]), float(difference_df(deleted, positives))
    half = float(stdtrit(df, (1 + level) / 2)) * error
    return Interval(value, value - half, value + half, df)


def one_sided_p(value: float, deleted: Floats, positives: NDArray[np.number[Any]]) -> float:
    """The probability, were the difference not above 0, of one as large: jackknife t; NaN with too few groups."""
    if too_few(positives) is not None or not (np.isfinite(value) and np.isfinite(deleted).all()):
        return float("nan")
    error, df = float(jackknife_error(deleted)[0]), float(difference_df(deleted, positives))
    if error == 0:
        return 0.0 if value > 0 else 1.0
    return float(stdtr(df, -value / error))


def smallest_difference(
    deleted: Floats, positives: NDArray[np.number[Any]], *, level: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that a two-sided test on so many groups would show with this power.

    (t(1 - level / 2) + t(power)) times the standard error of the difference as it was observed.

    Args:
        deleted: the difference (or a score, against a fixed value) without each group, (G,).
    """
    error, df = float(jackknife_error(deleted)[0]), float(difference_df(deleted, positives))
    return float(stdtrit(df, 1 - level / 2) + stdtrit(df, power)) * error


@dataclass(frozen=True, eq=False)
class RankedPair:
    """Two models' scores on the same cells, each replaced by its rank over all cells, by group and rank.

    Memory: at most 16 bytes a cell and 16 a positive one, whatever the number of groups.

    Attributes:
        positives, cells: counts of either model, sparse int32 (groups, bins), bins descending in score.
        tied: bins of one rank, (bins,).
    """

    positives: tuple[csr_array, csr_array]
    cells: tuple[csr_array, csr_array]
    tied: NDArray[np.bool_]

    @property
    def by_group(self) -> NDArray[np.int64]:
        """Positive cells of each group, (groups,)."""
        return np.asarray(self.positives[0].sum(axis=1), dtype=np.int64)


def ranked_pair(
    one: NDArray[np.floating[Any]],
    other: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]],
    n_groups: int,
) -> RankedPair:
    """Aligns two models by rank: margins of different scale would make an exchange say nothing. No label is looked at.

    Memory: some 70 bytes a cell.

    Args:
        one, other: scores of the same cells, (n,).
        y: 1 where the concept is, else 0, (n,).
        groups: index of each cell's group, (n,).
    """
    n = len(y)
    steps = np.arange(min(n, SINGLE_RANKS) + 1.0)
    if n > SINGLE_RANKS:
        steps = np.unique(np.concatenate([steps, np.rint(np.geomspace(SINGLE_RANKS, n, BINS))]))
    bins = len(steps) - 1
    is_positive = np.asarray(y) == 1
    by_cell = np.asarray(groups, dtype=np.int32)
    counts = []
    for scores in (one, other):
        order = np.argsort(scores)
        ascending = scores[order]
        first = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[:n])
        after = np.append(first[1:], n)
        # ties share the middle of their ranks, counted from the top
        bin_of = np.clip(np.searchsorted(steps, n - (first + after) / 2, side="right") - 1, 0, bins - 1)
        place, of_group = np.repeat(bin_of.astype(np.int32), after - first), by_cell[order]
        counts.append([_counted(of_group[of], place[of], (n_groups, bins)) for of in (is_positive[order], slice(None))])
    (p, cells), (p_other, cells_other) = counts
    return RankedPair((p, p_other), (cells, cells_other), np.diff(steps) <= 1)


def _counted(groups: NDArray[np.int32], place: NDArray[np.int32], shape: tuple[int, int]) -> csr_array:
    return coo_array((np.ones(len(groups), dtype=np.int32), (groups, place)), shape=shape).tocsr()


def swap_test(pairs: Sequence[RankedPair], rng: np.random.Generator, swaps: int = SWAPS) -> float:
    """The two-sided p-value of equal average precision: models exchanged group by group.

    Under the null the two models' ranks in a group could as well have been the other's. All 2^G exchanges where groups
    are few, else seeded ones, the observed counted in.

    Memory beyond the pairs: some 200 MB and 30 bytes a cell and pair, whatever the numbers of groups and of swaps.

    Args:
        pairs: of each repeat, on the same groups; the statistic is the mean of their differences.

    Returns:
        p in (0, 1]; NaN where a repeat has no positives.
    """
    if not all(pair.by_group.any() for pair in pairs):
        return float("nan")
    differs = np.zeros(pairs[0].positives[0].shape[0], dtype=bool)
    for pair in pairs:
        for one, other in (pair.positives, pair.cells):
            differs |= np.diff((one != other).indptr) > 0
    telling = np.flatnonzero(differs)
    exchanges = [_Exchanges(pair, telling) for pair in pairs]
    size = max(1, _AT_ONCE // max(len(pair.tied) for pair in pairs))
    found = []
    for drawn in _draws(rng, len(telling), swaps, size):
        differences = np.zeros(len(drawn))
        for of in exchanges:
            differences += of.differences(drawn)
        found.append(np.abs(differences))
    values = np.concatenate(found)
    return float(np.mean(values >= values[0] - 1e-12))


def _draws(rng: np.random.Generator, groups: int, swaps: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """What is exchanged, ``size`` draws at once, a bit a group: (draws, groups / 8). The first exchanges nothing."""
    if groups <= EXACT_GROUPS:
        for start in range(0, 2**groups, size):
            numbers = np.arange(start, min(start + size, 2**groups))
            yield np.packbits((numbers[:, None] >> np.arange(groups)) & 1, axis=1)
        return
    rows = max(1, _AT_ONCE // groups)
    yield np.zeros((1, -(-groups // 8)), dtype=np.uint8)
    for start in range(0, swaps, size):
        stop = min(start + size, swaps)
        # as many numbers in turn as one call would draw: the stream does not depend on the blocks
        yield np.concatenate(
            [
                np.packbits(rng.integers(0, 2, (min(rows, stop - at), groups)).astype(bool), axis=1)
                for at in range(start, stop, rows)
            ]
        )


class _Exchanges:
    """Average precision of two models after exchanges of groups.

    Positives of a bin, and positives and cells down to it, are linear in an exchange, in the bins alone that may hold
    a positive (see ``histogram_average_precision``). What every bin adds to those above it is summed over groups, and
    summed over bins after. All sums are of halves, and exact: neither blocks nor their order change a bit.

    Args:
        telling: groups in which the models differ.
    """

    def __init__(self, pair: RankedPair, telling: NDArray[np.int64]) -> None:
        kept = np.flatnonzero(pair.positives[0].sum(axis=0) + pair.positives[1].sum(axis=0))
        self._inner = np.where(pair.tied, 0.0, 0.5)[kept]  # within a bin positives lie evenly, but for ties
        bins, places = len(pair.tied), np.arange(len(kept))
        own = csr_array((np.ones(len(kept)), (kept, places)), shape=(bins, len(kept)))
        # what a bin adds to the cells down to the middle of each kept bin, over those down to the one before
        upper = np.arange(kept[-1] + 1)
        down = csr_array((np.ones(len(upper)), (upper, np.searchsorted(kept, upper))), shape=own.shape)
        half = csr_array((self._inner[:-1], (kept[:-1], places[1:])), shape=own.shape)
        down = down - own * self._inner + half
        steps, parts = (own, down), (pair.positives, pair.cells)
        at, called = (np.stack([of.sum(axis=0) @ step for of in part]) for part, step in zip(parts, steps, strict=True))
        self._before = at, np.cumsum(at, axis=1) - self._inner * at, np.cumsum(called, axis=1)
        self._changes = [_narrow((b - a)[telling] @ step) for (a, b), step in zip(parts, steps, strict=True)]
        self._total = at[0].sum()

    def differences(self, drawn: NDArray[np.uint8]) -> Floats:
        """Of each draw, (draws,); a bit a group of those that tell, (draws, groups / 8)."""
        at, called = (_exchanged(drawn, of) for of in self._changes)
        rows = max(1, _IN_CACHE // at.shape[1])
        parts = [self._scored(at[i : i + rows], called[i : i + rows]) for i in range(0, len(at), rows)]
        return np.concatenate(parts)

    def _scored(self, at: NDArray[np.floating[Any]], called: NDArray[np.floating[Any]]) -> Floats:
        """The difference of the scores, (draws,), from the changes in the bins, (draws, kept bins)."""
        found = np.cumsum(at, axis=1, dtype=np.float64)
        found -= self._inner * at
        changes = at, found, np.cumsum(called, axis=1, dtype=np.float64)
        scores = []
        for model, sign in ((0, 1), (1, -1)):
            here, above, of = (
                before[model] + sign * change for before, change in zip(self._before, changes, strict=True)
            )
            above += self._inner
            above *= here
            of += self._inner
            above /= np.maximum(of, 0.5, out=of)
            scores.append(above.sum(axis=1))
        return np.asarray((scores[0] - scores[1]) / self._total)


def _narrow(changes: csr_array) -> csr_array:
    """In float32 where no sum can exceed what that holds exactly."""
    largest = abs(changes).sum(axis=0).max(initial=0.0)
    return changes.astype(np.float32) if largest < _EXACT_SINGLES else changes


def _exchanged(drawn: NDArray[np.uint8], changes: csr_array) -> NDArray[np.floating[Any]]:
    """The sum of the exchanged groups' changes, (draws, kept bins), C order.

    Args:
        changes: of each group, (groups, kept bins).
    """
    groups, kept = changes.shape
    summed = np.zeros((len(drawn), kept), dtype=changes.dtype)
    for start in range(0, groups, _GROUPS_AT_ONCE):
        block = changes[start : start + _GROUPS_AT_ONCE]
        bits = np.unpackbits(drawn[:, start // 8 : (start + _GROUPS_AT_ONCE) // 8], axis=1, count=block.shape[0])
        if block.nnz > _DENSE * block.shape[0] * kept:
            summed += bits.astype(changes.dtype) @ block.toarray()
        else:
            summed += (block.T @ bits.T.astype(changes.dtype)).T
    return summed


def holm(p: Sequence[float] | Floats) -> Floats:
    """p-values adjusted for the family-wise error (Holm 1979), in their order; NaN stays and counts for nothing."""
    return _adjusted(np.asarray(p, dtype=np.float64), step_up=False)


def benjamini_hochberg(p: Sequence[float] | Floats) -> Floats:
    """p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995), in their order; NaN stays."""
    return _adjusted(np.asarray(p, dtype=np.float64), step_up=True)


def _adjusted(p: Floats, step_up: bool) -> Floats:
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    m = len(known)
    order = known[np.argsort(p[known], kind="stable")]
    if step_up:
        raised = p[order] * m / np.arange(1, m + 1)
        out[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    else:
        raised = p[order] * np.arange(m, 0, -1)
        out[order] = np.minimum(np.maximum.accumulate(raised), 1.0) if m else raised
    return out


def tie_groups(apart: NDArray[np.bool_]) -> list[int]:
    """The rank of each of a list of models, best first; those that cannot be told apart share one.

    A model opens a new group where it is told apart from the first, which is the best, of the group above it.

    Args:
        apart: whether two models are told apart, (m, m), in the order of their scores.

    Returns:
        ranks from 1; a group's is one more than the models above it.
    """
    ranks: list[int] = []
    first = 0
    for i in range(len(apart)):
        if i and apart[first, i]:
            first = i
        ranks.append(first + 1)
    return ranks
