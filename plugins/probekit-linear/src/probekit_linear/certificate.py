r"""How far a fit can be from the best one: the duality gap, in float64, from the fit alone.

With signs y, weights s (they sum to n), standardised rows z and margins m_i = y_i (z_i . w + b), the primal is

    P(w, b) = (1/n) sum_i s_i log(1 + exp(-m_i)) + penalty(w),   penalty = lambda ||w||_1  or  (ridge/2) ||w||_2^2.

For any a in [0, 1]^n with sum_i s_i a_i y_i = 0 (the intercept is free, so the dual must balance the classes), let
v(a) = (1/n) sum_i s_i a_i y_i z_i and h(a) = -a log a - (1 - a) log(1 - a). Then for every (w, b)

    L1:  P(w, b) >= (1/n) sum_i s_i h(a_i)                        if max_j |v_j(a)| <= lambda,
    L2:  P(w, b) >= (1/n) sum_i s_i h(a_i) - ||v(a)||^2 / (2 ridge).

At the optimum a_i = 1 / (1 + exp(m_i)) reaches equality. Away from it that point is made feasible: the heavier class
is scaled down until both weigh the same, and for L1 all is scaled by min(1, lambda / max |v|); both keep a in [0, 1].
The gap P - D therefore bounds P - min P from above whatever (w, b) is. It is given relative to the smallest P at w = 0
(log 2 for class-balanced weights).
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr, expit

from probekit_linear.design import ALL, Channels, Design, Floats


def null_objective(design: Design) -> float:
    """P at w = 0 and the best intercept there: the entropy of the class weights, in nats."""
    share = float(design.weights[design.sign > 0].sum() / design.total)
    return float(entr(share) + entr(1 - share))


def loss(design: Design, scores: Floats) -> Floats:
    """(1/n) sum_i s_i log(1 + exp(-y_i f_i)), for m fits: (m, n) -> (m,)."""
    return np.asarray(np.logaddexp(0, -design.sign * scores) @ design.weights / design.total)


def duals(design: Design, scores: Floats) -> Floats:
    """a_i = 1 / (1 + exp(y_i f_i)): (m, n) -> (m, n)."""
    return np.asarray(expit(-design.sign * scores))


def class_correlations(design: Design, a: Floats, channels: Channels = ALL) -> tuple[Floats, Floats]:
    """(1/n) sum s_i a_i z_i over the positive and over the negative rows: (m, n) -> two of (m, k).

    Their difference is v(a), and minus the loss's gradient in w.
    """
    weighted = a * design.weights / design.total
    both = design.correlate(np.concatenate([weighted * (design.sign > 0), weighted * (design.sign < 0)]), channels)
    return both[: len(a)], both[len(a) :]


def _balanced(design: Design, a: Floats, positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """``a`` with the heavier class scaled down, and its v: (n,), (k,), (k,) -> (n,), (k,)."""
    weighted = design.weights * a
    total_positive, total_negative = weighted[design.sign > 0].sum(), weighted[design.sign < 0].sum()
    least = min(total_positive, total_negative)
    if least == 0:  # every margin of a class is so large that exp underflows; a = 0 is feasible
        return np.zeros_like(a), np.zeros_like(positive)
    of_positive, of_negative = least / total_positive, least / total_negative
    return a * np.where(design.sign > 0, of_positive, of_negative), of_positive * positive - of_negative * negative


def l1_gap(design: Design, loss_: float, a: Floats, positive: Floats, negative: Floats, w: Floats, lam: float) -> float:
    """Relative gap of an L1 fit from what a solver has at hand: :func:`duals` (n,), :func:`class_correlations` (p,)."""
    a, v = _balanced(design, a, positive, negative)
    largest = float(np.abs(v).max(initial=0.0))
    a = a * min(1.0, lam / largest if largest > 0 else 1.0)
    dual = float(design.weights @ entr(a)) + float(design.weights @ entr(1 - a))
    return (loss_ + lam * float(np.abs(w).sum()) - dual / design.total) / null_objective(design)


def l2_gap(design: Design, loss_: float, a: Floats, positive: Floats, negative: Floats, w: Floats, r: float) -> float:
    """Relative gap of an L2 fit; arguments as for :func:`l1_gap`, r the ridge."""
    a, v = _balanced(design, a, positive, negative)
    dual = float(design.weights @ entr(a)) + float(design.weights @ entr(1 - a))
    return (loss_ + r / 2 * float(w @ w) - dual / design.total + float(v @ v) / (2 * r)) / null_objective(design)


def duality_gap(design: Design, w: Floats, b: float, *, lam: float | None = None, ridge: float | None = None) -> float:
    """Relative duality gap of (w, b), on standardised features, from nothing else.

    Args:
        design: rows, signs, weights.
        w: (p,), b: the intercept.
        lam: of the L1 penalty, or
        ridge: of the L2 penalty; exactly one of both.
    """
    scores = design.scores(w[None], np.array([b]))
    a = duals(design, scores)
    positive, negative = class_correlations(design, a)
    at_hand = (design, float(loss(design, scores)[0]), a[0], positive[0], negative[0], w)
    if lam is not None:
        return l1_gap(*at_hand, lam)
    if ridge is not None:
        return l2_gap(*at_hand, ridge)
    raise TypeError("duality_gap needs lam or ridge")


def best_intercept(design: Design, scores: Floats) -> float:
    """The shift of all scores (n,) that minimises the loss.

    Newton in one dimension with the step log(1 + |step|), which for the logistic loss (its third derivative is at most
    its second) always descends and is Newton's own near the minimum.
    """
    weights, shift = design.weights * design.sign, 0.0
    for _ in range(100):
        a = expit(-design.sign * (scores + shift))
        slope = -float(weights @ a)
        curvature = float(design.weights @ (a * (1 - a)))
        if abs(slope) <= 1e-13 * design.total or curvature <= 1e-300:
            break
        step = -slope / curvature
        shift += float(np.sign(step) * np.log1p(abs(step)))
    return shift
