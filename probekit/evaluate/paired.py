"""Two models on the same groups: intervals and tests of their difference, and what becomes of many tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from probekit.evaluate.groups import BINS, SINGLE_RANKS
from probekit.evaluate.intervals import Floats, Interval, jackknife_error, too_few

EXACT_GROUPS = 12
"""Up to so many groups all exchanges are tried."""

SWAPS = 9999
"""Exchanges drawn where there are more."""

_AT_ONCE = 2**22
"""Numbers of a block of exchanged histograms."""


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

    Attributes:
        positives, negatives: cells of either model, (2, groups, bins), bins ascending in score.
        tied: bins of one rank, (bins,).
    """

    positives: NDArray[np.int32]
    negatives: NDArray[np.int32]
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
    counts = np.zeros((2, 2, n_groups, bins), dtype=np.int32)
    for model, scores in enumerate((one, other)):
        ascending = np.sort(scores)
        # ties share the middle of their ranks, counted from the top
        middle = (
            np.searchsorted(ascending, scores, side="left") + np.searchsorted(ascending, scores, side="right")
        ) / 2
        place = np.clip(np.searchsorted(steps, n - middle, side="right") - 1, 0, bins - 1)
        code = (np.asarray(y, dtype=np.int64) * n_groups + groups) * bins + (bins - 1 - place)
        counts[model] = np.bincount(code, minlength=2 * n_groups * bins).reshape(2, n_groups, bins)
    return RankedPair(counts[:, 1], counts[:, 0], (np.diff(steps) <= 1)[::-1].copy())


def swap_test(pairs: Sequence[RankedPair], rng: np.random.Generator, swaps: int = SWAPS) -> float:
    """The two-sided p-value of equal average precision: models exchanged group by group.

    Under the null the two models' ranks in a group could as well have been the other's. All 2^G exchanges where groups
    are few, else seeded ones, the observed counted in.

    Args:
        pairs: of each repeat, on the same groups; the statistic is the mean of their differences.

    Returns:
        p in (0, 1]; NaN without positives.
    """
    n_groups = pairs[0].positives.shape[1]
    differs = np.zeros(n_groups, dtype=bool)
    for pair in pairs:
        differs |= (pair.positives[0] != pair.positives[1]).any(axis=1)
        differs |= (pair.negatives[0] != pair.negatives[1]).any(axis=1)
    telling = np.flatnonzero(differs)
    if not pairs[0].by_group.sum():
        return float("nan")
    exact = len(telling) <= EXACT_GROUPS
    if exact:
        drawn = (np.arange(2 ** len(telling))[:, None] >> np.arange(len(telling))) & 1
    else:
        drawn = rng.integers(0, 2, (swaps, len(telling)))
        drawn = np.concatenate([np.zeros((1, len(telling)), dtype=drawn.dtype), drawn])
    found = np.zeros(len(drawn))
    for pair in pairs:
        found += _exchanged(pair, telling, drawn.astype(np.float32))
    found = np.abs(found)
    return float(np.mean(found >= found[0] - 1e-12))


def _exchanged(pair: RankedPair, telling: NDArray[np.int64], drawn: NDArray[np.float32]) -> Floats:
    """The difference of AP after each exchange, (draws,); the first draw exchanges nothing.

    Positives of a bin, and positives and cells down to it, are linear in an exchange: they are summed by group over
    bins first, and exchanged after, in the bins alone that may hold a positive (see ``histogram_average_precision``).
    """
    p = pair.positives[..., ::-1].astype(np.float64)
    cells = p + pair.negatives[..., ::-1]
    kept = np.flatnonzero((p > 0).any(axis=(0, 1)))
    inner = np.where(pair.tied[::-1], 0.0, 0.5)[kept]  # within a bin positives lie evenly, but for ties
    found, called = (np.cumsum(of, axis=-1)[..., kept] - inner * of[..., kept] for of in (p, cells))
    parts = p[..., kept], found, called
    total, size = p[0].sum(), max(1, _AT_ONCE // (8 * max(1, len(kept))))
    differences = []
    for start in range(0, len(drawn), size):
        exchanged = drawn[start : start + size].astype(np.float64)
        changes = [exchanged @ (of[1, telling] - of[0, telling]) for of in parts]
        one, other = (
            [of[model].sum(axis=0) + sign * change for of, change in zip(parts, changes, strict=True)]
            for model, sign in ((0, 1), (1, -1))
        )
        scores = [(at * (above + inner) / np.maximum(of + inner, 0.5)).sum(axis=1) for at, above, of in (one, other)]
        differences.append((scores[0] - scores[1]) / total)
    return np.concatenate(differences)


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
