"""From margins to probabilities, and how good those are.

Probes are trained with classes of equal weight, so their margins are log-odds at 50/50. The way to probabilities: the
intercept is corrected to the natural prevalence (:func:`prevalence_offset`), or temperature and offset are fitted on
validation (:func:`calibrate`), where the prevalence is natural already. Both are monotone: they change no ranking.

What is said of probabilities are proper scores: Brier's and its parts, the log-loss as explained deviance, and the
reliability table that the parts are made of. None of them comes with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, expit, logit

from probekit.evaluate.prevalence import class_shares

CONSTANT = "validation margins are all equal: every cell gets the prevalence"
NOT_HIGHER = "on validation positives' margins are not higher than negatives': every cell gets the prevalence"
SEPARABLE = "validation is separable: targets are smoothed, the likelihood alone has no finite maximum"

_BINS = 4096
_STEPS = 1000
_NEAR = 1e-3
"""Where no cell's log-odds move by more, the Hessian changes by less than .1 % and a full Newton step is safe."""


def prevalence_offset(prevalence: ArrayLike, trained_at: ArrayLike = 0.5) -> NDArray[np.float64]:
    """What to add to log-odds that were trained at one prevalence and are used at another: the prior correction of
    King and Zeng (2001, Logistic regression in rare events data).

    Exact for a model that is right where it was trained, if cells of each class look the same in both places. The
    prevalence is that of training or validation groups, or of a deployment, never of the test.

    Args:
        prevalence, trained_at: in (0, 1).

    Raises:
        ValueError: a prevalence outside (0, 1).
    """
    return np.asarray(logit(class_shares(prevalence)[0]) - logit(class_shares(trained_at)[0]))


@dataclass(frozen=True, eq=False)
class Calibration:
    """How margins become log-odds, by scorer: ``temperature * margin + offset``.

    Attributes:
        temperature: (m,) float64, finite, at least 0. It multiplies: 1 leaves the margins' spread, less than 1 says
            that they were too sure.
        offset: (m,) float64, finite.
        reasons: why this is not the maximum of the likelihood, else none; m of them.
    """

    temperature: NDArray[np.float64]
    offset: NDArray[np.float64]
    reasons: tuple[str | None, ...]

    def log_odds(self, margins: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Of margins (m, n), at the prevalence of validation; for another add :func:`prevalence_offset`."""
        return self.temperature[:, None] * margins + self.offset[:, None]

    def probabilities(self, margins: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Of margins (m, n), at the prevalence of validation."""
        return np.asarray(expit(self.log_odds(margins)))


def calibrate(
    margins: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_], bins: int | None = None
) -> Calibration:
    """Temperature and offset of highest likelihood (Platt 1999), for each scorer by itself.

    They are unique and finite unless

    - margins are all equal, or positives have no higher mean margin than negatives: the maximum over temperatures >= 0
      is at 0, and the offset is the prevalence's log-odds;
    - no negative has a higher margin than any positive: the targets are then Platt's, (P + 1) / (P + 2) for P positives
      and 1 / (N + 2) for N negatives, in place of 1 and 0.

    ``reasons`` says which. There is no other regularisation.

    Args:
        margins: of validation, (m, n), or of one scorer, (n,).
        y: 1 (or true) where the concept is, (n,).
        bins: condense each class's margins to about so many first (:func:`condense`): fast where n is large.

    Raises:
        ValueError: a class is missing, or a margin is not finite.
    """
    is_positive = y.astype(bool, copy=False)
    fits = []
    for row in np.atleast_2d(margins):
        if bins is None:
            fits.append(fit_temperature(row, is_positive, ~is_positive))
        else:
            fits.append(fit_temperature(*condense(row, is_positive, bins)))
    return Calibration(
        np.array([fit[0] for fit in fits]), np.array([fit[1] for fit in fits]), tuple(f[2] for f in fits)
    )


def condense(
    margins: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_], bins: int = _BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A histogram of margins by class that :func:`fit_temperature` takes for the cells.

    Bins are even within about +-4 and geometric beyond. Each stands at the mean of its cells, so that all that the
    likelihood sees of the labels, their counts and sums of margins, is exact. A class of at most so many cells is kept
    as it is, and the lowest and highest of either are always kept apart, so that separable stays separable and nothing
    else becomes so.

    Args:
        margins: (n,).
        y: 1 (or true) where the concept is, (n,).
        bins: about so many a class.

    Returns:
        margins, positives and negatives there, each (about 2 bins,) at most.
    """
    is_positive = y.astype(bool, copy=False)
    p_values, p_counts = _condense(margins[is_positive], bins)
    n_values, n_counts = _condense(margins[~is_positive], bins)
    return (
        np.concatenate([p_values, n_values]),
        np.concatenate([p_counts, np.zeros(len(n_counts))]),
        np.concatenate([np.zeros(len(p_counts)), n_counts]),
    )


def _condense(margins: NDArray[np.floating[Any]], bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and counts."""
    ascending = np.sort(margins).astype(np.float64)
    n = len(ascending)
    if n <= bins or not np.isfinite(ascending[[0, -1]]).all():
        return ascending, np.ones(n)
    low, high = np.arcsinh(ascending[[0, -1]] / 4)
    edges = 4 * np.sinh(np.linspace(low, high, bins + 1)[1:-1])
    starts = np.unique(np.concatenate([[0, 1, n - 1], np.searchsorted(ascending, edges)]))
    starts = starts[starts < n]
    counts = np.diff(np.append(starts, n))
    first = ascending[starts]
    # From the bin's first margin: the mean of equal margins must be that margin, to the last bit.
    beyond = np.add.reduceat(ascending - np.repeat(first, counts), starts)
    return first + beyond / counts, counts.astype(np.float64)


def fit_temperature(
    margins: NDArray[np.floating[Any]], positives: NDArray[Any], negatives: NDArray[Any]
) -> tuple[float, float, str | None]:
    """Temperature, offset and reason (see :func:`calibrate`) from counts of positives and negatives at margins.

    Newton's method from the constant model, each step halved until it lowers the loss by a share of what it promised.

    Args:
        margins: (n,).
        positives, negatives: cells (or weights) at each, (n,), not negative.

    Raises:
        ValueError: a class is missing, or a margin is not finite.
    """
    x = np.asarray(margins, dtype=np.float64)
    p, q = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    n_p, n_q = float(p.sum()), float(q.sum())
    if not (n_p > 0 and n_q > 0):
        raise ValueError("validation lacks a class: there is nothing to calibrate by")
    if not np.isfinite(x).all():
        raise ValueError("a margin of validation is not finite")
    of_p, of_q = x[p > 0], x[q > 0]
    base = float(np.log(n_p / n_q))
    if max(of_p.max(), of_q.max()) - min(of_p.min(), of_q.min()) <= np.finfo(np.float32).tiny:
        return 0.0, base, CONSTANT
    middle = float(np.median(x))  # near where the cells are: far from it digits would be lost, as by an outlier's mean
    x = x - middle
    # The slope of the likelihood in the temperature, at the best constant model.
    if (p * x).sum() / n_p <= (q * x).sum() / n_q:
        return 0.0, base, NOT_HIGHER
    reason = None
    if of_p.min() >= of_q.max():
        reason = SEPARABLE
        target_p, target_q = (n_p + 1) / (n_p + 2), 1 / (n_q + 2)
        p, q = target_p * p + target_q * q, (1 - target_p) * p + (1 - target_q) * q
        base = float(np.log(p.sum() / q.sum()))
    temperature, offset = _newton(x, p, q, base)
    return float(temperature), float(offset - temperature * middle), reason


def _newton(x: NDArray[np.float64], p: NDArray[np.float64], q: NDArray[np.float64], base: float) -> tuple[float, float]:
    """The minimum of ``sum p log(1 + exp(-eta)) + q log(1 + exp(eta))``, ``eta = temperature x + offset``."""
    temperature, offset, last = 0.0, base, np.inf
    total = p + q
    loss, up, down = _loss(np.full(len(x), base), p, q)
    for _ in range(_STEPS):
        residual, curvature = p * down - q * up, total * up * down
        mass = curvature.sum()
        centre = (curvature * x).sum() / mass
        # About the weighted centre the Hessian is diagonal, and a small determinant is not lost in a difference.
        about = x - centre
        along, spread = (residual * about).sum(), (curvature * about**2).sum()
        by = along / spread
        shift = residual.sum() / mass
        gain = along * by + residual.sum() * shift
        size = np.abs(by * about + shift).max()
        if size == 0:
            return temperature, offset
        # Near the minimum differences of the loss drown in rounding: full steps, as long as they promise less.
        near = size <= _NEAR or gain <= 1e-16 * loss
        if near and gain >= last:
            return temperature, offset
        step, last = 1.0, gain if near else np.inf
        while True:
            to = temperature + step * by, offset + step * (shift - by * centre)
            with np.errstate(over="ignore", invalid="ignore"):  # far too long a step has no finite loss
                tried = _loss(to[0] * x + to[1], p, q)
            if near or tried[0] <= loss - 1e-4 * step * gain:
                break
            step /= 2
            if step * size < 1e-12:
                return temperature, offset
        if not near and loss - tried[0] <= 1e-15 * loss:
            return temperature, offset
        (temperature, offset), (loss, up, down) = to, tried
    raise RuntimeError(f"temperature and offset did not settle in {_STEPS} steps")


def _loss(
    eta: NDArray[np.float64], p: NDArray[np.float64], q: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The loss, and the probabilities of positive and of negative, each without cancellation."""
    small = np.exp(-np.abs(eta))
    likely = 1 / (1 + small)
    unlikely = small * likely
    loss = ((p + q) * np.log1p(small) + p * np.maximum(-eta, 0) + q * np.maximum(eta, 0)).sum()
    return float(loss), np.where(eta >= 0, likely, unlikely), np.where(eta >= 0, unlikely, likely)


def brier_score(
    probabilities: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]] | NDArray[np.bool_],
    prevalence: float | None = None,
) -> NDArray[np.float64]:
    """The mean squared difference of probability and label: 0 is best; the best constant gets the labels' variance.

    Args:
        probabilities: (..., n).
        y: 1 (or true) where the concept is, (n,).
        prevalence: weigh the classes so that this is the share of positives; their own if none. The probabilities must
            be meant for it.

    Returns:
        (...,); NaN where a class that is weighed is absent.

    Raises:
        ValueError: a prevalence outside (0, 1).
    """
    is_positive = y.astype(bool, copy=False)
    squares = (np.asarray(probabilities, dtype=np.float64) - is_positive) ** 2
    if prevalence is None:
        return np.asarray(squares.mean(axis=-1))
    counts = np.array([np.count_nonzero(~is_positive), np.count_nonzero(is_positive)])
    sums = np.stack([squares[..., ~is_positive].sum(axis=-1), squares[..., is_positive].sum(axis=-1)], axis=-1)
    return _mean(sums, counts, class_shares(prevalence)[0])


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was predicted and what was seen, by bins of ascending probability, each (bins,).

    Attributes:
        predicted: mean probability.
        cells, positives: int64; no bin is empty.
    """

    predicted: NDArray[np.float64]
    cells: NDArray[np.int64]
    positives: NDArray[np.int64]

    @property
    def observed(self) -> NDArray[np.float64]:
        """Share of positives."""
        return self.positives / self.cells


def reliability(
    probabilities: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]] | NDArray[np.bool_],
    bins: int = 10,
    equal: Literal["cells", "expected"] = "cells",
) -> Reliability:
    """The reliability table of one scorer.

    Args:
        probabilities: (n,).
        y: 1 (or true) where the concept is, (n,).
        bins: at most so many; equal probabilities are kept together, so fewer where many are.
        equal: what the bins hold about equally much of: cells, or expected positives (sums of probability), which tells
            more where the concept is rare and most cells are near 0.

    Raises:
        ValueError: no cell, probabilities outside [0, 1], or no bin asked for.
    """
    return _binned(probabilities, y, bins, equal)[0]


def _binned(
    probabilities: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]] | NDArray[np.bool_],
    bins: int | None,
    equal: Literal["cells", "expected"],
) -> tuple[Reliability, NDArray[np.int64]]:
    """The table, and each cell's bin; without ``bins`` every probability has its own."""
    f = np.asarray(probabilities, dtype=np.float64)
    if not len(f) or not ((f >= 0) & (f <= 1)).all():
        raise ValueError("probabilities are missing, or lie outside 0 to 1")
    if bins is not None and bins < 1:
        raise ValueError(f"at least one bin is needed, not {bins}")
    values, which, counts = np.unique(f, return_inverse=True, return_counts=True)
    if bins is not None:
        mass = counts if equal == "cells" else counts * values
        middle = (np.cumsum(mass) - mass / 2) / max(mass.sum(), np.finfo(np.float64).tiny)
        place = np.minimum((bins * middle).astype(np.int64), bins - 1)
        which = np.unique(place, return_inverse=True)[1][which]
    cells = np.bincount(which)
    positives = np.bincount(which, weights=y.astype(np.float64)).astype(np.int64)
    return Reliability(np.bincount(which, weights=f) / cells, cells, positives), which


@dataclass(frozen=True)
class BrierParts:
    """Parts of a Brier score: ``reliability - resolution + uncertainty + within`` is the score.

    Attributes:
        reliability: mean squared distance of predicted and observed over the bins: 0 for a calibrated scorer.
        resolution: variance of what was observed between the bins: what the scorer knows.
        uncertainty: variance of the labels: what there is to know.
        within: variance of the probabilities within bins, less twice their covariance with the labels: 0 where each
            probability has a bin of its own.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def score(self) -> float:
        """Brier's, the sum."""
        return self.reliability - self.resolution + self.uncertainty + self.within


def brier_parts(
    probabilities: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]] | NDArray[np.bool_],
    bins: int | None = 10,
    equal: Literal["cells", "expected"] = "cells",
) -> BrierParts:
    """The decomposition of Murphy (1973, A new vector partition of the probability score), over the bins of the
    reliability table with the two terms within bins of Stephenson, Coelho and Jolliffe (2008).

    Bins of few cells put noise into reliability and resolution alike: ``bins=None``, Murphy's own form with a bin for
    each distinct probability, is for probabilities of few levels.

    Args:
        probabilities, y, bins, equal: as for :func:`reliability`.
    """
    table, which = _binned(probabilities, y, bins, equal)
    f, truth = np.asarray(probabilities, dtype=np.float64), y.astype(np.float64)
    share, overall = table.cells / len(f), truth.mean()
    deviation = f - table.predicted[which]
    return BrierParts(
        reliability=float(share @ (table.predicted - table.observed) ** 2),
        resolution=float(share @ (table.observed - overall) ** 2),
        uncertainty=float(overall * (1 - overall)),
        within=float((deviation**2 - 2 * deviation * (truth - table.observed[which])).mean()),
    )


def log_loss_sums(
    log_odds: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log-loss summed over negatives and over positives, as :func:`~probekit.evaluate.groups.group_losses` has it by
    group, for many scorers.

    Args:
        log_odds: (..., n).
        y: 1 (or true) where the concept is, (n,).

    Returns:
        (..., 2) of negatives, positives.
    """
    is_positive = y.astype(bool, copy=False)
    eta = np.asarray(log_odds, dtype=np.float64)
    of_negatives = np.logaddexp(0.0, eta[..., ~is_positive]).sum(axis=-1)
    return np.stack([of_negatives, np.logaddexp(0.0, -eta[..., is_positive]).sum(axis=-1)], axis=-1)


def explained_deviance(
    losses: NDArray[np.floating[Any]],
    cells: Sequence[int] | NDArray[np.integer[Any]],
    prevalence: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """One less the log-loss's share of what the best constant has: 1 is perfect, 0 no better than knowing the
    prevalence, below 0 worse.

    The log-odds behind the losses must be meant for the prevalence at which they are scored. Sums of the losses of
    margins as trained give, with ``prevalence=0.5``, exactly what a probe explains between balanced classes. What it
    explains at the natural prevalence does not follow from them: a moved intercept changes each cell's loss in its own
    way, and a class's sum leaves open whether many cells are a little wrong or one is very wrong. For that, sum the
    losses of log-odds that are corrected or calibrated.

    Args:
        losses: sums over negatives and over positives, (..., 2).
        cells: negatives and positives, (..., 2).
        prevalence: weigh the classes so that this is the share of positives; as they are if none.

    Returns:
        (...,); NaN where a class is absent.

    Raises:
        ValueError: a prevalence outside (0, 1).
    """
    counts = np.asarray(cells, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts[..., 1] / counts.sum(axis=-1) if prevalence is None else class_shares(prevalence)[0]
        mean = _mean(np.asarray(losses, dtype=np.float64), counts, share)
        return np.asarray(1 - mean / (entr(share) + entr(1 - share)))


def _mean(
    sums: NDArray[np.float64], cells: NDArray[np.number[Any]], prevalence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean loss at a prevalence from sums over negatives and over positives, (..., 2)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(cells > 0, sums / cells, np.nan)
    return np.asarray(prevalence * mean[..., 1] + (1 - prevalence) * mean[..., 0])
