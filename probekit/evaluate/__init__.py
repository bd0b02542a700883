"""Scores, choices, scorers at work, and what is kept by group: pure functions of arrays."""

from probekit.evaluate.choose import best_fit, best_of_rungs, smallest_reaching
from probekit.evaluate.groups import (
    ScoreHistograms,
    group_confusion,
    group_losses,
    histogram_average_precision,
    score_histograms,
)
from probekit.evaluate.pooling import MarginScale, margin_scale
from probekit.evaluate.scorer import evaluate_scorers, load_scorer, save_scorer
from probekit.evaluate.scores import (
    Confusion,
    Score,
    average_precision,
    best_f1_threshold,
    confusion,
    roc_auc,
    score_all,
)

__all__ = [
    "Confusion", "MarginScale", "Score", "ScoreHistograms",
    "average_precision", "best_f1_threshold", "best_fit", "best_of_rungs", "confusion", "evaluate_scorers",
    "group_confusion", "group_losses", "histogram_average_precision", "load_scorer", "margin_scale", "roc_auc",
    "save_scorer", "score_all", "score_histograms", "smallest_reaching",
]  # fmt: skip
