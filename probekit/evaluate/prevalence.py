"""What scores are at another prevalence: of a deployment, or of the balanced test set behind a published figure.

Recall, the false-positive rate and ROC AUC ask about one class at a time, so prevalence is nothing to them; precision,
F1, IoU and average precision mix the classes and follow from those by Bayes' rule. All of it assumes that only the
share of positives differs, and within each class cells look as they did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probekit.evaluate.groups import histogram_average_precision


def class_shares(prevalence: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of positives and of negatives.

    Raises:
        ValueError: a prevalence outside (0, 1).
    """
    share = np.asarray(prevalence, dtype=np.float64)
    if not ((share > 0) & (share < 1)).all():
        raise ValueError(f"a prevalence lies between 0 and 1, not at {share}")
    return share, 1 - share


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole == 0, np.nan, part / whole))


def precision_at(recall: ArrayLike, fpr: ArrayLike, prevalence: ArrayLike) -> NDArray[np.float64]:
    """Precision; NaN where nothing is called positive.

    Args:
        recall: share of the positives that are called so.
        fpr: share of the negatives that are called positive.
        prevalence: share of positives among all cells, in (0, 1).

    Returns:
        of the arguments' common shape, as from :func:`f1_at` and :func:`iou_at`.

    Raises:
        ValueError: a prevalence outside (0, 1).
    """
    positive, negative = class_shares(prevalence)
    found = positive * np.asarray(recall, dtype=np.float64)
    return _ratio(found, found + negative * np.asarray(fpr, dtype=np.float64))


def f1_at(recall: ArrayLike, fpr: ArrayLike, prevalence: ArrayLike) -> NDArray[np.float64]:
    """F1; 0 where nothing is found. Arguments, shape and errors as for :func:`precision_at`."""
    positive, negative = class_shares(prevalence)
    found = np.asarray(recall, dtype=np.float64)
    return np.asarray(2 * positive * found / (positive * (1 + found) + negative * np.asarray(fpr, dtype=np.float64)))


def iou_at(recall: ArrayLike, fpr: ArrayLike, prevalence: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union; 0 where nothing is found. Arguments, shape and errors as for :func:`precision_at`."""
    positive, negative = class_shares(prevalence)
    found = positive * np.asarray(recall, dtype=np.float64)
    return np.asarray(found / (positive + negative * np.asarray(fpr, dtype=np.float64)))


def rates_of_counts(counts: NDArray[np.number[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and false-positive rate, the first arguments of :func:`precision_at` and its like.

    Args:
        counts: tp, fp, fn, tn, (..., 4), as :func:`~probekit.evaluate.groups.group_confusion` has them, or sums of
            them over groups.

    Returns:
        each (...,); NaN where the class is absent.
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return _ratio(tp, tp + fn), _ratio(fp, fp + tn)


def published_rates(
    *, f1: float | None = None, precision: float | None = None, recall: float | None = None, prevalence: float = 0.5
) -> tuple[float, float]:
    """Recall and false-positive rate behind a published figure: give two of F1, precision and recall.

    F1 alone does not determine them: it is then read as precision = recall = F1, which is where a threshold of equal
    precision and recall on the published test set puts it; :func:`f1_range` has what else it may mean. At 5 %::

        f1_at(*published_rates(f1=0.94), 0.05)                        # .61 (anything from .45 to .94)
        f1_at(*published_rates(precision=0.92, recall=0.93), 0.05)    # .54

    The order matters: with precision .93 and recall .92 the second is .57, and .925 as a bare F1 gives .55.

    Args:
        f1, precision, recall: as published, in (0, 1].
        prevalence: of the test set that they come from; published probing recipes balance it.

    Raises:
        ValueError: too few or too many figures, or no classifier can have them at this prevalence.
    """
    given = {"F1": f1, "precision": precision, "recall": recall}
    figures = {name: figure for name, figure in given.items() if figure is not None}
    said = ", ".join(f"{name} {figure}" for name, figure in figures.items()) or "none"
    if len(figures) != 2 and list(figures) != ["F1"]:
        raise ValueError(f"give two of F1, precision and recall, or F1 alone, not {said}")
    if not all(0 < figure <= 1 for figure in figures.values()):
        raise ValueError(f"figures lie above 0 and at most at 1, not {said}")
    if f1 is not None:
        other = precision or recall or f1
        third = f1 * other / (2 * other - f1) if 2 * other > f1 else np.inf
        precision, recall = precision or third, recall or third
    assert precision is not None
    assert recall is not None
    positive, negative = (float(share) for share in class_shares(prevalence))
    fpr = positive * recall * (1 - precision) / (negative * precision)
    if max(precision, recall, fpr) > 1 + 1e-12:
        raise ValueError(f"no classifier has {said} at a prevalence of {prevalence}")
    return min(recall, 1.0), max(0.0, min(fpr, 1.0))


def f1_range(f1: float, prevalence: float, published_at: float = 0.5) -> tuple[float, float]:
    """The lowest and the highest F1 at ``prevalence`` of all classifiers whose F1 is ``f1`` at ``published_at``.

    F1 is monotone along them: one end is the classifier without false positives, whose F1 is the same everywhere; the
    other has the highest recall that there is with this F1 (1, or that of one that calls every negative positive).

    Raises:
        ValueError: ``f1`` outside (0, 1], or a prevalence outside (0, 1).
    """
    if not 0 < f1 <= 1:
        raise ValueError(f"F1 lies above 0 and at most at 1, not at {f1}")
    positive, negative = (float(share) for share in class_shares(published_at))
    recall = min(1.0, f1 / (positive * (2 - f1)))
    fpr = max(0.0, positive * (recall * (2 / f1 - 1) - 1) / negative)
    other = float(f1_at(recall, fpr, prevalence))
    return min(f1, other), max(f1, other)


def average_precision_at(
    scores: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_], prevalence: float
) -> float:
    """Average precision were ``prevalence`` of the cells positive: exact, ties as one threshold.

    Args:
        scores: higher means positive, (n,).
        y: 1 (or true) where the concept is, (n,).
        prevalence: in (0, 1).

    Returns:
        NaN where a class is absent.

    Raises:
        ValueError: scores hold NaN, or a prevalence outside (0, 1).
    """
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN")
    is_positive = y.astype(bool, copy=False)
    positives, negatives = scores[is_positive], np.sort(scores[~is_positive])
    weight = negative_weight(np.array(len(positives)), np.array(len(negatives)), prevalence)
    if not len(positives) or not len(negatives):
        return float("nan")
    thresholds, at = np.unique(positives, return_counts=True)
    found = np.cumsum(at[::-1])[::-1]
    false = len(negatives) - np.searchsorted(negatives, thresholds, side="left")
    return float((at * (found / (found + weight * false))).sum() / len(positives))


def histogram_average_precision_at(
    positives: NDArray[np.number[Any]],
    negatives: NDArray[np.number[Any]],
    tied: NDArray[np.bool_],
    prevalence: ArrayLike,
) -> NDArray[np.float64]:
    """Average precision from histograms were ``prevalence`` of the cells positive, for many resamples at once.

    Negatives carry the weight and positives stay cells. Then
    :func:`~probekit.evaluate.groups.histogram_average_precision` is right within bins too: of a bin's p positives the
    one in the middle has (p + 1) / 2 positives up to and with itself, and half of the weight of the bin's negatives
    before it: together the (cells + 1) / 2 that it counts. (Weights on positives would be off by up to 1e-2.) Off by
    1e-4 at most where negatives weigh up to 100-fold, by 2e-4 at 500-fold, as few of them then decide on whole bins.

    Args:
        positives, negatives: cells by bin, bins ascending, (..., bins). Each resample is weighted by its own counts, so
            that all have the same prevalence.
        tied: which bins hold one value only, (bins,).
        prevalence: in (0, 1), (...) or one for all.

    Returns:
        (...,); NaN where a class is absent.
    """
    weight = negative_weight(positives.sum(axis=-1), negatives.sum(axis=-1), prevalence)
    return histogram_average_precision(positives, weight[..., None] * negatives, tied)


def negative_weight(
    positives: NDArray[np.number[Any]], negatives: NDArray[np.number[Any]], prevalence: ArrayLike
) -> NDArray[np.float64]:
    """What a negative cell weighs if positives weigh one and are to be ``prevalence`` of all.

    Args:
        positives, negatives: cells, (...,).
        prevalence: in (0, 1).

    Returns:
        (...,); NaN where there is no negative to weigh.
    """
    positive, negative = class_shares(prevalence)
    return _ratio(np.asarray(positives) * negative, np.asarray(negatives) * positive)
