"""``mcp-path``: the channels of the L1 path, less shrunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from probekit.api import Fit, Path, ProbePlan, Problem, Rows
from probekit_linear.parameters import McpPathParameters
from probekit_linear.problems import batch_of, linear_scorer, points_done
from probekit_linear.ranking import by_size, geometric_median
from probekit_linear.solve.lasso import lambda_max
from probekit_linear.solve.mcp import ConcavePath, solve_mcp


class McpPath:
    """Logistic regression under the minimax concave penalty, intercept unpenalised, over a descending grid of lambdas.

    Rungs number the grid from its sparsest end. All problems and lambdas are solved together, each from its own L1 fit,
    so that a fit depends neither on the grid around it nor on a path that a neighbour left (``warm_start``). A fit's
    gap is that of the convex problem that its last linearisation makes; ``details`` has ``lla_residual``, the largest
    difference between the penalty's slopes there and at the fit, in lambda, and ``linearisations``.
    """

    def __init__(self, parameters: McpPathParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.device = device
        self.threads = threads

    def plan(self, channels: int) -> ProbePlan:
        """One fit a lambda, whatever the width."""
        points = self.parameters.lambda_ratio.points
        return ProbePlan(fits=points, rungs=points)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem; for a final fit, one fit a label."""
        with batch_of(rows, problems, self.device, self.threads) as (batch, work):
            largest = lambda_max(batch, np.ones_like(batch.mean), work)
            ratios = self.parameters.lambda_ratio.ratios()
            # the whole grid too: the order in which channels enter ranks those that a label's own fit leaves out
            grids = [sorted({*ratios, *_wanted(problem).values()}, reverse=True) for problem in problems]
            longest = max(map(len, grids))
            # final fits have grids of different lengths: the last lambda again costs next to nothing
            padded = np.array([grid + grid[-1:] * (longest - len(grid)) for grid in grids])
            found = solve_mcp(
                batch,
                padded * largest[:, None],
                largest,
                self.parameters.gamma,
                self.parameters.steps,
                self.parameters.target_gap,
                work,
                points_done(len(problems), "points"),
            )
        return [
            self._path(problem, [_fit(problem, found, j, i, ratio, float(batch.total[j])) for i, ratio in at])
            for j, (problem, at) in enumerate(zip(problems, map(enumerate, grids), strict=True))
        ]

    def _path(self, problem: Problem, fits: list[Fit]) -> Path:
        if problem.finals is None:
            return Path(tuple(fits))
        entered = list(dict.fromkeys(int(channel) for fit in fits for channel in by_size(fit)))
        by_ratio = {fit.choices["lambda_ratio"]: fit for fit in fits}
        finals = []
        for label, ratio in _wanted(problem).items():
            fit = by_ratio[ratio]
            details = {**fit.details, "label": label, "entered": entered}
            finals.append(replace(fit, rung=problem.finals[label][0].rung, details=details))
        return Path(tuple(finals))


def _fit(problem: Problem, found: ConcavePath, j: int, i: int, ratio: float, total: float) -> Fit:
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
        details={"lla_residual": float(found.residual[j, i]), "linearisations": int(found.steps[j, i])},
    )


def _wanted(problem: Problem) -> dict[str, float]:
    """The median lambda ratio of each label of a final fit."""
    return {
        label: geometric_median(fit.choices["lambda_ratio"] for fit in chosen)
        for label, chosen in (problem.finals or {}).items()
    }
