"""Rows of ``cross_label`` and ``label_agreement``: what several label sources of one run say of each other's probes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from probekit.api import Provenance
from probekit.compare.cross_label import CrossScore, agreements, cross_scores
from probekit.plan.units import Job
from probekit.runner.scoring import ReferenceCells
from probekit.runner.sources import same_family

RUNGS = ("chosen", "full")
"""The points that are scored on every source's labels."""

Row = dict[str, Any]


def agreement_rows(record: Mapping[str, Any], cells: ReferenceCells) -> Iterator[Row]:
    """Rows of ``label_agreement``: each two sources of each concept that they share.

    Args:
        record: what ``run.json`` says.
        cells: the run's reference cells.
    """
    for concept, by_source in record["shared_concepts"].items():
        for found in agreements(_labels(record, cells, by_source)):
            yield {
                "concept": concept,
                "one": found.one,
                "other": found.other,
                "cells": found.cells,
                "both": found.both,
                "only_one": found.only_one,
                "only_other": found.only_other,
                "iou": _number(found.iou),
                "kappa": _number(found.kappa),
            }


def cross_label_rows(
    jobs: Sequence[Job], parts: Sequence[Path], record: Mapping[str, Any], cells: ReferenceCells
) -> Iterator[Row]:
    """Rows of ``cross_label``: every (backbone, layer, probe) of a concept that several sources label, trained on the
    labels of each and scored on those of all; over repeats their mean.

    Args:
        jobs: all of the run.
        parts: their finished folders, each with ``points.parquet`` and ``scores.safetensors``.
        record: what ``run.json`` says.
        cells: the run's reference cells.
    """
    if not record["shared_concepts"]:
        return
    by_layer: dict[tuple[str, str], list[Path]] = {}
    for job, part in zip(jobs, parts, strict=True):
        by_layer.setdefault((job.backbone, job.layer), []).append(part)
    for (backbone, layer), folders in by_layer.items():
        repeats = [_margins(folder) for folder in folders]
        for concept, by_source in record["shared_concepts"].items():
            labels = _labels(record, cells, by_source)
            for probe, rung in dict.fromkeys((probe, rung) for of in repeats for _, probe, rung in of):
                margins = {
                    name: np.stack([of[full_name, probe, rung] for of in repeats])
                    for name, full_name in by_source.items()
                    if all((full_name, probe, rung) in of for of in repeats)
                }
                for found in cross_scores(margins, labels, cells.group) if margins else ():
                    used = by_source[found.trained_on], by_source[found.scored_on]
                    yield {
                        "backbone": backbone,
                        "layer": layer,
                        "concept": concept,
                        "probe": probe,
                        "rung": rung,
                        "trained_on": found.trained_on,
                        "scored_on": found.scored_on,
                        "labels": _whose(record, used[1], backbone),
                        "circular": any([backbone, name] in record["circular"] for name in used),
                        **_numbers(found),
                    }


def _numbers(found: CrossScore) -> Row:
    precision = found.average_precision
    return {
        "average_precision": _number(precision.value),
        "lo": precision.lo,
        "hi": precision.hi,
        "reason": precision.reason,
        "cells": found.cells,
        "positives": found.positives,
        "groups": found.groups,
        "positive_groups": found.positive_groups,
    }


def _whose(record: Mapping[str, Any], concept: str, backbone: str) -> str:
    """Whose labels these are, seen from a backbone: ``own``, ``model`` (of another family, or of a twin's original),
    ``people``, ``renderer``."""
    made, network = Provenance(**record["label_provenance"][concept]), record["backbones"][backbone]
    return "own" if network["kind"] == "model" and same_family(made, network["family"]) else made.made_by


def _labels(
    record: Mapping[str, Any], cells: ReferenceCells, by_source: Mapping[str, str]
) -> dict[str, NDArray[np.int8]]:
    return {name: cells.labels[record["concepts"].index(concept)] for name, concept in by_source.items()}


def _margins(folder: Path) -> dict[tuple[str, str, str], NDArray[np.float32]]:
    """(concept, probe, rung) -> pooled test margins of the reference cells, of one finished job."""
    rows = pq.read_table(folder / "points.parquet").to_pylist()
    names = {row["point_id"]: (row["concept"], row["probe"], row["rung"]) for row in rows if _reported(row)}
    with safe_open(folder / "scores.safetensors", framework="numpy") as file:
        points = json.loads(file.metadata()["points"])
        margins = file.get_slice("margins")
        return {names[point]: margins[place] for place, point in enumerate(points) if point in names}


def _reported(row: Mapping[str, Any]) -> bool:
    return row["rung"] in RUNGS and row["condition"] == "observed"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
