"""Models against their nulls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from probekit.api import FULL
from probekit.compare.standing import NullTest, against_null
from probekit.evaluate.intervals import (
    Interval,
    Replicates,
)
from probekit.runner.analyses.conditions import CONTROL_TASK, PERMUTED_LABELS
from probekit.runner.analyses.nulls import RANDOM_CHANNELS
from probekit.runner.statistics.book import Book, Given, Line, Row, number


def null_tests(line: Line, book: Book, given: Given) -> Iterator[tuple[str, int, float, NullTest, bool]]:
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


def null_row(line: Line, probe: str, rung: str, draws: int, score: float, test: NullTest, decides: bool) -> Row:
    """A row of ``nulls``."""
    return {
        **dict(zip(("backbone", "layer", "concept"), line, strict=True)),
        "probe": probe,
        "null": test.name,
        "rung": rung,
        "draws": draws,
        "score": number(score),
        "value": number(test.value),
        "difference": number(test.difference.value),
        "lo": test.difference.lo,
        "hi": test.difference.hi,
        "p": test.p,
        "above": test.above,
        "decides": decides,
        "reason": test.difference.reason,
    }
