"""``forward-selection``: the best next channel, and the next, up to k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probekit.api import Fit, Path, ProbePlan, Problem, Rows
from probekit_linear.parameters import ForwardSelectionParameters
from probekit_linear.problems import batch_of, linear_scorer, points_done
from probekit_linear.solve.forward import ForwardPath, solve_forward


class ForwardSelection:
    """Logistic regression on 1, 2, ... k channels, each chosen by what it adds to the training likelihood.

    Rungs are k. All problems move together, one pass over the rows a channel. A fit's gap is that of its refit on the
    channels that it has; ``details["entered"]`` has these in the order in which they entered.
    """

    def __init__(self, parameters: ForwardSelectionParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.device = device
        self.threads = threads

    def plan(self, channels: int) -> ProbePlan:
        """One fit for every k up to the given one or to all channels."""
        k = self.parameters.k
        rungs = min(k, channels)
        return ProbePlan(fits=rungs, rungs=rungs, dropped=((("k",), f"k = {k}"),) if k > channels else ())

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem; for a final fit, one fit a label."""
        parameters = self.parameters
        with batch_of(rows, problems, self.device, self.threads) as (batch, work):
            k = min(parameters.k, rows.shape[1])
            report = points_done(len(problems), "points")
            found = solve_forward(batch, k, parameters.ridge, parameters.target_gap, work, report)
        return [self._path(problem, found, j) for j, problem in enumerate(problems)]

    def _path(self, problem: Problem, found: ForwardPath, j: int) -> Path:
        most = found.order.shape[1]
        if problem.finals is None:
            return Path(tuple(self._fit(problem, found, j, k) for k in range(1, most + 1)))
        fits = []
        for label, chosen in problem.finals.items():
            k = round(float(np.median([fit.choices["k"] for fit in chosen])))
            fits.append(self._fit(problem, found, j, min(most, max(1, k)), label, chosen[0]))
        return Path(tuple(fits))

    def _fit(
        self,
        problem: Problem,
        found: ForwardPath,
        j: int,
        k: int,
        label: str | None = None,
        first: Fit | None = None,
    ) -> Fit:
        order, w = found.order[j, :k], found.coefficient[j, k - 1, :k]
        # ties to the lower channel
        by_size = np.lexsort((order, -np.abs(w)))
        support, w = order[by_size], w[by_size]
        # a final fit ranks the channels beyond its own, too
        entered = found.order[j] if label is not None else order
        details = {"entered": entered.tolist()} | ({} if label is None else {"label": label})
        return Fit(
            rung=k if first is None else first.rung,
            support=support,
            coefficient=w,
            scorer=linear_scorer(problem, support, w, float(found.intercept[j, k - 1])),
            choices={"k": float(k)},
            ridge=self.parameters.ridge,
            gap=float(found.gap[j, k - 1]),
            certified=bool(found.certified[j, k - 1]),
            iterations=int(found.iterations[j, k - 1]),
            details=details,
        )
