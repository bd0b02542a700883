"""Which channels are selected again when the groups change: stability selection, its bound, and an index of stability.

*Complementary pairs* (Shah and Samworth 2013, J. R. Statist. Soc. B 75, 55-80): the groups are split at random into two
disjoint halves, B times; a selection is made on each half, from that half's rows alone; a channel's frequency is the
share of the 2B halves that selected it. Let p_k be the probability that a half, of groups drawn anew, selects channel
k, and q = sum p_k the channels that a half selects on average. What is bounded is the expected number of *stable*
channels (frequency at least the threshold pi) *among those with p_k <= theta*, here theta = q / p: channels that a half
selects no more often than if it drew q of the p at random.

That holds for any selection rule and any dependence between channels and within groups, with groups drawn independently
from one population. It says nothing yet of "noise": it bounds the falsely selected only if every channel that carries
nothing has p_k <= q / p, as where such channels are exchangeable and the rule is no worse than drawing at random. A
channel without an effect of its own that is correlated with one that has may have a larger p_k: then it is not counted.

*The index* is that of Nogueira, Sechidis and Brown (2018), J. Mach. Learn. Res. 18 (174), 1-54.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtri

from probekit.api import ProbekitError
from probekit.evaluate.intervals import Interval
from probekit.sampling.seeds import generator

Assumption = Literal["none", "unimodal", "r-concave"]
"""What is taken to be true of the channels with p_k <= theta.

``none``: nothing. ``unimodal``: the share of pairs that select the channel in both halves has a unimodal distribution.
``r-concave``: that share's distribution is -1/2-concave, and that of the frequency -1/4-concave.
"""

_GRID = 65
"""Points that are tried for each number of atoms of an extremal distribution, before the best is refined."""

_FLAT = 40.0
"""The log a from which weights are equal."""


def complementary_halves(
    groups: Sequence[str], positives: NDArray[np.number[Any]], pairs: int, seed: int
) -> NDArray[np.bool_]:
    """Random pairs of disjoint halves of the groups, each with half of the groups that hold a positive.

    Of an odd number (of groups with a positive, and of groups without) one, drawn anew for each pair, is in neither
    half: so both halves follow the same law, which the bound needs. The draw depends on the ids, not on their order.

    Args:
        groups: ids, all different.
        positives: positive cells of each group, (n groups,).
        pairs: B.
        seed: for all pairs.

    Returns:
        Which groups are in which half, (2 B, n groups); rows 2i and 2i + 1 are a pair.

    Raises:
        ProbekitError: fewer than two groups hold a positive.
    """
    if len(set(groups)) != len(groups):
        raise ValueError("group ids must differ")
    holds = np.asarray(positives) > 0
    if holds.sum() < 2:
        raise ProbekitError(
            f"stability: each half of the groups needs one with a positive; of {len(groups)} groups "
            f"{int(holds.sum())} have any. Another group column, more images, or leave stability out"
        )
    order = np.array(sorted(range(len(groups)), key=lambda i: groups[i]), dtype=np.int64)
    strata = [order[holds[order]], order[~holds[order]]]
    rng = generator(seed, "complementary halves")
    halves = np.zeros((2 * pairs, len(groups)), dtype=bool)
    for first in range(0, 2 * pairs, 2):
        for stratum in strata:
            drawn, half = rng.permutation(stratum), len(stratum) // 2
            halves[first, drawn[:half]] = True
            halves[first + 1, drawn[half : 2 * half]] = True
    return halves


def selection_frequencies(selected: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of halves that selected each channel, (p,), from (2 B, p)."""
    _check_sets(selected)
    frequencies: NDArray[np.float64] = selected.mean(axis=0, dtype=np.float64)
    return frequencies


def expected_low(threshold: float, q: float, p: int, pairs: int, assumption: Assumption = "none") -> float:
    """The bound on the expected number of stable channels among those with selection probability at most q / p.

    Theorem 1 (``none``): theta q / (2 pi - 1). Theorem 2 (``unimodal``): theta q times 1 / (2 (2 pi - 1 - 1 / 2B)) to
    pi = 3/4, times 4 (1 - pi + 1 / 2B) / (1 + 1 / B) above. Their (8) (``r-concave``): p times the largest tail that
    such a distribution can have. A stronger assumption includes the weaker: the least bound that it allows is returned,
    Theorem 1's where Theorem 2 or (8) do not speak (theta > 1 / sqrt(3); a threshold too near one half).

    Args:
        threshold: pi, in (1/2, 1]; it acts as the next multiple of 1 / 2B, which is what frequencies are.
        q: channels that a half selects on average, in [0, p].
        p: channels.
        pairs: B.
        assumption: see :data:`Assumption`.

    Raises:
        ValueError: an argument out of range; nothing is bounded for pi <= 1/2.
    """
    _check_bound(q, p, pairs)
    count = _count(threshold, pairs)
    if not pairs < count <= 2 * pairs:
        raise ValueError(f"the threshold must be above 1/2 and at most 1, not {threshold:g}")
    return float(_bounds(q, p, pairs, assumption)[count - pairs - 1])


@dataclass(frozen=True, eq=False)
class StableSet:
    """Channels that are selected again and again, and what is known of how many of them should not be.

    Attributes:
        selected: frequency at least the threshold, (p,).
        threshold: the least one whose bound keeps the target; none where even 1 does not.
        bound: on the expected number of stable channels with selection probability at most q / p, at the threshold, or
            at 1 where there is none.
        q: channels that a half selected on average.
        assumption: what the bound takes to be true.
        reason: why there is no threshold, in one line.
    """

    selected: NDArray[np.bool_]
    threshold: float | None
    bound: float
    q: float
    assumption: Assumption
    reason: str | None = None


def stable_set(
    frequencies: NDArray[np.float64], pairs: int, target: float, assumption: Assumption = "none"
) -> StableSet:
    """The largest stable set whose bound (:func:`expected_low`) is at most the target.

    The threshold follows from q, p, B and the target alone, not from which channels were frequent. q is the sum of the
    frequencies: exact where each half selects the same number of channels, else the estimate of its expectation.

    Args:
        frequencies: (p,), of :func:`selection_frequencies`.
        pairs: B.
        target: for the expected number, above 0.
        assumption: see :data:`Assumption`.
    """
    if not target > 0:
        raise ValueError(f"the target must be above 0, not {target:g}")
    p, q = len(frequencies), float(frequencies.sum())
    _check_bound(q, p, pairs)
    bounds = _bounds(q, p, pairs, assumption)
    kept = np.flatnonzero(bounds <= target)
    if not len(kept):
        reason = (
            f"with {q:g} of {p} channels selected by each half the bound is {bounds[-1]:.3g} at the highest threshold, "
            f"above {target:g}: let each half select fewer channels, or draw more pairs"
        )
        return StableSet(np.zeros(p, dtype=bool), None, float(bounds[-1]), q, assumption, reason)
    count = pairs + 1 + int(kept[0])
    selected = np.rint(frequencies * 2 * pairs) >= count
    return StableSet(selected, count / (2 * pairs), float(bounds[kept[0]]), q, assumption)


def most_selected(p: int, pairs: int, target: float, threshold: float = 0.75, assumption: Assumption = "none") -> int:
    """The most channels that each half may select so that the bound at the threshold is at most the target.

    Returns:
        q, from 1 to p; 0 where even one channel is too many.
    """
    low, high = 0, p
    while low < high:
        middle = (low + high + 1) // 2
        if expected_low(threshold, middle, p, pairs, assumption) <= target:
            low = middle
        else:
            high = middle - 1
    return low


def _count(threshold: float, pairs: int) -> int:
    """In how many halves a stable channel is selected at least."""
    return math.ceil(threshold * 2 * pairs - 1e-9)


def _check_bound(q: float, p: int, pairs: int) -> None:
    if pairs < 1 or p < 1 or not 0 <= q <= p + 1e-9:
        raise ValueError(f"at least one pair and one channel are needed, and 0 <= q <= p, not {pairs}, {p}, {q:g}")


def _bounds(q: float, p: int, pairs: int, assumption: Assumption) -> NDArray[np.float64]:
    """The bounds at all thresholds (B + 1) / 2B, ..., 1, (B,); not increasing."""
    if assumption not in ("none", "unimodal", "r-concave"):
        raise ValueError(f"assumption is none, unimodal or r-concave, not {assumption!r}")
    theta = min(q / p, 1.0)
    counts = np.arange(pairs + 1, 2 * pairs + 1)
    pi = counts / (2 * pairs)
    bounds = theta * q / (2 * pi - 1)
    if assumption != "none" and theta <= 1 / math.sqrt(3):
        step = 1 / (2 * pairs)
        with np.errstate(divide="ignore"):
            low = 1 / (2 * (2 * pi - 1 - step))
        factor = np.where(pi <= 0.75, low, 4 * (1 - pi + step) / (1 + 2 * step))
        speaks = (counts >= pairs + 2) & (pi > min(0.5 + theta**2, 0.5 + step + 0.75 * theta**2))
        bounds = np.where(speaks, np.minimum(bounds, theta * q * factor), bounds)
    if assumption == "r-concave":
        # Both halves: at least 2 pi - 1 of the pairs, where pi of the halves.
        both = largest_tail(theta**2, pairs, -1 / 2)[1:]
        either = largest_tail(theta, 2 * pairs, -1 / 4)[pairs + 1 :]
        bounds = np.minimum(bounds, p * np.minimum(both, either))
    return np.minimum.accumulate(bounds)


def largest_tail(mean: float, atoms: int, r: float) -> NDArray[np.float64]:
    """D of Shah and Samworth's (8): the most that P(X >= t / n) can be for an r-concave X on 0, 1/n, ..., 1.

    A law f with r < 0 is r-concave if f^r is convex on its support, an interval. The extremal ones fall as
    (a + i)^(1/r) on 0, ..., k, with at most the next term of it at k + 1 so that the mean is kept: all k and a are
    gone through, (a) on a grid, refined at the best.

    Args:
        mean: the most that E(X) may be, in [0, 1].
        atoms: n.
        r: below 0.

    Returns:
        For t = 0, ..., n: (n + 1,); 1 where t / n is about twice the mean or less, as nothing better is known.
    """
    tails, target = np.ones(atoms + 1), mean * atoms
    first = math.ceil(2 * target - 1e-9)  # with k < first even equal weights stay below the mean
    if mean <= 0:
        tails[1:] = 0.0
        return tails
    if first + 1 > atoms:
        return tails
    ends = {k: _steepness(k, target, r) for k in range(first, atoms + 1)}
    best = np.zeros(atoms + 1)
    where: dict[int, tuple[int, int, NDArray[np.float64]]] = {}
    for k in range(first, atoms):
        grid = np.linspace(ends[k + 1], ends[k], _GRID)
        values = _tail(grid, k, target, r)
        at, found = values.argmax(axis=0), values.max(axis=0)
        for t in np.flatnonzero(found > best[: k + 2]).tolist():
            best[t], where[t] = found[t], (k, int(at[t]), grid)
    for t in range(first + 1, atoms + 1):
        k, at, grid = where[t]
        bracket = (float(grid[max(at - 1, 0)]), float(grid[min(at + 1, _GRID - 1)]))
        refined = minimize_scalar(
            lambda u, k=k, t=t: -_tail(np.array([u]), k, target, r)[0, t], bounds=bracket, method="bounded"
        )
        tails[t] = min(1.0, max(best[t], -float(refined.fun)))
    return np.minimum.accumulate(tails)


def _weights(log_a: NDArray[np.float64], k: int, r: float) -> NDArray[np.float64]:
    """(a + i)^(1/r) for i = 0, ..., k, the first set to 1: (m, k + 1)."""
    a = np.exp(log_a)[:, None]
    weights: NDArray[np.float64] = (1 + np.arange(k + 1) / a) ** (1 / r)
    return weights


def _steepness(k: int, target: float, r: float) -> float:
    """The log a at which the law on 0, ..., k has the target for its mean."""

    def excess(log_a: float) -> float:
        weights = _weights(np.array([log_a]), k, r)[0]
        return float(weights @ np.arange(k + 1) / weights.sum()) - target

    # The mean falls to zero with a, and comes to k / 2 as a grows.
    return float(brentq(excess, -_FLAT, _FLAT, xtol=1e-10)) if excess(_FLAT) > 0 else _FLAT


def _tail(log_a: NDArray[np.float64], k: int, target: float, r: float) -> NDArray[np.float64]:
    """P(X >= t), t = 0, ..., k + 1, of the law with that mean that has what is left over at k + 1: (m, k + 2)."""
    weights = _weights(log_a, k, r)
    scale = (k + 1 - target) / (weights @ np.arange(k + 1, 0, -1))
    below = np.cumsum(weights, axis=1) * scale[:, None]
    return 1 - np.concatenate([np.zeros((len(weights), 1)), below], axis=1)


def stability_index(selected: NDArray[np.bool_]) -> float:
    """How alike sets of channels are, corrected for chance (Nogueira, Sechidis and Brown 2018, Definition 4).

    1 - (mean over channels of M / (M - 1) f (1 - f)) / (m (1 - m)), f a channel's frequency, m the mean of all. At most
    1, which is reached by equal sets alone; 0 on average for sets drawn at random, whatever their sizes.

    Args:
        selected: M sets of p channels, (M, p).

    Returns:
        NaN where all sets are empty or all are full: such sets are equal by necessity, chance could do no worse, so
        that being equal shows nothing.

    Raises:
        ValueError: fewer than two sets.
    """
    frequencies, sets = selection_frequencies(selected), len(selected)
    mean = float(frequencies.mean())
    if not selected.any() or selected.all():
        return math.nan
    spread = sets / (sets - 1) * float((frequencies * (1 - frequencies)).mean())
    return 1 - spread / (mean * (1 - mean))


def disjoint_stability(selected: NDArray[np.bool_]) -> float:
    """The index between the two halves of each pair, which have no group in common: what new groups would give.

    Halves of different pairs share about half of their groups and agree the more for it: :func:`stability_index` of all
    halves is too high for groups drawn anew (.70 where halves of new groups have .60, in a simulation; this one .60).
    Like that one it speaks of selections from half of the groups. It comes without an interval: all pairs are of the
    same groups.

    Args:
        selected: rows 2i and 2i + 1 are a pair, (2 B, p).

    Returns:
        1 - (mean over pairs and channels of half the disagreements) / (m (1 - m)); NaN as :func:`stability_index`.
    """
    _check_sets(selected)
    if len(selected) % 2:
        raise ValueError(f"pairs of halves are needed, not {len(selected)} sets")
    if not selected.any() or selected.all():
        return math.nan
    mean = float(selected.mean())
    return 1 - float((selected[::2] ^ selected[1::2]).mean()) / 2 / (mean * (1 - mean))


def stability_variance(selected: NDArray[np.bool_], together: int = 1) -> float:
    """The asymptotic variance of the index (their Theorem 7): 4 / M^2 times the sum of squares of the sets' parts.

    Args:
        selected: M sets of p channels, (M, p).
        together: so many consecutive sets were drawn together (2: complementary pairs); their parts are averaged first.

    Returns:
        NaN where the index is not defined.
    """
    index = stability_index(selected)
    if len(selected) % together or len(selected) < 2 * together:
        raise ValueError(f"{len(selected)} sets are not two or more times {together} drawn together")
    if math.isnan(index):
        return math.nan
    f = selection_frequencies(selected)
    sizes, mean = selected.mean(axis=1), f.mean()
    shared = (selected * f).mean(axis=1)
    parts = shared - sizes * mean + index / 2 * (2 * sizes * mean - sizes - mean + 1)
    parts = (parts / (mean * (1 - mean))).reshape(-1, together).mean(axis=1)
    return float(4 / len(parts) ** 2 * ((parts - parts.mean()) ** 2).sum())


def stability_interval(selected: NDArray[np.bool_], *, level: float = 0.95, together: int = 1) -> Interval:
    """The index with its asymptotic normal interval (their Corollary 9), cut at the index's own range.

    It speaks for sets drawn as these were. Sets from independent data: for the selection on new data. Sets from
    resamples of the same groups (halves, folds): for more resamples of *these* groups, nothing else; from groups to
    groups the index differs by several times as much (see :func:`disjoint_stability`).

    Args:
        selected: M sets of p channels, (M, p).
        level: nominal coverage.
        together: as for :func:`stability_variance`.

    Returns:
        Without ends where the index is not defined, or where its variance is estimated as zero (all sets are equal).
    """
    index, variance = stability_index(selected), stability_variance(selected, together)
    if math.isnan(index):
        what = "every set holds all channels" if selected.any() else "every set is empty"
        return Interval(index, reason=f"{what}: equal by necessity, of which stability cannot be told")
    if variance <= 1e-24:
        return Interval(index, reason="nothing differs between the sets: how far the index may vary is not known")
    half = float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    return Interval(index, max(index - half, -1 / (len(selected) - 1)), min(index + half, 1.0))


def _check_sets(selected: NDArray[np.bool_]) -> None:
    if selected.ndim != 2 or len(selected) < 2 or not selected.shape[1]:
        raise ValueError(f"at least two sets of one channel or more are needed, not an array of shape {selected.shape}")
