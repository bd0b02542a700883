"""The probe family ``centroids``: which side of the middle between the two classes' means a cell lies on."""

from collections.abc import Iterable, Sequence

import numpy as np

from probekit.api import (
    Fit,
    NoParameters,
    Path,
    ProbePlan,
    ProbePlugin,
    Problem,
    Rows,
    Scorer,
    fold_standardisation,
    hookimpl,
)


@hookimpl
def probekit_probes() -> Iterable[ProbePlugin]:
    """``centroids``."""
    return [ProbePlugin("centroids", "nearest class mean on the channels that differ most", f"{__name__}:Centroids")]


class Centroids:
    """Rungs are k = 1, 2, 4, ... and all channels. Nothing is optimised, so nothing can fail to converge."""

    def __init__(self, parameters: NoParameters, *, device: str, threads: int) -> None:
        """Neither a GPU nor threads would help: one pass over the rows is all there is."""

    def plan(self, channels: int) -> ProbePlan:
        """One fit a rung."""
        return ProbePlan(fits=len(_widths(channels)), rungs=len(_widths(channels)))

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path a problem; for a final fit, one fit a label."""
        return [self._path(rows, problem) for problem in problems]

    def _path(self, rows: Rows, problem: Problem) -> Path:
        shares = np.stack([problem.weights * (problem.y == 0), problem.weights * (problem.y == 1)])
        shares /= shares.sum(axis=1, keepdims=True)
        means = sum(shares[:, part] @ x.astype(np.float64) for part, x in rows.chunks())
        negative, positive = (means - problem.mean) / problem.scale
        order = np.argsort(-np.abs(positive - negative), kind="stable")

        def fit(rung: int, k: int, **details: str) -> Fit:
            support = order[:k]
            coefficient = (positive - negative)[support]
            intercept = -coefficient @ (positive + negative)[support] / 2
            weight, bias = fold_standardisation(coefficient, intercept, problem.mean[support], problem.scale[support])
            scorer = Scorer("linear", support, {"weight": weight, "bias": np.array(bias)})
            return Fit(rung, support, coefficient, scorer, choices={"k": float(k)}, details=details)

        if problem.finals is None:
            return Path(tuple(fit(k, k) for k in _widths(len(order))))
        fits = []
        for label, folds in problem.finals.items():
            k = round(float(np.median([found.choices["k"] for found in folds])))
            fits.append(fit(int(folds[0].rung), k, label=label))
        return Path(tuple(fits))


def _widths(channels: int) -> list[int]:
    return sorted({*(2**i for i in range(channels.bit_length())), channels})
