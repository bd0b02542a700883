"""The ranking of all channels that an upstream path implies, and medians of what folds chose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from probekit.api import Fit, Path, Problem
from probekit_linear.problems import standardised
from probekit_linear.solve.batch import Batch
from probekit_linear.solve.sweep import sweep
from probekit_linear.solve.workers import Workers


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


def rank_channels(batch: Batch, work: Workers, problems: Sequence[Problem], paths: Sequence[Path]) -> NDArray[np.int64]:
    """All channels of each problem, most important first: (m, p).

    First the support of the fit that ranks, by |standardised coefficient|; then the channels that enter the path
    elsewhere, in the order in which they enter (within a point by |coefficient|; a final fit keeps that order in
    ``details["entered"]``); then all others by the size of the loss's gradient at the fit that ranks. Ties go to the
    lower channel.
    """
    orders = [_entered(path) for path in paths]
    p = batch.rows.p
    short = np.array([j for j, order in enumerate(orders) if len(order) < p], dtype=np.int64)
    if len(short):
        fits = [standardised(problems[j], ranking_fit(paths[j])) for j in short]
        found = sweep(batch, short, np.array([w for w, _ in fits]), np.array([b for _, b in fits]), work)
        for j, gradient in zip(short, found.gradient, strict=True):
            orders[j].update(dict.fromkeys(map(int, np.argsort(-np.abs(gradient), kind="stable"))))
    return np.array([list(order) for order in orders], dtype=np.int64)


def _entered(path: Path) -> dict[int, None]:
    fit = ranking_fit(path)
    order = dict.fromkeys(map(int, by_size(fit)))
    if fit.details.get("label") is None:
        for other in path.fits:
            order.update(dict.fromkeys(map(int, by_size(other))))
    else:
        order.update(dict.fromkeys(map(int, fit.details.get("entered", ()))))
    return order


def by_size(fit: Fit) -> NDArray[np.int64]:
    """The support of a fit by |coefficient|, ties to the lower channel."""
    return fit.support[np.lexsort((fit.support, -np.abs(fit.coefficient)))]


def start_of(path: Path, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The coefficients of the fit that ranks, (p,) in the order of the ranking: where an L2 refit starts."""
    fit = ranking_fit(path)
    start = np.zeros(len(order))
    start[fit.support] = fit.coefficient
    return start[order]
