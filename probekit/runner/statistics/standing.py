"""Models against one another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from probekit.api import FULL, POSITIVE, VOID
from probekit.compare.k_set import disjoint
from probekit.compare.standing import Difference, differences, ranks
from probekit.evaluate.intervals import (
    Replicates,
    effective_number,
    jackknife_interval,
    too_few,
)
from probekit.evaluate.paired import RankedPair, ranked_pair, smallest_difference, swap_test
from probekit.runner.statistics.book import Book, Given, Line, Row, lines_of, number
from probekit.runner.statistics.k_tau import CLAIM, Claim
from probekit.sampling.seeds import generator


def standing_rows(
    book: Book,
    given: Given,
    verdicts: Mapping[Line, tuple[bool | None, list[str]]],
    claims: Mapping[Line, Claim],
) -> tuple[list[Row], list[Row]]:
    """Rows of ``models`` and of ``differences``."""
    models: list[Row] = []
    pairs: list[Row] = []
    for concept in given.record["concepts"]:
        positives = book.positives[concept]
        scored = [(line, score) for line in lines_of(given, controls=False) if line[2] == concept
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
        controls = [(line, score) for line in lines_of(given, controls=True) if line[2] == concept
                    and (score := _reported(book, line, given)) is not None]  # fmt: skip
        for line, score in (*scored, *controls):
            models.append(_model_row(line, score, given, positives, by_line.get(line), verdicts.get(line)))
    return models, pairs


def _reported(book: Book, line: Line, given: Given) -> Replicates | None:
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
        "score": number(score.value),
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


def _difference_row(one: Line, other: Line, d: Difference, given: Given, claims: Mapping[Line, Claim]) -> Row:
    a, b = claims.get(one), claims.get(other)
    known = a is not None and b is not None and a.known.lo is not None and b.known.lo is not None
    return {
        "concept": one[2],
        "probe": given.probe,
        "backbone_a": one[0],
        "layer_a": one[1],
        "backbone_b": other[0],
        "layer_b": other[1],
        "difference": number(d.difference.value),
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
