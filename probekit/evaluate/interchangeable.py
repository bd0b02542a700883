"""Channels that stand for one another: so that "channel 17" is not sold where 17, 203 and 511 are the same.

Interchangeable means correlated, |r| at least a threshold (.9), over the rows that a probe was trained on; nothing is
refitted. What that is worth: put in another's place, rescaled, a channel leaves 1 - r^2 of the other's variance
unexplained (.19 at .9, .02 at .99), which a linear probe may or may not have used. A group is therefore a warning that
the rows do not tell these channels apart, not a proof that the score stays the same; and channels that only *together*
replace another are not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

THRESHOLD = 0.9

_BLOCK = 8192
"""Rows that are converted at a time."""


class Substitute(NamedTuple):
    """A channel that another may be replaced by, and their correlation."""

    channel: int
    r: float


def correlation(
    x: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]] | None = None,
    channels: Sequence[int] | NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.float64]:
    """Weighted correlations of channels.

    Args:
        x: rows, (n, p).
        weights: at least 0, (n,); rows of weight zero do not count. All equal if not given.
        channels: rows of the matrix that are wanted; all if not given.

    Returns:
        (channels, p); zero for a channel that does not vary, but one with itself.

    Raises:
        ValueError: no row has weight.
    """
    n, p = x.shape
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if not w.sum() > 0:
        raise ValueError("no row has weight")
    w = w / w.sum()
    rows = np.arange(p) if channels is None else np.asarray(channels, dtype=np.int64)
    mean = np.zeros(p)
    for start in range(0, n, _BLOCK):
        mean += w[start : start + _BLOCK] @ x[start : start + _BLOCK].astype(np.float64)
    products, squares = np.zeros((len(rows), p)), np.zeros(p)
    for start in range(0, n, _BLOCK):
        z = x[start : start + _BLOCK] - mean
        z *= np.sqrt(w[start : start + _BLOCK])[:, None]
        squares += (z**2).sum(axis=0)
        products += z[:, rows].T @ z
    # What rounding leaves of a constant is no spread.
    varies = squares > (1e-7 * np.abs(mean)) ** 2
    scale = np.where(varies, np.sqrt(squares), np.inf)
    r: NDArray[np.float64] = np.clip(products / scale[rows, None] / scale, -1, 1)
    r[np.arange(len(rows)), rows] = 1.0
    return r


def interchangeable_groups(r: NDArray[np.floating[Any]], threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Clusters of channels by complete linkage of 1 - |r|: any two of a cluster have |r| at least the threshold.

    Two that have it may still be in different clusters, as each channel is in one. Ties between equal correlations are
    broken by what else the channels correlate with, so that permuted channels give the same clusters; by the channels'
    numbers only where that is the same too.

    Args:
        r: correlations, symmetric, (p, p).
        threshold: above 0, at most 1.

    Returns:
        The cluster of each channel, (p,), numbered in the order of their first channels.

    Raises:
        ValueError: r is not square or holds NaN, or the threshold is out of range.
    """
    _check(r, threshold)
    p = len(r)
    if r.shape != (p, p):
        raise ValueError(f"correlations of all channels are needed, not {r.shape}")
    if p < 2:
        return np.zeros(p, dtype=np.int64)
    distance = 1 - np.abs(np.asarray(r, dtype=np.float64))
    distance = np.maximum(distance, distance.T)
    np.fill_diagonal(distance, 0.0)
    order = _canonical(distance)
    condensed = squareform(distance[np.ix_(order, order)], checks=False)
    found = fcluster(linkage(condensed, method="complete"), t=_reach(threshold), criterion="distance")
    clusters = np.empty(p, dtype=np.int64)
    clusters[order] = found
    _, first, clusters = np.unique(clusters, return_index=True, return_inverse=True)
    numbers: NDArray[np.int64] = np.argsort(np.argsort(first))[clusters].astype(np.int64)
    return numbers


def others_of_group(
    ranking: Sequence[int] | NDArray[np.integer[Any]], clusters: NDArray[np.int64], r: NDArray[np.floating[Any]]
) -> list[tuple[Substitute, ...]]:
    """For each channel of a ranking the others of its cluster, the most correlated first.

    Args:
        ranking: channels.
        clusters: of :func:`interchangeable_groups`, (p,).
        r: correlations, (p, p).
    """
    members: dict[int, list[int]] = {}
    for channel, cluster in enumerate(clusters):
        members.setdefault(int(cluster), []).append(channel)
    return [_sorted([j for j in members[int(clusters[i])] if j != i], r[i]) for i in ranking]


def replaceable(
    selected: Sequence[int] | NDArray[np.integer[Any]], r: NDArray[np.floating[Any]], threshold: float = THRESHOLD
) -> list[tuple[Substitute, ...]]:
    """For each selected channel all channels with |r| to it at least the threshold, the most correlated first.

    Unlike a cluster's, two substitutes of a channel need not be correlated as much with one another, and a channel may
    stand for several. Selected ones are among them: 17 and 203 may both be selected, and be the same.

    Args:
        selected: channels.
        r: their correlations with all p channels, (len(selected), p), or those of all channels, (p, p).
        threshold: above 0, at most 1.
    """
    _check(r, threshold)
    if r.shape[0] == r.shape[1]:
        r = r[np.asarray(selected, dtype=np.int64)]
    if len(r) != len(selected):
        raise ValueError(f"a row of correlations is needed for each of {len(selected)} channels, not {r.shape}")
    near = 1 - np.abs(np.asarray(r, dtype=np.float64)) <= _reach(threshold)
    return [
        _sorted([int(j) for j in np.flatnonzero(row) if j != i], values)
        for i, row, values in zip(selected, near, r, strict=True)
    ]


def with_substitutes(channel: int, substitutes: Sequence[Substitute], most: int = 3) -> str:
    """How a channel is printed: ``17``, ``17 (or 203, -511)``, ``17 (or 203, -511, 4 and 5 more)``; minus where the
    correlation is negative."""
    if not substitutes:
        return str(channel)
    named = ", ".join(f"{'-' if s.r < 0 else ''}{s.channel}" for s in substitutes[:most])
    rest = len(substitutes) - most
    return f"{channel} (or {named}{f' and {rest} more' if rest > 0 else ''})"


def _reach(threshold: float) -> float:
    """The distance up to which channels are together; a rounding error above 1 - threshold."""
    return 1 - threshold + 1e-12


def _check(r: NDArray[np.floating[Any]], threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold must be above 0 and at most 1, not {threshold:g}")
    if r.ndim != 2 or not np.isfinite(r).all():
        raise ValueError("correlations must be a matrix of finite numbers")


def _sorted(channels: Sequence[int], r: NDArray[np.floating[Any]]) -> tuple[Substitute, ...]:
    return tuple(sorted((Substitute(j, float(r[j])) for j in channels), key=lambda s: (-abs(s.r), s.channel)))


def _canonical(distance: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order of the channels that follows from their sorted distances, not from their numbers."""
    profile = np.sort(distance, axis=1)
    # Of equal numbers in equal order, sums and products are equal to the last bit.
    return np.lexsort((*profile[:, :8].T[::-1], (profile**2).sum(axis=1), profile.sum(axis=1)))
