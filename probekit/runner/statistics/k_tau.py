"""How few channels suffice, by every path that grows in channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from probekit.api import FULL
from probekit.compare.k_at import k_at
from probekit.compare.k_set import KSet, disjoint, k_set
from probekit.evaluate.intervals import (
    Replicates,
)
from probekit.runner.job import SHARES
from probekit.runner.statistics.book import Book, Given, Line, Row, lines_of, number

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


def k_tau_rows(
    book: Book, given: Given, verdicts: Mapping[Line, tuple[bool | None, list[str]]]
) -> tuple[list[Row], dict[Line, Claim]]:
    """Rows of ``k_tau``, and of the reported probe what claims rest on."""
    rows: list[Row] = []
    claims: dict[Line, Claim] = {}
    handed = _handed_out(given)
    for line in (*lines_of(given, controls=False), *lines_of(given, controls=True)):
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
                        "full": number(full.value),
                        "agrees": _agree(known, reported.get(tau)) if probe != given.probe else None,
                        "reason": reason or at.reason or known.reason,
                    }
                )
    return rows, claims


def _curve(book: Book, line: Line, probe: str, channels: int, full: Replicates) -> list[tuple[int, Replicates]]:
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
