"""What the families on a grid of lambdas share: the grids of a batch, and the fits and final fits on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Fit, Path, Problem
from probekit_linear.problems import linear_scorer
from probekit_linear.ranking import by_size, geometric_median
from probekit_linear.solve.lasso import LogisticPath
from probekit_linear.solve.mcp import ConcavePath


def grid_of(problem: Problem, ratios: Iterable[float]) -> list[float]:
    """Shares of lambda_max, descending: the grid (or the rungs of it that the problem wants) and, for a final fit, the
    medians that its labels want.

    A final fit has the whole grid too: the order in which channels enter ranks those that a label's own fit leaves
    out.
    """
    grid = sorted({*ratios, *_wanted(problem).values()}, reverse=True)
    return grid if problem.rungs is None else [grid[int(rung)] for rung in problem.rungs]


def padded(grids: Sequence[list[float]]) -> NDArray[np.float64]:
    """The grids as one array, (m, L): final fits differ in length, and a lambda again costs next to nothing."""
    longest = max(map(len, grids))
    return np.array([grid + grid[-1:] * (longest - len(grid)) for grid in grids])


def path_of(
    problem: Problem,
    found: LogisticPath | ConcavePath,
    j: int,
    grid: Sequence[float],
    total: float,
    details: Sequence[dict[str, Any]] | None = None,
) -> Path:
    """Problem j's path: a rung for each lambda of its grid or, of a final fit, one fit a label.

    Args:
        total: n of the objective, which turns a lambda into a C.
        details: of each fit.
    """
    fits = [
        _fit(problem, found, j, i, ratio, total, {} if details is None else details[i]) for i, ratio in enumerate(grid)
    ]
    if problem.rungs is not None:
        return Path(tuple(replace(fit, rung=rung) for fit, rung in zip(fits, problem.rungs, strict=True)))
    if problem.finals is None:
        return Path(tuple(fits))
    entered = list(dict.fromkeys(int(channel) for fit in fits for channel in by_size(fit)))
    by_ratio = dict(zip(grid, fits, strict=True))
    finals = []
    for label, ratio in _wanted(problem).items():
        fit = by_ratio[ratio]
        details_of = {**fit.details, "label": label, "entered": entered}
        finals.append(replace(fit, rung=problem.finals[label][0].rung, details=details_of))
    return Path(tuple(finals))


def _fit(
    problem: Problem,
    found: LogisticPath | ConcavePath,
    j: int,
    i: int,
    ratio: float,
    total: float,
    details: dict[str, Any],
) -> Fit:
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
        details=details,
    )


def _wanted(problem: Problem) -> dict[str, float]:
    """The median lambda ratio of each label of a final fit."""
    return {
        label: geometric_median(fit.choices["lambda_ratio"] for fit in chosen)
        for label, chosen in (problem.finals or {}).items()
    }
