"""Intervals of a score from groups: cells of one group are not independent, groups are.

The interval is the delete-one-group jackknife on the logit scale (Tukey 1958; Efron and Stein 1981) with Student's t
at min(G - 1, K, D) degrees of freedom: G groups, K Kish's effective number of groups by positives, D the degrees of
freedom that the kurtosis of the influences leaves. ``docs/explanation/validity.md`` has its simulated coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

Floats = NDArray[np.float64]
Sums = NDArray[np.number[Any]]

LEAST_GROUPS, LEAST_POSITIVE, LEAST_EFFECTIVE = 12, 5, 3.0
"""Fewer groups, groups with a positive, or effective groups, and no interval is given: its coverage is not known."""

WIDE, NARROW = 30, 100
"""Groups below which an interval is called wide; and from which one of the ROC AUC is given at all."""

EDGE = 1e-4
"""Scores nearer to 0 or 1 are moved here before the logit."""

ROUNDING = 1e-9
"""A standard error below it is no error but the rounding of equal numbers."""

_AT_ONCE = 2**22
"""Numbers of a block of delete-one sums."""


@dataclass(frozen=True)
class Interval:
    """A score and how sure we are of it.

    Attributes:
        value: the score itself.
        lo, hi: ends; none where there is no interval.
        df: degrees of freedom of its t.
        reason: why there is none, in one line.
    """

    value: float
    lo: float | None = None
    hi: float | None = None
    df: float | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Replicates:
    """A score with all groups, and without each.

    Attributes:
        value: of all groups.
        deleted: (G,).
    """

    value: float
    deleted: Floats

    def __sub__(self, other: Replicates) -> Replicates:
        return Replicates(self.value - other.value, self.deleted - other.deleted)

    @staticmethod
    def mean(of: Sequence[Replicates]) -> Replicates:
        """The mean of the scores of several repeats, taken within each replicate (not the score of mean margins)."""
        return Replicates(float(np.mean([one.value for one in of])), np.mean([one.deleted for one in of], axis=0))


def effective_number(positives: NDArray[np.number[Any]]) -> float:
    """Kish's effective number of groups, (sum P_g)^2 / sum P_g^2; 0 without positives.

    Args:
        positives: P_g by group, (G,).
    """
    p = np.asarray(positives, dtype=np.float64)
    squares = float((p**2).sum())
    return float(p.sum()) ** 2 / squares if squares > 0 else 0.0


def too_few(positives: NDArray[np.number[Any]]) -> str | None:
    """Why these groups are too few for an interval; none where they are enough.

    Args:
        positives: positive cells of each group that was scored, (G,).
    """
    groups, holding = len(positives), int((np.asarray(positives) > 0).sum())
    if groups < LEAST_GROUPS:
        return f"too few groups with this concept: {groups} scored, an interval needs {LEAST_GROUPS}"
    if holding < LEAST_POSITIVE:
        return f"too few groups with this concept: {holding} hold a positive, an interval needs {LEAST_POSITIVE}"
    number = effective_number(positives)
    if number < LEAST_EFFECTIVE:
        return (
            f"too few groups with this concept: its positives lie in {number:.1f} effective groups, "
            f"an interval needs {LEAST_EFFECTIVE:g}"
        )
    return None


def kurtosis_df(influences: Floats) -> Floats:
    """D = 3 (sum u^2)^2 / sum u^4 - 1, the degrees of freedom of sum u^2 by its kurtosis, at least 1.

    Args:
        influences: u, centred delete-one values, (..., G).

    Returns:
        (...,); inf where nothing varies.
    """
    squares, fourth = (influences**2).sum(axis=-1), (influences**4).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(fourth > 0, 3 * squares**2 / fourth - 1, np.inf)
    return np.maximum(df, 1.0)


def jackknife_error(deleted: Floats) -> tuple[Floats, Floats]:
    """Standard error and degrees of freedom by kurtosis of delete-one values, (..., G): two of (...,)."""
    n = deleted.shape[-1]
    u = deleted - deleted.mean(axis=-1, keepdims=True)
    return np.sqrt((n - 1) / n * (u**2).sum(axis=-1)), kurtosis_df(u)


def jackknife_interval(
    value: float, deleted: Floats, positives: NDArray[np.number[Any]], *, level: float = 0.95
) -> Interval:
    """The interval of a score in [0, 1].

    Args:
        value: of all groups.
        deleted: the score without each group, (G,).
        positives: positive cells of each group, (G,).
        level: nominal coverage.
    """
    reason = too_few(positives)
    if reason is None and not (np.isfinite(value) and np.isfinite(deleted).all()):
        reason = "the score is not defined without one of the groups"
    if reason is not None:
        return Interval(value, reason=reason)
    error, by_kurtosis = jackknife_error(logit(np.clip(deleted, EDGE, 1 - EDGE)))
    if error < ROUNDING:
        return Interval(value, reason="the score is the same whichever group is left out")
    df = min(len(deleted) - 1.0, effective_number(positives), float(by_kurtosis))
    centre, half = float(logit(np.clip(value, EDGE, 1 - EDGE))), float(stdtrit(df, (1 + level) / 2) * error)
    return Interval(value, float(expit(centre - half)), float(expit(centre + half)), df)


def delete_one(score: Callable[..., Floats], *sums: Sums) -> Floats:
    """A score without each group, from sums by group: no cell is looked at again.

    Args:
        score: takes sums over groups, (..., b) each, and gives (...,).
        sums: by group, (G, b) each.

    Returns:
        (G,).
    """
    totals = [of.sum(axis=0) for of in sums]
    size = max(1, _AT_ONCE // max(1, sum(of[0].size for of in sums)))
    parts = [
        score(*(total - of[start : start + size] for total, of in zip(totals, sums, strict=True)))
        for start in range(0, len(sums[0]), size)
    ]
    return np.concatenate(parts)


def bootstrap_interval(
    score: Callable[..., Floats],
    *sums: Sums,
    value: float,
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The percentile bootstrap of groups, for comparison: simulated, a nominal 95 % covers 85 to 93 %.

    Args:
        score, sums: as for :func:`delete_one`.
        value: of all groups.
    """
    n = len(sums[0])
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    size = max(1, _AT_ONCE // max(1, sum(of[0].size for of in sums)))
    found = np.concatenate([score(*(counts[i : i + size] @ of for of in sums)) for i in range(0, resamples, size)])
    found = found[np.isfinite(found)]
    if not len(found):
        return Interval(value, reason="no resample has a positive")
    lo, hi = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(lo), float(hi))
