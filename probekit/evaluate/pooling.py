"""Test scores of different folds on one scale, so that they can be ranked together.

A fold's margins are standardised by the mean and deviation of its own training negatives. (Simulated with 30 groups,
pooled average precision is then off by -.002; raw margins by -.014, the mean of the folds' own scores by +.026.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MarginScale:
    """Location and spread of scorers' margins, one number a scorer, each (m,) float64."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(self, margins: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Standardised margins, (m, ...) in and out, of the same dtype.

        The map is monotone but rounds: compare with a threshold before, not after.
        """
        shape = (-1,) + (1,) * (margins.ndim - 1)
        return ((margins - self.mean.reshape(shape)) / self.deviation.reshape(shape)).astype(margins.dtype, copy=False)


def margin_scale(margins: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]]) -> MarginScale:
    """The scale of a fold's scorers.

    Args:
        margins: of the fold's training rows, (m scorers, n rows).
        y: 1 where the concept is, else 0, (n,).

    Returns:
        mean and population deviation over the negatives. The deviation is 1 where margins do not vary (a fit without
        channels): its pooled scores are all equal.

    Raises:
        ValueError: no negative row.
    """
    negatives = margins[:, y == 0]
    if not negatives.shape[1]:
        raise ValueError("no training negative to standardise margins by")
    mean = negatives.mean(axis=1, dtype=np.float64)
    deviation = negatives.std(axis=1, dtype=np.float64)
    varies = negatives.max(axis=1) > negatives.min(axis=1)
    # The mean of equal numbers may round: equal margins must stay equal, at exactly zero.
    return MarginScale(np.where(varies, mean, negatives[:, 0]), np.where(varies, deviation, 1.0))
