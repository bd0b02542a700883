"""What is asked of a job's probes beside their scores: nulls, stability, substitutes, description length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from probekit.evaluate.description_length import CodeLength
from probekit.evaluate.interchangeable import Substitute, correlation, replaceable
from probekit.runner.coding import code_lengths
from probekit.runner.dataset import Dataset
from probekit.runner.job import JobOutput, OpenJob, Progress
from probekit.runner.nulls import NotTested, NullDraw, draw_nulls
from probekit.runner.scoring import ReferenceCells
from probekit.runner.stability import Selections, draw_selections


@dataclass(frozen=True)
class Wanted:
    """What the spec asks for.

    Attributes:
        conditions: null condition -> the images with its labels, and the cells that are scored.
        draws: numbers of this repeat's draws of random channels, among those of all repeats.
        pairs: complementary pairs of halves.
        code: whether labels are coded.
    """

    conditions: Mapping[str, tuple[Dataset, ReferenceCells]]
    draws: Sequence[int]
    pairs: int
    code: bool


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


def analyse(opened: OpenJob, output: JobOutput, wanted: Wanted, advance: Progress) -> Analyses:
    """All of them, for one job."""
    codes = {}
    if wanted.code:
        advance(0, "description length")
        codes = code_lengths(opened.job, opened.training, output.paths, output.finals)
    return Analyses(
        list(draw_nulls(opened, output, wanted.conditions, wanted.draws, advance)),
        list(draw_selections(opened, output, wanted.pairs, advance)),
        codes,
        _substitutes(opened),
    )


def _substitutes(opened: OpenJob) -> dict[int, tuple[Substitute, ...]]:
    """Of every channel of the layer, over the rows that were drawn for any concept."""
    channels = range(opened.job.collection.channels)
    found = replaceable(channels, correlation(opened.training.rows.numpy()))
    return {channel: others for channel, others in zip(channels, found, strict=True) if others}
