"""``polynomial``: do the leading channels say more together than one by one, and which pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Fit, Path, ProbePlan, Problem, Rows, Scorer
from probekit_linear.parameters import PolynomialParameters
from probekit_linear.problems import batch_of
from probekit_linear.ranking import geometric_median, rank_channels
from probekit_linear.solve.batch import Batch, Floats
from probekit_linear.solve.ridge import RidgeSubsets, solve_subsets
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import Workers


class Polynomial:
    """L2 logistic regression on the top k channels z and the products z_i z_j of every two (with ``squares``, also
    of each with itself), every product standardised over the training rows, as the channels are.

    One rung, k, with one fit for each ridge, strongest first. A layer with fewer than k channels gives all of them.
    A channel's ``coefficient`` is a signed importance: the root of its own squared coefficient and half that of each
    pair it is in (all of a square's), with the sign of its own. ``details["pairs"]`` lists every pair as
    ``[channel, channel, coefficient]``, on standardised products, largest first. Holds n rows of k + pairs float64.
    """

    def __init__(self, parameters: PolynomialParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.device = device
        self.threads = threads
        self.ridges = tuple(sorted(parameters.ridges, reverse=True))

    def plan(self, channels: int) -> ProbePlan:
        """One rung at any width."""
        return ProbePlan(fits=len(self.ridges), rungs=1)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem; for a final fit, one fit a label."""
        if upstream is None:
            raise ValueError("polynomial needs the paths of the probe that rank_by names")
        with batch_of(rows, problems, self.device, self.threads) as (batch, work):
            order = rank_channels(batch, work, problems, upstream)[:, : self.parameters.k]
            return [
                self._path(problem, _Expansion(batch.one(j).on(order[j]), order[j], self.parameters.squares), work)
                for j, problem in enumerate(problems)
            ]

    def _path(self, problem: Problem, expansion: _Expansion, work: Workers) -> Path:
        if problem.finals is None:
            return Path(tuple(self._fits(expansion, self.ridges, work)))
        fits = []
        for label, chosen in problem.finals.items():
            ridge = geometric_median(fit.choices["ridge"] for fit in chosen)
            fits += self._fits(expansion, (ridge,), work, {"label": label})
        return Path(tuple(fits))

    def _fits(
        self, expansion: _Expansion, ridges: tuple[float, ...], work: Workers, details: dict[str, Any] | None = None
    ) -> list[Fit]:
        size = expansion.batch.rows.p
        found = solve_subsets(
            expansion.batch,
            np.arange(size)[None],
            np.array([size]),
            np.array(ridges),
            None,
            self.parameters.target_gap,
            work,
        )
        return [self._fit(expansion, found, i, details or {}) for i in range(len(ridges))]

    def _fit(self, expansion: _Expansion, found: RidgeSubsets, i: int, details: dict[str, Any]) -> Fit:
        k = len(expansion.channels)
        w, b, ridge = found.coefficient[0][0, i], float(found.intercept[0, 0, i]), float(found.ridges[i])
        importance = expansion.importance(w)
        order = np.argsort(-np.abs(importance), kind="stable")
        pairs = expansion.channels[expansion.pairs]
        products = w[k:]
        return Fit(
            rung=k,
            support=expansion.channels[order],
            coefficient=importance[order],
            scorer=expansion.scorer(w, b),
            choices={"ridge": ridge},
            ridge=ridge,
            gap=float(found.gap[0, 0, i]),
            certified=bool(found.certified[0, 0, i]),
            iterations=int(found.iterations[0, 0, i]),
            details=details
            | {
                "pairs": [
                    [int(pairs[i, 0]), int(pairs[i, 1]), float(products[i])]
                    for i in np.argsort(-np.abs(products), kind="stable")
                ]
            },
        )


class _Expansion:
    """Channels and their products as one design, and the way back to raw features."""

    def __init__(self, linear: Batch, channels: NDArray[np.int64], squares: bool) -> None:
        k = len(channels)
        self.channels = channels
        self.mean, self.scale = linear.mean[0], linear.scale[0]
        self.pairs: NDArray[np.int64] = np.stack(np.triu_indices(k, 0 if squares else 1), axis=1).astype(np.int64)
        x = linear.rows.gather(np.arange(linear.rows.n)).double().cpu().numpy()
        z = (x - self.mean) / self.scale
        features = np.concatenate([z, z[:, self.pairs[:, 0]] * z[:, self.pairs[:, 1]]], axis=1)
        mean, scale = np.zeros((1, features.shape[1])), np.ones((1, features.shape[1]))
        mean[0, k:] = features[:, k:].mean(axis=0)
        deviation = features[:, k:].std(axis=0)
        scale[0, k:] = np.where(deviation > 1e-12, deviation, 1.0)
        self.batch = Batch(RowSource(features), linear.signed, mean, scale)

    def importance(self, w: Floats) -> Floats:
        """One signed number a channel, (k,)."""
        k = len(self.channels)
        squared = w[:k] ** 2
        for side in (0, 1):
            np.add.at(squared, self.pairs[:, side], w[k:] ** 2 / 2)
        return np.asarray(np.where(w[:k] < 0, -1.0, 1.0) * np.sqrt(squared))

    def scorer(self, w: Floats, b: float) -> Scorer:
        """The same margin on raw features: z_i z_j multiplied out, every constant folded into weight and bias."""
        k = len(self.channels)
        mean, scale = self.mean, self.scale
        i, j = self.pairs[:, 0], self.pairs[:, 1]
        of_product = w[k:] / self.batch.scale[0, k:]
        products = of_product / (scale[i] * scale[j])
        weight = w[:k] / scale
        bias = b - float(weight @ mean) - float(of_product @ self.batch.mean[0, k:])
        bias += float(products @ (mean[i] * mean[j]))
        np.subtract.at(weight, i, products * mean[j])
        np.subtract.at(weight, j, products * mean[i])
        arrays = {"weight": weight, "bias": np.array(bias), "pairs": self.pairs, "products": products}
        return Scorer("polynomial", self.channels, arrays)
