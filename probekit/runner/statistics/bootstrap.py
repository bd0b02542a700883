"""The percentile bootstrap beside the intervals, where a run asks for it: what other papers print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probekit.api import FULL
from probekit.evaluate.groups import histogram_average_precision
from probekit.evaluate.intervals import Interval, Sums, bootstrap_interval
from probekit.evaluate.scores import f1_of_counts
from probekit.runner.statistics.book import Given
from probekit.sampling.seeds import generator

Ends = Mapping[tuple[str, str], Interval]
"""(point, metric) -> what the resamples say."""


@dataclass(frozen=True, eq=False)
class _Sums:
    """Of one point, by tested group: positives and negatives by bin, which bins are tied, and tp, fp, fn, tn."""

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    tied: NDArray[np.bool_]
    confusion: NDArray[np.int64]


def bootstrap_ends(given: Given, resamples: int) -> Ends:
    """Average precision and F1 of every ``chosen`` and ``full`` point, over repeats where there are several.

    All scores of a concept are resampled by the same draws, so that repeats are averaged within each.
    """
    repeats: dict[str, list[str]] = {}
    report: dict[tuple[str, ...], str] = {}
    several = given.record["repeats"] > 1
    unit = ("backbone", "layer", "concept", "probe", "rung")
    for row in given.points:
        if row["rung"] in ("chosen", FULL):
            key = tuple(row[column] for column in unit)
            if row["repeat"] is None or not several:
                report[key] = row["point_id"]
            if row["repeat"] is not None:
                repeats.setdefault("|".join(key), []).append(row["point_id"])
    kept = _read(given, {name for members in repeats.values() for name in members})
    values = {
        (row["point_id"], row["metric"]): row["value"]
        for row in given.results
        if (row["split"], row["sampling"]) == ("test", "natural")
    }
    ends: dict[tuple[str, str], Interval] = {}
    for key, point in report.items():
        members = [kept[name] for name in repeats["|".join(key)]]
        draw = partial(generator, given.seed, "bootstrap", key[2])
        for metric, score, sums in (
            ("average_precision", _precision, [s for m in members for s in (m.positives, m.negatives)]),
            ("f1", _f1, [m.confusion for m in members]),
        ):
            value = np.nan if values[point, metric] is None else values[point, metric]
            ends[point, metric] = bootstrap_interval(
                partial(score, members), *sums, value=value, rng=draw(), resamples=resamples
            )
    return ends


def _precision(members: Sequence[_Sums], *sums: Sums) -> NDArray[np.float64]:
    pairs = zip(members, sums[::2], sums[1::2], strict=True)
    scores = np.stack([histogram_average_precision(p, n, of.tied) for of, p, n in pairs])
    return np.asarray(scores.mean(axis=0))


def _f1(members: Sequence[_Sums], *sums: Sums) -> NDArray[np.float64]:
    return np.asarray(np.stack([f1_of_counts(counts) for counts in sums]).mean(axis=0))


def _read(given: Given, points: set[str]) -> dict[str, _Sums]:
    """The sums by group of these points, from the parts of the jobs."""
    found = {}
    for part in given.parts:
        tied = {row["point_id"]: row["tied"] for row in pq.read_table(part / "histograms.parquet").to_pylist()}
        table = pq.read_table(part / "groups.parquet", filters=[("point_id", "in", points)])
        names = np.array(table["point_id"].to_pylist(), dtype=object)
        for name in dict.fromkeys(names):
            own = table.filter(names == name)
            counts = np.stack([own[column].to_numpy() for column in ("tp", "fp", "fn", "tn")], axis=1)
            by_bin = [np.array(own[column].to_pylist()) for column in ("positives", "negatives")]
            found[name] = _Sums(
                by_bin[0][given.tested], by_bin[1][given.tested], np.array(tied[name]), counts[given.tested]
            )
    return found
