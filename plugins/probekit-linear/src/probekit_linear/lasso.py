"""The L1 logistic path: proximal Newton on a working set, warm-started from lambda to lambda."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit_linear.certificate import best_intercept, class_correlations, duals, l1_gap, loss
from probekit_linear.design import Design, Floats
from probekit_linear.quadratic import minimise, steepest


@dataclass(frozen=True)
class Solution:
    """One fit on standardised features: w (p,), b, its relative duality gap, and the outer iterations it took."""

    w: Floats
    b: float
    gap: float
    iterations: int


class LassoSolver:
    """Solves one design at one lambda after another; each call starts where the last one ended.

    An outer iteration reads the rows twice: the exact gradient with the duality gap, and the scores of the step. The
    metric of the step (a Gram of the working set) is kept, through later lambdas too, until a step with it shrinks
    the gap by less than five times, or until the working set outgrows it.
    """

    def __init__(self, design: Design, target: float, iterations: int = 60) -> None:
        self.design = design
        self.target = target
        self.iterations = iterations
        self.w = np.zeros(design.x.shape[1])
        self.b = best_intercept(design, np.zeros(len(design.x)))
        self._scores = np.full((1, len(design.x)), self.b)
        self._measured: NDArray[np.int64] = np.empty(0, dtype=np.int64)  # the channels that the metric covers
        self._metric: Floats = np.empty((0, 0))
        positive, negative = class_correlations(design, duals(design, self._scores))
        self.lambda_max = float(np.abs(positive - negative).max())

    def solve(self, lam: float) -> Solution:
        """The fit at this lambda, to the target gap or as near as the iterations allow."""
        design = self.design
        last = np.inf
        for iteration in range(self.iterations + 1):
            a = duals(design, self._scores)
            positive, negative = class_correlations(design, a)
            value = float(loss(design, self._scores)[0])
            gap = l1_gap(design, value, a[0], positive[0], negative[0], self.w, lam)
            if gap <= self.target or iteration == self.iterations:
                break
            gradient = (negative - positive)[0]
            self._measure(self._working_set(gradient, lam), gap > last / 5, a[0], gradient)
            if not self._step(gradient, lam, value):
                break
            last = gap
        return Solution(self.w.copy(), self.b, gap, iteration)

    def _working_set(self, gradient: Floats, lam: float) -> NDArray[np.int64]:
        """Support, violators and what is near to violating, at most twice the support or 128."""
        size = np.abs(gradient)
        support = self.w != 0
        room = max(128, 2 * int(support.sum()))
        near = np.flatnonzero(~support & (size > 0.8 * lam))
        near = near[np.argsort(-size[near], kind="stable")[:room]]
        return np.union1d(np.flatnonzero(support), near)

    def _measure(self, working: NDArray[np.int64], slow: bool, a: Floats, gradient: Floats) -> None:
        """Makes sure that a metric covers the working set, and makes it anew where the last one was slow."""
        if not slow and np.isin(working, self._measured).all():
            return
        p = len(self.w)
        wanted = len(working) + max(32, len(working) // 2)
        if wanted > 0.6 * p:
            channels = np.arange(p)
        else:  # with room for those that come next
            size = np.abs(gradient)
            size[working] = np.inf
            channels = np.sort(np.argsort(-size, kind="stable")[:wanted])
        self._metric = self.design.metric(self.design.weights * a * (1 - a) / self.design.total, channels)
        self._measured = channels

    def _step(self, gradient: Floats, lam: float, value: float) -> bool:
        """Moves to the minimum of the quadratic model, or part of the way; false where nothing descends any more."""
        inside = self._measured
        g, w = gradient[inside], self.w[inside]
        violation = float(np.abs(steepest(g, w, lam)).max(initial=0.0))
        u = minimise(self._metric, self._metric @ w - g, lam, w, 0.03 * violation)
        expected = float(g @ (u - w)) + lam * float(np.abs(u).sum() - np.abs(w).sum())
        if expected >= 0:
            return False
        whole = np.zeros_like(self.w)
        whole[inside] = u
        used = np.flatnonzero((whole != 0) | (self.w != 0))
        target = self.design.scores(whole[None, used], np.array([self.b]), used)
        objective = value + lam * float(np.abs(self.w).sum())
        step = 1.0
        for _ in range(30):
            trial = whole if step == 1.0 else (1 - step) * self.w + step * whole
            scores = target if step == 1.0 else (1 - step) * self._scores + step * target
            shift = best_intercept(self.design, scores[0])
            reached = float(loss(self.design, scores + shift)[0]) + lam * float(np.abs(trial).sum())
            if reached <= objective + 1e-4 * step * expected:
                self.w, self.b, self._scores = trial, self.b + shift, scores + shift
                return True
            step /= 2
        return False
