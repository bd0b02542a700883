"""L2-penalised logistic fits of the leading channels of a design, several ridges at once, by Newton's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probekit_linear.certificate import best_intercept, class_correlations, duals, l2_gap, loss
from probekit_linear.design import Design, Floats
from probekit_linear.quadratic import newton_step


@dataclass(frozen=True)
class RidgeFit:
    """One fit on standardised features: w (k,), b, its relative duality gap, and the iterations it took."""

    w: Floats
    b: float
    gap: float
    iterations: int


class RidgeSolver:
    """Solves the first k channels of one design for all ridges; each call starts from the last one.

    Call it with k descending: the last solution, cut to k channels, is the start, and the leading block of its metric
    (one for each ridge, (k, k) float64) the first metric. A metric is made anew where a step with it shrinks the gap
    by less than five times. All ridges share the reads of the rows, two an iteration.

    Args:
        design: channels in the order of their ranking.
        ridges: of the penalty (ridge/2) ||w||^2.
        target: the relative duality gap at which a fit is done.
        start: w (p,) to start from.
    """

    def __init__(
        self, design: Design, ridges: tuple[float, ...], target: float, start: Floats, iterations: int = 60
    ) -> None:
        self.design = design
        self.ridges = ridges
        self.target = target
        self.iterations = iterations
        self.w = np.tile(start, (len(ridges), 1))
        self.b = np.zeros(len(ridges))
        self._metrics: list[Floats | None] = [None] * len(ridges)

    def solve(self, k: int) -> list[RidgeFit]:
        """The fits on the first k channels, aligned with the ridges."""
        design, m, used = self.design, len(self.ridges), slice(0, k)
        self.w = self.w[:, :k].copy()
        self._metrics = [None if metric is None else metric[:k, :k] for metric in self._metrics]
        scores = design.scores(self.w, self.b, used)
        for j in range(m):
            self._shift(j, scores)
        last = np.full(m, np.inf)
        gaps, taken, running = np.full(m, np.inf), np.zeros(m, dtype=int), np.arange(m)
        for iteration in range(self.iterations + 1):
            a = duals(design, scores[running])
            positive, negative = class_correlations(design, a, used)
            losses = loss(design, scores[running])
            targets, moving = [], []
            for i, j in enumerate(map(int, running)):
                r, w = self.ridges[j], self.w[j]
                gaps[j] = l2_gap(design, float(losses[i]), a[i], positive[i], negative[i], w, r)
                taken[j] = iteration
                if gaps[j] <= self.target or iteration == self.iterations:
                    continue
                metric = self._metrics[j]
                if metric is None or gaps[j] > last[j] / 5:
                    metric = self._measure(j, a[i], k, fresh=metric is None)
                gradient = (negative - positive)[i] + r * w
                step = -newton_step(metric + r * np.eye(k), gradient)
                moving.append((j, float(losses[i]), float(gradient @ step)))
                targets.append(w + step)
                last[j] = gaps[j]
            if not moving:
                break
            reached = design.scores(np.array(targets), self.b[[j for j, _, _ in moving]], used)
            running = np.array(
                [
                    j
                    for (j, value, slope), to, new in zip(moving, targets, reached, strict=True)
                    if self._move(j, value, slope, to, new, scores)
                ],
                dtype=int,
            )
            if len(running) == 0:
                break
        return [RidgeFit(self.w[j].copy(), float(self.b[j]), float(gaps[j]), int(taken[j])) for j in range(m)]

    def _measure(self, j: int, a: Floats, k: int, fresh: bool) -> Floats:
        design = self.design
        metric = design.metric(design.weights * a * (1 - a) / design.total, slice(0, k))
        if fresh:  # all ridges start from the same w: one metric serves them all for a while
            self._metrics = [metric if known is None else known for known in self._metrics]
        self._metrics[j] = metric
        return metric

    def _shift(self, j: int, scores: Floats) -> None:
        shift = best_intercept(self.design, scores[j])
        scores[j] += shift
        self.b[j] += shift

    def _move(self, j: int, value: float, slope: float, to: Floats, reached: Floats, scores: Floats) -> bool:
        """Takes the step, or the largest half of a half ... of it that descends; false where none does."""
        r, start = self.ridges[j], self.w[j]
        objective = value + r / 2 * float(start @ start)
        step = 1.0
        for _ in range(30):
            w = (1 - step) * start + step * to
            f = (1 - step) * scores[j] + step * reached
            shift = best_intercept(self.design, f)
            now = float(loss(self.design, f[None] + shift)[0]) + r / 2 * float(w @ w)
            if now <= objective + 1e-4 * step * slope:
                self.w[j], self.b[j], scores[j] = w, self.b[j] + shift, f + shift
                return True
            step /= 2
        return False
