"""Scores without each group: all that intervals and tests need of a point."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.evaluate.groups import ScoreHistograms, histogram_roc_auc, score_histograms
from probekit.evaluate.intervals import NARROW, Floats, Replicates, delete_one
from probekit.evaluate.scores import average_precision, f1_of_counts

METRICS = ("average_precision", "f1", "roc_auc")
"""The scores that get intervals."""


def without_each_group(histograms: ScoreHistograms, confusion: NDArray[np.int64]) -> dict[str, Floats]:
    """Every metric of ``METRICS`` without each group, (groups,) each.

    Args:
        histograms: of a point's pooled margins by group.
        confusion: (groups, 4) of tp, fp, fn, tn.
    """
    counts = histograms.positives, histograms.negatives
    found = {
        "average_precision": precision_without_each(histograms),
        "f1": delete_one(f1_of_counts, confusion),
    }
    if len(confusion) >= NARROW:  # below, no interval of it is given
        found["roc_auc"] = delete_one(histogram_roc_auc, *counts)
    return found


def precision_replicates(
    margins: NDArray[np.float32], y: NDArray[np.int8], group: NDArray[np.integer[Any]], n_groups: int
) -> Replicates:
    """Average precision of all groups, and without each.

    Args:
        margins: pooled over folds, (n,).
        y: 1 where the concept is, else 0, (n,).
        group: index of each cell's group, (n,).
        n_groups: G.
    """
    histograms = score_histograms(margins, y, group, n_groups)
    return Replicates(average_precision(margins, y), precision_without_each(histograms))


def precision_without_each(histograms: ScoreHistograms) -> Floats:
    """Average precision without each group, (groups,): ``histogram_average_precision`` of all but it.

    Positives of a bin, and positives and cells down to it, are sums over groups: they are summed over bins first, and a
    group is taken off after, in the bins alone that hold a positive.
    """
    p = histograms.positives[:, ::-1].astype(np.float64)
    kept = np.flatnonzero((p > 0).any(axis=0))
    inner = np.where(histograms.tied[::-1], 0.0, 0.5)[kept]  # within a bin positives lie evenly, but for ties
    found = np.cumsum(p, axis=1)[:, kept]
    called = np.cumsum(histograms.positives[:, ::-1] + histograms.negatives[:, ::-1], axis=1)[:, kept].astype(
        np.float64
    )
    found -= inner * p[:, kept]
    called -= inner * (p + histograms.negatives[:, ::-1])[:, kept]
    return delete_one(partial(_precision, inner=inner), p[:, kept], found, called)


def _precision(positives: Floats, found: Floats, called: Floats, inner: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        parts = positives * (found + inner) / np.maximum(called + inner, 0.5)
        return np.asarray(parts.sum(axis=-1) / positives.sum(axis=-1))
