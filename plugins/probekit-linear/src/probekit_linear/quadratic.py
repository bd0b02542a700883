"""The L1-penalised quadratic, the inner problem of proximal Newton."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from probekit_linear.design import Floats


def steepest(gradient: Floats, w: Floats, lam: float) -> Floats:
    """The subgradient of smallest norm of a smooth function plus lam ||w||_1: zero exactly at the minimum."""
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - lam, 0)
    return np.where(w != 0, gradient + lam * np.sign(w), at_zero)


def newton_step(H: Floats, gradient: Floats) -> Floats:
    """H^-1 gradient by Cholesky. Where rounding made a metric indefinite, a growing share of its mean diagonal is
    added until it is not: the step gets shorter, and what it leads to stays the same."""
    k = len(H)
    share = 0.0
    while True:
        try:
            factor = cho_factor(H + share * np.eye(k) if share else H, lower=True, check_finite=False)
        except LinAlgError:
            share = max(10 * share, 1e-6 * max(float(np.trace(H)) / k, 1e-12))
        else:
            return np.asarray(cho_solve(factor, gradient, check_finite=False))


def minimise(H: Floats, c: Floats, lam: float, w: Floats, tolerance: float, iterations: int = 200) -> Floats:
    """min over u of u'Hu/2 - c.u + lam ||u||_1, from w, until no entry of the subgradient exceeds the tolerance.

    Active-set Newton: solve for the entries that are not zero or want to leave zero, with their signs fixed; what
    would change sign stops at zero; halve the step until the objective falls, or go as far as the first zero, where
    it must fall. Where entering entries spoil each other's direction, only the most violating enters, or none.

    Args:
        H: (k, k), positive definite.
        c: (k,).
        w: (k,), the start.
    """
    w = w.copy()
    for _ in range(iterations):
        gradient = H @ w - c
        slope = steepest(gradient, w, lam)
        if float(np.abs(slope).max(initial=0.0)) <= tolerance:
            break
        sign = np.where(w != 0, np.sign(w), -np.sign(slope))
        worst = np.zeros(len(w), dtype=bool)
        worst[np.argmax(np.where(w == 0, np.abs(slope), 0.0))] = True
        for active in ((w != 0) | (slope != 0), (w != 0) | (worst & (slope != 0)), w != 0):
            moved = _descend(H, gradient, lam, w, np.flatnonzero(active), slope, sign)
            if moved is not None:
                w = moved
                break
        else:
            break  # no direction descends any more: rounding
    return w


def _descend(
    H: Floats, gradient: Floats, lam: float, w: Floats, active: np.ndarray, slope: Floats, sign: Floats
) -> Floats | None:
    if len(active) == 0:
        return None
    direction = -newton_step(H[np.ix_(active, active)], slope[active])
    size = lam * float(np.abs(w).sum())
    crossing = w[active] * direction < 0
    first = float(np.min(-w[active][crossing] / direction[crossing], initial=1.0))
    for step in (*0.5 ** np.arange(8), first):
        trial = w.copy()
        trial[active] += step * direction
        # what would change sign stops at zero, and so does what arrives there but for rounding
        trial[(trial * sign < 0) | ((w != 0) & (np.abs(trial) <= 1e-14 * np.abs(w)))] = 0.0
        d = trial - w
        change = float(gradient @ d) + float(d @ (H @ d)) / 2 + lam * float(np.abs(trial).sum()) - size
        if change < 0:
            return trial
    return None
