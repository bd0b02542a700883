"""The null conditions of a job: what random channels, other images' labels and colour clusters score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probekit.api import FULL, POSITIVE, VOID, Fit, Path, ProbekitError, Scorer, map_in_threads
from probekit.evaluate.intervals import Replicates
from probekit.runner.assess import CHUNK_BYTES, Point, Rung, pool
from probekit.runner.dataset import Dataset
from probekit.runner.job import FoldPath, JobOutput, OpenJob, ProbeEntry, Progress, open_job, validate
from probekit.runner.replicates import precision_replicates
from probekit.runner.scoring import ReferenceCells
from probekit.sampling.seeds import derive_seed, generator

RANDOM_CHANNELS = "random-channels"


@dataclass(frozen=True)
class NullDraw:
    """One draw of a null condition, scored out of fold as its observed point is.

    Attributes:
        rung: k, or ``full``.
        score: average precision.
    """

    condition: str
    probe: str
    concept: int
    rung: Rung
    draw: int
    score: Replicates


@dataclass(frozen=True)
class NotTested:
    """A null condition that a job could not be fitted under, and why."""

    condition: str
    probe: str
    reason: str


def full_entry(opened: OpenJob, output: JobOutput) -> ProbeEntry | None:
    """The job's first probe that has a rung ``full``."""
    for entry in opened.job.probes:
        if next(iter(output.paths[entry.name].values())).at(FULL) is not None:
            return entry
    return None


def draw_nulls(
    opened: OpenJob,
    entry: ProbeEntry,
    conditions: Mapping[str, tuple[Dataset, ReferenceCells]],
    draws: Sequence[int],
    advance: Progress,
) -> Iterator[NullDraw | NotTested]:
    """Every null of a job.

    Args:
        entry: a family that has a rung ``full``.
        conditions: name -> the images with a null's labels, and the cells that are scored.
        draws: the numbers, among those of all repeats, of the draws of random channels.
        advance: told what is being done.
    """
    if draws:
        advance(0, RANDOM_CHANNELS)
        yield from random_channels(opened, entry, draws)
    for condition, (dataset, cells) in conditions.items():
        advance(0, condition)
        try:
            other = open_job(replace(opened.job, dataset=dataset, cells=cells))
        except ProbekitError as error:
            yield NotTested(condition, entry.name, str(error))
            continue
        yield from full_probe(other, entry, condition)


def random_channels(opened: OpenJob, entry: ProbeEntry, draws: Sequence[int]) -> Iterator[NullDraw]:
    """Refits on channels drawn at random, at the widths that the spec lists: nested in each draw, the same channels in
    every fold.

    Args:
        entry: a family that refits the channels of an upstream ranking.
        draws: their numbers among all repeats.
    """
    job, p = opened.job, opened.job.collection.channels
    widths = tuple(k for k in entry.probe.plan(p).listed if k < p)
    if not widths:
        return
    orders = [
        generator(job.seed, RANDOM_CHANNELS, job.backbone, job.layer, job.repeat, draw).permutation(p) for draw in draws
    ]
    for concept in range(len(job.dataset.concepts)):
        fitted = _fit(opened, entry, concept, [ranked(order) for order in orders], widths)
        points = [
            Point(entry.name, concept, k, {fold: path for fold, kept in of.items() if (path := kept.at(k)) is not None})
            for of in fitted
            for k in widths
        ]
        scores = _scored(opened, points)
        for place, (point, score) in enumerate(zip(points, scores, strict=True)):
            draw = draws[place // len(widths)]
            yield NullDraw(RANDOM_CHANNELS, entry.name, concept, point.rung, draw, score)


def full_probe(opened: OpenJob, entry: ProbeEntry, condition: str) -> Iterator[NullDraw]:
    """The all-channel probe on a job whose labels are a null's.

    Args:
        entry: a family that has a rung ``full``.
    """
    for concept in range(len(opened.job.dataset.concepts)):
        (score,) = _scored(opened, full_points(opened, entry, concept))
        yield NullDraw(condition, entry.name, concept, FULL, opened.job.repeat, score)


def full_points(opened: OpenJob, entry: ProbeEntry, concept: int) -> list[Point]:
    """The all-channel probe of one concept, fitted in the job's folds and chosen on their validation: one point."""
    (of,) = _fit(opened, entry, concept, [ranked(np.arange(opened.job.collection.channels))], (FULL,))
    kept = {fold: path for fold, found in of.items() if (path := found.at(FULL)) is not None}
    return [Point(entry.name, concept, FULL, kept)]


def ranked(order: NDArray[np.int64]) -> Path:
    """An upstream path that ranks the channels in this order, and says nothing else."""
    tiny = np.linspace(2e-9, 1e-9, len(order))  # where a refit starts: at zero, as good as
    arrays = {"weight": np.zeros(len(order)), "bias": np.zeros(())}
    return Path((Fit(0, order, tiny, Scorer("linear", order, arrays)),), chosen=0)


def _fit(
    opened: OpenJob, entry: ProbeEntry, concept: int, rankings: Sequence[Path], rungs: Sequence[int | Literal["full"]]
) -> list[dict[int, FoldPath]]:
    """Every ranking in every fold, fitted side by side: for each ranking fold -> path."""
    job = opened.job
    given = [
        replace(
            opened.problems[fold.index, concept],
            seed=derive_seed(job.seed, job.backbone, job.layer, job.repeat, "null", concept, fold.index, i),
            rungs=tuple(rungs),
        )
        for fold in job.folds
        for i in range(len(rankings))
    ]
    upstream = [ranking for _ in job.folds for ranking in rankings]
    paths = entry.probe.fit(opened.training.rows, given, upstream)
    found: list[dict[int, FoldPath]] = [{} for _ in rankings]
    for place, fold in enumerate(job.folds):
        own = paths[place * len(rankings) : (place + 1) * len(rankings)]
        problem = opened.problems[fold.index, concept]
        for of, path in zip(found, validate(job, opened.training, problem, (fold, concept), own), strict=True):
            of[fold.index] = path
    return found


def _scored(opened: OpenJob, points: Sequence[Point]) -> list[Replicates]:
    """Average precision of points of one concept, with and without each group."""
    job = opened.job
    labels = job.cells.labels[points[0].concept]
    size = max(1, CHUNK_BYTES // (9 * len(labels)))
    scores = []
    for start in range(0, len(points), size):
        margins = pool(job, points[start : start + size]).margins
        kept = (labels != VOID) & ~np.isnan(margins[0])
        y, group = (labels[kept] == POSITIVE).astype(np.int8), job.cells.group[kept]
        score = partial(precision_replicates, y=y, group=group, n_groups=len(job.dataset.groups))
        scores += map_in_threads(score, margins[:, kept], job.threads)
    return scores
