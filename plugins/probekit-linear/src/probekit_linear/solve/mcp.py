r"""Logistic fits under the minimax concave penalty, by local linear approximation from the L1 path.

The penalty (Zhang 2010) is that of L1 near zero and levels off: its slope at w_j is lambda f_j with
f_j = max(FLOOR, 1 - |w_j| / (gamma lambda)), so that a large coefficient is hardly pulled towards zero. It is not
convex. Local linear approximation (Zou & Li 2008) takes its tangent at the last fit instead, which is a weighted L1
penalty lambda sum_j f_j |w_j|, and solves that; the tangent lies above the penalty, so the penalised objective never
rises. All problems and lambdas take a step together, on shared passes over the rows.

What is certified is the last of these convex problems: ``gap`` bounds how far the fit is from its optimum. How far the
fit is from its own linearisation is ``residual``: at 0 it is a stationary point of the penalised objective. Neither
says that no other stationary point is better: no certificate of that is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probekit_linear.solve.batch import Batch, Floats, make_batch, signed_weights
from probekit_linear.solve.descent import Descent
from probekit_linear.solve.lasso import ALIKE, ROUGH, STATE, L1Columns, Progress, lambda_max, solve_path
from probekit_linear.solve.rows import RowSource, Source
from probekit_linear.solve.sweep import sweep
from probekit_linear.solve.workers import Workers, workers

FLOOR = 1e-2
"""The least slope of the penalty, in lambda: the dual of a weighted L1 problem needs every factor positive. The penalty
is MCP as far as |w_j| <= (1 - FLOOR) gamma lambda, and grows by FLOOR lambda |w_j| beyond: a hundredth of L1's pull is
left, which is also what keeps coefficients finite where rows are separable. At a thousandth the smallest lambdas of
separable rows took twice the passes and missed the target."""
SETTLED = 1e-3
"""A fit whose factors would change by no more than this needs no further linearisation."""


@dataclass(frozen=True)
class ConcavePath:
    """MCP fits of m problems at L lambdas each, on standardised features.

    Attributes:
        lambdas: (m, L), descending.
        coefficient: (m, L, p).
        intercept: (m, L).
        factors: of the last linearisation, (m, L, p): the fit solves the L1 problem with lambda f_j for channel j.
        gap: duality gap of that convex problem, relative to the objective at w = 0, in float64 from (coefficient,
            intercept), (m, L).
        certified: the gap is at most the target, (m, L). It says nothing of other stationary points.
        residual: the largest difference between ``factors`` and those at the fit, (m, L).
        steps: linearisations, the L1 fit not counted, (m, L).
        iterations: passes that each point took part in, (m, L).
        mean, scale: of the features, (m, p): z = (x - mean) / scale.
        lambda_max: the smallest lambda at which every coefficient is zero, (m,): that of the L1 path.
        reads: passes over all rows.
    """

    lambdas: Floats
    coefficient: Floats
    intercept: Floats
    factors: Floats
    gap: Floats
    certified: NDArray[np.bool_]
    residual: Floats
    steps: NDArray[np.int64]
    iterations: NDArray[np.int64]
    mean: Floats
    scale: Floats
    lambda_max: Floats
    reads: int


def concave_path(
    x: Source,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    lambdas: ArrayLike | None = None,
    ratios: ArrayLike | None = None,
    gamma: float = 3.0,
    steps: int = 10,
    moments: tuple[Floats, Floats] | None = None,
    target: float = 1e-6,
    threads: int = 1,
    device: str | None = None,
    progress: Progress | None = None,
) -> ConcavePath:
    r"""MCP-penalised logistic regression along a grid of lambdas, for many problems on shared rows.

    A stationary point, for every problem and lambda, of

        (1/n) sum_i s_i log(1 + exp(-y_i (z_i . w + b))) + sum_j penalty(|w_j|),

    reached from the L1 fit at the same lambda; the other arguments are those of
    :func:`probekit_linear.solve.lasso.logistic_path`.

    Args:
        lambdas: (L,) or (m, L), in any order; solved and returned descending. Or
        ratios: (L,) or (m, L), shares of each problem's own lambda_max.
        gamma: above 1; where the penalty has levelled off, in lambda. Near 1 nearly l0, towards infinity L1.
        steps: linearisations at most.
        target: of the duality gap of the last linearisation, relative to the objective at w = 0.

    Raises:
        ValueError: shapes that do not fit, one class only, NaN or inf in the rows, lambdas that are not positive, gamma
            of 1 or less, fewer than one step.
    """
    if not (np.isfinite(gamma) and gamma > 1):
        raise ValueError(f"gamma is {gamma}; give a finite number above 1")
    if steps < 1:
        raise ValueError(f"steps is {steps}; give 1 or more")
    if (lambdas is None) == (ratios is None):
        raise ValueError("give lambdas or ratios: exactly one of them")
    rows = RowSource(x, device=device)
    with workers(threads) as work:
        batch = make_batch(rows, signed_weights(y, weights, rows.n), moments, work)
        m, p = batch.mean.shape
        largest = lambda_max(batch, np.ones((m, p)), work)
        given = np.asarray(lambdas if ratios is None else ratios, dtype=np.float64)
        grid = np.broadcast_to(given, (m, given.shape[-1])) * (1.0 if ratios is None else largest[:, None])
        if grid.size == 0 or not (np.isfinite(grid).all() and (grid > 0).all()):
            raise ValueError("lambdas must be finite and positive, and there must be one at least")
        return solve_mcp(batch, -np.sort(-grid, axis=1), largest, gamma, steps, target, work, progress)


def slopes(w: Floats, lambdas: Floats, gamma: float) -> Floats:
    """The penalty's slope at |w|, in lambda: (..., p), (...) -> (..., p), from 1 at zero down to ``FLOOR``."""
    return np.maximum(FLOOR, 1 - np.abs(w) / (gamma * lambdas[..., None]))


def penalties(w: Floats, lambdas: Floats, gamma: float) -> Floats:
    """The penalty of each fit: (..., p), (...) -> (...)."""
    lam = lambdas[..., None]
    bent = np.minimum(np.abs(w), (1 - FLOOR) * gamma * lam)
    return np.asarray((lam * bent - bent**2 / (2 * gamma) + FLOOR * lam * (np.abs(w) - bent)).sum(axis=-1))


def solve_mcp(
    batch: Batch,
    lambdas: Floats,
    largest: Floats,
    gamma: float,
    steps: int,
    target: float,
    work: Workers,
    progress: Progress | None = None,
) -> ConcavePath:
    """The fits of a batch at lambdas (m, L), descending."""
    m, points = lambdas.shape
    p = batch.rows.p
    path = solve_path(batch, lambdas, np.ones((m, p)), largest, target, work)
    every = _Fits(
        problem=np.repeat(np.arange(m), points),
        lambdas=lambdas.ravel(),
        columns=L1Columns(
            np.repeat(np.arange(m), points),
            path.coefficient.reshape(-1, p).copy(),
            path.intercept.ravel().copy(),
            np.repeat(lambdas.ravel()[:, None], p, axis=1),
        ),
        taken=np.zeros(m * points, dtype=np.int64),
    )
    every.columns.gap, every.columns.steps = path.gap.ravel().copy(), path.iterations.ravel().copy()
    descent = Descent(batch, work)
    lot = max(1, min(points, STATE // (4 * batch.rows.n * m)))
    for first in range(0, points, lot):
        part = (np.arange(m)[:, None] * points + np.arange(first, min(first + lot, points))).ravel()
        bent = part[every.residual(part, gamma) > 0]
        if len(bent):
            descent.metrics.clear()
            groups = _alike(batch, every.columns, bent, points, work)
            descent.reads += 1
            for last in [False] * (steps - 1) + [True]:
                # the last one for all: in float64, with what certifies it
                moving = bent if last else bent[every.residual(bent, gamma) > SETTLED]
                if len(moving):
                    every.relinearise(moving, gamma, descent, groups[np.isin(bent, moving)], target if last else None)
        if progress is not None:
            done = (np.arange(m)[:, None] * points + np.arange(min(first + lot, points))).ravel()
            progress(len(done), m * points, float(every.columns.gap[done].max()))
    at = every.columns
    shape = (m, points)
    return ConcavePath(
        lambdas=lambdas,
        coefficient=at.w.reshape(*shape, p),
        intercept=at.b.reshape(shape),
        factors=(at.penalty / every.lambdas[:, None]).reshape(*shape, p),
        gap=at.gap.reshape(shape),
        certified=at.gap.reshape(shape) <= target,
        residual=every.residual(np.arange(m * points), gamma).reshape(shape),
        steps=every.taken.reshape(shape),
        iterations=at.steps.reshape(shape),
        mean=batch.mean,
        scale=batch.scale,
        lambda_max=largest,
        reads=path.reads + descent.reads,
    )


@dataclass
class _Fits:
    """All fits on their way, a row each: problem after problem, each with its lambdas."""

    problem: NDArray[np.int64]
    lambdas: Floats
    columns: L1Columns
    taken: NDArray[np.int64]

    def residual(self, of: NDArray[np.int64], gamma: float) -> Floats:
        """How far the factors of the last linearisation are from those at the fit."""
        factors = self.columns.penalty[of] / self.lambdas[of, None]
        return np.asarray(np.abs(slopes(self.columns.w[of], self.lambdas[of], gamma) - factors).max(axis=1))

    def relinearise(
        self, of: NDArray[np.int64], gamma: float, descent: Descent, group: NDArray[np.int64], target: float | None
    ) -> None:
        """Solves the problems whose penalty is the tangent at where the fits are."""
        at = self.columns
        factors = slopes(at.w[of], self.lambdas[of], gamma)
        part = L1Columns(self.problem[of], at.w[of], at.b[of], self.lambdas[of, None] * factors)
        descent.solve(part, group.copy(), ROUGH, target, 60)
        at.penalty[of], at.w[of], at.b[of], at.gap[of] = part.penalty, part.w, part.b, part.gap
        at.steps[of] += part.steps
        self.taken[of] += 1


def _alike(batch: Batch, columns: L1Columns, of: NDArray[np.int64], points: int, work: Workers) -> NDArray[np.int64]:
    """Which fits begin with one metric: neighbours in lambda, of one problem, whose rows curve alike."""
    spots, names = np.unique(of, return_inverse=True)
    found = sweep(batch, columns.problem[of], columns.w[of], columns.b[of], work, exact=False, groups=names)
    assert found.rows is not None  # they were asked for
    group = np.zeros(len(spots), dtype=np.int64)
    like: NDArray[np.floating] | None = None
    for i, curvature in enumerate(found.rows):
        share = curvature / max(float(curvature.sum()), 1e-30)
        new = i > 0 and spots[i] // points != spots[i - 1] // points
        if like is None or new or float(np.abs(share - like).sum()) > 2 * ALIKE:
            like = share
            group[i] = group[i - 1] + (i > 0)
        else:
            group[i] = group[i - 1]
    return group[names]
