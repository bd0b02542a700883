"""``l1-path``: which channels carry a concept, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from probekit.api import Fit, Path, ProbePlan, Problem, Rows, Scorer, fold_standardisation, map_in_threads
from probekit_linear.design import Design
from probekit_linear.lasso import LassoSolver, Solution
from probekit_linear.parameters import L1PathParameters
from probekit_linear.ranking import by_size, geometric_median


class L1Path:
    """L1-penalised logistic regression, intercept unpenalised, over a descending grid of lambdas.

    Rungs number the grid from its sparsest end. Solved problem by problem, each along its own path from lambda_max
    down (a final fit: the grid with its medians); a path that a neighbour left (``warm_start``) is not needed for
    that and not used.
    """

    def __init__(self, parameters: L1PathParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.threads = threads

    def plan(self, channels: int) -> ProbePlan:
        """One fit a lambda, whatever the width."""
        return ProbePlan(fits=self.parameters.points, rungs=self.parameters.points)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem; for a final fit, one fit a label."""
        return map_in_threads(lambda problem: self._path(rows, problem), problems, self.threads)

    def _ratios(self, solver: LassoSolver) -> list[float]:
        if self.parameters.C is None:
            return list(self.parameters.lambda_ratio.ratios())
        return [1 / (C * solver.design.total * solver.lambda_max) for C in sorted(self.parameters.C)]

    def _path(self, rows: Rows, problem: Problem) -> Path:
        solver = LassoSolver(Design.of(rows, problem), self.parameters.target_gap)
        ratios = self._ratios(solver)
        if problem.finals is None:
            return Path(tuple(self._fits(problem, solver, ratios)))
        wanted = {
            label: geometric_median(fit.choices["lambda_ratio"] for fit in chosen)
            for label, chosen in problem.finals.items()
        }
        # the whole grid too: the order in which channels enter ranks those that a label's own fit leaves out
        steps = sorted({*wanted.values(), *ratios}, reverse=True)
        fits = list(self._fits(problem, solver, steps))
        entered = list(dict.fromkeys(int(channel) for fit in fits for channel in by_size(fit)))
        by_ratio = dict(zip(steps, fits, strict=True))
        return Path(
            tuple(
                _labelled(by_ratio[wanted[label]], chosen[0], {"label": label, "entered": entered})
                for label, chosen in problem.finals.items()
            )
        )

    def _fits(self, problem: Problem, solver: LassoSolver, ratios: Sequence[float]) -> Iterable[Fit]:
        for rung, ratio in enumerate(ratios):
            found = solver.solve(ratio * solver.lambda_max)
            yield self._fit(problem, solver, rung, ratio, found)

    def _fit(self, problem: Problem, solver: LassoSolver, rung: int, ratio: float, found: Solution) -> Fit:
        support = np.flatnonzero(found.w)
        support = support[np.argsort(-np.abs(found.w[support]), kind="stable")]
        w = found.w[support]
        weight, bias = fold_standardisation(w, found.b, problem.mean[support], problem.scale[support])
        lam = ratio * solver.lambda_max
        return Fit(
            rung=rung,
            support=support,
            coefficient=w,
            scorer=Scorer("linear", support, {"weight": weight, "bias": np.array(bias)}),
            choices={"lambda_ratio": ratio},
            lambda_=lam,
            C=1 / (lam * solver.design.total),
            gap=found.gap,
            certified=found.gap <= self.parameters.target_gap,
            iterations=found.iterations,
        )


def _labelled(fit: Fit, first: Fit, details: Mapping[str, Any]) -> Fit:
    return replace(fit, rung=first.rung, details=dict(details))
