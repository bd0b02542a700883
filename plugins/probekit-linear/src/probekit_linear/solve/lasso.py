"""The L1 logistic path of many problems: scouted on few rows, finished on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probekit_linear.solve.batch import Batch, Floats, make_batch, signed_weights
from probekit_linear.solve.certificate import l1_gaps
from probekit_linear.solve.columns import Columns, Model
from probekit_linear.solve.descent import Descent
from probekit_linear.solve.metric import draw
from probekit_linear.solve.quadratic import minimise, steepest
from probekit_linear.solve.rows import RowSource, Source
from probekit_linear.solve.sweep import Sweep, sweep
from probekit_linear.solve.workers import Workers, workers

SCOUTS = 16
"""Rows of the sample on which paths are scouted, for each channel."""
ALIKE = 0.15
"""Neighbouring points whose curvature differs by less than this share begin with one metric."""
ROUGH = 1e-10
"""Where float32 passes end: a step that promises less, relative to the objective at w = 0."""
NEAR = 3e-4
"""What a scouted point's next step may promise, relative to the objective at w = 0."""
INNER = 0.1
"""What is left of the largest subgradient after a step, by the model."""
PASSES = 40
"""Passes of each precision after which a point stays as it is, certified or not."""
STATE = 2**28
"""Bytes of what a pass keeps for each row: more points than fit are solved one lot after another."""

Progress = Callable[[int, int, float], None]
"""Told after every pass how many points are done, of how many, and the worst gap that is known: inf until float64
passes begin."""


@dataclass
class L1Columns(Columns):
    """Fits with the penalty sum_j penalty_j |w_j|; ``penalty`` is (K, p)."""

    penalty: Floats

    def added(self, of: NDArray[np.int64], w: Floats) -> Floats:
        """What the penalty adds, (k,)."""
        return np.asarray((self.penalty[of] * np.abs(w)).sum(axis=1))

    def gaps(self, of: NDArray[np.int64], found: Sweep, w: Floats, null: Floats) -> Floats:
        """Relative duality gaps from an exact pass, (k,)."""
        return l1_gaps(found, w, self.penalty[of], null)

    def about(self, of: NDArray[np.int64], found: Sweep, w: Floats, b: Floats, null: Floats) -> Floats:
        """About what they are, from a float32 pass, (k,)."""
        turn = (found.gradient * w).sum(axis=1) + found.slope * b
        shrink = 1 / np.maximum((np.abs(found.gradient) / self.penalty[of]).max(axis=1), 1.0)
        return np.asarray(np.abs(self.added(of, w) + shrink * turn) / null)

    def violation(self, of: NDArray[np.int64], gradient: Floats) -> Floats:
        """What a metric must cover is above 1, what is used inf, (k, p)."""
        return np.where(self.w[of] != 0, np.inf, np.abs(gradient) / self.penalty[of])

    def minimum(self, c: int, model: Model) -> tuple[Floats, float] | None:
        """Where the model plus the penalty is least."""
        penalty = self.penalty[c][model.metric.channels] / model.unit / model.bend
        far = float(np.abs(steepest(model.gradient, model.w, penalty)).max(initial=0.0))
        H = model.quadratic()
        u = minimise(H, model.gradient, penalty, model.w, model.start, INNER * far)
        model.factor = H.factor
        d = u - model.w
        return d, float(model.gradient @ d) + float(penalty @ (np.abs(u) - np.abs(model.w)))


@dataclass(frozen=True)
class LogisticPath:
    """L1 fits of m problems at L lambdas each, on standardised features.

    Attributes:
        lambdas: (m, L), descending.
        coefficient: (m, L, p).
        intercept: (m, L).
        gap: duality gap relative to the objective at w = 0, from (coefficient, intercept) in float64, (m, L).
        certified: the gap is at most the target, (m, L).
        iterations: passes that each point took part in, (m, L).
        mean, scale: of the features, (m, p): z = (x - mean) / scale.
        lambda_max: the smallest lambda at which every coefficient is zero, (m,).
        reads: passes over all rows.
    """

    lambdas: Floats
    coefficient: Floats
    intercept: Floats
    gap: Floats
    certified: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    mean: Floats
    scale: Floats
    lambda_max: Floats
    reads: int


def logistic_path(
    x: Source,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    lambdas: ArrayLike | None = None,
    ratios: ArrayLike | None = None,
    factors: ArrayLike | None = None,
    moments: tuple[Floats, Floats] | None = None,
    target: float = 1e-6,
    threads: int = 1,
    device: str | None = None,
    progress: Progress | None = None,
) -> LogisticPath:
    r"""L1-penalised logistic regression along a grid of lambdas, for many problems on shared rows.

    Minimises, for every problem and lambda,

        P(w, b) = (1/n) sum_i s_i log(1 + exp(-y_i (z_i . w + b))) + lambda sum_j f_j |w_j|

    with z = (x - mean) / scale, which is never made, y in {-1, 1}, weights s that sum to n, and b unpenalised.

    Args:
        x: (n, p) float16, float32 or float64: an array, a tensor (on a GPU: solved there), or a sequence of either by
            rows, memory maps among them.
        y: 1 where the concept is, else 0, (n,) or (m, n).
        weights: (n,) or (m, n); 0 for rows that a problem does not learn from; by default the classes weigh the same.
        lambdas: (L,) or (m, L), in any order; solved and returned descending. Or
        ratios: (L,), shares of each problem's own lambda_max.
        factors: f, (p,) or (m, p), positive; 1 by default.
        moments: mean and scale, (m, p) each; by default of each problem's rows with weight, every row counting once.
        target: of the duality gap, relative to the objective at w = 0.
        threads: Python threads, each with one BLAS thread; the result does not depend on them.
        device: where to work, by default where the rows lie.
        progress: told of points as they are done.

    Raises:
        ValueError: shapes that do not fit, one class only, NaN or inf in the rows, lambdas that are not positive.
    """
    rows = RowSource(x, device=device)
    with workers(threads) as work:
        batch = make_batch(rows, signed_weights(y, weights, rows.n), moments, work)
        m, p = batch.mean.shape
        given = np.ones(p) if factors is None else np.asarray(factors, dtype=np.float64)
        if given.shape not in ((p,), (1, p), (m, p)):
            raise ValueError(f"factors have shape {given.shape}; {m} problems of {p} channels need {(p,)} or {(m, p)}")
        by = np.broadcast_to(given, (m, p))
        if not (np.isfinite(by).all() and (by > 0).all()):
            raise ValueError("factors must be finite and positive")
        largest = lambda_max(batch, by, work)
        grid = _grid(lambdas, ratios, largest)
        return solve_path(batch, grid, by, largest, target, work, progress)


def _grid(lambdas: ArrayLike | None, ratios: ArrayLike | None, largest: Floats) -> Floats:
    if (lambdas is None) == (ratios is None):
        raise ValueError("give lambdas or ratios: exactly one of them")
    given = np.atleast_1d(np.asarray(lambdas if ratios is None else ratios, dtype=np.float64))
    if given.ndim > 2 or (given.ndim == 2 and len(given) not in (1, len(largest))):
        raise ValueError(f"lambdas or ratios have shape {given.shape}; {len(largest)} problems need (L,) or (m, L)")
    grid = np.broadcast_to(given, (len(largest), given.shape[-1]))
    if ratios is not None:
        if not (largest > 0).all():
            raise ValueError("no channel varies with the labels: lambda_max is 0, and so is every share of it")
        grid = grid * largest[:, None]
    if grid.size == 0 or not (np.isfinite(grid).all() and (grid > 0).all()):
        raise ValueError("lambdas must be finite and positive, and there must be one at least")
    return -np.sort(-grid, axis=1)


def lambda_max(batch: Batch, factors: Floats, work: Workers) -> Floats:
    """The smallest lambda at which every coefficient is zero, by problem: (m,).

    Raises:
        ValueError: NaN or inf in the rows.
    """
    m = len(batch.signed)
    at_zero = sweep(batch, np.arange(m), np.zeros((m, batch.rows.p)), batch.null_intercept, work)
    largest = np.asarray((np.abs(at_zero.gradient) / factors).max(axis=1))
    if not np.isfinite(largest).all():
        raise ValueError("there are NaN or inf among the rows")
    return largest


def solve_path(
    batch: Batch,
    lambdas: Floats,
    factors: Floats,
    largest: Floats,
    target: float,
    work: Workers,
    progress: Progress | None = None,
) -> LogisticPath:
    """The fits of a batch at lambdas (m, L), descending; factors (m, p)."""
    m, points = lambdas.shape
    p = batch.rows.p
    start, shift, group, heavy = _scout(batch, lambdas, factors, work)
    still = lambdas >= largest[:, None] * (1 - 1e-12)  # where every coefficient is zero
    start[still] = 0.0
    shift = np.where(still, batch.null_intercept[:, None], shift)
    done = 0  # points of the lots before
    seen = 0.0  # the worst gap among them

    def watch(columns: Columns, settled: int) -> None:
        if progress is not None:
            known = columns.gap[np.isfinite(columns.gap)]
            progress(done + settled, m * points, max(seen, float(known.max(initial=0.0))) or np.inf)

    descent = Descent(batch, work, watch)
    if heavy:
        descent.heed()
    w, b = np.empty((m, points, p)), np.empty((m, points))
    gap, steps = np.empty((m, points)), np.empty((m, points), dtype=np.int64)
    lot = max(1, min(points, STATE // (4 * batch.rows.n * m)))
    for first in range(0, points, lot):
        part = slice(first, min(first + lot, points))
        count = part.stop - part.start
        columns = L1Columns(
            np.repeat(np.arange(m), count),
            start[:, part].reshape(-1, p),
            shift[:, part].ravel(),
            (lambdas[:, part, None] * factors[:, None, :]).reshape(-1, p),
        )
        descent.solve(columns, group[:, part].flatten(), ROUGH, target, PASSES, still[:, part].ravel())
        w[:, part], b[:, part] = columns.w.reshape(m, count, p), columns.b.reshape(m, count)
        gap[:, part], steps[:, part] = columns.gap.reshape(m, count), columns.steps.reshape(m, count)
        done, seen = m * part.stop, float(gap[:, : part.stop].max())
        if progress is not None:
            progress(done, m * points, seen)
    return LogisticPath(lambdas, w, b, gap, gap <= target, steps, batch.mean, batch.scale, largest, descent.reads + 1)


def _scout(
    batch: Batch, lambdas: Floats, factors: Floats, work: Workers
) -> tuple[Floats, Floats, NDArray[np.int64], bool]:
    """Where the points start, (m, L, p) and (m, L), which of them share a metric at first, (m, L), and whether steps
    went too far.

    Follows each path from lambda to lambda on a sample of the rows (or all, where there are few), no nearer to the
    optimum than the sample is to all rows.
    """
    m, points = lambdas.shape
    p = batch.rows.p
    sample = batch
    if batch.rows.n > 2 * SCOUTS * p:
        share = np.abs(batch.signed / batch.total[:, None]).mean(axis=0)
        sample = batch.sample(*draw(share, SCOUTS * p, batch.some_of_each(16)))
    descent = Descent(sample, work)
    w, b = np.zeros((m, p)), batch.null_intercept.copy()
    start, shift = np.empty((m, points, p)), np.empty((m, points))
    group = np.zeros((m, points), dtype=np.int64)
    like: dict[int, NDArray[np.float32]] = {}
    for i in range(points):
        columns = L1Columns(np.arange(m), w, b, lambdas[:, i : i + 1] * factors)
        enough = np.maximum(NEAR, 0.1 * (w != 0).sum(axis=1) / sample.rows.n)
        descent.solve(columns, np.arange(m), enough, None, 12)
        w, b = columns.w, columns.b
        start[:, i], shift[:, i] = w, b
        for j in range(m):
            curvature = descent.curvature[j] / max(float(descent.curvature[j].sum()), 1e-30)
            if j not in like or float(np.abs(curvature - like[j]).sum()) > 2 * ALIKE:
                like[j] = curvature
                group[j, i:] = group.max() + 1
    return start, shift, group, descent.far is not None
