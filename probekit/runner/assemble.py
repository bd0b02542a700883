"""The jobs' parts joined into the run's tables, with what can only be said once all jobs are done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probekit.api import FULL
from probekit.plan.units import Job
from probekit.runner.clock import Clock
from probekit.runner.comparisons.adjusted import adjusted
from probekit.runner.comparisons.depth import Costs, cost_timings, depth_rows
from probekit.runner.cross_labels import agreement_rows, cross_label_rows
from probekit.runner.folder import STATE, dump_json, write_atomically
from probekit.runner.scoring import ReferenceCells
from probekit.runner.sources import mark_circular
from probekit.runner.statistics.book import Given
from probekit.runner.statistics.everything import statistics
from probekit.runner.tables import join_tables, write_table
from probekit.sampling.splits import Fold

_UNIT = ("backbone", "layer", "concept", "probe")
_JOINED = (
    "fits",
    "channels",
    "groups",
    "histograms",
    "replicates",
    "null_draws",
    "selections",
    "codes",
    "reliability",
    "outer",
)


def assemble(
    folder: Path,
    jobs: Sequence[Job],
    record: Mapping[str, Any],
    cells: ReferenceCells,
    images: NDArray[np.int32],
    folds: Sequence[Sequence[Fold]],
    costs: Costs,
    clock: Clock,
) -> None:
    """Writes the run's tables, its scorers and score maps, and last of all that it is complete.

    Args:
        record: what ``run.json`` says.
        cells: that were scored.
        images: the image of each cell, (cells,).
        folds: of each repeat.
        costs: of every layer.
        clock: of this process; what an earlier one that was stopped took is not known.
    """
    parts = [folder / "jobs" / job.name for job in jobs]
    tested = np.zeros(len(record["groups"]), dtype=bool)
    tested[np.concatenate([fold.test for of_repeat in folds for fold in of_repeat])] = True
    for name in _JOINED:
        join_tables(parts, folder, name)
    pairs_of = [row for part in parts for row in pq.read_table(part / "interactions.parquet").to_pylist()]
    write_table(folder, "interactions", adjusted(pairs_of, "p_gain", "established", "gain"))
    points = [row for part in parts for row in pq.read_table(part / "points.parquet").to_pylist()]
    results = [row for part in parts for row in pq.read_table(part / "results.parquet").to_pylist()]
    if record["repeats"] > 1:
        means, scores = _over_repeats(points, results)
        points, results = points + means, results + scores
    full = [row["probe"] for row in points if row["rung"] == FULL]
    reported = full[0] if full else record["probes"][0]
    with clock.measured("statistics", "intervals, nulls, differences"):
        given = Given(parts, points, results, record, cells, tested, reported, images, record["spec"]["seed"])
        found = statistics(given)
    pairs = {(backbone, concept) for backbone, concept in record["circular"]}
    points = list(mark_circular(points, pairs))
    write_table(folder, "points", points)
    write_table(folder, "results", mark_circular(found.results, pairs, points))
    for name in ("k_tau", "models", "differences", "nulls", "stability"):
        write_table(folder, name, mark_circular(getattr(found, name), pairs))
    write_table(folder, "folds", _fold_rows(folds, record["groups"]))
    write_table(folder, "depth", depth_rows(record, found.models, found.k_tau, found.results, points, costs))
    with clock.measured("statistics", "cross labels"):
        write_table(folder, "cross_label", cross_label_rows(jobs, parts, record, cells))
        write_table(folder, "label_agreement", agreement_rows(record, cells))
    for kind in ("scorers", "scores"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir()
    for job, part in zip(jobs, parts, strict=True):
        shutil.copytree(part / "scorers", folder / "scorers" / job.name)
        shutil.copyfile(part / "scores.safetensors", folder / "scores" / f"{job.name}.safetensors")
    write_table(folder, "timings", [*clock.rows, *cost_timings(costs)])
    write_atomically(folder / STATE, dump_json({**record, "reported_probe": reported, "complete": True}))
    shutil.rmtree(folder / "jobs")


def _fold_rows(folds: Sequence[Sequence[Fold]], groups: Sequence[str]) -> Iterator[dict[str, Any]]:
    for repeat, of_repeat in enumerate(folds):
        for fold in of_repeat:
            for group in fold.test:
                yield {"repeat": repeat, "fold": fold.index, "group": groups[group]}


def _over_repeats(
    points: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Points whose repeat is null, and the means of their repeats' scores."""
    means: dict[str, dict[str, Any]] = {}
    repeats: dict[str, list[dict[str, Any]]] = {}
    of: dict[str, str] = {}
    for row in points:
        name = "|".join((*(row[column] for column in _UNIT), "mean", row["condition"], row["rung"]))
        of[row["point_id"]] = name
        means.setdefault(name, {**row, "point_id": name, "repeat": None})
        repeats.setdefault(name, []).append(row)
    for name, row in means.items():
        ratios = [one["lambda_ratio"] for one in repeats[name] if one["lambda_ratio"] is not None]
        row["lambda_ratio"] = float(np.median(ratios)) if ratios else None
        row["k"] = row["k"] if len({one["k"] for one in repeats[name]}) == 1 else None
        row["n_channels"] = float(np.median([one["n_channels"] for one in repeats[name]]))
    values: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in results:
        key = (of[row["point_id"]], row["split"], row["sampling"], row["grid"], row["metric"])
        values.setdefault(key, []).append(row)
    scores = []
    for (name, *_), rows in values.items():
        known = [row["value"] for row in rows if row["value"] is not None]
        value = float(np.mean(known)) if len(known) == len(rows) else None
        scores.append({**rows[0], "point_id": name, "value": value})
    return list(means.values()), scores
