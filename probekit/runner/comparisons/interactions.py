"""Whether the channels of a layer work together: pairs tested on all groups, and what products add on groups left out.

Both ask the selection at k@95 (``chosen`` where the probe has no full one): every two of its leading channels. The
tests of pairs are made on the rows of the final fit, and claim no score. For the gain every fold makes them anew on its
own training rows, and what they establish there is added to that fold's probe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probekit.api import FULL, POSITIVE, VOID, Fit, Path
from probekit.compare.interactions import LEADING, Expansion, PairTests, pair_tests
from probekit.evaluate.intervals import Interval, Replicates, too_few
from probekit.evaluate.paired import difference_interval, ranked_pair, swap_test
from probekit.features.rows import MemoryRows
from probekit.runner.analyses.nulls import full_entry, ranked
from probekit.runner.assess import Point, pool
from probekit.runner.job import FINAL, JobOutput, KeptFit, OpenJob, ProbeEntry, Progress, fits_by_label, validate
from probekit.runner.replicates import precision_replicates
from probekit.sampling.seeds import derive_seed, generator
from probekit.sampling.splits import Fold

_NONE = "no pair is established in any fold"


@dataclass(frozen=True)
class Gain:
    """What products add to a probe on test, all pairs together.

    Attributes:
        alone, joint: average precision without and with them; none where it could not be asked.
        gain: their difference; none likewise.
        p: of the swap test; none where there is nothing to test, or too few groups.
        established: false where no pair is established in any fold; else none: where there is a p-value, it is said
            once those of all models are known (:func:`probekit.runner.comparisons.adjusted.adjusted`).
        reason: why something is missing.
    """

    alone: float | None = None
    joint: float | None = None
    gain: Interval | None = None
    p: float | None = None
    established: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Interactions:
    """One concept's pairs and what they add.

    Attributes:
        channels: of each pair, (m, 2).
        tests: of each pair, on the rows of all groups; none where there are too few groups.
    """

    concept: int
    channels: NDArray[np.int64]
    tests: PairTests | None
    together: Gain


def find_interactions(opened: OpenJob, output: JobOutput, advance: Progress) -> Iterator[Interactions]:
    """Every concept of a job: of its first probe with a rung ``full``, or else of its first probe.

    Args:
        advance: told what is being done.
    """
    job = opened.job
    entry = full_entry(opened, output)
    name = (entry or job.probes[0]).name
    for concept, what in enumerate(job.dataset.concepts):
        advance(0, f"{what} · interactions")
        finals = output.finals[name][concept]
        label = "k95" if "k95" in finals else "chosen"
        fit, _ = finals[label]
        y = (opened.problems[FINAL, concept].weights > 0) & (opened.training.y[concept] == 1)
        reason = too_few(np.bincount(opened.training.group[y], minlength=len(job.dataset.groups)))
        if reason is None and len(fit.support) < 2:
            reason = "the probe selects fewer than two channels"
        if reason is not None:
            yield Interactions(concept, np.zeros((0, 2), dtype=np.int64), None, Gain(reason=reason))
            continue
        tests = _tests(opened, (FINAL, concept), fit)
        if entry is None or fit.scorer.kind != "linear":
            gain = Gain(reason=f"{name} refits no channels: a probe with a rung 'full' does, such as l2-subsets")
        else:
            kept = fits_by_label(job, output.paths[name], concept)[label]
            gain = _gain(opened, entry, concept, {f.index: k for f, k in zip(job.folds, kept, strict=True)})
        yield Interactions(concept, fit.support[tests.pairs], tests, gain)


def _tests(opened: OpenJob, place: tuple[int, int], fit: Fit) -> PairTests:
    """Of the products of a fit's leading channels, on the rows of (fold, concept)."""
    problem = opened.problems[place]
    rows, channels = np.flatnonzero(problem.weights), fit.support
    raw = opened.training.rows.numpy()[np.ix_(rows, channels)].astype(np.float64)
    z = (raw - problem.mean[channels]) / problem.scale[channels]
    leading = np.argsort(-np.abs(fit.coefficient), kind="stable")[:LEADING]
    return pair_tests(z, problem.y[rows], problem.weights[rows], opened.training.group[rows], leading)


def _gain(opened: OpenJob, entry: ProbeEntry, concept: int, kept: dict[int, KeptFit]) -> Gain:
    """Every fold with and without the products that its training rows establish, pooled on test.

    Args:
        kept: fold -> the fit whose channels are asked.
    """
    job = opened.job
    arms: tuple[dict[int, KeptFit], dict[int, KeptFit]] = dict(kept), dict(kept)
    for fold in job.folds:
        own = kept[fold.index].fit
        pairs = _tests(opened, (fold.index, concept), own).established()
        if len(pairs):
            for arm, refitted in zip(arms, _refit(opened, entry, concept, fold, own.support, pairs), strict=True):
                arm[fold.index] = refitted
    found = any(arms[0][fold] is not kept[fold] for fold in kept)
    points = [Point(entry.name, concept, FULL, arm) for arm in arms]
    margins = pool(job, points if found else points[:1]).margins
    labels = job.cells.labels[concept]
    seen = (labels != VOID) & ~np.isnan(margins[0])
    y, group, n_groups = (labels[seen] == POSITIVE).astype(np.int8), job.cells.group[seen], len(job.dataset.groups)
    tested = np.unique(np.concatenate([fold.test for fold in job.folds]))
    positives = np.bincount(group[y == 1], minlength=n_groups)[tested]
    whole = [precision_replicates(row, y, group, n_groups) for row in margins[:, seen]]
    scores = [Replicates(of.value, of.deleted[tested]) for of in whole]
    if not found:
        return Gain(scores[0].value, scores[0].value, Interval(0.0), established=False, reason=_NONE)
    alone, joint = scores
    interval = difference_interval((joint - alone).value, (joint - alone).deleted, positives)
    if too_few(positives) is not None:
        return Gain(alone.value, joint.value, interval, reason=interval.reason)
    rng = generator(job.seed, "interactions", job.backbone, job.layer, job.dataset.concepts[concept])
    p = swap_test([ranked_pair(margins[1, seen], margins[0, seen], y, group, n_groups)], rng)
    return Gain(alone.value, joint.value, interval, p, reason=interval.reason)


def _refit(
    opened: OpenJob, entry: ProbeEntry, concept: int, fold: Fold, channels: NDArray[np.int64], pairs: NDArray[np.int64]
) -> list[KeptFit]:
    """The probe on a fold's channels, and on these and products, each with the ridge that validation prefers. Both have
    the squares of the channels concerned: what is asked is not whether one of them acts along a curve."""
    job, problem = opened.job, opened.problems[fold.index, concept]
    rows = np.flatnonzero(problem.weights)
    raw = opened.training.rows.numpy()[rows]
    squares = np.repeat(np.unique(pairs)[:, None], 2, axis=1)
    paths = []
    for used in (squares, np.concatenate([squares, pairs])):
        expansion, values = Expansion.of(raw, channels, problem.mean[channels], problem.scale[channels], used)
        width = values.shape[1]
        expanded = replace(
            problem,
            y=problem.y[rows],
            weights=problem.weights[rows],
            mean=np.zeros(width),
            scale=np.ones(width),
            seed=derive_seed(job.seed, job.backbone, job.layer, job.repeat, "interactions", concept, fold.index),
            rungs=(FULL,),
        )
        (path,) = entry.probe.fit(MemoryRows(values.astype(np.float32)), [expanded], [ranked(np.arange(width))])
        fits = [replace(fit, scorer=expansion.scorer(fit.scorer)) for fit in path.fits if fit.rung == FULL]
        paths.append(Path(tuple(fits)))
    return [path.kept[path.chosen] for path in validate(job, opened.training, problem, (fold, concept), paths)]
