"""Newton steps for many penalised fits at once, which share their passes over the rows and their metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probekit_linear.solve.batch import Batch, Floats
from probekit_linear.solve.metric import Metric, measure
from probekit_linear.solve.quadratic import Factor, Quadratic
from probekit_linear.solve.sweep import Sweep, sweep
from probekit_linear.solve.workers import Workers

SLOW = 0.2
"""A step that leaves more than this share of the last one's promise asks for a metric made where it is now."""
PAIRS = 6
"""How many of a fit's last steps correct its metric."""
SHARE = 32
"""Rows that a metric is made from, for each of its channels."""


@dataclass
class Columns(ABC):
    """K fits on their way, a row each; a subclass says what is added to their loss.

    Attributes:
        problem: of the batch, (K,).
        w, b: where they are, on standardised features, (K, p) and (K,).
        gap: relative duality gap of (w, b), (K,); inf before an exact pass has seen it.
        steps: how many passes each took part in, (K,).
    """

    problem: NDArray[np.int64]
    w: Floats
    b: Floats
    gap: Floats = field(init=False)
    steps: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.gap = np.full(len(self.b), np.inf)
        self.steps = np.zeros(len(self.b), dtype=np.int64)

    @abstractmethod
    def added(self, of: NDArray[np.int64], w: Floats) -> Floats:
        """What the penalty adds at w (k, p), for the k columns ``of``: (k,)."""

    def allowed(self, of: NDArray[np.int64], w: Floats) -> NDArray[np.bool_]:
        """Whether w (k, p) is a point of these columns, or only one to start from: (k,)."""
        return np.ones(len(of), dtype=bool)

    @abstractmethod
    def gaps(self, of: NDArray[np.int64], found: Sweep, w: Floats, null: Floats) -> Floats:
        """Relative duality gaps from an exact pass, (k,)."""

    @abstractmethod
    def about(self, of: NDArray[np.int64], found: Sweep, w: Floats, b: Floats, null: Floats) -> Floats:
        """About what the gaps are, from a float32 pass that does not tell the classes apart: worth an exact look?"""

    @abstractmethod
    def violation(self, of: NDArray[np.int64], gradient: Floats) -> Floats:
        """How much each channel wants to move, (k, p): above 1 where a metric must cover it, inf where w uses it."""

    @abstractmethod
    def minimum(self, c: int, model: Model) -> tuple[Floats, float] | None:
        """Of column c, where the quadratic model plus the penalty is least, as a change of w on the model's channels,
        and by how much the first-order model says that the objective changes; none where nothing descends."""


@dataclass
class Model:
    """The quadratic model of one fit's loss on the channels of its metric, the intercept eliminated.

    Everything is in the metric's units, divided by the fit's total curvature over the metric's: the penalty has to be,
    too .

    Attributes:
        metric: whose Gram matrix is the Hessian.
        w, gradient: (k,).
        start: where to begin, (k,).
        unit: w here is w of the fit times this, (k,).
        bend: what all derivatives were divided by.
        pairs: the fit's last steps.
        factor: of an earlier solve, kept up to date.
    """

    metric: Metric
    w: Floats
    gradient: Floats
    start: Floats
    unit: Floats
    bend: float
    pairs: list[tuple[Floats, Floats]]
    factor: Factor | None

    def quadratic(self, ridge: float = 0.0) -> Quadratic:
        """The Hessian, plus a ridge if there is one."""
        return Quadratic(self.metric.gram, self.pairs, self.factor, ridge)


@dataclass
class _Point:
    """Where one fit is (as far as the passes have seen it), and where it is going.

    Attributes:
        value, gradient, slope: the objective and the loss's derivatives at the last point that was accepted.
        w, b: the point that the next pass looks at.
        promise: by how much the model says that the objective falls from the one to the other; negative.
        length: the share of the step that is being tried.
        pairs: the last steps in (w, gradient, slope), from which the metric learns.
    """

    w: Floats
    b: float
    value: float = np.inf
    gradient: Floats | None = None
    slope: float = 0.0
    promise: float = -np.inf
    length: float = 1.0
    pairs: list[tuple[Floats, Floats, float]] = field(default_factory=list)
    factor: Factor | None = None


class Descent:
    """Moves columns towards their optimum on one batch; its metrics stay from call to call.

    Attributes:
        reads: passes over the rows so far.
        curvature: of each row, by group, as the group's last pass found it, (n,).
    """

    def __init__(self, batch: Batch, work: Workers) -> None:
        self.batch = batch
        self.work = work
        self.reads = 0
        self.metrics: dict[int, Metric] = {}
        self.curvature: dict[int, NDArray[np.float32]] = {}
        self.debug = None

    def solve(self, columns: Columns, group: NDArray[np.int64], rough: float, target: float | None, most: int) -> None:
        """Moves every column until it is near enough, can move no more, or has taken part in ``most`` passes.

        Args:
            columns: changed in place.
            group: which columns share a metric, (K,); the numbers name metrics that stay for later calls. Changed in
                place where columns part from the others.
            rough: passes are float32 until every column's next step promises less than this share of the objective at
                w = 0.
            target: of the duality gap, in float64 passes that follow; none: without them and without certificates.
        """
        points = [_Point(w, float(b)) for w, b in zip(columns.w.copy(), columns.b, strict=True)]
        running = np.arange(len(points))
        exact = False
        for taken in range(1, most + 1):
            found, names = self._look(columns, points, running, group, exact)
            accepted, stay = self._accept(columns, points, running, found, target, exact)
            if self.debug is not None:
                self.debug(taken, running, points, columns)
            going = self._plan(columns, points, running, found, group, names, accepted)
            running = running[[i for i in stay if i not in accepted or i in going]]
            if not exact:
                null = self.batch.null[columns.problem]
                running = np.array([c for c in running if -points[c].promise > rough * null[c]], dtype=np.int64)
                if len(running) == 0 and target is not None:
                    exact, running = True, np.arange(len(points))
                    for at in points:
                        at.value, at.gradient = np.inf, None
            if len(running) == 0:
                break

    def _look(
        self, columns: Columns, points: list[_Point], running: NDArray[np.int64], group: NDArray[np.int64], exact: bool
    ) -> tuple[Sweep, NDArray[np.int64]]:
        _, names = np.unique(group[running], return_inverse=True)
        w = np.array([points[c].w for c in running])
        b = np.array([points[c].b for c in running])
        self.reads += 1
        columns.steps[running] += 1
        found = sweep(self.batch, columns.problem[running], w, b, self.work, exact=exact, groups=names)
        for name, row in zip(np.unique(group[running]), found.rows, strict=True):
            self.curvature[int(name)] = row
        return found, names

    def _accept(
        self,
        columns: Columns,
        points: list[_Point],
        running: NDArray[np.int64],
        found: Sweep,
        target: float | None,
        exact: bool,
    ) -> tuple[list[int], list[int]]:
        """Takes the points that descend, shortens the steps that do not: who moved, and who is not there yet."""
        w, b = np.array([points[c].w for c in running]), np.array([points[c].b for c in running])
        null = self.batch.null[columns.problem[running]]
        values = found.loss + columns.added(running, w)
        gaps = columns.gaps(running, found, w, null) if exact else columns.about(running, found, w, b, null)
        outside = ~columns.allowed(running, w)
        values[outside], gaps[outside] = np.inf, np.inf
        noise = (1e-14 if exact else 1e-6) * null
        accepted, stay = [], []
        for i, c in enumerate(map(int, running)):
            at = points[c]
            hoped = 1e-4 * at.length * at.promise if np.isfinite(at.value) else 0.0
            if not values[i] <= at.value + hoped + noise[i]:
                at.length /= 4
                at.w = columns.w[c] + (at.w - columns.w[c]) / 4
                at.b = float(columns.b[c] + (at.b - columns.b[c]) / 4)
                if at.length > 1e-6:
                    stay.append(i)
                continue
            if at.gradient is not None:
                at.pairs.append((at.w - columns.w[c], found.gradient[i] - at.gradient, found.slope[i] - at.slope))
                del at.pairs[:-PAIRS]
            columns.w[c], columns.b[c], columns.gap[c] = at.w, at.b, gaps[i] if exact else np.inf
            at.value, at.gradient, at.slope = float(values[i]), found.gradient[i], float(found.slope[i])
            accepted.append(i)
            if target is None or gaps[i] > (target if exact else target / 2):
                stay.append(i)
        return [i for i in accepted if i in set(stay)], stay

    def _plan(
        self,
        columns: Columns,
        points: list[_Point],
        running: NDArray[np.int64],
        found: Sweep,
        group: NDArray[np.int64],
        names: NDArray[np.int64],
        moving: list[int],
    ) -> set[int]:
        """Sets the next trial of those that move; those for which a step descends."""
        members: dict[int, list[int]] = {}
        for i in moving:
            members.setdefault(int(group[running[i]]), []).append(i)
        for name, of in members.items():
            self._cover(columns, running, found, name, of, names[of[0]], anew=False)
        before = {i: points[running[i]].promise for i in moving}
        going = self._steps(columns, points, running, found, group, moving)
        late: dict[int, list[int]] = {}
        for i in going:
            if points[running[i]].length == 1.0 and points[running[i]].promise < SLOW * before[i] and -points[running[i]].promise > 1e-6:
                late.setdefault(int(group[running[i]]), []).append(i)
        for name, of in late.items():
            if len(of) < len(members[name]):  # they part from those that do well
                shared, name = self.metrics[name], max(self.metrics) + 1
                self.metrics[name] = shared
                group[running[of]] = name
            self._cover(columns, running, found, name, of, names[of[0]], anew=True)
            for i in of:
                points[running[i]].pairs.clear()
        again = [i for of in late.values() for i in of]
        return (going - set(again)) | self._steps(columns, points, running, found, group, again)

    def _steps(
        self,
        columns: Columns,
        points: list[_Point],
        running: NDArray[np.int64],
        found: Sweep,
        group: NDArray[np.int64],
        moving: list[int],
    ) -> set[int]:
        def step(of: list[int]) -> list[tuple[Floats, float, float] | None]:
            """Fits of one problem that start alike: each begins where the last one ended."""
            made: list[tuple[Floats, float, float] | None] = []
            for place, i in enumerate(of):
                c = int(running[i])
                before = made[-1] if made else None
                if place and points[c].factor is None:
                    points[c].factor = points[running[of[place - 1]]].factor
                start = None if before is None else before[0]
                made.append(self._step(columns, c, points[c], found, i, self.metrics[int(group[c])], start))
            return made

        going = set()
        if np.isinf([points[running[i]].promise for i in moving]).all():
            tasks: dict[int, list[int]] = {}
            for i in moving:
                tasks.setdefault(int(group[running[i]]), []).append(i)
            chains = list(tasks.values())
        else:
            chains = [[i] for i in moving]
        for chain, results in zip(chains, self.work.map(step, chains), strict=True):
            for i, result in zip(chain, results, strict=True):
                if result is not None:
                    at = points[running[i]]
                    (at.w, at.b, at.promise), at.length = result, 1.0
                    going.add(i)
        return going

    def _cover(
        self,
        columns: Columns,
        running: NDArray[np.int64],
        found: Sweep,
        name: int,
        of: list[int],
        row: int,
        anew: bool,
    ) -> None:
        """Makes sure that a metric covers what its columns use and what violates, with room for what comes next."""
        c = running[of]
        violation = columns.violation(c, found.gradient[of])
        wanted = (violation > 1).any(axis=0)
        metric = self.metrics.get(name)
        if not anew and metric is not None and np.isin(np.flatnonzero(wanted), metric.channels).all():
            return
        p = self.batch.rows.p
        room = int(wanted.sum()) + max(64, int(wanted.sum()) // 2)
        if room > 0.6 * p:
            channels = np.arange(p)
        else:
            channels = np.sort(np.argsort(-violation.max(axis=0), kind="stable")[:room])
        assert found.rows is not None  # every pass was asked for them
        most = max(2048, SHARE * len(channels))
        self.metrics[name] = measure(
            self.batch, int(columns.problem[c[0]]), found.rows[row], channels, most, self.work
        )

    def _step(
        self, columns: Columns, c: int, at: _Point, found: Sweep, i: int, metric: Metric, start: Floats | None
    ) -> tuple[Floats, float, float] | None:
        """The minimum of the model: (w, b, the change that it promises), or none where nothing descends."""
        j, channels = columns.problem[c], metric.channels
        scale = self.batch.scale[j][channels]
        centre = (metric.centre - self.batch.mean[j][channels]) / scale
        curvature = max(float(found.curvature[i]), 1e-300)
        unit, bend = metric.unit / scale, curvature / metric.weight
        # the intercept goes where the model has its minimum: what is left is a quadratic in w
        gradient = (found.gradient[i][channels] - centre * found.slope[i]) / unit / bend
        was = columns.w[c][channels] * unit
        pairs = [(s[channels] * unit, (y[channels] - centre * t) / unit / bend) for s, y, t in at.pairs]
        begin = was if start is None else start[channels] * unit
        model = Model(metric, was, gradient, begin, unit, bend, pairs, at.factor)
        result = columns.minimum(c, model)
        at.factor = model.factor
        if result is None:
            return None
        change, promise = result
        promise = promise * bend - found.slope[i] ** 2 / (2 * curvature)
        if not np.isfinite(at.value):
            promise = -1.0  # any point of the column's own is better than where it started
        elif not promise < 0:
            return None
        w = columns.w[c].copy()
        w[channels] = (was + change) / unit
        return w, float(columns.b[c] - found.slope[i] / curvature - centre @ (change / unit)), promise
