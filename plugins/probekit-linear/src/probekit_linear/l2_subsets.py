"""``l2-subsets``: how well the first k channels of a ranking do, for many k, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from probekit.api import FULL, Fit, Path, ProbePlan, Problem, Rows, Scorer, fold_standardisation, map_in_threads
from probekit_linear.design import Design
from probekit_linear.parameters import L2SubsetsParameters
from probekit_linear.ranking import geometric_median, rank_channels, start_of
from probekit_linear.ridge import RidgeFit, RidgeSolver


def log_widths(channels: int, count: int) -> list[int]:
    """min(count, channels) distinct widths from 1 to all channels, as evenly spaced in the logarithm as can be."""
    count = min(count, channels)
    widths: list[int] = []
    for left in range(count - 1, -1, -1):
        if not widths:
            widths.append(1 if left else channels)
        else:
            widths.append(max(widths[-1] + 1, round(widths[-1] * (channels / widths[-1]) ** (1 / (left + 1)))))
    return widths


class L2Subsets:
    """L2 logistic refits on the top k channels of the upstream ranking.

    Rungs are k, ascending, and ``full`` for all channels; each holds one fit for each ridge, strongest first. A
    problem holds one copy of its training rows (in the order of the ranking) and one p x p metric for each ridge.
    """

    def __init__(self, parameters: L2SubsetsParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.threads = threads
        self.ridges = tuple(sorted(parameters.ridges, reverse=True))

    def widths(self, channels: int) -> list[int]:
        """The k of the rungs, ascending; the last is all channels."""
        listed = {k for k in self.parameters.k if k != "all" and k < channels}
        return sorted(listed | set(log_widths(channels, self.parameters.widths)) | {channels})

    def plan(self, channels: int) -> ProbePlan:
        """What ``fit`` returns at this width; listed k above it are dropped."""
        rungs = len(self.widths(channels))
        dropped = tuple((("k", i), f"k = {k}") for i, k in enumerate(self.parameters.k) if k != "all" and k > channels)
        return ProbePlan(fits=rungs * len(self.ridges), rungs=rungs, dropped=dropped)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem: every k with every ridge; for a final fit, one fit a label."""
        if upstream is None:
            raise ValueError("l2-subsets needs the paths of the probe that rank_by names")
        pairs = zip(problems, upstream, strict=True)
        return map_in_threads(lambda pair: self._path(rows, *pair), pairs, self.threads)

    def _path(self, rows: Rows, problem: Problem, upstream: Path) -> Path:
        order = rank_channels(rows, problem, upstream)
        design = Design.of(rows, problem, order)
        start = start_of(upstream, order)
        if problem.finals is not None:
            return Path(tuple(self._final(design, problem, order, start, label) for label in problem.finals))
        solver = RidgeSolver(design, self.ridges, self.parameters.target_gap, start)
        fits: list[Fit] = []
        p = len(order)
        for k in reversed(self.widths(p)):
            rung: int | Literal["full"] = FULL if k == p else k
            solved = zip(self.ridges, solver.solve(k), strict=True)
            fits[:0] = [self._fit(problem, order, rung, ridge, found) for ridge, found in solved]
        return Path(tuple(fits))

    def _final(self, design: Design, problem: Problem, order: np.ndarray, start: np.ndarray, label: str) -> Fit:
        assert problem.finals is not None
        chosen = problem.finals[label]
        k = min(len(order), max(1, round(float(np.median([fit.choices["k"] for fit in chosen])))))
        ridge = geometric_median([fit.choices["ridge"] for fit in chosen])
        found = RidgeSolver(design, (ridge,), self.parameters.target_gap, start).solve(k)[0]
        return self._fit(problem, order, chosen[0].rung, ridge, found, label)

    def _fit(
        self,
        problem: Problem,
        order: np.ndarray,
        rung: int | Literal["full"],
        ridge: float,
        found: RidgeFit,
        label: str | None = None,
    ) -> Fit:
        by_size = np.argsort(-np.abs(found.w), kind="stable")
        support, w = order[by_size], found.w[by_size]
        weight, bias = fold_standardisation(w, found.b, problem.mean[support], problem.scale[support])
        return Fit(
            rung=rung,
            support=support,
            coefficient=w,
            scorer=Scorer("linear", support, {"weight": weight, "bias": np.array(bias)}),
            choices={"k": float(len(w)), "ridge": ridge},
            ridge=ridge,
            gap=found.gap,
            certified=found.gap <= self.parameters.target_gap,
            iterations=found.iterations,
            details={} if label is None else {"label": label},
        )
