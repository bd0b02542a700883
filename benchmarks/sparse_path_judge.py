r"""The judge of sparse_path.py: objective and duality gap of any (w, b), in float64, in chunks of rows.

Written apart from the product's certificate on purpose: a mistake shared by both would be seen by neither. With signs
y, weights s (they sum to N), standardised rows z, margins m_i = y_i (z_i . w + b):

    P(w, b) = (1/N) sum_i s_i log(1 + exp(-m_i)) + lambda ||w||_1     or     + (ridge/2) ||w||^2.

The dual point is a_i = 1 / (1 + exp(m_i)), the heavier class scaled down until sum_i s_i a_i y_i = 0, and for L1 all
of it scaled until max_j |v_j| <= lambda, where v = (1/N) sum_i s_i a_i y_i z_i. With the binary entropy h,
D = (1/N) sum_i s_i h(a_i)  (L2: - ||v||^2 / (2 ridge)); the gap is P - D over P's least value at w = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import entr, expit
from sparse_path_data import Data, Floats, Problem

SCORES = 20_000_000  # scores held at a time


@dataclass(frozen=True)
class Fits:
    """What a solver gave for m problems and L penalties, on standardised features."""

    problems: list[Problem]
    w: Floats  # (m, L, p)
    b: Floats  # (m, L)
    penalty: Floats  # (m, L): lambdas, or ridges
    ridge: bool = False
    channels: NDArray[np.bool_] | None = None  # (m, L, p): those a fit may use; None for all
    free_intercept: bool = True  # false: its solver penalised b, which is made exact before judging


def judge(data: Data, fits: Fits) -> tuple[Floats, Floats]:
    """Objectives (m, L) and relative gaps (m, L)."""
    m, size, _ = fits.w.shape
    columns = [(i, j) for i in range(m) for j in range(size)]
    block = max(1, SCORES // data.rows)
    objective, gap = np.empty((m, size)), np.empty((m, size))
    for first in range(0, len(columns), block):
        part = columns[first : first + block]
        for (i, j), (value, distance) in zip(part, _judge_block(data, fits, part), strict=True):
            objective[i, j], gap[i, j] = value, distance
    return objective, gap


def lambda_max(data: Data, problems: list[Problem]) -> Floats:
    """(m,): the least lambda at which w = 0 is best, for balanced classes."""
    weights = [data.weights(problem) for problem in problems]
    dual = np.stack([0.5 * s * _sign(data, problem) for s, problem in zip(weights, problems, strict=True)])
    total = np.array([s.sum() for s in weights])
    return np.asarray(np.abs(_correlate(data, dual, problems)).max(1) / total, np.float64)


def _sign(data: Data, problem: Problem) -> Floats:
    return np.where(data.labels[problem.concept] > 0, 1.0, -1.0)


def _correlate(data: Data, residual: Floats, problems: list[Problem]) -> Floats:
    """sum_i residual_i z_i, each row of ``residual`` with the standardisation of its problem: (K, n) -> (K, p)."""
    mean, scale = (values[[problem.group for problem in problems]] for values in (data.mean, data.scale))
    v = np.zeros((len(residual), data.channels))
    for start, chunk in data.chunks():
        v += residual[:, start : start + len(chunk)] @ (chunk - data.mean[0])
    return np.asarray((v - residual.sum(1, keepdims=True) * (mean - data.mean[0])) / scale)


def _judge_block(data: Data, fits: Fits, columns: list[tuple[int, int]]) -> list[tuple[float, float]]:
    problems = [fits.problems[i] for i, _ in columns]
    w = np.stack([fits.w[i, j] for i, j in columns])
    mean, scale = (values[[problem.group for problem in problems]] for values in (data.mean, data.scale))
    raw = w / scale
    shift = np.array([fits.b[i, j] for i, j in columns]) - (raw * (mean - data.mean[0])).sum(1)
    scores = np.empty((len(columns), data.rows))
    for start, chunk in data.chunks():
        scores[:, start : start + len(chunk)] = raw @ (chunk - data.mean[0]).T + shift[:, None]

    losses = np.empty(len(columns))
    dual = scores  # in place: s a y of the balanced dual point
    points: list[tuple[Floats, Floats]] = []
    for k, problem in enumerate(problems):
        s, sign = data.weights(problem), _sign(data, problem)
        f = scores[k] if fits.free_intercept else scores[k] + _best_shift(s, sign, scores[k])
        losses[k] = s @ np.logaddexp(0, -sign * f) / s.sum()
        a = expit(-sign * f)
        positive, negative = s @ (a * (sign > 0)), s @ (a * (sign < 0))
        least = min(positive, negative)
        a *= np.where(sign > 0, least / max(positive, 1e-300), least / max(negative, 1e-300))
        dual[k] = s * a * sign
        points.append((s, a))
    v = _correlate(data, dual, problems)

    judged = []
    for k, (i, j) in enumerate(columns):
        s, a = points[k]
        n, penalty = s.sum(), fits.penalty[i, j]
        allowed = slice(None) if fits.channels is None else fits.channels[i, j]
        mine = v[k, allowed] / n
        share = s[_sign(data, problems[k]) > 0].sum() / n
        null = entr(share) + entr(1 - share)
        if fits.ridge:
            value = losses[k] + penalty / 2 * w[k] @ w[k]
            lower = s @ (entr(a) + entr(1 - a)) / n - mine @ mine / (2 * penalty)
        else:
            value = losses[k] + penalty * np.abs(w[k]).sum()
            a = a * min(1.0, penalty / max(np.abs(mine).max(), 1e-300))
            lower = s @ (entr(a) + entr(1 - a)) / n
        judged.append((float(value), float((value - lower) / null)))
    return judged


def _best_shift(s: Floats, sign: Floats, scores: Floats) -> float:
    """The shift of all scores that minimises the loss, exactly."""

    def slope(shift: float) -> float:
        return -float((s * sign) @ expit(-sign * (scores + shift)))

    width = 1.0
    while slope(-width) > 0 or slope(width) < 0:
        width *= 2
    return float(brentq(slope, -width, width, xtol=1e-14, rtol=1e-14))
