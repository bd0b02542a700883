"""Passes over an array in memory, summed in float64 a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

CHUNK = 2**20
"""Entries of the rows that are held as float64 at once."""


def chunks(x: Array) -> Iterator[slice]:
    """The rows of x (n, p) in parts of some ``CHUNK`` entries."""
    step = max(1, CHUNK // x.shape[1])
    return (slice(start, start + step) for start in range(0, len(x), step))


def scores(x: Array, coef: Floats, intercept: Floats, rows: Array | None = None) -> Floats:
    """Scores of x (n, p), or some of its rows, by L linear models in float64: (n, L)."""
    every = np.arange(len(x)) if rows is None else rows
    out = np.empty((len(every), len(coef)))
    step = max(1, CHUNK // x.shape[1])
    for start in range(0, len(every), step):
        part = slice(start, start + step)
        out[part] = x[part if rows is None else every[part]].astype(np.float64, copy=False) @ coef.T + intercept
    return out


def moments(x: Array, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and population standard deviation under each of m weights (m, n): (m, p), (m, p); 1 where constant."""
    origin = x[0].astype(np.float64)
    first, second = np.zeros((2, len(weights), x.shape[1]))
    for part in chunks(x):
        centred = x[part] - origin
        first += weights[:, part] @ centred
        second += weights[:, part] @ centred**2
    total = weights.sum(axis=1, keepdims=True)
    offset = first / total
    variance = second / total - offset**2
    varies = variance > 1e-12 * (offset**2 + variance) + 1e-300
    return offset + origin, np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 1.0)
