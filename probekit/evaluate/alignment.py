"""Do features and labels lie on the same pixels? A quick probe with the labels shifted, scored between groups.

The probe is a linear discriminant on all channels: ``(covariance + shrinkage)^-1 (mean of positives - mean of
negatives)``. With the covariance of all cells, whatever their labels, it points the same way as Fisher's, and one
factorisation serves every shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import POSITIVE, VOID
from probekit.evaluate.groups import histogram_average_precision, score_histograms
from probekit.evaluate.pooling import margin_scale

SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""In cells, along each axis."""

SHRINKAGE = 0.1
"""Added to the diagonal of the channels' correlation: a sample of images has few independent cells."""

RESAMPLES = 1000
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Alignment:
    """What a probe says of the shifts, for one layer and one concept.

    Attributes:
        precision: average precision by (shift down, shift right) in the order of ``SHIFTS``, (5, 5).
        gain: of the best shift over none.
        bound: lower bound of that gain, simultaneous over all shifts, from resampling groups; above zero, the best
            shift is better than none beyond noise.
    """

    precision: NDArray[np.float64]
    gain: float
    bound: float

    @property
    def best(self) -> tuple[float, float]:
        """The best shift, (right, down) in cells."""
        down, right = np.unravel_index(int(np.nanargmax(self.precision)), self.precision.shape)
        return SHIFTS[int(right)], SHIFTS[int(down)]

    @property
    def at_zero(self) -> float:
        """Average precision of the labels as they are."""
        middle = SHIFTS.index(0.0)
        return float(self.precision[middle, middle])

    @property
    def misaligned(self) -> bool:
        """The labels fit better elsewhere, beyond noise."""
        return self.best != (0.0, 0.0) and self.bound > 0


def alignment(
    rows: NDArray[np.float32],
    labels: NDArray[np.int8],
    groups: NDArray[np.integer[Any]],
    folds: Sequence[tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]],
    rng: np.random.Generator,
    tests: int = 1,
) -> Alignment | None:
    """Trains and scores the probe at every shift.

    Args:
        rows: features, (n, p).
        labels: by (shift down, shift right) and row, (5, 5, n), ``VOID`` where a cell is neither.
        groups: of each row, (n,).
        folds: (training groups, validation groups); every group is validated at most once.
        rng: for the resamples.
        tests: how many such questions are asked together; the level is shared among them.

    Returns:
        none where a class is missing in some fold.
    """
    n_shifts = len(SHIFTS) ** 2
    flat = labels.reshape(n_shifts, -1)
    margins = np.full(flat.shape, np.nan, dtype=np.float32)
    for train, validation in folds:
        found = _fit_and_score(rows, flat, np.isin(groups, train), np.isin(groups, validation))
        if found is None:
            return None
        margins[:, np.isin(groups, validation)] = found
    present, group = np.unique(groups, return_inverse=True)
    draws = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, len(present))), draws])
    scores = np.empty((len(weights), n_shifts))
    for i in range(n_shifts):
        kept = (flat[i] != VOID) & ~np.isnan(margins[i])
        y = (flat[i, kept] == POSITIVE).astype(np.int8)
        if not 0 < y.sum() < len(y):
            return None
        counts = score_histograms(margins[i, kept], y, group[kept], len(present))
        for start in range(0, len(weights), 128):
            w = weights[start : start + 128]
            scores[start : start + 128, i] = histogram_average_precision(
                w @ counts.positives, w @ counts.negatives, counts.tied
            )
    gains = scores - scores[:, [n_shifts // 2]]
    observed, resampled = gains[0], gains[1:]
    best = int(np.argmax(scores[0]))
    with np.errstate(invalid="ignore"):
        deviation = np.nanstd(resampled, axis=0)
        studentised = (resampled - observed) / np.where(deviation > 0, deviation, 1.0)
    highest = np.nanmax(studentised, axis=1)
    bound = float(observed[best] - np.nanquantile(highest, 1 - LEVEL / tests) * deviation[best])
    return Alignment(scores[0].reshape(len(SHIFTS), -1), float(observed[best]), bound)


def _fit_and_score(
    rows: NDArray[np.float32],
    labels: NDArray[np.int8],
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
) -> NDArray[np.floating[Any]] | None:
    """Margins of the validation rows at every shift, (shifts, rows), standardised by training negatives."""
    values = rows[train]
    labels = labels[:, train]
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = values.std(axis=0, dtype=np.float64).astype(np.float32)
    scale[scale <= 1e-6 * np.abs(mean)] = np.inf  # constant channels
    values = (values - mean) / scale
    covariance = (values.T @ values).astype(np.float64) / len(values)
    covariance[np.diag_indices_from(covariance)] += SHRINKAGE
    positive, negative = labels == POSITIVE, (labels != POSITIVE) & (labels != VOID)
    n_positive, n_negative = positive.sum(axis=1), negative.sum(axis=1)
    if not (n_positive.all() and n_negative.all()):
        return None
    difference = (positive.astype(np.float32) @ values) / n_positive[:, None]
    difference -= (negative.astype(np.float32) @ values) / n_negative[:, None]
    directions = np.linalg.solve(covariance, difference.T.astype(np.float64)).astype(np.float32)
    trained = (values @ directions).T
    scored = (((rows[validation] - mean) / scale) @ directions).T
    for i, margins in enumerate(trained):
        scored[i : i + 1] = margin_scale(margins[None, negative[i]], np.zeros(int(n_negative[i]), dtype=np.int8)).apply(
            scored[i : i + 1]
        )
    result: NDArray[np.floating[Any]] = scored
    return result
