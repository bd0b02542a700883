"""The confidence set of k@tau: the widths that two one-sided tests along the refit curve do not exclude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from probekit.evaluate.intervals import Floats, jackknife_error, too_few
from probekit.evaluate.paired import difference_df


@dataclass(frozen=True)
class KSet:
    """The widths that k@tau may be.

    Attributes:
        lo, hi: the fewest and the most channels among them; none where there is no set.
        open_below: the narrowest width of the curve is among them: fewer channels are not excluded.
        open_above: all channels are among them: no narrower subset is shown to suffice.
        reason: why there is no set.
    """

    lo: int | None = None
    hi: int | None = None
    open_below: bool = False
    open_above: bool = False
    reason: str | None = None


def k_set(
    tau: float,
    k: Sequence[int] | NDArray[np.int64],
    curve: Floats,
    full: float,
    curve_deleted: Floats,
    full_deleted: Floats,
    positives: NDArray[np.number[Any]],
    *,
    level: float = 0.95,
) -> KSet:
    """The widths k for which s(k) < tau s(full) is not shown, nor s(j) >= tau s(full) for the width j before.

    Each at (1 - level) / 2, by the jackknife t of groups on s(k) - tau s(full). (All widths that a two-sided test of
    s(k) = tau s(full) does not reject would be wrong: the k of a grid lies above the crossing.)

    Args:
        tau: share, in (0, 1].
        k: widths of the curve, ascending, the last one all channels.
        curve: s(k), (widths,).
        full: s(full).
        curve_deleted: s(k) without each group, (widths, G).
        full_deleted: s(full) without each group, (G,).
        positives: positive cells of each group, (G,).
    """
    reason = too_few(positives)
    if reason is None and not (np.isfinite(curve_deleted).all() and np.isfinite(full_deleted).all()):
        reason = "a score is not defined without one of the groups"
    if reason is not None:
        return KSet(reason=reason)
    widths = np.asarray(k, dtype=np.int64)
    deleted = curve_deleted - tau * full_deleted
    error, _ = jackknife_error(deleted)
    bound = stdtrit(difference_df(deleted, positives), (1 + level) / 2)
    difference = np.asarray(curve, dtype=np.float64) - tau * full
    enough = difference >= -bound * error  # that k falls short is not shown
    before = np.concatenate([[True], difference[:-1] <= bound[:-1] * error[:-1]])  # nor that fewer reach it
    members = np.flatnonzero(enough & before)
    if not len(members):  # no curve that rises leaves none: it crosses the share more than once
        members = np.flatnonzero(enough)[:1]
    first, last = int(members[0]), int(members[-1])
    return KSet(int(widths[first]), int(widths[last]), first == 0 and int(widths[0]) > 1, last == len(widths) - 1)


def disjoint(one: KSet, other: KSet) -> bool:
    """Whether two sets share no k: what a claim that two models need different numbers of channels rests on."""
    if one.lo is None or one.hi is None or other.lo is None or other.hi is None:
        return False
    low, high = (one, other) if one.hi <= other.lo else (other, one)
    assert low.hi is not None  # both were looked at
    assert high.lo is not None
    return low.hi < high.lo and not low.open_above and not high.open_below
