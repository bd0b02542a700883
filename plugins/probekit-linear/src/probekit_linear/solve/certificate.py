r"""How far a fit can be from the best one: the duality gap, in float64, from the fit alone.

With signs y, weights s (they sum to n), standardised rows z and margins m_i = y_i (z_i . w + b), the primal is

    P(w, b) = (1/n) sum_i s_i log(1 + exp(-m_i)) + penalty(w),

penalty = sum_j lambda_j |w_j| or (r/2) ||w||_2^2. For any a in [0, 1]^n with sum_i s_i a_i y_i = 0 (the intercept is
free, so the dual must balance the classes), let v = (1/n) sum_i s_i a_i y_i z_i and the entropy
h(a) = -a log a - (1 - a) log(1 - a). Then for every (w, b), by Fenchel's inequality,

    L1:  P(w, b) >= (1/n) sum_i s_i h(a_i)                        if |v_j| <= lambda_j for every j,
    L2:  P(w, b) >= (1/n) sum_i s_i h(a_i) - ||v||^2 / (2 r).

At the optimum a_i = 1 / (1 + exp(m_i)) reaches equality. Away from it that point is made feasible: a is scaled by one
factor t in each class, so that both weigh the same and, for L1, v fits into the box. One pass over the rows knows the
sums at a, not at t a; what the scaling costs is bounded from them. h is concave, h'(a) = m, and between t a and a its
second derivative is at least -1 / (t a (1 - a)), so

    h(t a) >= h(a) - (1 - t) a m - (1 - t)^2 / (2 t) exp(-m),

and h(a) = log(1 + exp(-m)) + a m. The bound is second-order in 1 - t, as the entropy itself is.
The gap is P minus the dual, relative to the smallest P at w = 0 (log 2 for class-balanced weights).
"""

from __future__ import annotations

import numpy as np

from probekit_linear.solve.batch import Floats
from probekit_linear.solve.sweep import Sweep


def _entropy(found: Sweep, t: Floats) -> Floats:
    """A lower bound of (1/n) sum s h(t a), t by class: (2, K) -> (K,)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        second = np.where(t < 1, (1 - t) ** 2 / (2 * t) * found.spread, 0.0)
    by_second_order = found.loss + (t * found.turn - second).sum(axis=0)
    # h is concave and h(0) = 0, so h(t a) >= t h(a): the better bound where t is far from 1, and 0 where t is 0
    lesser = t.min(axis=0)
    by_line = lesser * (found.loss + found.turn.sum(axis=0))
    return np.asarray(
        np.fmax(np.where(np.isfinite(by_second_order), by_second_order, -np.inf), np.maximum(by_line, 0.0))
    )


def _balance(found: Sweep) -> tuple[Floats, Floats]:
    """Factors by class that make both weigh the same, (2, K), and v at the scaled a, (K, p)."""
    assert found.positive is not None  # of exact passes only
    least = found.mass.min(axis=0)
    t = np.divide(least, found.mass, out=np.zeros_like(found.mass), where=found.mass > 0)
    v = -(t[0][:, None] * found.positive + t[1][:, None] * (found.gradient - found.positive))
    return t, v


def l1_gaps(found: Sweep, w: Floats, penalty: Floats, null: Floats) -> Floats:
    """Relative gaps of K fits, (K,).

    Args:
        found: an exact pass at the fits.
        w: (K, p).
        penalty: lambda_j of each fit and channel, (K, p) or (K, 1).
        null: the smallest objective at w = 0 of each fit's problem, (K,).
    """
    t, v = _balance(found)
    # v has rounding errors of its own, which a tiny lambda sees
    slack = 4 * np.finfo(np.float64).eps * found.mass.sum(axis=0)
    excess = ((np.abs(v) + slack[:, None]) / penalty).max(axis=1)
    shrink = 1 / np.maximum(excess, 1.0)
    dual = _entropy(found, t * shrink)
    return np.asarray((found.loss + (penalty * np.abs(w)).sum(axis=1) - np.minimum(dual, null)) / null)


def l2_gaps(found: Sweep, w: Floats, ridge: Floats, null: Floats, used: np.ndarray | None = None) -> Floats:
    """Relative gaps of K fits with the penalty (ridge/2) ||w||^2, (K,); arguments as for :func:`l1_gaps`.

    Args:
        ridge: (K,).
        used: the channels that each fit may use, (K, p); all of them by default.
    """
    t, v = _balance(found)
    if used is not None:
        v = np.where(used, v, 0.0)
    dual = _entropy(found, t) - (v**2).sum(axis=1) / (2 * ridge)
    return np.asarray((found.loss + ridge / 2 * (w**2).sum(axis=1) - dual) / null)
