"""What a probe loses when channels that feed it are set to their mean, against other channels of the same variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from probekit.evaluate.intervals import ROUNDING, Replicates
from probekit.evaluate.paired import difference_interval, one_sided_p

NEAREST = 10
"""A random channel is one of so many that are nearest in variance to the one that it stands for."""

Floats = NDArray[np.float64]


class Moments:
    """Mean and variance of channels over the cells of several parts at once, each cell seen once.

    Cells are summed about their own mean (Chan, Golub and LeVeque), so that a constant channel has no variance.

    Args:
        parts: how many, for example the folds' training parts.
        channels: p.
    """

    def __init__(self, parts: int, channels: int) -> None:
        self._count = np.zeros(parts)
        self._mean, self._squares = np.zeros((2, parts, channels))

    def add(self, values: NDArray[np.floating[Any]], to: Sequence[int]) -> None:
        """Adds cells, (n, p), to some of the parts."""
        if not len(values):
            return
        x = values.astype(np.float64)
        center = x.mean(axis=0)
        x -= center
        squares, n = np.einsum("ij,ij->j", x, x), len(x)
        for part in to:
            delta, before = center - self._mean[part], self._count[part]
            self._count[part] = before + n
            self._mean[part] += delta * (n / (before + n))
            self._squares[part] += squares + delta**2 * (before * n / (before + n))

    @property
    def mean(self) -> Floats:
        """(parts, p); 0 without cells."""
        return self._mean

    @property
    def variance(self) -> Floats:
        """(parts, p), of the population."""
        return self._squares / np.maximum(self._count, 1.0)[:, None]


def like_channels(
    selected: NDArray[np.integer[Any]], variance: Floats, draws: int, rng: np.random.Generator
) -> list[NDArray[np.int64]] | None:
    """Random sets of as many other channels, alike in variance: each selected channel in turn is stood for by one of
    the ``NEAREST`` channels nearest in log variance that are neither selected nor taken.

    The draw is by a random number for each channel, the smallest first. Folds that select much the same channels
    therefore draw much the same others from one seed: were each fold's draw its own, random sets would differ less over
    all folds together than the selected set does from them.

    Args:
        selected: (k,).
        variance: of all channels, (p,).

    Returns:
        the sets, (k,) each, every channel in the place of the one that it stands for; none where no more than k
        channels are not selected, so that all sets would be one.
    """
    free = np.setdiff1d(np.arange(len(variance)), selected)
    keys = rng.random((draws, len(variance)))
    if len(free) <= len(selected):
        return None
    with np.errstate(divide="ignore"):
        # constant channels are alike
        size = np.maximum(np.log(variance), np.log(np.finfo(np.float64).tiny))
    sets = []
    for key in keys:
        left, drawn = free, np.empty(len(selected), dtype=np.int64)
        for place in np.argsort(key[selected]):
            near = np.argsort(np.abs(size[left] - size[selected[place]]), kind="stable")[:NEAREST]
            at = near[np.argmin(key[left[near]])]
            drawn[place] = left[at]
            left = np.delete(left, at)
        sets.append(drawn)
    return sets


def overlap(sets: Sequence[NDArray[np.integer[Any]]]) -> float:
    """The share of its channels that a set has in common with another, over all pairs of sets of one size; 0 of one
    set, and of empty ones."""
    shared = [len(np.intersect1d(a, b)) / max(len(a), 1) for a, b in combinations(sets, 2)]
    return float(np.mean(shared)) if shared else 0.0


@dataclass(frozen=True)
class Lost:
    """What ablation takes from a score.

    Attributes:
        score, ablated, random: untouched, without the selected channels, and the mean without random ones.
        difference, lo, hi: random less ablated, with its 95 % interval by groups.
        p: one-sided; the larger of that by groups and that by draws; none where it could not be tested.
        reason: why not.
    """

    score: float
    ablated: float
    random: float
    difference: float
    lo: float | None = None
    hi: float | None = None
    p: float | None = None
    reason: str | None = None


def lost(
    score: float,
    ablated: Replicates,
    random: Sequence[Replicates],
    positives: NDArray[np.number[Any]],
    shared: float = 0.0,
) -> Lost:
    """Holds the selected channels against random ones.

    Two things vary: which groups were seen, and which channels were drawn. The test by groups (jackknife of random less
    ablated, draws averaged within each replicate) knows the first alone: of two random sets it would find one to be
    worse than the other, given groups enough. So the selected set must also lose more than a further random set is
    expected to (:func:`above_draws`).

    Args:
        score: of the network as it is.
        ablated: without the selected channels.
        random: without each random set; at least one.
        positives: positive cells of each group, (G,).
        shared: by how much the random sets overlap; sets that are all the same are one.
    """
    mean = Replicates.mean(random)
    difference = mean - ablated
    found = score, ablated.value, mean.value, difference.value
    interval = difference_interval(difference.value, difference.deleted, positives)
    if interval.reason is not None or interval.lo is None:
        return Lost(*found, reason=interval.reason)
    if len(random) < 2 or shared > 1 - ROUNDING:
        reason = "one random draw does not say how much draws differ: ablation.draws: 10, say"
        return Lost(*found, interval.lo, interval.hi, reason=reason)
    by_groups = one_sided_p(difference.value, difference.deleted, positives)
    losses = score - np.array([one.value for one in random])
    return Lost(*found, interval.lo, interval.hi, max(by_groups, above_draws(score - ablated.value, losses, shared)))


def above_draws(loss: float, losses: Floats, shared: float = 0.0) -> float:
    """The probability that a further random set would lose as much: Student's t of a new observation, the larger p of
    that of losses and that of their inverse hyperbolic sine.

    Where few channels carry an effect, losses are skewed, and t of losses alone calls far too many sets: simulated with
    a set like any other, k = 1 to 46 channels and D = 5, 10 and 20 draws, at a nominal .05 (in brackets t of losses
    alone):

    ===========================  ============  ==============
    effects of channels          both          (losses alone)
    ===========================  ============  ==============
    normal, mean 0 or 3          .02 to .05    (.05 to .07)
    exponential                  .04 to .05    (.06 to .12)
    lognormal, sigma 1           .06 to .07    (.08 to .13)
    lognormal, sigma 1.5         .06 to .08    (.10 to .15)
    lognormal, sigma 2           .07 to .08    (.11 to .16)
    nine in ten 0, exponential   .00 to .07    (.01 to .12)
    ===========================  ============  ==============

    asinh(x / s) is a logarithm of what is well above s, and linear about 0: a logarithm alone is not defined where
    channels' absence raises a score, and makes much of losses that are next to nothing. s is a quarter of the median
    size of the random sets' losses.

    Draws that have channels in common differ less than sets that have none, as the selected one has none in common with
    any: were the effects of channels sums, draws that share o of theirs would have the variance (1 - o) v, a set of its
    own v, and the mean of D draws (o + (1 - o) / D) v.

    Args:
        loss: of the selected channels.
        losses: of the random sets, at least two, (D,). Where all are the same they do not say how much sets differ, and
            p is what exchangeable sets give alone: 1 / (D + 1) where the selected one loses more, else 1.
        shared: o, less than 1.
    """
    if losses.std(ddof=1) < ROUNDING:
        return 1 / (len(losses) + 1) if loss - losses.mean() > ROUNDING else 1.0
    size = max(float(np.median(np.abs(losses))) / 4, ROUNDING)
    pairs = (loss, losses), (np.arcsinh(loss / size), np.arcsinh(losses / size))
    return max(_student(float(one), others, shared) for one, others in pairs)


def _student(value: float, draws: Floats, shared: float) -> float:
    """The probability of a new observation as high as ``value``."""
    n = len(draws)
    error = float(draws.std(ddof=1)) * np.sqrt((1 + shared) / (1 - shared) + 1 / n)
    return float(stdtr(n - 1, (draws.mean() - value) / error))
