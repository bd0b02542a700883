"""Scores of a binary question at natural prevalence, ties exact. Scores are margins: higher means positive.

Where there is no positive (for ``roc_auc``, ``tpr`` and ``fpr`` also: no negative), a score is NaN: it is not zero, it
does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probekit.evaluate.prevalence import average_precision_at, f1_at, iou_at, precision_at


@dataclass(frozen=True)
class Confusion:
    """Counts of cells at a threshold."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def precision(self) -> float:
        """tp over all that is called positive; NaN where nothing is."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """tp over all positives."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where there are positives and none is found."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn) if self.tp + self.fn else float("nan")

    @property
    def iou(self) -> float:
        """tp over what is positive or called so."""
        return _ratio(self.tp, self.tp + self.fp + self.fn) if self.tp + self.fn else float("nan")

    @property
    def fpr(self) -> float:
        """fp over all negatives."""
        return _ratio(self.fp, self.fp + self.tn)

    @property
    def balanced_precision(self) -> float:
        """Precision were both classes equally frequent: TPR / (TPR + FPR); NaN where nothing is called positive."""
        return float(precision_at(self.recall, self.fpr, 0.5))

    @property
    def balanced_f1(self) -> float:
        """F1 were both classes equally frequent: 2 TPR / (1 + TPR + FPR)."""
        return float(f1_at(self.recall, self.fpr, 0.5))


def f1_of_counts(counts: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """:attr:`Confusion.f1` of many counts at once.

    Args:
        counts: of tp, fp, fn, tn, (..., 4).

    Returns:
        (...,); NaN without positives.
    """
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    with np.errstate(invalid="ignore"):
        return np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)


@dataclass(frozen=True)
class Score:
    """One number of one point: ``sampling`` is the prevalence that it speaks of, ``natural`` or ``balanced`` (50/50,
    as published probing recipes report)."""

    metric: str
    sampling: Literal["natural", "balanced", "deployment"]
    value: float


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _sorted(scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    # A plain sort is vectorised and several times faster than argsort; no caller needs the order itself.
    ascending = np.sort(scores)
    if len(ascending) and np.isnan(ascending[-1]):
        raise ValueError("scores hold NaN")
    return ascending


def average_precision(scores: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> float:
    """Average precision: the sum over thresholds of the step in recall times the precision there.

    Tied scores are one threshold, as in scikit-learn's ``average_precision_score``, so the order of rows is of no
    effect. Only thresholds at positives' scores matter; all others step recall by nothing.

    Args:
        scores: (n,).
        y: 1 (or true) where the concept is, (n,).

    Returns:
        in (0, 1]; NaN without positives.
    """
    return _average_precision(_sorted(scores), scores[y.astype(bool, copy=False)])


def _average_precision(ascending: NDArray[np.floating[Any]], positives: NDArray[np.floating[Any]]) -> float:
    """Of all scores, sorted, and the positives' ones."""
    if not len(positives):
        return float("nan")
    at, called, found, _ = _steps(ascending, positives)
    return float((at * (found / called)).sum() / len(positives))


def _steps(
    ascending: NDArray[np.floating[Any]], positives: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.floating[Any]]]:
    """At each distinct positive score, ascending: positives there, cells and positives at or above; the scores."""
    thresholds, at = np.unique(positives, return_counts=True)
    called = np.asarray(len(ascending) - np.searchsorted(ascending, thresholds, side="left"))
    return at, called, np.cumsum(at[::-1])[::-1], thresholds


def roc_auc(scores: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> float:
    """The probability that a positive scores above a negative, ties counting half; NaN where a class is absent."""
    return _roc_auc(_sorted(scores), scores[y.astype(bool, copy=False)])


def _roc_auc(ascending: NDArray[np.floating[Any]], positives: NDArray[np.floating[Any]]) -> float:
    """Of all scores, sorted, and the positives' ones."""
    n, n_positives = len(ascending), len(positives)
    if n_positives in (0, n):
        return float("nan")
    positives = np.sort(positives)  # sorted queries keep the search in the cache
    # Twice the positives' mid-ranks, in whole numbers.
    ranks = np.searchsorted(ascending, positives, side="left") + np.searchsorted(ascending, positives, side="right")
    twice = int(ranks.sum()) - n_positives**2
    return twice / (2 * n_positives * (n - n_positives))


def confusion(predicted: NDArray[np.bool_], y: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> Confusion:
    """Counts of what was called positive, (n,), against what is, (n,)."""
    truth = y.astype(bool, copy=False)
    tp = int(np.count_nonzero(predicted & truth))
    called, is_positive = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    return Confusion(tp, called - tp, is_positive - tp, len(truth) - called - is_positive + tp)


def best_f1_threshold(
    scores: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_]
) -> tuple[float, float]:
    """The threshold of highest F1, to be used as ``scores >= threshold``; of equals the highest.

    Args:
        scores: (n,).
        y: 1 (or true) where the concept is, (n,).

    Returns:
        threshold, which is one of the positives' scores, and its F1; NaN, NaN without positives.
    """
    return _best_f1_threshold(_sorted(scores), scores[y.astype(bool, copy=False)])


def _best_f1_threshold(
    ascending: NDArray[np.floating[Any]], positives: NDArray[np.floating[Any]]
) -> tuple[float, float]:
    """Of all scores, sorted, and the positives' ones."""
    if not len(positives):
        return float("nan"), float("nan")
    _, called, found, thresholds = _steps(ascending, positives)
    f1 = 2 * found / (called + len(positives))
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return float(thresholds[best]), float(f1[best])


def precision_and_threshold(
    scores: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]] | NDArray[np.bool_]
) -> tuple[float, float]:
    """:func:`average_precision` and the threshold of :func:`best_f1_threshold`, from one sort of the scores."""
    ascending, positives = _sorted(scores), scores[y.astype(bool, copy=False)]
    return _average_precision(ascending, positives), _best_f1_threshold(ascending, positives)[0]


def score_all(
    scores: NDArray[np.floating[Any]],
    predicted: NDArray[np.bool_],
    y: NDArray[np.integer[Any]] | NDArray[np.bool_],
    ascending: NDArray[np.floating[Any]] | None = None,
) -> tuple[Score, ...]:
    """Every score of one point's test cells, in the order of the tables.

    Args:
        scores: (n,), pooled over folds.
        predicted: what each cell's own fold calls it at its own threshold, (n,).
        y: 1 (or true) where the concept is, (n,).
        ascending: the scores sorted, where they are at hand.
    """
    counts = confusion(predicted, y)
    ascending = _sorted(scores) if ascending is None else ascending
    positives = scores[y.astype(bool, copy=False)]
    natural = {
        "average_precision": _average_precision(ascending, positives),
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "iou": counts.iou,
        "roc_auc": _roc_auc(ascending, positives),
        "prevalence": _ratio(counts.tp + counts.fn, len(y)),
    }
    balanced = {"precision": counts.balanced_precision, "recall": counts.recall, "f1": counts.balanced_f1}
    return (
        *(Score(metric, "natural", value) for metric, value in natural.items()),
        *(Score(metric, "balanced", value) for metric, value in balanced.items()),
    )


def scores_at(
    prevalence: float,
    scores: NDArray[np.floating[Any]],
    predicted: NDArray[np.bool_],
    y: NDArray[np.integer[Any]] | NDArray[np.bool_],
) -> tuple[Score, ...]:
    """The scores that depend on prevalence, as they would be at another one: every negative weighs alike.

    Args:
        prevalence: in (0, 1).
        scores, predicted, y: as for :func:`score_all`.
    """
    counts = confusion(predicted, y)
    rates = counts.recall, counts.fpr, prevalence
    found: dict[str, Any] = {
        "average_precision": average_precision_at(scores, y, prevalence),
        "precision": precision_at(*rates),
        "recall": counts.recall,
        "f1": f1_at(*rates),
        "iou": iou_at(*rates),
        "prevalence": prevalence,
    }
    return tuple(Score(metric, "deployment", float(value)) for metric, value in found.items())
