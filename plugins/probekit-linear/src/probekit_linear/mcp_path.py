"""``mcp-path``: the channels of the L1 path, less shrunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probekit.api import Path, ProbePlan, Problem, Rows
from probekit_linear.lambda_grid import grid_of, padded, path_of
from probekit_linear.parameters import McpPathParameters
from probekit_linear.problems import batch_of, points_done
from probekit_linear.solve.lasso import lambda_max
from probekit_linear.solve.mcp import solve_mcp


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
            grids = [grid_of(problem, ratios) for problem in problems]
            found = solve_mcp(
                batch,
                padded(grids) * largest[:, None],
                largest,
                self.parameters.gamma,
                self.parameters.steps,
                self.parameters.target_gap,
                work,
                points_done(len(problems), "points"),
            )
        details = [
            [
                {"lla_residual": float(residual), "linearisations": int(steps)}
                for residual, steps in zip(*of, strict=True)
            ]
            for of in zip(found.residual, found.steps, strict=True)
        ]
        return [
            path_of(problem, found, j, grid, float(batch.total[j]), details[j])
            for j, (problem, grid) in enumerate(zip(problems, grids, strict=True))
        ]
