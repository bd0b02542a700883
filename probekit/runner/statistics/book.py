"""What statistics are made of: every score of a run, with and without each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probekit.api import POSITIVE
from probekit.evaluate.intervals import (
    Replicates,
)
from probekit.runner.scoring import ReferenceCells

Row = dict[str, Any]
Line = tuple[str, str, str]
"""(backbone, layer, concept)."""


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
class Book:
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


def read(given: Given) -> Book:
    """Everything that the parts of the jobs hold of a score."""
    book = Book({})
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


def lines_of(given: Given, controls: bool) -> Iterator[Line]:
    """Every layer and concept of the models, or of the controls."""
    for concept in given.record["concepts"]:
        for backbone, about in given.record["backbones"].items():
            if bool(about["control"]) == controls:
                for layer in about["layers"]:
                    yield backbone, layer, concept


def number(value: float) -> float | None:
    """NaN is null: a number that is not defined."""
    return None if np.isnan(value) else float(value)
