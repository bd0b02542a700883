"""Scores without each group: all that intervals and tests need of a point."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from probekit.evaluate.groups import ScoreHistograms, histogram_average_precision, histogram_roc_auc
from probekit.evaluate.intervals import NARROW, Floats, delete_one

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
        "f1": delete_one(_f1, confusion),
    }
    if len(confusion) >= NARROW:  # below, no interval of it is given
        found["roc_auc"] = delete_one(histogram_roc_auc, *counts)
    return found


def precision_without_each(histograms: ScoreHistograms) -> Floats:
    """Average precision without each group, (groups,)."""
    score = partial(histogram_average_precision, tied=histograms.tied)
    return delete_one(score, histograms.positives, histograms.negatives)


def _f1(confusion: NDArray[np.int64]) -> Floats:
    tp, fp, fn = confusion[..., 0], confusion[..., 1], confusion[..., 2]
    with np.errstate(invalid="ignore"):
        return np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)
