"""Which channels are chosen again and again: a path refitted on complementary halves of the groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probekit.evaluate.stability import complementary_halves
from probekit.runner.job import JobOutput, OpenJob, ProbeEntry, Progress
from probekit.sampling.rows import fold_weights, training_moments
from probekit.sampling.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class Selections:
    """What a probe selected on halves of the groups, at the rung that its folds chose (their median).

    Attributes:
        selected: (2 pairs, channels), halves of a pair next to each other.
        by_fold: the supports of the folds' chosen fits, (folds, channels).
    """

    probe: str
    concept: int
    rung: int
    selected: NDArray[np.bool_]
    by_fold: NDArray[np.bool_]


def draw_selections(opened: OpenJob, output: JobOutput, pairs: int, advance: Progress) -> Iterator[Selections]:
    """The first probe without an upstream, on every concept: the one whose path ranks the channels."""
    job = opened.job
    entry: ProbeEntry | None = next((entry for entry in job.probes if entry.upstream is None), None)
    if entry is None or pairs < 1:
        return
    channels = job.collection.channels
    for concept, name in enumerate(job.dataset.concepts):
        chosen = [path.kept[path.chosen].fit for (_, of), path in output.paths[entry.name].items() if of == concept]
        rungs = [fit.rung for fit in chosen if isinstance(fit.rung, int)]
        if len(rungs) < len(chosen) or all(len(fit.support) == channels for fit in chosen):
            continue  # it selects nothing
        advance(0, f"{name} · stability")
        rung = int(np.median(rungs))
        training = opened.training
        y = training.y[concept]
        drawn = training.group[(y == 1) & training.drawn[concept]]
        positives = np.bincount(drawn, minlength=len(job.dataset.groups))
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
        yield Selections(entry.name, concept, rung, selected, by_fold)
