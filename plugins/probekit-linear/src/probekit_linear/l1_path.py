"""``l1-path``: which channels carry a concept, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from probekit.api import Fit, Path, ProbePlan, Problem, Rows
from probekit_linear.parameters import L1PathParameters
from probekit_linear.problems import batch_of, linear_scorer, points_done
from probekit_linear.ranking import by_size, geometric_median
from probekit_linear.solve.lasso import LogisticPath, lambda_max, solve_path


class L1Path:
    """L1-penalised logistic regression, intercept unpenalised, over a descending grid of lambdas.

    Rungs number the grid from its sparsest end. All problems of a call are solved as one batch; they start from a
    path that is scouted on a sample, so that one which a neighbour left (``warm_start``) is not needed.
    """

    def __init__(self, parameters: L1PathParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.device = device
        self.threads = threads

    def plan(self, channels: int) -> ProbePlan:
        """One fit a lambda, whatever the width."""
        return ProbePlan(fits=self.parameters.points, rungs=self.parameters.points)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem; for a final fit, one fit a label."""
        with batch_of(rows, problems, self.device, self.threads) as (batch, work):
            ones = np.ones_like(batch.mean)
            largest = lambda_max(batch, ones, work)
            grids = [
                self._ratios(problem, float(total), float(most))
                for problem, total, most in zip(problems, batch.total, largest, strict=True)
            ]
            longest = max(map(len, grids))
            # final fits have grids of different lengths: the last lambda again costs next to nothing
            padded = np.array([grid + grid[-1:] * (longest - len(grid)) for grid in grids])
            report = points_done(len(problems), "points")
            found = solve_path(
                batch, padded * largest[:, None], ones, largest, self.parameters.target_gap, work, report
            )
        return [
            self._path(problem, j, found, grid, float(batch.total[j]))
            for j, (problem, grid) in enumerate(zip(problems, grids, strict=True))
        ]

    def _ratios(self, problem: Problem, total: float, largest: float) -> list[float]:
        """The grid, descending; of a final fit with the medians that its labels want."""
        if self.parameters.C is None:
            ratios = list(self.parameters.lambda_ratio.ratios())
        else:
            ratios = [1 / (C * total * largest) for C in sorted(self.parameters.C)]
        # the whole grid too: the order in which channels enter ranks those that a label's own fit leaves out
        return sorted({*ratios, *_wanted(problem).values()}, reverse=True)

    def _path(self, problem: Problem, j: int, found: LogisticPath, grid: list[float], total: float) -> Path:
        fits = [self._fit(problem, found, j, i, ratio, total) for i, ratio in enumerate(grid)]
        if problem.finals is None:
            return Path(tuple(fits))
        entered = list(dict.fromkeys(int(channel) for fit in fits for channel in by_size(fit)))
        by_ratio = dict(zip(grid, fits, strict=True))
        wanted = _wanted(problem)
        return Path(
            tuple(
                replace(by_ratio[wanted[label]], rung=chosen[0].rung, details={"label": label, "entered": entered})
                for label, chosen in problem.finals.items()
            )
        )

    def _fit(self, problem: Problem, found: LogisticPath, j: int, i: int, ratio: float, total: float) -> Fit:
        w = found.coefficient[j, i]
        support = np.flatnonzero(w)
        support = support[np.argsort(-np.abs(w[support]), kind="stable")]
        lam = float(found.lambdas[j, i])
        return Fit(
            rung=i,
            support=support,
            coefficient=w[support],
            scorer=linear_scorer(problem, support, w[support], float(found.intercept[j, i])),
            choices={"lambda_ratio": ratio},
            lambda_=lam,
            C=1 / (lam * total),
            gap=float(found.gap[j, i]),
            certified=bool(found.certified[j, i]),
            iterations=int(found.iterations[j, i]),
        )


def _wanted(problem: Problem) -> dict[str, float]:
    """The median lambda ratio of each label of a final fit."""
    return {
        label: geometric_median(fit.choices["lambda_ratio"] for fit in chosen)
        for label, chosen in (problem.finals or {}).items()
    }
