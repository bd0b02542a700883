"""What is kept by group for every point: all that intervals and tests between groups need, and no cell.

Scores are kept as histograms. The bins: the top 256 ranks singly, then bins geometric in rank, so that each is narrow
against the number of cells above it, which is what precision there is made of. Where few distinct scores are positive,
an edge at each of them makes average precision exact. Bins that hold one value only (single cells, ties) keep the tied
rule; within the others positives are taken to lie evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SINGLE_RANKS = 256
BINS = 1024


@dataclass(frozen=True, eq=False)
class ScoreHistograms:
    """Scores of one point by group.

    Attributes:
        edges: lower end (inclusive) of each bin, ascending, (bins,), in the scores' own dtype; the last has no end.
        tied: the bin holds one value only, (bins,).
        positives, negatives: cells, (groups, bins) int64.
    """

    edges: NDArray[np.floating[Any]]
    tied: NDArray[np.bool_]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


def score_histograms(
    scores: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]],
    n_groups: int,
    bins: int = BINS,
    ascending: NDArray[np.floating[Any]] | None = None,
) -> ScoreHistograms:
    """Counts the cells of each group and class in bins that all groups share.

    Args:
        scores: pooled over folds, (n,).
        y: 1 where the concept is, else 0, (n,).
        groups: index of each cell's group, (n,).
        n_groups: G; groups without cells get zeros.
        bins: about so many, at least 512; ties may add some.
        ascending: the scores sorted, where they are at hand.
    """
    if bins < 2 * SINGLE_RANKS:
        raise ValueError(f"at least {2 * SINGLE_RANKS} bins are needed, not {bins}")
    ascending = np.sort(scores) if ascending is None else ascending
    if len(scores) == 0 or np.isnan(ascending[-1]):
        raise ValueError("scores are empty or hold NaN")
    edges = _edges(ascending, np.unique(scores[y == 1]), bins)
    first = np.searchsorted(ascending, edges, side="left")
    after_ties = np.searchsorted(ascending, edges, side="right")
    tied = after_ties == np.append(first[1:], len(scores))
    is_positive = y == 1
    positives = _counts(scores[is_positive], groups[is_positive], n_groups, edges)
    return ScoreHistograms(edges, tied, positives, _counts(scores[~is_positive], groups[~is_positive], n_groups, edges))


def _counts(
    scores: NDArray[np.floating[Any]], groups: NDArray[np.integer[Any]], n_groups: int, edges: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Cells by group and bin. A group's scores are sorted and the edges sought in them: several times faster than to
    seek each score among the edges."""
    if len(scores) < n_groups * len(edges) // 4:
        place = np.searchsorted(edges, scores, side="right") - 1
        of = np.bincount(groups.astype(np.int64) * len(edges) + place, minlength=n_groups * len(edges))
        return of.reshape(n_groups, len(edges))
    order = np.argsort(groups.astype(np.uint16 if n_groups < 2**16 else np.int64), kind="stable")
    by_group = scores[order]
    ends = np.cumsum(np.bincount(groups, minlength=n_groups))
    counts = np.zeros((n_groups, len(edges)), dtype=np.int64)
    start = 0
    for row, end in zip(counts, ends, strict=True):
        if end > start:
            below = np.searchsorted(np.sort(by_group[start:end]), edges, side="left")
            row[:-1] = np.diff(below)
            row[-1] = end - start - below[-1]
        start = end
    return counts


def _edges(
    ascending: NDArray[np.floating[Any]], positive: NDArray[np.floating[Any]], bins: int
) -> NDArray[np.floating[Any]]:
    """Lower ends of the bins, all of them scores or, above a tie, the next number."""
    n = len(ascending)
    if 2 * len(positive) < bins:
        cuts, apart = positive, np.ones(len(positive), dtype=bool)
    else:
        ranks = np.geomspace(SINGLE_RANKS, n, bins - SINGLE_RANKS) if n > SINGLE_RANKS else np.empty(0)
        ranks = np.unique(np.concatenate([np.arange(1, min(n, SINGLE_RANKS) + 1), np.rint(ranks).astype(np.int64)]))
        cuts = np.unique(ascending[n - ranks.astype(np.int64)])
        # The ties at a cut get a bin of their own: spread over the bin above they would break the tied rule.
        apart = np.searchsorted(ascending, cuts, side="right") - np.searchsorted(ascending, cuts, side="left") > 1
    above = np.nextafter(cuts[apart], np.array(np.inf, dtype=cuts.dtype))
    return np.unique(np.concatenate([ascending[:1], cuts, above]))


def histogram_average_precision(
    positives: NDArray[np.number[Any]], negatives: NDArray[np.number[Any]], tied: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Average precision from histograms, for many resamples of groups at once.

    In a bin of one value all cells share a threshold; in the others the positives are taken to lie evenly among the
    bin's ranks. Off by less than 4e-5.

    Args:
        positives, negatives: cells (or weights) by bin, bins ascending, (..., bins).
        tied: which bins hold one value only, (bins,).

    Returns:
        (...,); NaN without positives.
    """
    p = np.asarray(positives, dtype=np.float64)[..., ::-1]
    cells = p + np.asarray(negatives, dtype=np.float64)[..., ::-1]
    found, called = np.cumsum(p, axis=-1) - p, np.cumsum(cells, axis=-1) - cells
    even = ~tied[::-1]
    # A positive in the middle of the bin's p, at the middle of its ranks.
    up_to_p = np.where(even, (p + 1) / 2, p)
    up_to_cells = np.where(even, (cells + 1) / 2, cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.where(p > 0, p * (found + up_to_p) / (called + up_to_cells), 0.0)
        score: NDArray[np.float64] = parts.sum(axis=-1) / p.sum(axis=-1)
    return score


def histogram_roc_auc(positives: NDArray[np.number[Any]], negatives: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """ROC AUC from histograms, for many resamples of groups at once; cells of one bin count as tied.

    Args:
        positives, negatives: cells by bin, bins ascending, (..., bins).

    Returns:
        (...,); NaN where a class is absent.
    """
    p, n = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    below = np.cumsum(n, axis=-1) - n / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: NDArray[np.float64] = (p * below).sum(axis=-1) / (p.sum(axis=-1) * n.sum(axis=-1))
    return area


def group_confusion(
    predicted: NDArray[np.bool_], y: NDArray[np.integer[Any]], groups: NDArray[np.integer[Any]], n_groups: int
) -> NDArray[np.int64]:
    """Counts at each cell's own fold's threshold, by group: (groups, 4) of tp, fp, fn, tn.

    Args:
        predicted: what is called positive, (n,).
        y: 1 where the concept is, else 0, (n,).
        groups: index of each cell's group, (n,).
        n_groups: G.
    """
    place = np.where(predicted, np.where(y == 1, 0, 1), np.where(y == 1, 2, 3))
    code = groups.astype(np.int64) * 4 + place
    return np.bincount(code, minlength=n_groups * 4).reshape(n_groups, 4).astype(np.int64)


def group_losses(
    margins: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]],
    n_groups: int,
) -> NDArray[np.float64]:
    """Sums of the log-loss ``log(1 + exp(-margin))`` (of positives; of negatives with the margin's sign turned), by
    group and class: (groups, 2) of negatives, positives.

    Args:
        margins: as the fold's scorer gives them, not standardised for pooling, (n,).
        y, groups, n_groups: as for :func:`group_confusion`.
    """
    is_positive = y == 1
    loss = np.logaddexp(0.0, np.where(is_positive, -margins, margins).astype(np.float64))
    code = groups.astype(np.int64) * 2 + is_positive
    sums: NDArray[np.float64] = np.bincount(code, weights=loss, minlength=n_groups * 2).astype(np.float64)
    return sums.reshape(n_groups, 2)
