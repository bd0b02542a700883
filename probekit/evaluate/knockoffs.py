"""Model-X knockoffs: channels selected with a bound on the expected share of false ones (an option; off by default).

A knockoff copy of the channels is drawn so that exchanging any channel with its copy changes no mean and no covariance;
a probe is fitted on both, and a channel is believed as far as it beats its copy (Candes, Fan, Janson and Lv 2018,
J. R. Statist. Soc. B 80, 551-577). False is a channel that, given all other channels, tells nothing of the concept.
That is about *this* channel: of two that replace one another neither tells more than the other does, and both look like
their copies. Thin interchangeable groups out first.

The false discovery rate is at most q under three assumptions, none of them exact here:

- channels are Gaussian, or only their first two moments matter (activations after a ReLU are not Gaussian);
- the covariance is known (it is estimated from the same rows and shrunk towards its diagonal);
- rows are independent. Cells of one group are not: copies drawn row by row lack what a group shares, so that a channel
  that differs between groups beats its copy by chance, as prevalence differs between groups too. Hence two levels,
  where groups are given: a group's mean gets a copy by the covariance of the groups' means, the rows' deviations from
  it one by the covariance within groups. That is exact if groups shift their rows as a whole by a Gaussian, with as
  many rows each; neighbouring cells that resemble one another within a group are still taken to be independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky
from scipy.linalg.blas import dger

from probekit.sampling.seeds import generator

Floats = NDArray[np.float64]

LEAST_SHRINKAGE = 1e-3
"""Covariances are shrunk by at least this share, so that they are positive definite."""

_SWEEPS = 50


@dataclass(frozen=True, eq=False)
class GaussianKnockoffs:
    """The law of knockoffs given centred channels: ``z @ keep`` plus noise of covariance ``root @ root.T``.

    Attributes:
        covariance: of the channels, (p, p).
        s: covariance of a channel with its copy is its variance less s, (p,).
        keep: I - covariance^-1 diag(s), (p, p).
        root: lower triangular root of 2 diag(s) - diag(s) covariance^-1 diag(s), (p, p).
    """

    covariance: Floats
    s: Floats
    keep: Floats
    root: Floats

    def draw(self, z: Floats, rng: np.random.Generator, units: NDArray[np.int64] | None = None) -> Floats:
        """Copies of centred rows, (n, p); the noise is centred within units (n,), as the rows are, where given."""
        noise = rng.standard_normal(z.shape) @ self.root.T
        if units is not None:
            noise -= _means(noise, units)[units]
        copies: Floats = z @ self.keep + noise
        return copies


def gaussian_knockoffs(covariance: Floats, s: Floats | None = None) -> GaussianKnockoffs:
    """The law of knockoffs for a covariance.

    Args:
        covariance: positive definite, (p, p).
        s: between 0 and what keeps 2 covariance - diag(s) positive definite, (p,); :func:`least_reconstructable` if not
            given.
    """
    s = least_reconstructable(covariance) if s is None else s
    solved = cho_solve(cho_factor(covariance), np.diag(s))
    spread = 2 * np.diag(s) - s[:, None] * solved
    return GaussianKnockoffs(covariance, s, np.eye(len(s)) - solved, cholesky((spread + spread.T) / 2, lower=True))


def least_reconstructable(covariance: Floats, tolerance: float = 1e-3) -> Floats:
    """The s whose copies tell least of their channels: minimum variance-based reconstructability.

    Minimises trace((2 covariance - diag(s))^-1) + sum 1 / s, half the trace of the inverse covariance of channels and
    copies together (Spector and Janson 2022, Ann. Statist. 50, 252-276), coordinate by coordinate, each to its minimum.
    Against the largest possible s (their "SDP") it keeps channels of correlated blocks apart from their copies.

    Args:
        covariance: positive definite, (p, p).
        tolerance: sweeps end when no s changes by more than this share.

    Returns:
        (p,), above 0.
    """
    scale = np.sqrt(np.diag(covariance))
    r = covariance / scale[:, None] / scale
    p = len(r)
    s = np.full(p, float(np.linalg.eigvalsh(r)[0]))
    if not s[0] > 0:
        raise ValueError("the covariance must be positive definite")
    for _ in range(_SWEEPS):
        # Made anew each sweep: rank-one updates gather rounding errors.
        inverse = np.asfortranarray(cho_solve(cho_factor(2 * r - np.diag(s)), np.eye(p)))
        change = 0.0
        for j in range(p):
            column = inverse[:, j].copy()
            root, diagonal = float(np.linalg.norm(column)), float(column[j])
            # The derivative along s_j, -1 / (s_j + step)^2 + (root / (1 - step diagonal))^2, is zero here.
            step = (1 - root * s[j]) / (diagonal + root)
            dger(step / (1 - step * diagonal), column, column, a=inverse, overwrite_a=1)
            change = max(change, abs(step) / s[j])
            s[j] += step
        if change <= tolerance:
            break
    least: Floats = s * scale**2
    return least


def draw_knockoffs(x: NDArray[np.floating[Any]], groups: NDArray[np.integer[Any]] | None, seed: int) -> Floats:
    """Second-order Gaussian knockoffs of rows, by the rows' own moments.

    Args:
        x: rows, (n, p).
        groups: index of each row's group, (n,); none where rows are independent.
        seed: other seeds, other copies, and other selections.

    Returns:
        (n, p). The copy of a channel that does not vary is that channel.

    Raises:
        ValueError: fewer than two groups (or rows).
    """
    rng = generator(seed, "knockoffs")
    rows = np.asarray(x, dtype=np.float64)
    if groups is None:
        mean = rows.mean(axis=0)
        alone: Floats = mean + _copies(rows - mean, None, len(rows) - 1, rng)
        return alone
    _, units = np.unique(groups, return_inverse=True)
    means = _means(rows, units)
    mean = means.mean(axis=0)
    copies: Floats = (mean + _copies(means - mean, None, len(means) - 1, rng))[units]
    if len(rows) > len(means):
        copies += _copies(rows - means[units], units, len(rows) - len(means), rng)
    return copies


def _copies(z: Floats, units: NDArray[np.int64] | None, df: int, rng: np.random.Generator) -> Floats:
    """Copies of rows that are centred, in all or within units."""
    if df < 1:
        raise ValueError("knockoffs need at least two groups, or rows")
    deviation = np.sqrt((z**2).sum(axis=0) / df)
    standard = z / np.where(deviation > 0, deviation, 1.0)
    law = gaussian_knockoffs(shrunk_correlation(standard, units, df)[0])
    copies: Floats = law.draw(standard, rng, units) * deviation
    return copies


def shrunk_correlation(z: Floats, units: NDArray[np.int64] | None, df: int) -> tuple[Floats, float]:
    """Correlations shrunk towards zero, by as much as lowers their squared error most.

    The intensity is that of Ledoit and Wolf for the identity as target, in the form of Schaefer and Strimmer (2005):
    the summed variance of the correlations over their summed squares; variances are estimated from sums over units, so
    that dependent rows count as few.

    Args:
        z: rows of mean zero and variance one, (n, p); a channel may be zero throughout.
        units: independent units, index of each row's, (n,); every row its own if not given.
        df: what sums of squares are divided by.

    Returns:
        (p, p), and the intensity, from :data:`LEAST_SHRINKAGE` to 1.
    """
    products = z.T @ z
    r = products / df
    squares = z**2
    if units is None:
        n = len(z)
        own = float((squares.sum(axis=1) ** 2).sum() - (squares**2).sum())
        shared = _off(products, products) / n
    else:
        sizes = np.bincount(units)
        n = len(sizes)
        order = np.split(z[np.argsort(units, kind="stable")], np.cumsum(sizes)[:-1])
        average = products / len(z)
        own = 0.0
        for size, rows in zip(sizes, order, strict=True):
            apart = rows.T @ rows - size * average
            own += _off(apart, apart)
        shared = 0.0
    variance = (own - shared) * n / max(n - 1, 1) / df**2
    energy = _off(r, r)
    intensity = float(np.clip(variance / energy, LEAST_SHRINKAGE, 1.0)) if energy > 0 else 1.0
    r *= 1 - intensity
    np.fill_diagonal(r, 1.0)
    return r, intensity


def _off(a: Floats, b: Floats) -> float:
    """The sum of products off the diagonal."""
    return float((a * b).sum() - (np.diag(a) * np.diag(b)).sum())


def _means(rows: Floats, units: NDArray[np.int64]) -> Floats:
    """Means of the rows of each unit, (units, p)."""
    sums = np.zeros((int(units.max()) + 1, rows.shape[1]))
    np.add.at(sums, units, rows)
    return sums / np.bincount(units)[:, None]


def antisymmetric(importances: NDArray[np.floating[Any]]) -> Floats:
    """W_j = |importance of channel j| - |importance of its copy|: exchanging the two turns its sign.

    Args:
        importances: coefficients on standardised columns, say, of the channels and then of their copies, (2 p,).

    Returns:
        (p,).
    """
    if len(importances) % 2:
        raise ValueError(f"channels and copies are needed, not {len(importances)} columns")
    channels, copies = np.abs(np.asarray(importances, dtype=np.float64)).reshape(2, -1)
    return channels - copies


def knockoff_threshold(w: Floats, q: float) -> float:
    """The least t > 0 among the |W| at which (1 + #{W <= -t}) / #{W >= t} is at most q ("knockoff+").

    Args:
        w: of :func:`antisymmetric`, (p,).
        q: rate of false discoveries, in (0, 1).

    Returns:
        inf where there is none: fewer than 1 / q channels can never be selected.
    """
    if not 0 < q < 1:
        raise ValueError(f"the rate of false discoveries must be between 0 and 1, not {q:g}")
    candidates = np.unique(np.abs(w[w != 0]))
    ascending = np.sort(w)
    false = np.searchsorted(ascending, -candidates, side="right")
    found = len(w) - np.searchsorted(ascending, candidates, side="left")
    kept = candidates[1 + false <= q * found]
    return float(kept[0]) if len(kept) else float("inf")


def knockoff_selection(w: Floats, q: float) -> NDArray[np.bool_]:
    """Channels with W at least the threshold, (p,): none, or at least 1 / q of them."""
    selected: NDArray[np.bool_] = w >= knockoff_threshold(w, q)
    return selected
