"""How sure a run is of what it found: intervals, nulls, sets of k, differences, from the parts of its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from probekit.api import FULL, POSITIVE, VOID
from probekit.compare.k_at import k_at
from probekit.compare.k_set import KSet, disjoint, k_set
from probekit.compare.standing import NullTest, above_all, against_null, differences, ranks
from probekit.evaluate.intervals import (
    NARROW,
    Interval,
    Replicates,
    effective_number,
    jackknife_interval,
    too_few,
)
from probekit.evaluate.paired import RankedPair, ranked_pair, smallest_difference, swap_test
from probekit.evaluate.stability import (
    disjoint_stability,
    selection_frequencies,
    stability_index,
    stability_interval,
    stable_set,
)
from probekit.runner.conditions import CONTROL_TASK, PERMUTED_LABELS
from probekit.runner.job import SHARES
from probekit.runner.nulls import RANDOM_CHANNELS
from probekit.runner.scoring import ReferenceCells
from probekit.sampling.seeds import generator

Row = dict[str, Any]
Line = tuple[str, str, str]
"""(backbone, layer, concept)."""

CLAIM = 0.95
"""The share of the full probe's score at which models' numbers of channels are compared."""

CLAIM_LEVEL = 0.975
"""Of the two sets that must be disjoint for a difference in k to be claimed."""


@dataclass(frozen=True)
class Claim:
    """What a model needs for ``CLAIM`` of its score: k, of how many channels, and its set at ``CLAIM_LEVEL``."""

    k: int
    channels: int
    known: KSet


@dataclass(frozen=True)
class Statistics:
    """Rows of the tables of that name; ``results`` with their ``lo`` and ``hi``."""

    results: list[Row]
    k_tau: list[Row]
    models: list[Row]
    differences: list[Row]
    nulls: list[Row]
    stability: list[Row]


@dataclass(frozen=True)
class Given:
    """What statistics are made of.

    Attributes:
        parts: the jobs' folders, in their order.
        points, results: rows of these tables, means over repeats among them.
        record: what ``run.json`` says.
        cells: the scored cells.
        tested: which groups any repeat's folds test, (groups,).
        probe: the reported one.
        images: of each cell, (cells,).
        seed: of the run.
    """

    parts: Sequence[Path]
    points: Sequence[Row]
    results: Sequence[Row]
    record: Mapping[str, Any]
    cells: ReferenceCells
    tested: NDArray[np.bool_]
    probe: str
    images: NDArray[np.int32]
    seed: int


@dataclass
class _Book:
    """Every score without each group.

    Attributes:
        positives: concept -> positive cells by tested group.
        replicates: (point, metric) -> score; points over repeats are their means.
        point: (backbone, layer, concept, probe, rung) -> the point that tables report.
        width: point -> median channels.
        null: (backbone, layer, concept, condition, rung) -> draws.
        untested: the same key -> why a job could not be fitted under the condition.
    """

    positives: dict[str, NDArray[np.int64]]
    replicates: dict[tuple[str, str], Replicates] = field(default_factory=dict)
    point: dict[tuple[str, str, str, str, str], str] = field(default_factory=dict)
    width: dict[str, int] = field(default_factory=dict)
    null: dict[tuple[str, str, str, str, str], list[Replicates]] = field(default_factory=dict)
    untested: dict[tuple[str, str, str, str, str], str] = field(default_factory=dict)

    def score(self, line: Line, probe: str, rung: str) -> Replicates | None:
        """Average precision of a reported point."""
        point = self.point.get((*line, probe, rung))
        return None if point is None else self.replicates.get((point, "average_precision"))


def statistics(given: Given) -> Statistics:
    """All of a run's intervals, tests and sets."""
    book = _read(given)
    results = [_with_interval(row, book, given) for row in given.results]
    nulls: list[Row] = []
    verdicts: dict[Line, tuple[bool | None, list[str]]] = {}
    for line in _lines(given, controls=False):
        tests = list(_null_tests(line, book, given))
        nulls += [_null_row(line, given.probe, *test) for test in tests]
        deciding = [test for _, _, _, test, decides in tests if decides]
        verdicts[line] = above_all(deciding), [test.name for test in deciding if test.above is False]
    curves, claims = _k_tau(book, given, verdicts)
    models, pairs = _standing(book, given, verdicts, claims)
    return Statistics(results, curves, models, pairs, nulls, list(_stability(given)))


# -- what is known of every point


def _read(given: Given) -> _Book:
    book = _Book({})
    for concept, name in enumerate(given.record["concepts"]):
        labels = given.cells.labels[concept]
        counts = np.bincount(given.cells.group[labels == POSITIVE], minlength=len(given.tested))
        book.positives[name] = counts[given.tested]
    values = {
        (row["point_id"], row["metric"]): row["value"]
        for row in given.results
        if (row["split"], row["sampling"]) == ("test", "natural")
    }
    for part in given.parts:
        for row in pq.read_table(part / "replicates.parquet").to_pylist():
            value = values[row["point_id"], row["metric"]]
            deleted = np.asarray(row["deleted"], dtype=np.float64)[given.tested]
            score = Replicates(np.nan if value is None else value, deleted)
            book.replicates[row["point_id"], row["metric"]] = score
        for row in pq.read_table(part / "null_draws.parquet").to_pylist():
            key = row["backbone"], row["layer"], row["concept"], row["condition"], row["rung"]
            if row["reason"] is not None:
                book.untested[key] = row["reason"]
                continue
            deleted = np.asarray(row["deleted"], dtype=np.float64)[given.tested]
            book.null.setdefault(key, []).append(Replicates(np.nan if row["value"] is None else row["value"], deleted))
    several = given.record["repeats"] > 1
    repeats: dict[tuple[str, str, str, str, str], list[str]] = {}
    for row in given.points:
        name = row["backbone"], row["layer"], row["concept"], row["probe"], row["rung"]
        if row["repeat"] is not None:
            repeats.setdefault(name, []).append(row["point_id"])
        if not several or row["repeat"] is None:
            book.point[name] = row["point_id"]
        book.width[row["point_id"]] = round(row["n_channels"])
    if several:
        for name, members in repeats.items():
            for metric in ("average_precision", "f1", "roc_auc"):
                scores = [book.replicates[of, metric] for of in members if (of, metric) in book.replicates]
                if len(scores) == len(members):
                    book.replicates[book.point[name], metric] = Replicates.mean(scores)
    return book


def _lines(given: Given, controls: bool) -> Iterator[Line]:
    """Every layer and concept of the models, or of the controls."""
    for concept in given.record["concepts"]:
        for backbone, about in given.record["backbones"].items():
            if bool(about["control"]) == controls:
                for layer in about["layers"]:
                    yield backbone, layer, concept


def _with_interval(row: Row, book: _Book, given: Given) -> Row:
    score = book.replicates.get((row["point_id"], row["metric"]))
    if score is None or (row["split"], row["sampling"]) != ("test", "natural"):
        return row
    positives = book.positives[_concept_of(row["point_id"])]
    interval = jackknife_interval(score.value, score.deleted, positives)
    if row["metric"] == "roc_auc" and len(positives) < NARROW:
        interval = Interval(score.value, reason=f"no interval of it holds below {NARROW} groups")
    return {**row, "lo": interval.lo, "hi": interval.hi, "reason": interval.reason}


def _concept_of(point_id: str) -> str:
    return point_id.split("|")[2]


# -- nulls


def _null_tests(line: Line, book: _Book, given: Given) -> Iterator[tuple[str, int, float, NullTest, bool]]:
    """Rung, draws, the model's own score, the test, and whether it decides."""
    backbone, layer, concept = line
    full = book.score(line, given.probe, FULL)
    positives = book.positives[concept]
    if full is None:
        return
    for control, about in given.record["backbones"].items():
        if not about["control"] or about["of"] not in (None, backbone):
            continue
        word = control if about["of"] is None else "twin"
        layers = [layer] if about["of"] is not None else list(about["layers"])
        for of_control in layers:
            for probe in given.record["probes"]:
                other = (control, of_control, concept)
                null = book.score(other, probe, FULL) or book.score(other, probe, "chosen")
                if null is not None:
                    yield FULL, 1, full.value, against_null(f"{word} · {probe}", full, null, positives), True
    for condition, decides in ((PERMUTED_LABELS, True), (CONTROL_TASK, False)):
        draws = book.null.get((*line, condition, FULL))
        untested = book.untested.get((*line, condition, FULL))
        if untested is not None:
            unknown = Interval(np.nan, reason=untested)
            yield FULL, 0, full.value, NullTest(condition, np.nan, unknown, None, None), decides
        elif draws:
            test = against_null(condition, full, Replicates.mean(draws), positives)
            yield FULL, len(draws), full.value, test, decides
    for key, draws in book.null.items():
        if key[:4] == (*line, RANDOM_CHANNELS):
            own = book.score(line, given.probe, key[4])
            if own is not None:
                test = against_null(RANDOM_CHANNELS, own, Replicates.mean(draws), positives)
                yield key[4], len(draws), own.value, test, False


def _null_row(line: Line, probe: str, rung: str, draws: int, score: float, test: NullTest, decides: bool) -> Row:
    return {
        **dict(zip(("backbone", "layer", "concept"), line, strict=True)),
        "probe": probe,
        "null": test.name,
        "rung": rung,
        "draws": draws,
        "score": _number(score),
        "value": _number(test.value),
        "difference": _number(test.difference.value),
        "lo": test.difference.lo,
        "hi": test.difference.hi,
        "p": test.p,
        "above": test.above,
        "decides": decides,
        "reason": test.difference.reason,
    }


# -- stability


def _stability(given: Given) -> Iterator[Row]:
    """The stable channels and the index of every set of selections."""
    target = float(given.record["spec"]["stability"]["expected_false"])
    for part in given.parts:
        sets: dict[tuple[Any, ...], list[Row]] = {}
        for row in pq.read_table(part / "selections.parquet").to_pylist():
            key = tuple(row[c] for c in ("backbone", "layer", "concept", "probe", "repeat", "condition", "rung"))
            sets.setdefault(key, []).append(row)
        for (backbone, layer, *rest), rows in sets.items():
            channels = int(given.record["backbones"][backbone]["layers"][layer]["channels"])
            halves, folds = (_members(rows, of, channels) for of in ("half", "fold"))
            frequencies = selection_frequencies(halves)
            stable = stable_set(frequencies, len(halves) // 2, target)
            interval = stability_interval(halves, together=2)
            index = stability_index(folds) if len(folds) > 1 else np.nan
            yield {
                **dict(zip(("concept", "probe", "repeat", "condition", "rung"), rest, strict=True)),
                "backbone": backbone,
                "layer": layer,
                "pairs": len(halves) // 2,
                "q": stable.q,
                "threshold": stable.threshold,
                "bound": stable.bound,
                "assumption": stable.assumption,
                "stable": np.flatnonzero(stable.selected).tolist(),
                "frequencies": frequencies,
                "knockoffs": next((row["channels"] for row in rows if row["of"] == "knockoffs"), None),
                "index_folds": _number(index),
                "index_disjoint": _number(disjoint_stability(halves)),
                "index": _number(interval.value),
                "lo": interval.lo,
                "hi": interval.hi,
                "reason": stable.reason or interval.reason,
            }


def _members(rows: Sequence[Row], of: str, channels: int) -> NDArray[np.bool_]:
    own = [row for row in rows if row["of"] == of]
    found = np.zeros((len(own), channels), dtype=bool)
    for row in own:
        found[row["number"], row["channels"]] = True
    return found


# -- k@tau


def _k_tau(
    book: _Book, given: Given, verdicts: Mapping[Line, tuple[bool | None, list[str]]]
) -> tuple[list[Row], dict[Line, Claim]]:
    """Rows of ``k_tau``, and of the reported probe what claims rest on."""
    rows: list[Row] = []
    claims: dict[Line, Claim] = {}
    handed = _handed_out(given)
    for line in (*_lines(given, controls=False), *_lines(given, controls=True)):
        channels = int(given.record["backbones"][line[0]]["layers"][line[1]]["channels"])
        full = book.score(line, given.probe, FULL)
        if full is None:
            continue
        verdict, beaten_by = verdicts.get(line, (None, []))
        reported: dict[float, KSet] = {}
        for probe in (given.probe, *(name for name in given.record["probes"] if name != given.probe)):
            curve = _curve(book, line, probe, channels, full)
            if len(curve) < 4:
                continue
            widths = [k for k, _ in curve]
            scores = np.array([score.value for _, score in curve])
            deleted = np.array([score.deleted for _, score in curve])
            for tau in SHARES:
                reason = None if verdict is not False else f"the full probe is not above {', '.join(beaten_by)}"
                at = k_at(tau, widths, scores, full.value)
                known = KSet(reason=reason)
                if reason is None and at.k is not None:
                    inputs = (tau, widths, scores, full.value, deleted, full.deleted, book.positives[line[2]])
                    known = k_set(*inputs)
                    if probe == given.probe and tau == CLAIM:
                        claims[line] = Claim(at.k, channels, k_set(*inputs, level=CLAIM_LEVEL))
                k = at.k if reason is None else None
                if probe == given.probe:
                    reported[tau] = known
                rows.append(
                    {
                        **dict(zip(("backbone", "layer", "concept"), line, strict=True)),
                        "probe": probe,
                        "repeat": None if given.record["repeats"] > 1 else 0,
                        "condition": "observed",
                        "tau": tau,
                        "k": k,
                        "lo": known.lo,
                        "hi": known.hi,
                        "open_below": known.open_below if known.lo is not None else None,
                        "open_above": known.open_above if known.lo is not None else None,
                        "share": None if k is None else k / channels,
                        "k_validation": handed.get((*line, probe, f"k{tau * 100:.0f}")),
                        "full": _number(full.value),
                        "agrees": _agree(known, reported.get(tau)) if probe != given.probe else None,
                        "reason": reason or at.reason or known.reason,
                    }
                )
    return rows, claims


def _curve(book: _Book, line: Line, probe: str, channels: int, full: Replicates) -> list[tuple[int, Replicates]]:
    """(channels, score) of a probe's rungs by width, the full probe last; of rungs of one width the last one."""
    found: dict[int, Replicates] = {}
    for (*where, rung), point in book.point.items():
        if tuple(where) == (*line, probe) and rung.isdecimal() and 0 < book.width[point] < channels:
            found[book.width[point]] = book.replicates[point, "average_precision"]
    return [*sorted(found.items()), (channels, full)]


def _agree(one: KSet, other: KSet | None) -> bool | None:
    """Whether two sets share a width; none where either is missing."""
    if other is None or one.lo is None or other.lo is None:
        return None
    return not disjoint(one, other)


def _handed_out(given: Given) -> dict[tuple[str, ...], int]:
    """The k of the scorers that a user takes away, by label, from validation: the median over repeats."""
    found: dict[tuple[str, ...], list[int]] = {}
    for part in given.parts:
        finals = pq.read_table(
            part / "fits.parquet", filters=[("fold", "=", -1)], columns=["fit_id", "label", "n_channels"]
        )
        for row in finals.to_pylist():
            backbone, layer, concept, probe = row["fit_id"].split("|")[:4]
            found.setdefault((backbone, layer, concept, probe, row["label"]), []).append(row["n_channels"])
    return {key: round(float(np.median(ks))) for key, ks in found.items()}


# -- models against one another


def _standing(
    book: _Book,
    given: Given,
    verdicts: Mapping[Line, tuple[bool | None, list[str]]],
    claims: Mapping[Line, Claim],
) -> tuple[list[Row], list[Row]]:
    """Rows of ``models`` and of ``differences``."""
    models: list[Row] = []
    pairs: list[Row] = []
    for concept in given.record["concepts"]:
        positives = book.positives[concept]
        scored = [(line, score) for line in _lines(given, controls=False) if line[2] == concept
                  and (score := _reported(book, line, given)) is not None]  # fmt: skip
        scored.sort(key=lambda entry: (-np.nan_to_num(entry[1].value, nan=-1.0), entry[0]))
        ranked = [(line, score) for line, score in scored if verdicts[line][0] is not False]
        margins = {line: _margins(line, given) for line, _ in ranked} if len(ranked) > 1 else {}
        p = {
            (i, j): _swap(margins[ranked[i][0]], margins[ranked[j][0]], given, concept)
            for i, j in combinations(range(len(ranked)), 2)
        }
        found = differences([score for _, score in ranked], p, positives)
        order = ranks(len(ranked), found)
        by_line = {line: rank for (line, _), rank in zip(ranked, order, strict=True)}
        for d in found:
            one, other = ranked[d.one][0], ranked[d.other][0]
            pairs.append(_difference_row(one, other, d, given, claims))
        controls = [(line, score) for line in _lines(given, controls=True) if line[2] == concept
                    and (score := _reported(book, line, given)) is not None]  # fmt: skip
        for line, score in (*scored, *controls):
            models.append(_model_row(line, score, given, positives, by_line.get(line), verdicts.get(line)))
    return models, pairs


def _reported(book: _Book, line: Line, given: Given) -> Replicates | None:
    return book.score(line, given.probe, FULL) or book.score(line, given.probe, "chosen")


def _model_row(
    line: Line,
    score: Replicates,
    given: Given,
    positives: NDArray[np.int64],
    rank: int | None,
    verdict: tuple[bool | None, list[str]] | None,
) -> Row:
    interval = jackknife_interval(score.value, score.deleted, positives)
    about = given.record["backbones"][line[0]]
    labels = given.cells.labels[given.record["concepts"].index(line[2])]
    kept = (labels != VOID) & given.tested[given.cells.group]
    words = {True: "above", False: "not above", None: "not tested"}
    return {
        **dict(zip(("backbone", "layer", "concept"), line, strict=True)),
        "probe": given.probe,
        "control": bool(about["control"]),
        "channels": int(about["layers"][line[1]]["channels"]),
        "score": _number(score.value),
        "lo": interval.lo,
        "hi": interval.hi,
        "rank": rank,
        "nulls": None if verdict is None else words[verdict[0]],
        "not_above": None if verdict is None else verdict[1],
        "cells": int(kept.sum()),
        "images": len(np.unique(given.images[kept])),
        "groups": len(positives),
        "positive_groups": int((positives > 0).sum()),
        "effective_groups": effective_number(positives),
        "smallest_difference": None if too_few(positives) else smallest_difference(score.deleted, positives),
        "reason": interval.reason,
    }


def _difference_row(one: Line, other: Line, d: Any, given: Given, claims: Mapping[Line, Claim]) -> Row:
    a, b = claims.get(one), claims.get(other)
    known = a is not None and b is not None and a.known.lo is not None and b.known.lo is not None
    return {
        "concept": one[2],
        "probe": given.probe,
        "backbone_a": one[0],
        "layer_a": one[1],
        "backbone_b": other[0],
        "layer_b": other[1],
        "difference": _number(d.difference.value),
        "lo": d.difference.lo,
        "hi": d.difference.hi,
        "p": d.p,
        "p_holm": d.p_holm,
        "smallest_difference": d.smallest,
        "established": d.established if d.p is not None else None,
        "tau": CLAIM,
        "k_a": a and a.k,
        "k_b": b and b.k,
        "share_a": a and a.k / a.channels,
        "share_b": b and b.k / b.channels,
        "k_differs": disjoint(a.known, b.known) if known and a and b else None,
        "share_differs": _shares_apart(a, b) if known and a and b else None,
        "reason": d.difference.reason,
    }


def _shares_apart(one: Claim, other: Claim) -> bool:
    """Whether the sets are disjoint as shares of the layers' widths."""
    for a, b in ((one, other), (other, one)):
        assert a.known.hi is not None  # the caller has looked
        assert b.known.lo is not None
        if a.known.hi / a.channels < b.known.lo / b.channels:
            return not a.known.open_above and not b.known.open_below
    return False


def _margins(line: Line, given: Given) -> list[NDArray[np.float32]]:
    """Pooled margins of a model's reported point, by repeat: (cells,) each."""
    found = []
    for part in given.parts:
        with safe_open(part / "scores.safetensors", framework="numpy") as file:
            names: list[str] = json.loads((file.metadata() or {})["points"])
            for rung in (FULL, "chosen"):
                places = [
                    place
                    for place, name in enumerate(names)
                    if (of := name.split("|"))[:4] == [*line, given.probe] and of[6] == rung
                ]
                if places:
                    found.append(file.get_slice("margins")[places[0]])
                    break
    return found


def _swap(
    one: Iterable[NDArray[np.float32]], other: Iterable[NDArray[np.float32]], given: Given, concept: str
) -> float:
    labels = given.cells.labels[given.record["concepts"].index(concept)]
    renumbered = np.cumsum(given.tested) - 1
    pairs: list[RankedPair] = []
    for a, b in zip(one, other, strict=True):
        kept = (labels != VOID) & ~np.isnan(a)
        y, group = (labels[kept] == POSITIVE).astype(np.int8), renumbered[given.cells.group[kept]]
        pairs.append(ranked_pair(a[kept], b[kept], y, group, int(given.tested.sum())))
    return swap_test(pairs, generator(given.seed, "swap test", concept))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
