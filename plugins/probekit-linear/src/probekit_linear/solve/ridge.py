"""L2-penalised logistic fits on the first k channels of a ranking, for many k, ridges and problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probekit_linear.solve.batch import Batch, Floats, make_batch, signed_weights
from probekit_linear.solve.certificate import l2_gaps
from probekit_linear.solve.columns import Columns, Model
from probekit_linear.solve.descent import Descent
from probekit_linear.solve.metric import Metric, draw
from probekit_linear.solve.quadratic import Factor, factorise
from probekit_linear.solve.rows import RowSource, Source
from probekit_linear.solve.sweep import Sweep
from probekit_linear.solve.workers import Workers, workers

BANDS = 4
"""A band's widths are within this factor: its fits share passes over the channels of the widest."""
SCOUTS = 16
"""Rows of the sample on which fits are scouted, for each channel."""
COPY = 2**28
"""Bytes of a problem's rows on a band's channels that are copied out of wider rows, which every pass would else do."""
ROUGH = 1e-10
"""Where float32 passes end: a step that promises less, relative to the objective at w = 0."""


@dataclass(frozen=True)
class RidgeSubsets:
    """L2 fits of m problems at q widths and R ridges, on standardised features.

    Attributes:
        k: (q,), ascending.
        ridges: (R,).
        order: the ranking, (m, p).
        coefficient: by width, (m, R, k) each, in the order of the ranking.
        intercept: (m, q, R).
        gap: duality gap relative to the objective at w = 0, in float64, (m, q, R).
        certified: the gap is at most the target, (m, q, R).
        iterations: passes that each fit took part in, (m, q, R).
        mean, scale: of the features, (m, p): z = (x - mean) / scale.
        reads: passes over all rows (of the channels that they needed).
    """

    k: NDArray[np.int64]
    ridges: Floats
    order: NDArray[np.int64]
    coefficient: tuple[Floats, ...]
    intercept: Floats
    gap: Floats
    certified: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    mean: Floats
    scale: Floats
    reads: int


@dataclass
class L2Columns(Columns):
    """Fits with the penalty (ridge/2) ||w||^2 on the first ``width`` channels; ``ridge`` and ``width`` are (K,)."""

    ridge: Floats
    width: NDArray[np.int64]
    _factors: dict[tuple[int, int], Factor] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def used(self, of: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The channels of each, (k, p)."""
        return np.arange(self.w.shape[1]) < self.width[of][:, None]

    def added(self, of: NDArray[np.int64], w: Floats) -> Floats:
        """What the penalty adds, (k,)."""
        return np.asarray(self.ridge[of] / 2 * (w**2).sum(axis=1))

    def allowed(self, of: NDArray[np.int64], w: Floats) -> NDArray[np.bool_]:
        """Whether only the first channels are used, (k,)."""
        return np.asarray((self.used(of) | (w == 0)).all(axis=1))

    def gaps(self, of: NDArray[np.int64], found: Sweep, w: Floats, null: Floats) -> Floats:
        """Relative duality gaps from an exact pass, (k,)."""
        return l2_gaps(found, w, self.ridge[of], null, self.used(of))

    def about(self, of: NDArray[np.int64], found: Sweep, w: Floats, b: Floats, null: Floats) -> Floats:
        """About what they are, from a float32 pass, (k,)."""
        r = self.ridge[of]
        left = np.where(self.used(of), r[:, None] * w + found.gradient, 0.0)
        return np.asarray(((left**2).sum(axis=1) / (2 * r) + np.abs(found.slope * b)) / null)

    def violation(self, of: NDArray[np.int64], gradient: Floats) -> Floats:
        """What a metric must cover is above 1, what is used inf, (k, p)."""
        return np.where(self.used(of), np.inf, 0.0)

    def minimum(self, c: int, model: Model) -> tuple[Floats, float] | None:
        """Where the model plus the penalty is least."""
        k = int(self.width[c])
        ridge = self.ridge[c] / model.unit**2 / model.bend  # of standardised channels, in the metric's units
        H = model.quadratic()
        change = np.zeros(len(model.w))
        change[k:] = -model.w[k:]  # a start on more channels: the model says what becomes of the others
        gradient = model.gradient + ridge * model.w
        if change.any():
            gradient = gradient + H.times(change)
        H.lend(self._factor(model.metric, float(np.exp(np.log(ridge).mean())) + model.damping, k))
        change[:k] = -H.solve(np.arange(k), gradient[:k])
        return change, float(model.gradient @ change) + float(ridge * model.w @ change)

    def _factor(self, metric: Metric, ridge: float, k: int) -> Factor:
        """One factor serves all widths (its leading block is theirs) and all ridges that are nearly the same.

        Which those are does not depend on who asks first: ridges are rounded to a quarter of a power of two.
        """
        step = round(4 * np.log2(ridge))
        key = (id(metric.gram), step)  # a factor keeps its matrix alive, so that no other gets its id
        with self._lock:
            known = self._factors.get(key)
        if known is None:
            known = factorise(metric.gram, 2.0 ** (step / 4))
            with self._lock:
                self._factors[key] = known
        return known.leading(k)


def ridge_subsets(
    x: Source,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    order: ArrayLike,
    k: ArrayLike,
    ridges: ArrayLike,
    moments: tuple[Floats, Floats] | None = None,
    start: Floats | None = None,
    target: float = 1e-6,
    threads: int = 1,
    device: str | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> RidgeSubsets:
    r"""L2-penalised logistic regression on nested subsets of channels, for many problems on shared rows.

    Minimises, for every problem, k and ridge r,

        P(w, b) = (1/n) sum_i s_i log(1 + exp(-y_i (z_i . w + b))) + (r/2) ||w||^2

    over w on the first k channels of the problem's ranking, everything else as in
    :func:`probekit_linear.solve.lasso.logistic_path`.

    Args:
        x, y, weights, moments, target, threads, device, progress: as there.
        order: the ranking, all channels or the first of them, (p',) or (m, p').
        k: (q,), none larger than the ranking.
        ridges: (R,), positive.
        start: where to begin, in the ranking's order, (m, p').

    Raises:
        ValueError: shapes that do not fit, one class only, NaN or inf in the rows, k or ridges out of range.
    """
    rows = RowSource(x, device=device)
    widths, penalties = np.unique(np.asarray(k, dtype=np.int64)), np.unique(np.asarray(ridges, dtype=np.float64))[::-1]
    with workers(threads) as work:
        batch = make_batch(rows, signed_weights(y, weights, rows.n), moments, work)
        m = len(batch.signed)
        ranking = np.asarray(order, dtype=np.int64)
        ranking = np.broadcast_to(ranking, (m, ranking.shape[-1]))
        if not len(widths) or widths[0] < 1 or widths[-1] > ranking.shape[1]:
            raise ValueError(f"k must be from 1 to the {ranking.shape[1]} channels of the ranking")
        if not len(penalties) or not (np.isfinite(penalties).all() and (penalties > 0).all()):
            raise ValueError("ridges must be finite and positive, and there must be one at least")
        return solve_subsets(batch, ranking, widths, penalties, start, target, work, progress)


def solve_subsets(
    batch: Batch,
    order: NDArray[np.int64],
    widths: NDArray[np.int64],
    ridges: Floats,
    start: Floats | None,
    target: float,
    work: Workers,
    progress: Callable[[int, int, float], None] | None = None,
) -> RidgeSubsets:
    """The fits of a batch at widths (q,), ascending, and ridges (R,); order (m, p')."""
    m, q, r = len(batch.signed), len(widths), len(ridges)
    coefficient = tuple(np.empty((m, r, k)) for k in widths)
    intercept, gap = np.empty((m, q, r)), np.full((m, q, r), np.inf)
    steps = np.empty((m, q, r), dtype=np.int64)
    reads = done = 0
    for j in range(m):
        problem = batch.one(j)
        first = np.zeros(widths[-1]) if start is None else start[j, : widths[-1]]
        w, b = np.tile(first, (r, 1)), np.full(r, batch.null_intercept[j])
        for band in bands(widths, batch.rows.p):
            alone = problem.on(order[j, : widths[band[-1]]]).compact(COPY)
            descent = Descent(alone, work)
            group = np.zeros(r, dtype=np.int64)
            # first the widest of the band, from where the last band's widest ended
            top = _columns(w[:, : alone.rows.p], b, ridges, widths[band[-1:]])
            if alone.rows.n > 2 * SCOUTS * alone.rows.p and band[-1] == q - 1:
                sample = alone.sample(*draw(np.abs(alone.signed[0]), SCOUTS * alone.rows.p, alone.some_of_each(16)))
                Descent(sample, work).solve(top, group.copy(), 1e-3, None, 12)
            descent.solve(top, group, ROUGH, target, 40)
            w, b = top.w, top.b
            # then all others from there, each on its own channels
            rest = _columns(w, b, ridges, widths[band[:-1]])
            if len(rest.b):
                descent.solve(rest, np.tile(group, len(band) - 1), ROUGH, target, 40)
            for places, columns in ((band[-1:], top), (band[:-1], rest)):
                for i, at in enumerate(places):
                    part = slice(i * r, (i + 1) * r)
                    coefficient[at][j] = columns.w[part, : widths[at]]
                    intercept[j, at], gap[j, at], steps[j, at] = columns.b[part], columns.gap[part], columns.steps[part]
            reads += descent.reads
            done += len(band) * r
            if progress is not None:
                progress(done, m * q * r, float(gap[np.isfinite(gap)].max()))
    return RidgeSubsets(
        widths, ridges, order, coefficient, intercept, gap, gap <= target, steps, batch.mean, batch.scale, reads
    )


def bands(widths: NDArray[np.int64], p: int) -> list[list[int]]:
    """The places of widths (ascending) in groups, the widest first: each within ``BANDS`` times its narrowest, and all
    that are narrow beside the p channels of a row, which has to be read anyway, in one."""
    narrow = [place for place, k in enumerate(widths) if k <= p // 8]
    out: list[list[int]] = []
    for place in range(len(widths) - 1, len(narrow) - 1, -1):
        if out and widths[out[-1][-1]] < BANDS * widths[place]:
            out[-1].insert(0, place)
        else:
            out.append([place])
    return [*out, narrow] if narrow else out


def _columns(w: Floats, b: Floats, ridges: Floats, widths: NDArray[np.int64]) -> L2Columns:
    """Fits at each width with each ridge, starting at one point for each ridge: (R, p), (R,)."""
    count = len(widths)
    return L2Columns(
        np.zeros(count * len(b), dtype=np.int64),
        np.tile(w, (count, 1)),
        np.tile(b, count),
        np.tile(ridges, count),
        np.repeat(widths, len(b)),
    )
