"""The rows that one problem learns from, read as standardised float64 a chunk at a time.

What is held: the raw rows of positive weight, in the dtype they came in (float32: 4 n p bytes, one problem at a time;
no copy where every row has weight). A chunk in float64 takes 2 MB; the standardised matrix never exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Problem, Rows

Floats = NDArray[np.float64]
Channels = slice | NDArray[np.int64]
ALL = slice(None)
CHUNK = 2**18
"""Entries of a float64 chunk: 2 MB, which stays in cache between its conversion and its product."""


@dataclass(frozen=True)
class Design:
    """n rows, p columns z = (x - mean) / scale, signs and weights.

    Attributes:
        x: raw features (n, p).
        mean, scale: (p,).
        sign: +1 where the concept is, else -1, shape (n,).
        weights: positive, shape (n,).
    """

    x: NDArray[np.floating[Any]]
    mean: Floats
    scale: Floats
    sign: Floats
    weights: Floats

    @classmethod
    def of(cls, rows: Rows, problem: Problem, channels: NDArray[np.int64] | None = None) -> Design:
        """The rows of a problem that weigh anything, with all channels or with the given ones in their order."""
        keep = np.flatnonzero(problem.weights > 0)
        positive = problem.y[keep] == 1
        if not positive.any() or positive.all():
            raise ValueError("a problem needs rows of both classes in its training part")
        x: NDArray[np.floating[Any]] = rows.numpy()
        mean, scale = problem.mean, problem.scale
        if channels is not None:
            x, mean, scale = x[keep[:, None], channels], mean[channels], scale[channels]
        elif len(keep) < len(x):
            x = x[keep]
        return cls(x, mean, scale, np.where(positive, 1.0, -1.0), problem.weights[keep])

    @cached_property
    def total(self) -> float:
        """n of the objective: the sum of the weights (for a problem's weights: the number of rows)."""
        return float(self.weights.sum())

    def scores(self, coefficient: Floats, intercept: Floats, channels: Channels = ALL) -> Floats:
        """z[:, channels] . coefficient + intercept, for m fits at once: (m, k), (m,) -> (m, n)."""
        by_scale = coefficient / self.scale[channels]
        scores = np.empty((len(coefficient), len(self.x)))
        for place, centred in self._chunks(channels):
            np.matmul(by_scale, centred.T, out=scores[:, place])
        scores += intercept[:, None]
        return scores

    def correlate(self, residual: Floats, channels: Channels = ALL) -> Floats:
        """sum_i residual_i z_i[channels], for m residuals at once: (m, n) -> (m, k)."""
        total = np.zeros((len(residual), len(self.scale[channels])))
        for place, centred in self._chunks(channels):
            total += residual[:, place] @ centred
        return total / self.scale[channels]

    def metric(self, curvature: Floats, channels: Channels = ALL) -> Floats:
        """Z' D Z with the intercept eliminated, D = diag(curvature): (k, k).

        Products are float32, summed over chunks in float64: a metric decides how fast a solver gets there, not where.
        A share of 1e-6 of the mean diagonal is added, above the rounding of the products, so that it is definite.
        """
        mean, scale = self.mean[channels].astype(np.float32), self.scale[channels].astype(np.float32)
        root = np.sqrt(curvature).astype(np.float32)
        k = len(mean)
        gram, cross = np.zeros((k, k)), np.zeros(k)
        step = max(256, CHUNK * 16 // max(1, k))
        for start in range(0, len(self.x), step):
            raw = self.x[start : start + step]
            raw = raw[:, channels] if isinstance(channels, slice) else raw.take(channels, axis=1)
            z = (raw.astype(np.float32, copy=False) - mean) / scale
            z *= root[start : start + step, None]
            gram += z.T @ z
            cross += root[start : start + step] @ z
        gram -= np.outer(cross, cross) / curvature.sum()
        gram[np.diag_indices(k)] += 1e-6 * max(float(np.trace(gram)) / max(1, k), 1e-12)
        return gram

    def _chunks(self, channels: Channels) -> Iterator[tuple[slice, Floats]]:
        mean = self.mean[channels]
        step = max(64, CHUNK // max(1, len(mean)))
        buffer = np.empty((min(step, len(self.x)), len(mean)))
        for start in range(0, len(self.x), step):
            raw = self.x[start : start + step]
            centred = buffer[: len(raw)]
            # take gathers channels several times faster than an index does; both only ever hold this chunk
            np.copyto(centred, raw[:, channels] if isinstance(channels, slice) else raw.take(channels, axis=1))
            centred -= mean
            yield slice(start, start + len(raw)), centred
