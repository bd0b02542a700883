"""The ranking of all channels that an upstream path implies, and medians of what folds chose."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from probekit.api import Fit, Path, Problem, Rows
from probekit_linear.certificate import class_correlations, duals
from probekit_linear.design import Design


def geometric_median(values: Iterable[float]) -> float:
    """The median; between the middle two of an even number, their geometric mean. Values are positive."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low if low == high else np.sqrt(low * high))


def ranking_fit(path: Path) -> Fit:
    """The fit that ranks: the chosen one; of a final path without a choice, that of the label ``chosen``, or the first.

    Raises:
        ValueError: a path of a fold without a choice.
    """
    if path.chosen is not None:
        return path.fits[path.chosen]
    labels = [fit.details.get("label") for fit in path.fits]
    if not labels or None in labels:
        raise ValueError("an upstream path must come with its chosen fit")
    return path.fits[labels.index("chosen") if "chosen" in labels else 0]


def rank_channels(rows: Rows, problem: Problem, path: Path) -> NDArray[np.int64]:
    """All channels (p,), most important first.

    First the support of the fit that ranks, by |standardised coefficient|; then the channels that enter the path
    elsewhere, in the order in which they enter (within a point by |coefficient|; a final fit keeps that order in
    ``details["entered"]``); then all others by the size of the loss's gradient at the fit that ranks. Ties go to the
    lower channel.
    """
    fit = ranking_fit(path)
    order = dict.fromkeys(map(int, by_size(fit)))
    if fit.details.get("label") is None:
        for other in path.fits:
            order.update(dict.fromkeys(map(int, by_size(other))))
    else:
        order.update(dict.fromkeys(map(int, fit.details.get("entered", ()))))
    p = len(problem.mean)
    if len(order) < p:
        design = Design.of(rows, problem)
        coefficient = np.zeros((1, p))
        coefficient[0, fit.scorer.channels] = fit.scorer.arrays["weight"] * problem.scale[fit.scorer.channels]
        used = np.flatnonzero(coefficient[0])
        bias = float(fit.scorer.arrays["bias"]) + float(coefficient[0] @ (problem.mean / problem.scale))
        scores = design.scores(coefficient[:, used], np.array([bias]), used)
        positive, negative = class_correlations(design, duals(design, scores))
        order.update(dict.fromkeys(map(int, np.argsort(-np.abs(positive - negative)[0], kind="stable"))))
    return np.fromiter(order, dtype=np.int64, count=p)


def by_size(fit: Fit) -> NDArray[np.int64]:
    """The support of a fit by |coefficient|, ties to the lower channel."""
    return fit.support[np.lexsort((fit.support, -np.abs(fit.coefficient)))]


def start_of(path: Path, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The coefficients of the fit that ranks, (p,) in the order of the ranking: where an L2 refit starts."""
    fit = ranking_fit(path)
    start = np.zeros(len(order))
    start[fit.support] = fit.coefficient
    return start[order]
