"""``l2-subsets``: how well the first k channels of a ranking do, for many k, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from probekit.api import FULL, Fit, Path, ProbePlan, Problem, Rows
from probekit_linear.parameters import L2SubsetsParameters
from probekit_linear.problems import batch_of, linear_scorer, points_done
from probekit_linear.ranking import geometric_median, rank_channels, start_of
from probekit_linear.solve.ridge import RidgeSubsets, solve_subsets


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

    Rungs are k, ascending, and ``full`` for all channels; each holds one fit for each ridge, strongest first.
    """

    def __init__(self, parameters: L2SubsetsParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.device = device
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
        listed = tuple(sorted({k for k in self.parameters.k if k != "all" and k < channels}))
        return ProbePlan(fits=rungs * len(self.ridges), rungs=rungs, dropped=dropped, listed=listed)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem: every k with every ridge; for a final fit, one fit a label."""
        if upstream is None:
            raise ValueError("l2-subsets needs the paths of the probe that rank_by names")
        paths: list[Path] = []
        with batch_of(rows, problems, self.device, self.threads) as (batch, work):
            order = rank_channels(batch, work, problems, upstream)
            start = np.array([start_of(path, own) for path, own in zip(upstream, order, strict=True)])
            target, p = self.parameters.target_gap, batch.rows.p
            wanted = problems[0].rungs
            widths = np.array(
                self.widths(p) if wanted is None else sorted({p if rung == FULL else int(rung) for rung in wanted})
            )
            if all(problem.finals is None for problem in problems):
                report = points_done(len(problems), "fits")
                found = solve_subsets(batch, order, widths, np.array(self.ridges), start, target, work, report)
                return [self._path(problem, j, found) for j, problem in enumerate(problems)]
            for j, problem in enumerate(problems):
                alone = batch.one(j)
                fits = []
                for label, chosen in (problem.finals or {}).items():
                    k = min(batch.rows.p, max(1, round(float(np.median([fit.choices["k"] for fit in chosen])))))
                    ridge = geometric_median([fit.choices["ridge"] for fit in chosen])
                    found = solve_subsets(
                        alone, order[j : j + 1], np.array([k]), np.array([ridge]), start[j : j + 1], target, work
                    )
                    fits.append(replace(self._fit(problem, found, 0, 0, 0, chosen[0].rung), details={"label": label}))
                paths.append(Path(tuple(fits)))
        return paths

    def _path(self, problem: Problem, j: int, found: RidgeSubsets) -> Path:
        p = found.order.shape[1]
        return Path(
            tuple(
                self._fit(problem, found, j, at, i, FULL if k == p else int(k))
                for at, k in enumerate(found.k)
                for i in range(len(found.ridges))
            )
        )

    def _fit(self, problem: Problem, found: RidgeSubsets, j: int, at: int, i: int, rung: int | Literal["full"]) -> Fit:
        w, ridge = found.coefficient[at][j, i], float(found.ridges[i])
        by_size = np.argsort(-np.abs(w), kind="stable")
        support, w = found.order[j, : len(w)][by_size], w[by_size]
        return Fit(
            rung=rung,
            support=support,
            coefficient=w,
            scorer=linear_scorer(problem, support, w, float(found.intercept[j, at, i])),
            choices={"k": float(len(w)), "ridge": ridge},
            ridge=ridge,
            gap=float(found.gap[j, at, i]),
            certified=bool(found.certified[j, at, i]),
            iterations=int(found.iterations[j, at, i]),
        )
