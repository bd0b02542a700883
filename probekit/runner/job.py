"""One job: all units of a (backbone, layer, repeat), which share their rows and their passes over the features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probekit.api import (
    FULL,
    NEGATIVE,
    POSITIVE,
    VOID,
    Fit,
    Issue,
    Path,
    Probe,
    ProbekitError,
    Problem,
    Scorer,
    listening,
    map_in_threads,
)
from probekit.evaluate.calibration import calibrate
from probekit.evaluate.choose import best_fit, best_of_rungs, smallest_reaching
from probekit.evaluate.pooling import MarginScale, margin_scale
from probekit.evaluate.scorer import evaluate_scorers
from probekit.evaluate.scores import precision_and_threshold
from probekit.features.store import Collection
from probekit.runner.dataset import Dataset
from probekit.runner.rows import TrainingRows, draw_training_rows, native_labels, validation_rows
from probekit.runner.scoring import ReferenceCells, score_maps
from probekit.sampling.rows import training_moments
from probekit.sampling.seeds import derive_seed
from probekit.sampling.splits import Fold

SHARES = (0.90, 0.95, 0.99)
"""The shares of the full probe's score for which the fewest channels are looked for."""

FINAL = -1
"""The number of the final fit's fold."""

Progress = Callable[[int, str], None]


class SelectionOnTestError(Exception):
    """Test cells were about to decide something."""


@dataclass(frozen=True)
class Calibrated:
    """Log-odds from margins, by validation: ``temperature * margin + offset``; ``prevalence`` is that of validation."""

    temperature: float
    offset: float
    prevalence: float


@dataclass(frozen=True)
class KeptFit:
    """A fit that validation kept for its rung.

    Attributes:
        average_precision: on its fold's validation.
        threshold: the margin with the best F1 on validation; a cell at or above it is called positive.
        mean, deviation: of the margins of the fold's training negatives.
        calibrated: of the fits that tables report, how validation turns margins into log-odds; none for others.
    """

    fit: Fit
    average_precision: float
    threshold: float
    mean: float
    deviation: float
    calibrated: Calibrated | None = None


@dataclass(frozen=True)
class FoldPath:
    """One problem's path after validation: one fit a rung, sparsest first, and which of them was chosen."""

    kept: tuple[KeptFit, ...]
    chosen: int

    def at(self, rung: int | str) -> KeptFit | None:
        """The fit of a rung; ``chosen`` is one of them."""
        if rung == "chosen":
            return self.kept[self.chosen]
        return next((kept for kept in self.kept if kept.fit.rung == rung), None)


@dataclass(frozen=True)
class ProbeEntry:
    """One entry under ``probes``: its name, the family, and the entry whose paths it wants."""

    name: str
    probe: Probe
    upstream: str | None


@dataclass(frozen=True)
class JobInput:
    """What a job works on.

    Attributes:
        name: backbone, layer.
        folds: of this repeat.
        probes: upstream entries before those that want their paths.
        deployment: the prevalence where scorers will be used, if the user gives one.
        threads: that score.
    """

    backbone: str
    layer: str
    repeat: int
    seed: int
    per_class: int
    dataset: Dataset
    cells: ReferenceCells
    collection: Collection
    folds: Sequence[Fold]
    probes: Sequence[ProbeEntry]
    deployment: float | None = None
    threads: int = 1


@dataclass(frozen=True)
class OpenJob:
    """A job whose rows are drawn and whose problems are set.

    Attributes:
        labels: on the layer's own grid, (concept, cut).
        training: the drawn rows.
        problems: (fold, concept) -> problem; all groups under ``FINAL``.
    """

    job: JobInput
    labels: Sequence[Sequence[NDArray[np.int8]]]
    training: TrainingRows
    problems: Mapping[tuple[int, int], Problem]


@dataclass(frozen=True)
class JobOutput:
    """What a job found.

    Attributes:
        paths: probe -> (fold, concept) -> the path after validation.
        finals: probe -> concept -> label -> the final fit and its threshold as a margin on raw features.
        rows: how many rows each (fold, concept) was trained on; the final fit's under ``FINAL``.
    """

    paths: Mapping[str, Mapping[tuple[int, int], FoldPath]]
    finals: Mapping[str, Mapping[int, Mapping[str, tuple[Fit, float]]]]
    rows: Mapping[tuple[int, int], int]


def open_job(job: JobInput, places: Sequence[tuple[Fold, int]] | None = None) -> OpenJob:
    """Draws a job's rows, reads them, and sets its problems.

    Args:
        places: (fold, concept) of the problems, beside those of all groups; every fold and concept unless given.

    Raises:
        ProbekitError: a fold lacks a class on this layer's grid.
    """
    labels = native_labels(job.dataset, job.collection)
    key = (job.backbone, job.layer, job.repeat)
    training = draw_training_rows(job.dataset, job.collection, labels, job.per_class, job.seed, key)
    concepts = range(len(job.dataset.concepts))
    places = [(fold, concept) for fold in job.folds for concept in concepts] if places is None else places
    _require_classes(job, training, labels, places)
    none = np.zeros(0, dtype=np.int64)
    everyone = Fold(FINAL, np.arange(len(job.dataset.groups)), none, none)
    wanted = [*places, *((everyone, concept) for concept in concepts)]
    problems = {
        (fold.index, concept): problem
        for (fold, concept), problem in zip(wanted, _problems(job, training, wanted), strict=True)
    }
    return OpenJob(job, labels, training, problems)


def fit_job(opened: OpenJob, advance: Progress) -> JobOutput:
    """Fits every probe in every fold, chooses by validation, then fits on all groups at what was chosen.

    Args:
        advance: told how many units were finished, and which.
    """
    job, labels, training, problems = opened.job, opened.labels, opened.training, opened.problems
    concepts = range(len(job.dataset.concepts))
    paths: dict[str, dict[tuple[int, int], FoldPath]] = {}
    finals: dict[str, dict[int, dict[str, tuple[Fit, float]]]] = {}
    final_paths: dict[str, Sequence[Path]] = {}
    for entry in job.probes:
        paths[entry.name] = {}
        for concept in concepts:
            upstream = paths[entry.upstream] if entry.upstream is not None else None
            what = f"{job.dataset.concepts[concept]} · {entry.name}"
            with listening(partial(_advance, advance, what)):
                paths[entry.name] |= _fit_folds(job, entry, training, problems, labels[concept], concept, upstream)
            advance(len(job.folds), what)
        final_upstream = final_paths[entry.upstream] if entry.upstream is not None else None
        final_paths[entry.name] = _fit_finals(job, entry, training, problems, paths[entry.name], final_upstream)
        finals[entry.name] = {
            concept: _with_thresholds(job, training, problems[FINAL, concept], path, paths[entry.name], concept)
            for concept, path in enumerate(final_paths[entry.name])
        }
    return JobOutput(paths, finals, {place: int((p.weights > 0).sum()) for place, p in problems.items()})


def _advance(advance: Progress, what: str, text: str) -> None:
    advance(0, f"{what} · {text}")


def _fit_folds(
    job: JobInput,
    entry: ProbeEntry,
    training: TrainingRows,
    problems: Mapping[tuple[int, int], Problem],
    labels: Sequence[NDArray[np.int8]],
    concept: int,
    upstream: Mapping[tuple[int, int], FoldPath] | None,
) -> dict[tuple[int, int], FoldPath]:
    """One probe in every fold, for one concept: fitted side by side, then chosen each on its own validation."""
    given = [
        replace(
            problems[fold.index, concept],
            seed=_seed(job, job.dataset.concepts[concept], entry.name, fold.index),
            validation=validation_rows(job.dataset, job.collection, labels, fold),
        )
        for fold in job.folds
    ]
    before = None if upstream is None else [_upstream(upstream[fold.index, concept]) for fold in job.folds]
    fitted = entry.probe.fit(training.rows, given, before)
    return {
        (fold.index, concept): validate(job, training, problem, (fold, concept), [path])[0]
        for fold, problem, path in zip(job.folds, given, fitted, strict=True)
    }


def _fit_finals(
    job: JobInput,
    entry: ProbeEntry,
    training: TrainingRows,
    problems: Mapping[tuple[int, int], Problem],
    paths: Mapping[tuple[int, int], FoldPath],
    upstream: Sequence[Path] | None,
) -> Sequence[Path]:
    """One probe on all groups, at the medians of what the folds chose, for every concept."""
    given = [
        replace(
            problems[FINAL, concept],
            seed=_seed(job, entry.name, "final"),
            finals={label: [k.fit for k in kept] for label, kept in fits_by_label(job, paths, concept).items()},
        )
        for concept in range(len(job.dataset.concepts))
    ]
    return entry.probe.fit(training.rows, given, upstream)


def _with_thresholds(
    job: JobInput,
    training: TrainingRows,
    problem: Problem,
    path: Path,
    paths: Mapping[tuple[int, int], FoldPath],
    concept: int,
) -> dict[str, tuple[Fit, float]]:
    """The final fits of one concept by label, each with its threshold as a margin on raw features."""
    found = {}
    for label, kept in fits_by_label(job, paths, concept).items():
        fit = next(fit for fit in path.fits if fit.details.get("label") == label)
        scale = _scale(training, problem, [fit.scorer])
        # The folds' thresholds agree in units of their own negatives, not in margins.
        in_units = float(np.median([(k.threshold - k.mean) / k.deviation for k in kept]))
        found[label] = fit, in_units * float(scale.deviation[0]) + float(scale.mean[0])
    return found


def _seed(job: JobInput, *parts: str | int) -> int:
    return derive_seed(job.seed, job.backbone, job.layer, job.repeat, *parts)


def _require_classes(
    job: JobInput,
    training: TrainingRows,
    labels: Sequence[Sequence[NDArray[np.int8]]],
    places: Sequence[tuple[Fold, int]],
) -> None:
    """Refuses folds that lack a class on the layer's own grid, whose cells may be too coarse for what the reference
    grid shows, or among the few rows that were drawn."""
    issues = []
    for fold, concept in places:
        seen = [labels[concept][cut] for cut in fold.cuts("validation", job.dataset.cut_groups)]
        drawn = training.y[concept][training.training(concept, fold.train, fold.left_out)]
        for value, word in ((POSITIVE, "positive"), (NEGATIVE, "negative")):
            what = f"fold {fold.index + 1} of {len(job.folds)} has no {word} '{job.dataset.concepts[concept]}'"
            where = f"{job.backbone} {job.layer}"
            if not any((part == value).any() for part in seen):
                advice = "a layer of smaller cells, fewer folds, or other shares under labels"
                issues.append(Issue(where, f"{what} in validation on this layer's grid: {advice}"))
            if not (drawn == (value == POSITIVE)).any():
                advice = f"raise sampling.per_class ({job.per_class}), or a layer of smaller cells"
                issues.append(Issue(where, f"{what} among the training rows: {advice}"))
    if issues:
        raise ProbekitError(issues)


def _problems(job: JobInput, training: TrainingRows, places: Sequence[tuple[Fold, int]]) -> list[Problem]:
    """A problem for each (fold, concept), their columns' moments from one pass over the rows."""
    members = np.stack([training.training(concept, fold.train, fold.left_out) for fold, concept in places])
    means, scales = training_moments(training.rows.chunks(), members, training.rows.shape[1])
    return [
        Problem(
            training.y[concept],
            training.weights(concept, fold.train, fold.left_out),
            mean,
            scale,
            _seed(job, job.dataset.concepts[concept], fold.index),
        )
        for (fold, concept), mean, scale in zip(places, means, scales, strict=True)
    ]


def _upstream(path: FoldPath) -> Path:
    return Path(tuple(kept.fit for kept in path.kept), path.chosen)


def _scale(training: TrainingRows, problem: Problem, scorers: Sequence[Scorer]) -> MarginScale:
    """Mean and deviation of each scorer's margins over the problem's training negatives."""
    negatives = np.flatnonzero((problem.weights > 0) & (problem.y == 0))
    rows = training.rows.numpy()
    margins = [evaluate_scorers(scorers, rows[negatives[i : i + 16384]]) for i in range(0, len(negatives), 16384)]
    return margin_scale(np.concatenate(margins, axis=1), np.zeros(len(negatives), dtype=np.int8))


def validate(
    job: JobInput,
    training: TrainingRows,
    problem: Problem,
    place: tuple[Fold, int],
    paths: Sequence[Path],
) -> list[FoldPath]:
    """Scores paths of one problem on its fold's validation, at natural prevalence on the reference grid, in one pass
    over the features, and chooses within each."""
    fold, concept = place
    scorers = [fit.scorer for path in paths for fit in path.fits]
    cuts = fold.cuts("validation", job.dataset.cut_groups)
    refuse_test(fold, job.dataset.cut_groups[cuts])
    margins, truth = [], []
    for cells, maps in score_maps(job.dataset, job.collection, scorers, cuts.tolist(), job.threads):
        labels = job.cells.labels[concept, cells]
        kept = labels != VOID
        margins.append(maps[:, kept])
        truth.append(labels[kept] == POSITIVE)
    scores, positive = np.concatenate(margins, axis=1), np.concatenate(truth)
    seen = np.array(map_in_threads(lambda row: precision_and_threshold(row, positive), scores, job.threads))
    ends = np.cumsum([len(path.fits) for path in paths])
    parts = [slice(end - len(path.fits), end) for path, end in zip(paths, ends, strict=True)]
    return [
        _choose(training, problem, path, scores[part], seen[part], positive)
        for path, part in zip(paths, parts, strict=True)
    ]


def refuse_test(fold: Fold, groups: NDArray[np.integer]) -> None:
    """Whatever chooses asks here first: test is read once, and selects nothing.

    Args:
        groups: of the cells that a choice is about to be made by.

    Raises:
        SelectionOnTestError: a bug of ours: one of them is a test group of the fold.
    """
    if np.isin(groups, fold.test).any():
        raise SelectionOnTestError(f"fold {fold.index} was about to choose by cells of its own test groups")


def _choose(
    training: TrainingRows,
    problem: Problem,
    path: Path,
    scores: NDArray[np.float32],
    seen: NDArray[np.float64],
    positive: NDArray[np.bool_],
) -> FoldPath:
    """One fit a rung, and one rung, by the scores (fits, cells) of a path on validation, and what they come to: average
    precision and the threshold of best F1, (fits, 2)."""
    precisions, thresholds = seen.T
    sizes = [len(fit.support) for fit in path.fits]
    ridges = [fit.ridge for fit in path.fits]
    best = list(best_of_rungs([fit.rung for fit in path.fits], precisions, sizes, ridges).values())
    scale = _scale(training, problem, [path.fits[i].scorer for i in best])
    kept_fits = tuple(
        KeptFit(
            path.fits[i],
            float(precisions[i]),
            float(thresholds[i]),
            float(scale.mean[at]),
            float(scale.deviation[at]),
        )
        for at, i in enumerate(best)
    )
    chosen = best_fit(precisions[best], [sizes[i] for i in best], [ridges[i] for i in best])
    reported = {chosen, *(at for at, kept in enumerate(kept_fits) if kept.fit.rung == FULL)}
    return FoldPath(
        tuple(
            replace(kept, calibrated=_calibrated(scores[best[at]], positive)) if at in reported else kept
            for at, kept in enumerate(kept_fits)
        ),
        chosen,
    )


def _calibrated(margins: NDArray[np.float32], positive: NDArray[np.bool_]) -> Calibrated:
    found = calibrate(margins, positive, bins=4096)
    return Calibrated(float(found.temperature[0]), float(found.offset[0]), float(positive.mean()))


def fits_by_label(job: JobInput, chosen: Mapping[tuple[int, int], FoldPath], concept: int) -> dict[str, list[KeptFit]]:
    """What is handed to a user, as the fits that the folds chose for it: ``chosen``; where there is a full probe also
    ``full``, and ``k90``, ``k95``, ``k99``: in each fold the smallest k that reaches that share on validation."""
    folds = [chosen[fold.index, concept] for fold in job.folds]
    labels = {"chosen": [path.kept[path.chosen] for path in folds]}
    if all(path.at(FULL) is not None for path in folds):
        labels["full"] = [_at(path, FULL) for path in folds]
        for share in SHARES:
            labels[f"k{share * 100:.0f}"] = [_smallest(path, share) for path in folds]
    return labels


def _at(path: FoldPath, rung: int | str) -> KeptFit:
    kept = path.at(rung)
    assert kept is not None  # the caller has looked
    return kept


def _smallest(path: FoldPath, share: float) -> KeptFit:
    """The fit with the fewest channels that reaches the share of the full probe's AP on validation."""
    sizes = [len(kept.fit.support) for kept in path.kept]
    precisions = np.array([kept.average_precision for kept in path.kept])
    size = smallest_reaching(sizes, precisions, _at(path, FULL).average_precision, share)
    return next(kept for kept in path.kept if len(kept.fit.support) == size)
