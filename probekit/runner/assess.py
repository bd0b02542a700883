"""Test scores of a job's points: each fold's fits on the cells of its test groups, pooled, at natural prevalence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from probekit.api import FULL, POSITIVE, VOID, map_in_threads
from probekit.compare.k_at import KAt, k_at
from probekit.evaluate.calibration import (
    Reliability,
    brier_score,
    explained_deviance,
    log_loss_sums,
    prevalence_offset,
    reliability,
)
from probekit.evaluate.groups import ScoreHistograms, group_confusion, group_losses, score_histograms
from probekit.evaluate.pooling import MarginScale
from probekit.evaluate.scores import Score, score_all, scores_at
from probekit.runner.job import JobInput, JobOutput, KeptFit
from probekit.runner.replicates import without_each_group
from probekit.runner.scoring import score_maps

Rung = int | Literal["chosen", "full"]

CHUNK_BYTES = 256 * 2**20
"""Scores held at once: points beyond it are scored in a further pass over the features."""


@dataclass(frozen=True)
class Point:
    """One rung of a path, its fits pooled over the folds.

    Attributes:
        kept: by fold index.
    """

    probe: str
    concept: int
    rung: Rung
    kept: Mapping[int, KeptFit]


@dataclass(frozen=True, eq=False)
class Assessed:
    """A point and what the test says of it.

    Attributes:
        scores: pooled over the folds.
        confusion: (groups, 4) of tp, fp, fn, tn, each group at its fold's threshold.
        losses: (groups, 2), log-loss summed over negatives and over positives, of the margins as trained.
        histograms: of the pooled margins by group, for the points that tables report: the refit curve, ``chosen``,
            ``full``; none for the rungs of other paths.
        deleted: metric -> the score without each group, (groups,).
        reliability: of the points that tables report, what was predicted and what was seen: (before, after)
            calibration on validation; none for others.
    """

    point: Point
    scores: tuple[Score, ...]
    confusion: NDArray[np.int64]
    losses: NDArray[np.float64]
    histograms: ScoreHistograms | None
    deleted: Mapping[str, NDArray[np.float64]]
    reliability: tuple[Reliability, Reliability] | None

    @property
    def average_precision(self) -> float:
        """At natural prevalence."""
        return next(s.value for s in self.scores if (s.metric, s.sampling) == ("average_precision", "natural"))


def points_of(job: JobInput, output: JobOutput) -> list[Point]:
    """All points of a job: every rung that each fold has, then ``chosen``, and ``full`` where there is one."""
    points = []
    for entry in job.probes:
        for concept in range(len(job.dataset.concepts)):
            paths = {fold.index: output.paths[entry.name][fold.index, concept] for fold in job.folds}
            rungs: list[Rung] = [kept.fit.rung for kept in next(iter(paths.values())).kept]
            for rung in [*(r for r in rungs if r != FULL), "chosen", *(r for r in rungs if r == FULL)]:
                kept = {fold: path.at(rung) for fold, path in paths.items()}
                found = {fold: fit for fold, fit in kept.items() if fit is not None}
                if len(found) == len(kept):
                    points.append(Point(entry.name, concept, rung, found))
    return points


@dataclass(frozen=True)
class Pooled:
    """Out-of-fold scores of some points over all reference cells, each (points, cells).

    Attributes:
        margins: float32, standardised by each fold's training negatives (folds are different models); NaN where no
            fold tested the cell.
        raw: float32, as the folds' scorers have them: the log-odds at balanced prevalence.
        called: whether the cell's own fold calls it positive at its own threshold.
    """

    margins: NDArray[np.float32]
    raw: NDArray[np.float32]
    called: NDArray[np.bool_]


def pool(job: JobInput, points: Sequence[Point]) -> Pooled:
    """Scores points on their folds' test groups, in one pass over the features."""
    shape = (len(points), int(job.dataset.offsets[-1]))
    margins, raw = np.full(shape, np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
    called = np.zeros(shape, dtype=bool)
    for fold in job.folds:
        kept = [point.kept[fold.index] for point in points]
        thresholds = np.array([fit.threshold for fit in kept])[:, None]
        scale = MarginScale(np.array([fit.mean for fit in kept]), np.array([fit.deviation for fit in kept]))
        places = fold.cuts("test", job.dataset.cut_groups).tolist()
        for cells, maps in score_maps(
            job.dataset, job.collection, [fit.fit.scorer for fit in kept], places, job.threads
        ):
            raw[:, cells] = maps
            called[:, cells] = maps >= thresholds
            margins[:, cells] = scale.apply(maps)
    return Pooled(margins, raw, called)


def assess(job: JobInput, points: Sequence[Point]) -> Iterator[Assessed]:
    """Scores the points on test, in their order, holding at most ``CHUNK_BYTES`` of scores at once."""
    size = max(1, CHUNK_BYTES // (9 * int(job.dataset.offsets[-1])))
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        pooled = pool(job, chunk)
        yield from map_in_threads(partial(_assess, job, chunk, pooled), range(len(chunk)), job.threads)


def _assess(job: JobInput, points: Sequence[Point], pooled: Pooled, place: int) -> Assessed:
    """One of the points that were pooled together."""
    point = points[place]
    labels = job.cells.labels[point.concept]
    kept = (labels != VOID) & ~np.isnan(pooled.margins[place])
    y = (labels[kept] == POSITIVE).astype(np.int8)
    group, n_groups = job.cells.group[kept], len(job.dataset.groups)
    margins, called = pooled.margins[place, kept], pooled.called[place, kept]
    ascending = np.sort(margins)
    histograms = score_histograms(margins, y, group, n_groups, ascending=ascending)
    confusion = group_confusion(called, y, group, n_groups)
    scores = score_all(margins, called, y, ascending)
    if job.deployment is not None:
        scores += scores_at(job.deployment, margins, called, y)
    seen = None
    if isinstance(point.rung, str):
        more, seen = _probabilities(job, point, pooled.raw[place, kept].astype(np.float64), group, y)
        scores += more
    reported = isinstance(point.rung, str) or "k" in next(iter(point.kept.values())).fit.choices
    return Assessed(
        point,
        scores,
        confusion,
        group_losses(pooled.raw[place, kept], y, group, n_groups),
        histograms if reported else None,
        without_each_group(histograms, confusion),
        seen,
    )


def _probabilities(
    job: JobInput, point: Point, margins: NDArray[np.float64], group: NDArray[np.int32], y: NDArray[np.int8]
) -> tuple[tuple[Score, ...], tuple[Reliability, Reliability]]:
    """What margins are worth as probabilities, before and after calibration on each fold's validation.

    Before: with the intercept moved from balanced training to the prevalence of validation, and nothing else.
    """
    before, after = np.empty_like(margins), np.empty_like(margins)
    for fold in job.folds:
        calibrated = point.kept[fold.index].calibrated
        assert calibrated is not None  # such points are calibrated
        cells = np.isin(group, fold.test)
        before[cells] = margins[cells] + prevalence_offset(calibrated.prevalence)
        after[cells] = calibrated.temperature * margins[cells] + calibrated.offset
    counts = np.bincount(y, minlength=2)
    scores = [
        Score(metric, "natural", float(value))
        for metric, value in (
            ("brier_before", brier_score(expit(before), y)),
            ("brier", brier_score(expit(after), y)),
            ("explained_deviance_before", explained_deviance(log_loss_sums(before, y), counts)),
            ("explained_deviance", explained_deviance(log_loss_sums(after, y), counts)),
        )
    ]
    seen = reliability(expit(before), y, equal="expected"), reliability(expit(after), y, equal="expected")
    return tuple(scores), seen


def curve_k(job: JobInput, assessed: Sequence[Assessed], probe: str, concept: int, share: float) -> KAt | None:
    """k@tau of one refit curve, whatever the controls say; none where the probe has no curve."""
    own = [a for a in assessed if a.point.probe == probe and a.point.concept == concept]
    full = [a.average_precision for a in own if a.point.rung == FULL]
    curve = [(a.point.rung, a.average_precision) for a in own if isinstance(a.point.rung, int)]
    if not full or not curve:
        return None
    curve.append((job.collection.channels, full[0]))
    return k_at(share, [k for k, _ in curve], [score for _, score in curve], full[0])
