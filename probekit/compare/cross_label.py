"""Probes of one concept trained on several label sources, each scored on the labels of all: how much of a score is
agreement with the one who drew the labels.

Out-of-fold margins serve: all sources of a run share its folds, so that a probe trained on one source's labels has not
seen the cells of its test groups under another's either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import POSITIVE, VOID
from probekit.evaluate.groups import histogram_average_precision, score_histograms
from probekit.evaluate.intervals import Interval, Replicates, delete_one, jackknife_interval
from probekit.evaluate.scores import average_precision


@dataclass(frozen=True)
class CrossScore:
    """One entry of the table: rows are what a probe was trained on, columns what it is scored on.

    Attributes:
        trained_on, scored_on: label sources.
        average_precision: with its interval; the mean over repeats.
        cells, positives: that it is from, on the scored source's labels: those that every source labelled.
        groups, positive_groups: that hold them.
    """

    trained_on: str
    scored_on: str
    average_precision: Interval
    cells: int
    positives: int
    groups: int
    positive_groups: int


@dataclass(frozen=True)
class Agreement:
    """How far two label sources agree on the cells that both labelled.

    Attributes:
        cells: that both labelled; ``both``, ``only_one``, ``only_other`` of them are positive there.
        iou: of the positive cells; NaN where there are none.
        kappa: Cohen's (1960): agreement above that of independent labels as often positive; NaN where both
            are all of one class: there is nothing to agree on above chance.
    """

    one: str
    other: str
    cells: int
    both: int
    only_one: int
    only_other: int
    iou: float
    kappa: float


def cross_scores(
    margins: Mapping[str, NDArray[np.floating[Any]]],
    labels: Mapping[str, NDArray[np.integer[Any]]],
    group: NDArray[np.integer[Any]],
    *,
    level: float = 0.95,
) -> tuple[CrossScore, ...]:
    """Average precision of each probe on every source's labels, all on the same cells: those labelled by every source.

    Over repeats the average precisions are averaged, inside each delete-one-group replicate too.

    Args:
        margins: of the probe trained on each source: pooled out of fold on the reference cells, (repeats, cells); NaN
            where a repeat tested no cell.
        labels: of every source, (cells,), of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
        group: of each cell, (cells,).
        level: nominal coverage of the intervals.

    Returns:
        one score for each (trained on, scored on), in the order of ``margins`` and ``labels``.
    """
    common = np.all([of != VOID for of in labels.values()], axis=0)
    repeats = {len(of) for of in margins.values()}
    if len(repeats) != 1 or any(of.shape[1:] != group.shape for of in (*margins.values(), group[None])):
        raise ValueError("every source's margins have one shape, (repeats, cells)")
    tested = np.all([~np.isnan(of) for of in margins.values()], axis=0) & common
    scored = tested.any(axis=0)
    groups, member = np.unique(group[scored], return_inverse=True)
    place = np.zeros(len(group), dtype=np.int64)
    place[scored] = member
    found = []
    for trained_on, of in margins.items():
        for scored_on, truth in labels.items():
            positive = truth == POSITIVE
            by_group = np.bincount(place[scored & positive], minlength=len(groups))
            score = Replicates.mean(
                [
                    _score(row[kept], positive[kept], place[kept], len(groups))
                    for row, kept in zip(of, tested, strict=True)
                ]
            )
            found.append(
                CrossScore(
                    trained_on,
                    scored_on,
                    jackknife_interval(score.value, score.deleted, by_group, level=level),
                    int(scored.sum()),
                    int(by_group.sum()),
                    len(groups),
                    int((by_group > 0).sum()),
                )
            )
    return tuple(found)


def _score(
    margins: NDArray[np.floating[Any]], positive: NDArray[np.bool_], group: NDArray[np.int64], n_groups: int
) -> Replicates:
    if not positive.any():
        return Replicates(float("nan"), np.full(n_groups, np.nan))
    of = score_histograms(margins, positive.astype(np.int8), group, n_groups)
    deleted = delete_one(partial(histogram_average_precision, tied=of.tied), of.positives, of.negatives)
    return Replicates(average_precision(margins, positive), deleted)


def agreements(labels: Mapping[str, NDArray[np.integer[Any]]]) -> tuple[Agreement, ...]:
    """How far each two sources agree on a concept.

    Args:
        labels: of every source, (cells,), of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
    """
    return tuple(_agreement(one, other, labels[one], labels[other]) for one, other in combinations(labels, 2))


def _agreement(one: str, other: str, of_one: NDArray[np.integer[Any]], of_other: NDArray[np.integer[Any]]) -> Agreement:
    labelled = (of_one != VOID) & (of_other != VOID)
    first, second = of_one[labelled] == POSITIVE, of_other[labelled] == POSITIVE
    cells, both = int(labelled.sum()), int((first & second).sum())
    n_first, n_second = int(first.sum()), int(second.sum())
    union = n_first + n_second - both
    # In whole numbers of pairs of cells, so that full agreement is exactly 1.
    same = (cells - union + both) * cells
    by_chance = n_first * n_second + (cells - n_first) * (cells - n_second)
    return Agreement(
        one,
        other,
        cells,
        both,
        n_first - both,
        n_second - both,
        both / union if union else float("nan"),
        (same - by_chance) / (cells**2 - by_chance) if cells**2 > by_chance else float("nan"),
    )
