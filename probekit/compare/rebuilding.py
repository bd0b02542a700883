"""Orthogonal matching pursuit of many channels at once, from correlations alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from probekit.compare.cross_products import Floats, Singles

STEPS = 5
"""Channels that rebuild one, at most."""

_RIDGE = 1e-5
"""Of the correlations of the chosen: two of them may be copies of each other."""


def pursue(rho: Singles, gram: Singles, steps: int = STEPS) -> tuple[NDArray[np.int64], Floats]:
    """Chooses, one after another, the channel that correlates most with what the chosen ones leave.

    Pati, Rezaiifar and Krishnaprasad 1993; from the Gram matrix as in Rubinstein, Zibulevsky and Elad 2008.

    Args:
        rho: correlations of each channel that is to be rebuilt with the p it is rebuilt from, (m, p).
        gram: correlations of these, (p, p).
        steps: fixed, min(steps, p).

    Returns:
        the chosen channels in order and their weights on the standardised scale, (m, steps) both.
    """
    m, p = rho.shape
    steps = min(steps, p)
    chosen = np.empty((m, steps), dtype=np.int64)
    weights: Floats = np.empty((m, 0))
    each = np.arange(m)
    size = np.abs(rho)
    for step in range(steps):
        if step:
            used = chosen[:, :step]
            rows = np.arange(0, m * step + 1, step)
            explained = csr_matrix((weights.astype(np.float32).ravel(), used.ravel(), rows), shape=(m, p)) @ gram
            np.subtract(rho, explained, out=size)
            np.abs(size, out=size)
            size[each[:, None], used] = -1
        chosen[:, step] = size.argmax(axis=1)
        used = chosen[:, : step + 1]
        inner = gram[used[:, :, None], used[:, None, :]].astype(np.float64) + _RIDGE * np.eye(step + 1)
        weights = np.asarray(np.linalg.solve(inner, rho[each[:, None], used].astype(np.float64)[..., None]))[..., 0]
    return chosen, weights
