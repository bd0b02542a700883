"""``l1-path``: which channels carry a concept, in which order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probekit.api import Path, ProbePlan, Problem, Rows
from probekit_linear.lambda_grid import grid_of, padded, path_of
from probekit_linear.parameters import L1PathParameters
from probekit_linear.problems import batch_of, points_done
from probekit_linear.solve.lasso import lambda_max, solve_path


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
                grid_of(problem, self._ratios(float(total), float(most)))
                for problem, total, most in zip(problems, batch.total, largest, strict=True)
            ]
            lambdas = padded(grids) * largest[:, None]
            report = points_done(len(problems), "points")
            found = solve_path(batch, lambdas, ones, largest, self.parameters.target_gap, work, report)
        return [
            path_of(problem, found, j, grid, float(batch.total[j]))
            for j, (problem, grid) in enumerate(zip(problems, grids, strict=True))
        ]

    def _ratios(self, total: float, largest: float) -> list[float]:
        if self.parameters.C is None:
            return list(self.parameters.lambda_ratio.ratios())
        return [1 / (C * total * largest) for C in self.parameters.C]
