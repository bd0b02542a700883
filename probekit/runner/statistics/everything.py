"""How sure a run is of what it found: intervals, nulls, sets of k, differences, from the parts of its jobs."""

from __future__ import annotations

from dataclasses import dataclass

from probekit.compare.standing import above_all
from probekit.evaluate.intervals import (
    NARROW,
    Interval,
    jackknife_interval,
)
from probekit.runner.statistics.book import Book, Given, Line, Row, lines_of, read
from probekit.runner.statistics.bootstrap import Ends, bootstrap_ends
from probekit.runner.statistics.k_tau import k_tau_rows
from probekit.runner.statistics.nulls import null_row, null_tests
from probekit.runner.statistics.stability import stability_rows
from probekit.runner.statistics.standing import standing_rows


@dataclass(frozen=True)
class Statistics:
    """Rows of the tables of that name; ``results`` with their ``lo`` and ``hi``."""

    results: list[Row]
    k_tau: list[Row]
    models: list[Row]
    differences: list[Row]
    nulls: list[Row]
    stability: list[Row]


def statistics(given: Given) -> Statistics:
    """All of a run's intervals, tests and sets."""
    book = read(given)
    resamples = given.record["spec"]["evaluation"]["bootstrap"]
    ends = bootstrap_ends(given, resamples) if resamples else {}
    results = [_with_interval(row, book, given, ends) for row in given.results]
    nulls: list[Row] = []
    verdicts: dict[Line, tuple[bool | None, list[str]]] = {}
    for line in lines_of(given, controls=False):
        tests = list(null_tests(line, book, given))
        nulls += [null_row(line, given.probe, *test) for test in tests]
        deciding = [test for _, _, _, test, decides in tests if decides]
        verdicts[line] = above_all(deciding), [test.name for test in deciding if test.above is False]
    curves, claims = k_tau_rows(book, given, verdicts)
    models, pairs = standing_rows(book, given, verdicts, claims)
    return Statistics(results, curves, models, pairs, nulls, list(stability_rows(given)))


def _with_interval(row: Row, book: Book, given: Given, ends: Ends) -> Row:
    score = book.replicates.get((row["point_id"], row["metric"]))
    if score is None or (row["split"], row["sampling"]) != ("test", "natural"):
        return row
    positives = book.positives[_concept_of(row["point_id"])]
    interval = jackknife_interval(score.value, score.deleted, positives)
    if row["metric"] == "roc_auc" and len(positives) < NARROW:
        interval = Interval(score.value, reason=f"no interval of it holds below {NARROW} groups")
    resampled = ends.get((row["point_id"], row["metric"]))
    other = {} if resampled is None else {"bootstrap_lo": resampled.lo, "bootstrap_hi": resampled.hi}
    return {**row, "lo": interval.lo, "hi": interval.hi, "reason": interval.reason, **other}


def _concept_of(point_id: str) -> str:
    return point_id.split("|")[2]
