"""Newton steps for many penalised fits at once, which share their passes over the rows and their metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probekit_linear.solve.batch import Batch, Floats
from probekit_linear.solve.columns import Columns, Model
from probekit_linear.solve.metric import Metric, measure, reach
from probekit_linear.solve.quadratic import Factor
from probekit_linear.solve.sweep import Sweep, sweep
from probekit_linear.solve.workers import Workers

SLOW = 0.2
"""A step that leaves more than this share of the last one's promise asks for a metric made where it is now."""
STALLED = 4
"""Passes without progress after which float32 is given up."""
FINE = 1e-6
"""A promise, relative to the objective at w = 0, below which the metric is good enough."""
FLAT = 1e-14
"""The least curvature that a model has."""
DAMPED = 1e-3
"""The least damping that there is but none, in curvatures of a channel of scale 1."""
PAIRS = 6
"""How many of a fit's last steps correct its metric."""
SHARE = 20
"""Rows that a metric is made from, for each of its channels."""


@dataclass
class _Point:
    """Where one fit is (as far as the passes have seen it), and where it is going.

    Attributes:
        value, gradient, slope: the objective and the loss's derivatives at the last point that was accepted.
        w, b: the point that the next pass looks at.
        promise: by how much the model says that the objective falls from the one to the other; negative.
        length: the share of the step that is being tried.
        stuck: how many exact passes in a row left more than half of the gap.
        stalled: how many passes in a row ended with a promise not much less than the one before.
        pairs: the last steps in (w, gradient, slope), from which the metric learns.
        damping: added to the diagonal of the metric: steps that went too far ask for it (Levenberg 1944, Marquardt
            1963). Rows far out are decided on a short way, and what the metric sees of them ends there.
    """

    w: Floats
    b: float
    value: float = np.inf
    gradient: Floats | None = None
    slope: float = 0.0
    promise: float = -np.inf
    length: float = 1.0
    stalled: int = 0
    stuck: int = 0
    pairs: list[tuple[Floats, Floats, float]] = field(default_factory=list)
    factor: Factor | None = None
    damping: float = 0.0


class Descent:
    """Moves columns towards their optimum on one batch; its metrics stay from call to call.

    Attributes:
        reads: passes over the rows so far.
        watch: told after every pass of the columns and how many of them are done; none before float64 passes begin.
        curvature: of each row, by group, as the group's last pass found it, (n,).
        far: how far out each row lies, (n,); none until a step went too far: metrics then heed it.
    """

    def __init__(self, batch: Batch, work: Workers, watch: Callable[[Columns, int], None] | None = None) -> None:
        self.batch = batch
        self.work = work
        self.watch = watch
        self.reads = 0
        self.far: NDArray[np.float32] | None = None
        self.metrics: dict[int, Metric] = {}
        self.curvature: dict[int, NDArray[np.float32]] = {}
        self._fresh: set[int] = set()  # names whose metric the last pass made
        self._parted: set[int] = set()  # names whose metric the next pass makes
        self._precise: set[int] = set()  # names whose metrics are made in float64

    def solve(
        self,
        columns: Columns,
        group: NDArray[np.int64],
        rough: float | Floats,
        target: float | None,
        most: int,
        still: NDArray[np.bool_] | None = None,
    ) -> None:
        """Moves every column until it is near enough, can move no more, or ``most`` passes of each kind were spent.

        Args:
            columns: changed in place.
            group: which columns share a metric, (K,); the numbers name metrics that stay for later calls. Changed in
                place where columns part from the others.
            rough: passes are float32 until every column's next step promises less than this share of the objective at
                w = 0, one for all or (K,).
            target: of the duality gap, in float64 passes that follow; none: without them and without certificates.
            most: passes of each kind.
            still: which columns are where they belong, (K,): float32 passes leave them alone.
        """
        points = [_Point(w, float(b)) for w, b in zip(columns.w.copy(), columns.b, strict=True)]
        running = np.arange(len(points)) if still is None else np.flatnonzero(~still)
        rough = rough * self.batch.null[columns.problem]
        for _ in range(most):
            if len(running) == 0:
                break
            running = self._round(columns, points, running, group, target, exact=False)
            running = running[[-points[c].promise > rough[c] and points[c].stalled < STALLED for c in running]]
        if target is None:
            return
        running = np.arange(len(points))
        for c, at in enumerate(points):
            at.value, at.gradient = np.inf, None
            if at.stalled >= STALLED:  # what it was about to try is not to be trusted
                at.w, at.b = columns.w[c].copy(), float(columns.b[c])
        for _ in range(most):
            running = self._round(columns, points, running, group, target, exact=True)
            if len(running) == 0:
                break

    def heed(self) -> None:
        """From now on metrics are made with an eye to the rows that lie far out, and those that there are anew."""
        if self.far is None:
            self.far = reach(self.batch, self.work)
            self._parted |= set(self.metrics)

    def _round(
        self,
        columns: Columns,
        points: list[_Point],
        running: NDArray[np.int64],
        group: NDArray[np.int64],
        target: float | None,
        exact: bool,
    ) -> NDArray[np.int64]:
        """One pass, and the next trial of everyone; who needs another pass."""
        found, names = self._look(columns, points, running, group, exact)
        accepted, stay = self._accept(columns, points, running, found, target, exact)
        going = self._plan(columns, points, running, found, group, names, accepted, exact)
        left = running[[i for i in stay if i not in accepted or i in going]]
        if self.watch is not None:
            self.watch(columns, len(points) - len(left) if exact else 0)
        return left

    def _look(
        self, columns: Columns, points: list[_Point], running: NDArray[np.int64], group: NDArray[np.int64], exact: bool
    ) -> tuple[Sweep, NDArray[np.int64]]:
        _, names = np.unique(group[running], return_inverse=True)
        w = np.array([points[c].w for c in running])
        b = np.array([points[c].b for c in running])
        self.reads += 1
        columns.steps[running] += 1
        found = sweep(self.batch, columns.problem[running], w, b, self.work, exact=exact, groups=names)
        assert found.rows is not None  # they were asked for
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
            if np.isinf(at.value) and np.isfinite(values[i]) and values[i] > (1 + 1e-6) * null[i]:
                # a start that is worse than none
                at.w, at.b = np.zeros_like(at.w), float(self.batch.null_intercept[columns.problem[c]])
                stay.append(i)
                continue
            hoped = 1e-4 * at.length * at.promise if np.isfinite(at.value) else 0.0
            if not values[i] <= at.value + hoped + noise[i]:
                at.length /= 4
                if -at.promise > (1e-10 if exact else 1e-5) * null[i]:  # else it is rounding that is in the way
                    at.damping = max(4 * at.damping, DAMPED)
                    self.heed()
                at.w = columns.w[c] + (at.w - columns.w[c]) / 4
                at.b = float(columns.b[c] + (at.b - columns.b[c]) / 4)
                if at.length > 1e-6:
                    stay.append(i)
                continue
            if at.gradient is not None:
                at.pairs.append((at.w - columns.w[c], found.gradient[i] - at.gradient, found.slope[i] - at.slope))
                del at.pairs[:-PAIRS]
            if at.damping and at.length == 1.0 and values[i] <= at.value + 0.25 * at.promise:
                at.damping = at.damping / 3 if at.damping > DAMPED else 0.0
            if exact:
                at.stuck = at.stuck + 1 if gaps[i] > 0.5 * columns.gap[c] else 0
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
        exact: bool,
    ) -> set[int]:
        """Sets the next trial of those that move; those for which a step descends."""
        members: dict[int, list[int]] = {}
        for i in moving:
            members.setdefault(int(group[running[i]]), []).append(i)
        anew = set(members) & self._parted
        self._parted -= anew
        for name, of in members.items():
            self._cover(columns, running, found, name, of, names[of[0]], anew=name in anew)
        before = {i: points[running[i]].promise * (1.0 if points[running[i]].length == 1.0 else np.inf) for i in moving}
        going = self._steps(columns, points, running, found, group, moving)
        late: dict[int, list[int]] = {}
        blind: set[int] = set()
        for i in moving:
            c = running[i]
            null, promise = self.batch.null[columns.problem[c]], points[c].promise
            # a metric that is too stiff promises little or nothing where much is to be had: the gap tells
            if exact and (i not in going or -promise < 1e-15 * null or points[c].stuck > 1):
                blind.add(i)
            if i in blind or (i in going and promise < min(SLOW * before[i], -FINE * null)):
                late.setdefault(int(group[c]), []).append(i)
        fresh, self._fresh = self._fresh, set()
        again: list[int] = []
        waiting: set[int] = set()
        for name, of in late.items():
            if name in self._precise and name in fresh:
                continue  # there is no better one
            if (name in fresh or blind & set(of)) and len(of) > 1:
                # the metric was made for all of them a pass ago: it is the sharing that holds them up
                self._part(columns, running, group, name, of)
                waiting.update(of)
                continue
            if name in fresh or blind & set(of):  # for one alone, and still no good: the rounding is in the way
                self._precise.add(name)
            if len(of) < len(members[name]):  # they part from those that do well
                name = self._named(name)
                group[running[of]] = name
            self._fresh.add(name)
            self._cover(columns, running, found, name, of, names[of[0]], anew=True)
            for i in of:
                points[running[i]].pairs.clear()
            again += of
        return (going - set(again)) | waiting | self._steps(columns, points, running, found, group, again)

    def _part(
        self, columns: Columns, running: NDArray[np.int64], group: NDArray[np.int64], name: int, of: list[int]
    ) -> None:
        """Columns that share a metric get one for each problem, or, if they are of one problem, one each: after the
        next pass, which tells their curvatures apart."""
        c = running[of]
        keys = columns.problem[c] if len(np.unique(columns.problem[c])) > 1 else c
        for key in np.unique(keys):
            new = self._named(name)
            group[c[keys == key]] = new
            self._parted.add(new)

    def _named(self, like: int) -> int:
        """A new name for a metric, which for now is that of another name."""
        name = max(self.metrics) + 1
        self.metrics[name] = self.metrics[like]
        if like in self._precise:
            self._precise.add(name)
        return name

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
                    at.stalled = at.stalled + 1 if result[2] < 0.7 * at.promise else 0
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
        wanted = _first(violation).any(axis=0)
        metric = self.metrics.get(name)
        if not anew and metric is not None and np.isin(np.flatnonzero(wanted), metric.channels).all():
            return
        p = self.batch.rows.p
        room = int(wanted.sum()) + max(64, int(wanted.sum()) // 2)
        nearest = np.argsort(-violation.max(axis=0), kind="stable")
        channels = np.arange(p) if room > 0.6 * p else np.sort(nearest[:room])
        assert found.rows is not None  # they were asked for
        most = max(2048, SHARE * len(channels))
        self.metrics[name] = measure(
            self.batch,
            int(columns.problem[c[0]]),
            found.rows[row],
            channels,
            most,
            self.work,
            precise=name in self._precise,
            far=self.far,
        )

    def _step(
        self, columns: Columns, c: int, at: _Point, found: Sweep, i: int, metric: Metric, start: Floats | None
    ) -> tuple[Floats, float, float] | None:
        """The minimum of the model: (w, b, the change that it promises), or none where nothing descends."""
        j, channels = columns.problem[c], metric.channels
        scale = self.batch.scale[j][channels]
        centre = (metric.centre - self.batch.mean[j][channels]) / scale
        curvature = max(float(found.curvature[i]), FLAT)
        unit, bend = metric.unit / scale, curvature
        # the intercept goes where the model has its minimum: what is left is a quadratic in w
        gradient = (found.gradient[i][channels] - centre * found.slope[i]) / unit / bend
        was = columns.w[c][channels] * unit
        pairs = [(s[channels] * unit, (y[channels] - centre * t) / unit / bend) for s, y, t in at.pairs]
        begin = was if start is None else start[channels] * unit
        model = Model(metric, was, gradient, begin, unit, bend, pairs, at.factor, at.damping)
        result = columns.minimum(c, model)
        at.factor = model.factor
        if result is None:
            return None
        change, promise = result
        promise = promise * bend - found.slope[i] ** 2 / (2 * curvature)
        length = 1.0
        if not np.isfinite(at.value):
            promise = -1.0  # any point of the column's own is better than where it started
        elif not promise < 0:
            return None
        elif -promise > at.value:  # more than there is: the model is far from the loss
            length = at.value / -promise
        w = columns.w[c].copy()
        w[channels] = (was + length * change) / unit
        shift = found.slope[i] / curvature + centre @ (change / unit)
        return w, float(columns.b[c] - length * shift), length * promise


def _first(violation: Floats) -> NDArray[np.bool_]:
    """Of the channels that violate (above 1), by row, those that a step is to take on: all that a fit uses (inf), and
    of the others the worst, at most twice as many or 128."""
    used = np.isinf(violation)
    room = np.maximum(128, 2 * used.sum(axis=1))
    rank = np.argsort(np.argsort(np.where(used, 0, -violation), axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray(used | (violation > 1) & (rank < room[:, None]))
