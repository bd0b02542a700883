"""The full probe on each outer group (a road of stretches), fitted on all others: what new ones would be like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from probekit.api import POSITIVE, VOID, ProbekitError
from probekit.evaluate.scores import average_precision
from probekit.runner.analyses.nulls import full_points
from probekit.runner.assess import pool
from probekit.runner.job import OpenJob, ProbeEntry, open_job
from probekit.sampling.splits import OuterFolds


@dataclass(frozen=True)
class LeftOut:
    """The full probe on one outer group.

    Attributes:
        value: average precision; none where it could not be fitted.
        cells, positives, groups: that it was scored on.
        reason: why it could not be fitted.
    """

    probe: str
    concept: int
    outer: str
    value: float | None
    cells: int
    positives: int
    groups: int
    reason: str | None = None


def leave_out(opened: OpenJob, entry: ProbeEntry, folds: OuterFolds) -> Iterator[LeftOut]:
    """Every outer group that can be scored, for every concept.

    Args:
        entry: a family that has a rung ``full``.
    """
    job = opened.job
    places = [
        (fold, int(concept))
        for fold, scored in zip(folds.folds, folds.scored, strict=True)
        for concept in np.flatnonzero(scored)
    ]
    names = {fold.index: name for fold, name in zip(folds.folds, folds.names, strict=True)}
    try:
        others = open_job(replace(job, folds=folds.folds), places)
    except ProbekitError as error:
        for fold, concept in places:
            yield LeftOut(entry.name, concept, names[fold.index], None, 0, 0, 0, str(error))
        return
    for concept in range(len(job.dataset.concepts)):
        own = tuple(fold for fold, of in places if of == concept)
        if not own:
            continue
        view = replace(others, job=replace(others.job, folds=own))
        margins = pool(view.job, full_points(view, entry, concept)).margins[0]
        labels = job.cells.labels[concept]
        for fold in own:
            kept = (labels != VOID) & np.isin(job.cells.group, fold.test)
            y = labels[kept] == POSITIVE
            groups = len(np.unique(job.cells.group[kept]))
            value = average_precision(margins[kept], y)
            yield LeftOut(entry.name, concept, names[fold.index], value, int(kept.sum()), int(y.sum()), groups)
