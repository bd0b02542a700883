"""The jobs' parts joined into the run's tables, with what can only be said once all jobs are done."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from probekit.api import FULL
from probekit.compare.k_at import not_above
from probekit.plan.units import Job
from probekit.runner.folder import STATE, dump_json, write_atomically
from probekit.runner.tables import join_tables, write_table

PIXELS = "pixels"
"""The control that the full probe must beat for k@tau to mean anything."""

_UNIT = ("backbone", "layer", "concept", "probe")
_JOINED = ("fits", "channels", "groups", "histograms")


def assemble(
    folder: Path, jobs: Sequence[Job], record: Mapping[str, Any], timings: Sequence[Mapping[str, Any]]
) -> None:
    """Writes the run's tables, its scorers and score maps, and last of all that it is complete.

    Args:
        record: what ``run.json`` says.
        timings: rows of ``timings`` of this process; those of an earlier one that was stopped are not known.
    """
    parts = [folder / "jobs" / job.name for job in jobs]
    for name in _JOINED:
        join_tables(parts, folder, name)
    points = [row for part in parts for row in pq.read_table(part / "points.parquet").to_pylist()]
    results = [row for part in parts for row in pq.read_table(part / "results.parquet").to_pylist()]
    curves = [row for part in parts for row in pq.read_table(part / "k_at_tau.parquet").to_pylist()]
    curves = [_judged(row, curves) for row in curves]
    if record["repeats"] > 1:
        means, scores = _over_repeats(points, results)
        points, results = points + means, results + scores
        curves += _curves_over_repeats(curves)
    write_table(folder, "points", points)
    write_table(folder, "results", results)
    write_table(folder, "k_at_tau", curves)
    for kind in ("scorers", "scores"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir()
    for job, part in zip(jobs, parts, strict=True):
        shutil.copytree(part / "scorers", folder / "scorers" / job.name)
        shutil.copyfile(part / "scores.safetensors", folder / "scores" / f"{job.name}.safetensors")
    write_table(folder, "timings", timings)
    full = [row["probe"] for row in points if row["rung"] == FULL]
    reported = full[0] if full else record["probes"][0]
    write_atomically(folder / STATE, dump_json({**record, "reported_probe": reported, "complete": True}))
    shutil.rmtree(folder / "jobs")


def _judged(row: dict[str, Any], curves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """k is undefined where the full probe is not above the ``pixels`` control of the same concept, probe and repeat."""
    if row["backbone"] == PIXELS:
        return row
    same = ("concept", "probe", "repeat")
    pixels = [
        other["full"] for other in curves if other["backbone"] == PIXELS and all(other[k] == row[k] for k in same)
    ]
    reason = not_above(row["full"], max(pixels)) if pixels else None
    return row if reason is None else {**row, "k": None, "reason": reason}


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


def _curves_over_repeats(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """k@tau over repeats: the median of the repeats' k, undefined where any of them is."""
    by_curve: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in curves:
        curve = tuple(row[column] for column in (*_UNIT, "condition", "tau"))
        by_curve.setdefault(curve, []).append(row)
    means = []
    for rows in by_curve.values():
        undefined = [row["reason"] for row in rows if row["k"] is None]
        k = None if undefined else round(float(np.median([row["k"] for row in rows])))
        full = [row["full"] for row in rows if row["full"] is not None]
        reason = f"in {len(undefined)} of {len(rows)} repeats: {undefined[0]}" if undefined else None
        means.append(
            {
                **rows[0],
                "repeat": None,
                "k": k,
                "k_validation": round(float(np.median([row["k_validation"] for row in rows]))),
                "full": float(np.mean(full)) if full else None,
                "reason": reason,
            }
        )
    return means
