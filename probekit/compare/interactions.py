"""Do channels work together? Tests of products of two channels, and probes that use products.

*The test of a pair* is the score test (Rao 1948) of the product z_i z_j in a logistic model of the selected channels z
and, so that a channel's own curvature is not taken for an interaction, of the squares of those that are tried. The
product is freed of all these by least squares at the model's weights: so shrinkage and error of their coefficients do
not reach the statistic to first order. Cells of a group are dependent, so the variance is that of the G groups' scores,
each at the coefficients of all other groups (the one-step jackknife, "CR3": Bell and McCaffrey 2002), and t has G - 1
degrees of freedom. ``docs/explanation/validity.md`` has the simulated level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtr

from probekit.api import Scorer
from probekit.evaluate.intervals import Floats
from probekit.evaluate.paired import benjamini_hochberg

LEADING = 20
"""Channels, the largest by coefficient, of which every two are tried: 190 pairs."""

MOST_PAIRS = 10
"""Products that are added to a probe at most."""

LEVEL = 0.05
"""Of the false discovery rate over the pairs."""

_RIDGE = 1e-4
"""Of the model that is tested against: none to speak of, but classes that channels separate leave it finite."""

_STEPS, _CLOSE = 50, 1e-4
"""Newton steps at most, and the step of a coefficient below which they end."""

_ROWS = 512
"""Weighted at once."""

_COLLINEAR = 1e-6
"""A product that keeps a smaller share of its squares beside the channels and their squares is made of them."""


@dataclass(frozen=True, eq=False)
class PairTests:
    """Score tests of products, (m,) each.

    Attributes:
        pairs: positions of the two channels, (m, 2) int64, the one before the other as in ``leading``.
        weight: of the product of the standardised channels, added alone, by one Newton step (log-odds).
        statistic: t, by groups.
        p: two-sided. NaN, as is all else of a pair, where the product is made of the channels and their squares.
        q: adjusted for all pairs (Benjamini and Hochberg).
    """

    pairs: NDArray[np.int64]
    weight: Floats
    statistic: Floats
    p: Floats
    q: Floats

    def established(self, most: int = MOST_PAIRS) -> NDArray[np.int64]:
        """The pairs with q at most .05, the surest ``most`` of them: (k, 2)."""
        order = np.lexsort((-np.abs(self.statistic), self.p))  # NaN comes last
        return np.asarray(self.pairs[order[self.q[order] <= LEVEL]][:most])


def pair_tests(
    z: Floats,
    y: NDArray[np.integer[Any]],
    weights: Floats,
    groups: NDArray[np.integer[Any]],
    leading: NDArray[np.int64],
) -> PairTests:
    """Tests the product of every two of the leading channels.

    Args:
        z: standardised features of all channels that the model has, (n, k).
        y: 1 where the concept is, else 0, (n,).
        weights: of the rows, positive, (n,).
        groups: of the rows, (n,).
        leading: positions of the channels to try, distinct, (l,): l (l - 1) / 2 pairs.
    """
    first, second = np.triu_indices(len(leading), 1)
    pairs = np.stack([leading[first], leading[second]], axis=1).astype(np.int64)
    of_groups = np.unique(groups)
    if not len(pairs) or len(of_groups) < 2:
        nothing = np.full(len(pairs), np.nan)
        return PairTests(pairs, nothing, nothing, nothing, nothing)
    order = np.argsort(groups, kind="stable")
    z, y, weights, groups = z[order], y[order], weights[order], groups[order]
    ends = np.append(np.searchsorted(groups, of_groups), len(z))
    parts = [slice(start, end) for start, end in pairwise(ends.tolist())]

    x = _design(z, leading)
    probability, curvature, information = _fit(x, y, weights)
    residual = weights * (y - probability)
    without = _without_own_group(x, residual, curvature, information, parts)

    # What is asked of the products is linear in them or quadratic: they are made group by group, and never all held.
    crossed, squares = np.zeros((x.shape[1], len(pairs))), np.zeros(len(pairs))
    total, scores = np.zeros(len(pairs)), np.zeros((len(parts), len(pairs)))
    for group, part in enumerate(parts):
        products = z[part, pairs[:, 0]] * z[part, pairs[:, 1]]
        crossed += (curvature[part, None] * x[part]).T @ products
        squares += curvature[part] @ products**2
        total += residual[part] @ products
        scores[group] = without[part] @ products
    # The ridge would leave a product a part of what it is freed of.
    plain = information - np.diag(np.append(np.full(x.shape[1] - 1, (1 - 1e-4) * _RIDGE * weights.sum()), 0.0))
    made = np.linalg.solve(plain, crossed)
    total -= (residual @ x) @ made
    scores -= np.stack([without[part] @ x[part] for part in parts]) @ made
    left = squares - (made * (2 * crossed - plain @ made)).sum(axis=0)
    usable = left > _COLLINEAR * (squares - crossed[-1] ** 2 / curvature.sum())
    n = len(parts)
    deviations = scores - scores.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(usable, total / np.sqrt(n / (n - 1) * (deviations**2).sum(axis=0)), np.nan)
        weight = np.where(usable, total / left, np.nan)
    p = np.asarray(2 * stdtr(n - 1.0, -np.abs(statistic)))
    return PairTests(pairs, weight, statistic, p, benjamini_hochberg(p))


def _design(z: Floats, leading: NDArray[np.int64]) -> Floats:
    """The channels, the leading ones' squares, standardised, and ones."""
    x = np.ones((len(z), z.shape[1] + len(leading) + 1))
    x[:, : z.shape[1]] = z
    squares = z[:, leading] ** 2
    deviation = squares.std(axis=0)
    x[:, z.shape[1] : -1] = (squares - squares.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return x


def _fit(x: Floats, y: NDArray[np.integer[Any]], weights: Floats) -> tuple[Floats, Floats, Floats]:
    """A logistic model by damped Newton steps; the intercept is the last column.

    Returns:
        probability (n,); the weights of least squares, (n,); their matrix with the ridge's, (columns, columns).
    """
    w = np.zeros(x.shape[1])
    ridge = np.full(x.shape[1], _RIDGE * weights.sum())
    ridge[-1] = 0.0
    margin = np.zeros(len(x))
    value = _objective(margin, w, y, weights, ridge)
    for _ in range(_STEPS):
        probability, _, information = _at(x, margin, weights, ridge)
        step = np.linalg.solve(information, x.T @ (weights * (y - probability)) - ridge * w)
        along = x @ step
        moved = _objective(margin + along, w + step, y, weights, ridge)
        while moved > value * (1 + 1e-12) and np.abs(step).max() > _CLOSE:
            step, along = step / 2, along / 2
            moved = _objective(margin + along, w + step, y, weights, ridge)
        w, margin, value = w + step, margin + along, moved
        if np.abs(step).max() < _CLOSE:
            break  # what the next step would be is its square
    return _at(x, margin, weights, ridge)


def _at(x: Floats, margin: Floats, weights: Floats, ridge: Floats) -> tuple[Floats, Floats, Floats]:
    probability = expit(margin)
    # where all is certain the matrix would be singular
    curvature = weights * np.maximum(probability * (1 - probability), 1e-10)
    information = np.diag(ridge)
    for start in range(0, len(x), _ROWS):  # a weighted copy of all rows would not stay in the cache
        part = x[start : start + _ROWS]
        information += part.T @ (curvature[start : start + _ROWS, None] * part)
    return probability, curvature, information


def _objective(margin: Floats, w: Floats, y: NDArray[np.integer[Any]], weights: Floats, ridge: Floats) -> float:
    return float(weights @ np.logaddexp(0.0, np.where(y == 1, -margin, margin)) + ridge @ w**2 / 2)


def _without_own_group(
    x: Floats, residual: Floats, curvature: Floats, information: Floats, parts: Sequence[slice]
) -> Floats:
    """Residuals of rows, sorted by group, at the coefficients of all other groups, to first order: (n,)."""
    found = residual.copy()
    least = 1e-9 * np.trace(information) / len(information) * np.eye(len(information))
    for part in parts:
        own = x[part]
        # ``least``: a column may vary in one group alone
        others = information - own.T @ (curvature[part, None] * own) + least
        found[part] += curvature[part] * (own @ np.linalg.solve(others, own.T @ residual[part]))
    return found


@dataclass(frozen=True, eq=False)
class Expansion:
    """Channels and products of two of them, each standardised over the rows it was made of.

    Attributes:
        channels: numbers in the raw features, (k,).
        mean, scale: of the channels, (k,).
        pairs: positions in ``channels``, (m, 2); a channel with itself is a square.
        center, spread: of the products of standardised channels, (m,).
    """

    channels: NDArray[np.int64]
    mean: Floats
    scale: Floats
    pairs: NDArray[np.int64]
    center: Floats
    spread: Floats

    @staticmethod
    def of(
        raw: NDArray[np.floating[Any]], channels: NDArray[np.int64], mean: Floats, scale: Floats, pairs: Any
    ) -> tuple[Expansion, Floats]:
        """The expansion over the rows of raw features (n, p), and they in it, (n, k + m).

        Args:
            mean, scale: of the channels, (k,).
            pairs: (m, 2).
        """
        pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        z = (np.take(raw, channels, axis=1).astype(np.float64) - mean) / scale
        products = z[:, pairs[:, 0]] * z[:, pairs[:, 1]]
        center, spread = products.mean(axis=0), products.std(axis=0)
        spread = np.where(spread > 1e-12, spread, 1.0)
        expansion = Expansion(channels, mean, scale, pairs, center, spread)
        return expansion, np.concatenate([z, (products - center) / spread], axis=1)

    def scorer(self, linear: Scorer) -> Scorer:
        """A linear scorer of the expanded features as a polynomial one of raw features: every constant folded in."""
        k = len(self.channels)
        of = np.zeros(k + len(self.pairs))
        of[linear.channels] = linear.arrays["weight"]
        of_product = of[k:] / self.spread
        i, j = self.pairs.T
        products = of_product / (self.scale[i] * self.scale[j])
        weight = of[:k] / self.scale
        bias = float(linear.arrays["bias"]) - weight @ self.mean - of_product @ self.center
        bias += products @ (self.mean[i] * self.mean[j])
        np.subtract.at(weight, i, products * self.mean[j])
        np.subtract.at(weight, j, products * self.mean[i])
        arrays = {"weight": weight, "bias": np.array(float(bias)), "pairs": self.pairs, "products": products}
        return Scorer("polynomial", self.channels, arrays)
