"""Which channels are chosen again and again, on halves of the groups; and, if asked for, against knockoffs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probekit.api import Problem
from probekit.evaluate.knockoffs import antisymmetric, draw_knockoffs, knockoff_selection
from probekit.evaluate.stability import complementary_halves, most_selected
from probekit.features.rows import MemoryRows
from probekit.runner.job import FoldPath, JobOutput, OpenJob, ProbeEntry, Progress
from probekit.sampling.rows import fold_weights, training_moments
from probekit.sampling.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class Selections:
    """What a probe selected on halves of the groups, at the last rung that is sparse enough for a bound.

    Attributes:
        selected: (2 pairs, channels), halves of a pair next to each other.
        by_fold: the supports of the folds' fits at that rung, (folds, channels).
        knockoffs: the channels that are selected against their knockoffs, (channels,); none where not asked for.
    """

    probe: str
    concept: int
    rung: int
    selected: NDArray[np.bool_]
    by_fold: NDArray[np.bool_]
    knockoffs: NDArray[np.bool_] | None


def draw_selections(
    opened: OpenJob, output: JobOutput, pairs: int, target: float, fdr: float | None, advance: Progress
) -> Iterator[Selections]:
    """The first probe without an upstream, on every concept: the one whose path ranks the channels.

    Args:
        pairs: of complementary halves.
        target: the bound on the expected number of false channels in the stable set.
        fdr: the rate of false discoveries against knockoffs; none leaves them out.
    """
    job = opened.job
    entry: ProbeEntry | None = next((entry for entry in job.probes if entry.upstream is None), None)
    if entry is None or pairs < 1:
        return
    channels = job.collection.channels
    for concept, name in enumerate(job.dataset.concepts):
        paths = [path for (_, of), path in output.paths[entry.name].items() if of == concept]
        rung = _sparse_rung(paths, most_selected(channels, pairs, target))
        if rung is None:
            continue  # its first rung selects everything
        advance(0, f"{name} · stability")
        chosen = [kept.fit for path in paths if (kept := path.at(rung)) is not None]
        training = opened.training
        y = training.y[concept]
        drawn = training.group[(y == 1) & training.drawn[concept]]
        positives = np.bincount(drawn, minlength=len(job.dataset.groups))
        if (positives > 0).sum() < 2:
            continue  # no two halves could both hold one
        seed = derive_seed(job.seed, "stability", name)  # the same halves for all models
        halves = complementary_halves(job.dataset.groups, positives, pairs, seed)
        members = np.array([training.training(concept, np.flatnonzero(half)) for half in halves])
        means, scales = training_moments(training.rows.chunks(), members, channels)
        problems = [
            replace(
                opened.problems[job.folds[0].index, concept],
                weights=fold_weights(y, member),
                mean=mean,
                scale=scale,
                seed=derive_seed(seed, i),
                rungs=(rung,),
            )
            for i, (member, mean, scale) in enumerate(zip(members, means, scales, strict=True))
        ]
        selected = np.zeros((len(problems), channels), dtype=bool)
        for row, path in zip(selected, entry.probe.fit(training.rows, problems, None), strict=True):
            row[next(fit for fit in path.fits if fit.rung == rung).support] = True
        by_fold = np.zeros((len(chosen), channels), dtype=bool)
        for row, fit in zip(by_fold, chosen, strict=True):
            row[fit.support] = True
        known = None
        if fdr is not None:
            advance(0, f"{name} · knockoffs")
            known = _against_knockoffs(opened, entry, concept, rung, fdr)
        yield Selections(entry.name, concept, rung, selected, by_fold, known)


def _sparse_rung(paths: Sequence[FoldPath], most: int) -> int | None:
    """The last rung on which the folds select at most so many channels (their median, and at least one), or the first
    that selects any; none where all rungs select equally many."""
    rungs = [kept.fit.rung for kept in paths[0].kept if isinstance(kept.fit.rung, int)]
    sizes = {
        rung: float(np.median([len(kept.fit.support) for path in paths if (kept := path.at(rung)) is not None]))
        for rung in rungs
    }
    if len(set(sizes.values())) < 2:
        return None
    fits = [rung for rung, size in sizes.items() if 1 <= size <= max(most, 1)]
    return max(fits) if fits else min((r for r, size in sizes.items() if size >= 1), default=None)


def _against_knockoffs(opened: OpenJob, entry: ProbeEntry, concept: int, rung: int, fdr: float) -> NDArray[np.bool_]:
    """The probe on all groups, on channels and their two-level knockoffs side by side: which channels it prefers to
    their copies so clearly that at most a share ``fdr`` of them is expected to be false, (channels,)."""
    job, training = opened.job, opened.training
    drawn = np.flatnonzero(training.drawn[concept])
    values, p = training.rows.numpy()[drawn], training.rows.shape[1]
    seed = derive_seed(job.seed, "knockoffs", job.backbone, job.layer, job.repeat, job.dataset.concepts[concept])
    both = np.concatenate([values, draw_knockoffs(values, training.group[drawn], seed)], axis=1)
    rows = MemoryRows(both)
    y = training.y[concept][drawn]
    everyone = np.ones((1, len(drawn)), dtype=bool)
    (mean,), (scale,) = training_moments(rows.chunks(), everyone, 2 * p)
    problem = Problem(y, fold_weights(y, everyone[0]), mean, scale, seed, rungs=(rung,))
    (path,) = entry.probe.fit(rows, [problem], None)
    fit = next(fit for fit in path.fits if fit.rung == rung)
    importance = np.zeros(2 * p)
    importance[fit.support] = fit.coefficient
    return knockoff_selection(antisymmetric(importance), fdr)
