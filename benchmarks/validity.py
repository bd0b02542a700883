"""Whether what is claimed is as sure as it says: simulated data with a known truth, judged by the product's functions.

    uv run python benchmarks/validity.py [--repetitions N] [--json] [--workers N]

For every kind of claim: the nominal rate, what ``docs/explanation/validity.md`` promises, and the rate that was
observed with its binomial 99 % interval (Clopper and Pearson). N repetitions (2,000) of claims that are made of scores,
N / 10 of those that need fits (five at least). *Of* counts the repetitions in which there was a claim: with too few
groups none is made. Seeds follow from the repetition, so the number of workers (2) changes no figure.

Exit status 1 where a binomial interval excludes what is promised, and only there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from probekit_linear.l2_subsets import log_widths
from scipy.special import ndtri
from scipy.stats import beta
from threadpoolctl import threadpool_limits
from validity_data import (
    EVEN,
    RARE,
    UNEQUAL,
    Cells,
    Floats,
    Population,
    Range,
    Tally,
    curve,
    promised,
    scored,
    separation,
    true_auc,
    true_f1,
)
from validity_fits import discoveries, fitted, fitted_score, knockoffs, stability, stable

from probekit.compare.k_set import disjoint, k_set
from probekit.compare.standing import LEVEL, against_null
from probekit.evaluate.groups import group_confusion, score_histograms
from probekit.evaluate.intervals import NARROW, Replicates, effective_number, jackknife_interval, too_few
from probekit.evaluate.paired import difference_interval, ranked_pair, swap_test
from probekit.evaluate.scores import score_all
from probekit.runner.replicates import without_each_group
from probekit.runner.statistics.k_tau import CLAIM, CLAIM_LEVEL
from probekit.sampling.seeds import generator

GROUPS = (12, 30, 100)

SWAPS = 199
"""Exchanges that a swap test draws here: the level is exact at any number, fewer cost a little power."""

EFFECTIVE = 15.0
"""Effective groups from which the narrower range is promised at 100 groups."""


@dataclass(frozen=True)
class Row:
    """One line of the table; ``promised`` is none where nothing is, ``observed`` where there was no claim."""

    claim: str
    which: str
    setting: str
    groups: int
    nominal: float
    promised: Range | None
    of: int
    observed: float | None
    low: float
    high: float
    holds: bool
    note: str


# -- one score: coverage


def one_score(population: Population, groups: int, rng: np.random.Generator) -> list[tuple[str, float, bool]]:
    """Metric, effective groups, and whether the interval held the truth."""
    d = separation(population.precision, population.prevalence, population.spread)
    threshold = float(-ndtri(population.prevalence))
    cells = population.draw(groups, rng)
    scores = _scores(population, cells, population.noise(cells, rng), d, population.spread, rng)
    predicted = scores >= threshold
    without = without_each_group(
        score_histograms(scores, cells.y, cells.group, groups),
        group_confusion(predicted, cells.y, cells.group, groups),
    )
    values = {of.metric: of.value for of in score_all(scores, predicted, cells.y) if of.sampling == "natural"}
    truth = {
        "average_precision": population.precision,
        "f1": true_f1(population.prevalence, d, population.spread, threshold),
        "roc_auc": true_auc(d, population.spread),
    }
    found = []
    for metric, deleted in without.items():
        known = jackknife_interval(values[metric], deleted, cells.positives)
        if known.lo is not None and known.hi is not None:
            found.append((metric, effective_number(cells.positives), known.lo <= truth[metric] <= known.hi))
    return found


def coverage(groups: int, found: list[list[tuple[str, float, bool]]]) -> Iterator[Tally]:
    for metric, name in (("average_precision", "AP"), ("f1", "F1"), ("roc_auc", "AUC")):
        of = [(k, held) for one in found for what, k, held in one if what == metric]
        few = groups >= NARROW and metric != "roc_auc"
        rest = [held for k, held in of if not few or k >= EFFECTIVE]
        if metric != "roc_auc" or groups >= NARROW:
            yield f"{name} in its interval", "", len(rest), sum(rest), ""
        if len(rest) < len(of):
            yield "AP, F1 in theirs, K < 15", name, len(of) - len(rest), sum(h for _, h in of) - sum(rest), ""


def _scores(
    population: Population, cells: Cells, noise: Floats, d: float, spread: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Noise plus each group's own separation where the concept is."""
    own = d * (1 + spread * rng.standard_normal(cells.groups))
    return (noise + cells.y * own[cells.group]).astype(np.float32)


# -- two models on the same cells


@dataclass(frozen=True)
class Pair:
    """Two models.

    Attributes:
        precision: true APs.
        spread: how far their separation differs between groups.
        swapped: groups from which the swap test is run too: it is nearly all of the time.
    """

    precision: tuple[float, float]
    spread: tuple[float, float]
    swapped: int

    @property
    def equal(self) -> bool:
        return self.precision[0] == self.precision[1]


def two_scores(
    population: Population, pair: Pair, groups: int, rng: np.random.Generator
) -> dict[tuple[str, str], bool]:
    """Which claims were made of the pair, and whether they are right (intervals) or wrong (tests)."""
    cells = population.draw(groups, rng)
    if too_few(cells.positives) is not None:
        return {}
    shared = population.noise(cells, rng)
    margins = []
    for precision, spread in zip(pair.precision, pair.spread, strict=True):
        d = separation(precision, population.prevalence, spread)
        noise = np.sqrt(0.7) * shared + np.sqrt(0.3) * population.noise(cells, rng)
        margins.append(_scores(population, cells, noise, d, spread, rng))
    one, other = (scored(of, cells) for of in margins)
    gap = one - other
    known = difference_interval(gap.value, gap.deleted, cells.positives)
    if known.lo is None or known.hi is None:
        return {}
    truth = pair.precision[0] - pair.precision[1]
    found = {("difference in its interval", ""): known.lo <= truth <= known.hi}
    if pair.equal:
        if groups >= pair.swapped:
            ranked = ranked_pair(margins[0], margins[1], cells.y, cells.group, groups)
            found["swap test rejects", ""] = swap_test([ranked], rng, SWAPS) <= LEVEL
        found["above its null", ""] = bool(against_null("null", one, other, cells.positives).above)
        if pair.spread[0] != pair.spread[1]:
            found["above its null", "exchanged"] = bool(against_null("null", other, one, cells.positives).above)
    return found


def pairs(groups: int, found: list[dict[tuple[str, str], bool]]) -> Iterator[Tally]:
    for claim, which in dict.fromkeys(key for one in found for key in one):
        of = [one[claim, which] for one in found if (claim, which) in one]
        yield claim, which, len(of), sum(of), ""


# -- k@tau


CHANNELS, TRUE_K = 256, 23


@dataclass(frozen=True)
class Rise:
    """A curve of AP: what all channels reach, how steep it is, and where it passes tau of that."""

    precision: float
    steep: float
    crossing: float


def two_curves(
    population: Population, rises: tuple[Rise, Rise], groups: int, rng: np.random.Generator
) -> dict[str, float]:
    """Whether each set holds the true k, how wide it is in octaves, and whether the sets are taken to differ."""
    cells = population.draw(groups, rng)
    if too_few(cells.positives) is not None:
        return {}
    widths = log_widths(CHANNELS, 40)
    shared = [population.noise(cells, rng) for _ in widths]
    found, sets = {}, []
    for name, rise in zip(("steep", "shallow"), rises, strict=True):
        scores = _nested(population, cells, shared, _separations(population, rise), rng)
        values = np.array([of.value for of in scores])
        deleted = np.array([of.deleted for of in scores])
        inputs = CLAIM, widths, values, float(values[-1]), deleted, deleted[-1], cells.positives
        known = k_set(*inputs)
        sets.append(k_set(*inputs, level=CLAIM_LEVEL))
        if known.lo is not None and known.hi is not None:
            found[name] = float(known.lo <= TRUE_K <= known.hi)
            found[f"{name} octaves"] = float(np.log2(known.hi / known.lo))
    found["differs"] = float(disjoint(*sets))
    return found


def _nested(
    population: Population, cells: Cells, shared: list[Floats], separations: list[float], rng: np.random.Generator
) -> list[Replicates]:
    """Scores of probes on more and more channels: of best linear ones the noises correlate by the ratio of their
    separations. Half of what a channel adds is ``shared`` with the other model."""
    noise, own = shared[0], rng.standard_normal(cells.groups)
    before, scores = separations[0], []
    for d, common in zip(separations, shared, strict=True):
        kept = before / d
        added = np.sqrt(0.5) * common + np.sqrt(0.5) * population.noise(cells, rng)
        noise = kept * noise + np.sqrt(1 - kept**2) * added
        own = kept * own + np.sqrt(1 - kept**2) * rng.standard_normal(cells.groups)
        separated = d * (1 + population.spread * own)
        scores.append(scored((noise + cells.y * separated[cells.group]).astype(np.float32), cells))
        before = d
    return scores


@lru_cache
def _separations(population: Population, rise: Rise) -> list[float]:
    reached = curve(rise.precision, population.prevalence, CLAIM, rise.crossing, rise.steep, CHANNELS)
    widths = log_widths(CHANNELS, 40)
    true_k = next(k for k in widths if reached[k - 1] >= CLAIM * reached[-1] - 1e-12)
    if true_k != TRUE_K:
        raise ValueError(f"the curve crosses at {true_k} of the grid, not at {TRUE_K}")
    return [separation(reached[k - 1], population.prevalence, population.spread) for k in widths]


def curves(groups: int, found: list[dict[str, float]]) -> Iterator[Tally]:
    for name in ("steep", "shallow"):
        of = [one[name] for one in found if name in one]
        octaves = [one[f"{name} octaves"] for one in found if name in one]
        note = f"median set {np.median(octaves):.1f} octaves" if octaves else ""
        yield "k@tau in its set", name, len(of), sum(of), note
    differs = [one["differs"] for one in found if one]
    yield "a difference in k is claimed", "", len(differs), sum(differs), ""


# -- all of it


@dataclass(frozen=True)
class Experiment:
    """One setting of one kind of claim.

    Attributes:
        once: a repetition: groups and a generator in, claims out.
        tally: what all repetitions say.
        fits: it needs fits.
    """

    setting: str
    once: Callable[[int, np.random.Generator], Any]
    tally: Callable[[int, list[Any]], Iterable[Tally]]
    fits: bool = False


CURVES = Rise(0.5, 2.0, 23.0), Rise(0.35, 0.5, 21.1)
"""Of the same k on the grid (..., 21, 23, ...) as unalike as can be: one reaches it with nothing to spare, one all but
reaches it at the width before."""

SMALL = replace(EVEN, images=2, cells=30)
NEVER = max(GROUPS) + 1

EXPERIMENTS = (
    Experiment("even, 5 %", partial(one_score, EVEN), coverage),
    Experiment("rare, 1 %", partial(one_score, RARE), coverage),
    Experiment("unequal, 5 %", partial(one_score, UNEQUAL), coverage),
    Experiment("alike, 5 %", partial(two_scores, SMALL, Pair((0.4, 0.4), (0.3, 0.3), 12)), pairs),
    Experiment("one varies more, 5 %", partial(two_scores, SMALL, Pair((0.4, 0.4), (0.1, 0.6), 12)), pairs),
    Experiment("alike, 1 %", partial(two_scores, RARE, Pair((0.3, 0.3), (0.35, 0.35), 30)), pairs),
    Experiment("both know nothing, 5 %", partial(two_scores, SMALL, Pair((0.05, 0.05), (0.3, 0.3), NEVER)), pairs),
    Experiment("apart by .11, 5 %", partial(two_scores, SMALL, Pair((0.45, 0.34), (0.3, 0.3), NEVER)), pairs),
    Experiment("nested probes, 5 %", partial(two_curves, SMALL, CURVES), curves),
    Experiment("fitted, 5 %", partial(fitted_score, SMALL), fitted, fits=True),
    Experiment("fitted, 1 %", partial(fitted_score, replace(RARE, cells=100)), fitted, fits=True),
    Experiment("all correlated", partial(stability, SMALL, 60), stable, fits=True),
    Experiment("blocks of four", partial(stability, SMALL, 4), stable, fits=True),
    Experiment("rows in groups", partial(knockoffs, SMALL, True), discoveries, fits=True),
)


def repeat(place: int, groups: int, repetitions: range) -> list[Any]:
    """Some repetitions of an experiment; each has a generator of its own."""
    experiment = EXPERIMENTS[place]
    with threadpool_limits(1):
        return [experiment.once(groups, generator(0, "validity", experiment.setting, groups, i)) for i in repetitions]


def interval(total: float, of: int, level: float = 0.99) -> Range:
    """Clopper and Pearson's interval of a rate; conservative where ``total`` sums shares in [0, 1]."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, total, of - total + 1)) if total > 0 else 0.0
    high = float(beta.ppf(1 - tail, total + 1, of - total)) if total < of else 1.0
    return low, high


def rows(repetitions: int, workers: int) -> Iterator[Row]:
    """The table, line by line."""
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = []
        for place, experiment in enumerate(EXPERIMENTS):
            count = max(5, repetitions // 10) if experiment.fits else repetitions
            step = 5 if experiment.fits else 25
            for groups in GROUPS:
                parts = [range(start, min(start + step, count)) for start in range(0, count, step)]
                waiting.append((experiment, groups, [pool.submit(repeat, place, groups, part) for part in parts]))
        for experiment, groups, running in waiting:
            found = [one for part in running for one in part.result()]
            yield from (judge(experiment, groups, tally) for tally in experiment.tally(groups, found))


def judge(experiment: Experiment, groups: int, tally: Tally) -> Row:
    """A line, and whether it holds: what is promised and the binomial interval have a rate in common."""
    claim, which, of, total, note = tally
    observed = total / of if of else None
    nominal, range_ = promised(claim, groups)
    low, high = interval(total, of) if of else (0.0, 1.0)
    holds = range_ is None or (low <= range_[1] and high >= range_[0])
    return Row(claim, which, experiment.setting, groups, nominal, range_, of, observed, low, high, holds, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.json:
        print(f"{'claim':<39} {'setting':<22} groups nominal    promised    of observed       99 %")
    failed = 0
    for row in rows(options.repetitions, options.workers):
        failed += not row.holds
        if options.json:
            print(json.dumps(asdict(row)), flush=True)
            continue
        range_ = "-" if row.promised is None else f"{row.promised[0]:.3f}-{row.promised[1]:.3f}"
        observed = "-" if row.observed is None else f"{row.observed:.3f}"
        name = f"{row.claim}, {row.which}" if row.which else row.claim
        line = (
            f"{name:<39} {row.setting:<22} {row.groups:>6} {row.nominal:>7.3f} {range_:>11} {row.of:>5} "
            f"{observed:>8} {row.low:.3f}-{row.high:.3f}  {'' if row.holds else 'EXCLUDED  '}{row.note}"
        )
        print(line.rstrip(), flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
