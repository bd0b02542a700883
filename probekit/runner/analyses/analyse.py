"""What is asked of a job's probes beside their scores: nulls, stability, substitutes, interactions, code length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from probekit.evaluate.description_length import CodeLength
from probekit.evaluate.interchangeable import Substitute, correlation, replaceable
from probekit.runner.analyses.coding import code_lengths
from probekit.runner.analyses.nulls import NotTested, NullDraw, draw_nulls, full_entry
from probekit.runner.analyses.outer import LeftOut, leave_out
from probekit.runner.analyses.selections import Selections, draw_selections
from probekit.runner.comparisons.interactions import Interactions, find_interactions
from probekit.runner.dataset import Dataset
from probekit.runner.job import JobOutput, OpenJob, Progress
from probekit.runner.scoring import ReferenceCells
from probekit.sampling.splits import Fold, OuterFolds


@dataclass(frozen=True)
class Wanted:
    """What the spec asks for.

    Attributes:
        conditions: null condition -> the images with its labels, and the cells that are scored.
        draws: numbers of this repeat's draws of random channels, among those of all repeats.
        pairs: complementary pairs of halves.
        target: bound on the expected number of false channels in the stable set.
        fdr: rate of false discoveries against knockoffs; none leaves them out.
        code: whether labels are coded.
        outer: folds that leave one outer group out, or none.
        apart: keeps the spec's buffer between the parts of folds.
        interactions: whether products of channels are tried.
    """

    conditions: Mapping[str, tuple[Dataset, ReferenceCells]]
    draws: Sequence[int]
    pairs: int
    target: float
    fdr: float | None
    code: bool
    outer: OuterFolds | None
    apart: Callable[[Sequence[Fold]], tuple[Fold, ...]]
    interactions: bool = False


@dataclass(frozen=True)
class Analyses:
    """What was found.

    Attributes:
        codes: (probe, concept) -> the online code of the labels.
        substitutes: channel -> the channels that stand for it, for those that have any.
    """

    nulls: Sequence[NullDraw | NotTested] = ()
    selections: Sequence[Selections] = ()
    codes: Mapping[tuple[str, int], CodeLength] = field(default_factory=dict)
    substitutes: Mapping[int, tuple[Substitute, ...]] = field(default_factory=dict)
    outer: Sequence[LeftOut] = ()
    interactions: Sequence[Interactions] = ()


def analyse(opened: OpenJob, output: JobOutput, wanted: Wanted, advance: Progress) -> Analyses:
    """All of them, for one job."""
    codes = {}
    if wanted.code:
        advance(0, "description length")
        codes = code_lengths(opened.job, opened.training, output.paths, output.finals, wanted.apart)
    entry = full_entry(opened, output)
    nulls: list[NullDraw | NotTested] = []
    outer: list[LeftOut] = []
    if entry is not None:
        nulls = list(draw_nulls(opened, entry, wanted.conditions, wanted.draws, advance))
        if wanted.outer is not None:
            advance(0, "outer groups")
            outer = list(leave_out(opened, entry, wanted.outer))
    selections = list(draw_selections(opened, output, wanted.pairs, wanted.target, wanted.fdr, advance))
    interactions = list(find_interactions(opened, output, advance)) if wanted.interactions else []
    return Analyses(nulls, selections, codes, _substitutes(opened), outer, interactions)


def _substitutes(opened: OpenJob) -> dict[int, tuple[Substitute, ...]]:
    """Of every channel of the layer, over the rows that were drawn for any concept."""
    channels = range(opened.job.collection.channels)
    found = replaceable(channels, correlation(opened.training.rows.numpy()))
    return {channel: others for channel, others in zip(channels, found, strict=True) if others}
