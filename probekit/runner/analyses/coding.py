"""The description length of a job's labels under each of its probes.

See :mod:`probekit.evaluate.description_length`. What is counted is the labels' code. That of the settings is not: all
fits are made at the medians of what the folds chose (lambda, k, ridge, epochs), and the folds' validation has, between
them, seen all groups. They are a handful of numbers, and the same for all portions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probekit.api import POSITIVE, Fit, Path, Problem, Scorer
from probekit.evaluate.description_length import CodeLength, online_code
from probekit.evaluate.scorer import evaluate_scorers
from probekit.runner.rows import TrainingRows
from probekit.sampling.portions import cut_portions, portion_order
from probekit.sampling.rows import fold_weights, training_moments
from probekit.sampling.seeds import derive_seed
from probekit.sampling.splits import Fold

if TYPE_CHECKING:
    from probekit.runner.job import FoldPath, JobInput, ProbeEntry

_LABEL = "chosen"

Place = tuple[int, int]
"""A concept, and how many of its portions have been sent."""

Apart = Callable[[Sequence[Fold]], Sequence[Fold]]
"""Leaves out of folds what lies too near to their test."""


def code_lengths(
    job: JobInput,
    training: TrainingRows,
    paths: Mapping[str, Mapping[tuple[int, int], FoldPath]],
    finals: Mapping[str, Mapping[int, Mapping[str, tuple[Fit, float]]]],
    apart: Apart = tuple,
) -> dict[tuple[str, int], CodeLength]:
    """The online code of the rows that were drawn for each concept, by every probe as the folds chose it.

    Every probe is fitted once on all groups before each portion, as the final fit is on all groups: half of them, a
    quarter ... at most four fits in one call a concept, on fewer rows together than that fit has. Portions are the same
    for all backbones and layers of a run, except that the first one grows where a grid's rows lack a class; each repeat
    has its own.

    Args:
        training: of the job.
        paths: probe -> (fold, concept) -> the path after validation.
        finals: probe -> concept -> label -> the final fit (and its threshold, which is not used).
        apart: of a split by blocks, what puts its buffer between training and test. A portion before which it leaves
            no row of some class costs one bit a label.

    Returns:
        (probe, concept) -> the code. Concepts of which no portion was coded by a probe are left out: the first took all
        groups.
    """
    portions = [_portions(job, training, concept) for concept in range(len(job.dataset.concepts))]
    problems = _problems(training, portions, apart)
    found: dict[tuple[str, int], CodeLength] = {}
    fitted: dict[str, dict[Place, Path]] = {}
    for entry in job.probes:
        above = None if entry.upstream is None else fitted[entry.upstream]
        fitted[entry.name] = _fit(job, entry, training, problems, paths[entry.name], above)
        for concept in sorted({concept for concept, _ in problems}):
            scorers = {sent: _scorer(path) for (of, sent), path in fitted[entry.name].items() if of == concept}
            final = finals[entry.name][concept][_LABEL][0].scorer
            found[entry.name, concept] = _code(training, concept, portions[concept], scorers, final)
    return found


def _portions(job: JobInput, training: TrainingRows, concept: int) -> NDArray[np.int64]:
    """Each group's portion. Who holds a positive is asked of the reference grid, which all models share."""
    groups = job.dataset.groups
    holds = np.zeros(len(groups), dtype=bool)
    holds[job.cells.group[job.cells.labels[concept] == POSITIVE]] = True
    order = portion_order(groups, holds, job.seed, job.repeat, job.dataset.concepts[concept])
    drawn = training.drawn[concept]
    classes = np.zeros((len(groups), 2), dtype=bool)
    classes[training.group[drawn], training.y[concept, drawn]] = True
    return cut_portions(order, classes)


def _problems(training: TrainingRows, portions: Sequence[NDArray[np.int64]], apart: Apart) -> dict[Place, Problem]:
    """A problem for all that is before each portion, where it has both classes; the columns' moments from one pass over
    the rows."""
    places = [(concept, sent) for concept, of in enumerate(portions) for sent in range(1, int(of.max()) + 1)]
    folds = apart([_fold(sent, portions[concept]) for concept, sent in places])
    members = {
        (concept, sent): training.training(concept, fold.train, fold.left_out)
        for (concept, sent), fold in zip(places, folds, strict=True)
    }
    members = {place: of for place, of in members.items() if len(np.unique(training.y[place[0], of])) == 2}
    if not members:
        return {}
    means, scales = training_moments(training.rows.chunks(), np.stack([*members.values()]), training.rows.shape[1])
    return {
        place: Problem(training.y[place[0]], fold_weights(training.y[place[0]], of), mean, scale, seed=0)
        for (place, of), mean, scale in zip(members.items(), means, scales, strict=True)
    }


def _fold(sent: int, portion: NDArray[np.int64]) -> Fold:
    """What was sent is for training, what comes next is the test."""
    nothing = np.zeros(0, dtype=np.int64)
    return Fold(sent, np.flatnonzero(portion < sent), nothing, np.flatnonzero(portion == sent))


def _fit(
    job: JobInput,
    entry: ProbeEntry,
    training: TrainingRows,
    problems: Mapping[Place, Problem],
    paths: Mapping[tuple[int, int], FoldPath],
    upstream: Mapping[Place, Path] | None,
) -> dict[Place, Path]:
    """One probe on all that is before each portion: those of a concept are one batch."""
    fitted: dict[Place, Path] = {}
    for concept in sorted({concept for concept, _ in problems}):
        chosen = [_chosen(paths[fold.index, concept]) for fold in job.folds]
        name = job.dataset.concepts[concept]
        places = [place for place in problems if place[0] == concept]
        given = [
            replace(problems[place], seed=_seed(job, name, entry.name, place[1]), finals={_LABEL: chosen})
            for place in places
        ]
        above = None if upstream is None else [upstream[place] for place in places]
        fitted |= zip(places, entry.probe.fit(training.rows, given, above), strict=True)
    return fitted


def _seed(job: JobInput, concept: str, probe: str, sent: int) -> int:
    return derive_seed(job.seed, job.backbone, job.layer, job.repeat, concept, probe, "portion", sent)


def _chosen(path: FoldPath) -> Fit:
    return path.kept[path.chosen].fit


def _scorer(path: Path) -> Scorer:
    return next(fit.scorer for fit in path.fits if fit.details.get("label") == _LABEL)


def _code(
    training: TrainingRows,
    concept: int,
    portion: NDArray[np.int64],
    scorers: Mapping[int, Scorer],
    final: Scorer,
) -> CodeLength:
    """The code of one concept, each portion by its scorer; what has none costs one bit a label, as a margin of zero
    says."""
    rows = training.rows.numpy()
    drawn = np.flatnonzero(training.drawn[concept])
    of_row = portion[training.group[drawn]]
    margins = np.zeros((2, len(drawn)), dtype=np.float32)
    for sent in range(int(portion.max()) + 1):
        used = [scorers[sent], final] if sent in scorers else [final]
        here = np.flatnonzero(of_row == sent)
        for start in range(0, len(here), 16384):
            part = here[start : start + 16384]
            margins[-len(used) :, part] = evaluate_scorers(used, rows[drawn[part]])
    weights = fold_weights(training.y[concept], training.drawn[concept])[drawn]
    return online_code(margins[0], training.y[concept, drawn], weights, of_row, training.group[drawn], margins[1])
