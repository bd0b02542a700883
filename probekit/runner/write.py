"""A finished job on disk: a folder of table parts, scorers and score maps, there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save

from probekit.evaluate.scorer import save_scorer
from probekit.runner.analyses.analyse import Analyses
from probekit.runner.assess import Assessed, Point, curve_k, pool
from probekit.runner.fold_fits import fold_fits, write_fold_fits
from probekit.runner.folder import write_atomically
from probekit.runner.job import SHARES, JobInput, JobOutput
from probekit.runner.records import (
    channel_rows,
    code_rows,
    fit_rows,
    group_rows,
    interaction_rows,
    null_rows,
    outer_rows,
    point_id,
    point_rows,
    reliability_rows,
    replicate_rows,
    result_rows,
    selection_rows,
)
from probekit.runner.tables import write_arrow, write_table


def write_job(
    target: Path,
    job: JobInput,
    output: JobOutput,
    assessed: Sequence[Assessed],
    analyses: Analyses,
    described: Mapping[str, Any],
) -> None:
    """Writes what a job found into ``target``, by a temporary folder and one rename.

    Args:
        described: the network, as ``run.json`` has it: what a scorer needs to be used elsewhere.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_table(temporary, "points", point_rows(job, [a.point for a in assessed]))
    write_table(temporary, "results", (row for a in assessed for row in result_rows(job, a)))
    write_table(temporary, "fits", fit_rows(job, output))
    write_table(temporary, "channels", channel_rows(job, output, analyses.substitutes))
    write_table(temporary, "replicates", (row for a in assessed for row in replicate_rows(job, a)))
    write_table(temporary, "null_draws", null_rows(job, analyses.nulls))
    write_table(temporary, "reliability", (row for a in assessed for row in reliability_rows(job, a)))
    write_table(temporary, "outer", outer_rows(job, analyses.outer))
    write_table(temporary, "selections", selection_rows(job, analyses.selections))
    write_table(temporary, "codes", code_rows(job, analyses.codes))
    write_table(temporary, "interactions", interaction_rows(job, analyses.interactions))
    groups = [group_rows(job, a) for a in assessed]
    write_arrow(temporary / "groups.parquet", pa.concat_tables(groups))
    write_table(
        temporary,
        "histograms",
        (
            {
                "point_id": point_id(job, a.point.probe, a.point.concept, a.point.rung),
                "edges": a.histograms.edges.astype(np.float32),
                "tied": a.histograms.tied,
            }
            for a in assessed
            if a.histograms is not None
        ),
    )
    if job.repeat == 0:
        write_fold_fits(temporary, *fold_fits(job, output))
    _write_scorers(temporary, job, output, described)
    _write_scores(temporary, job, assessed)
    temporary.replace(target)


def _write_scorers(folder: Path, job: JobInput, output: JobOutput, described: Mapping[str, Any]) -> None:
    """The final fits as files that run."""
    folder = folder / "scorers"
    folder.mkdir()
    for probe, finals in output.finals.items():
        for concept, by_label in finals.items():
            name = job.dataset.concepts[concept]
            for label, (fit, threshold) in by_label.items():
                metadata = {
                    "concept": name,
                    "probe": probe,
                    "label": label,
                    "backbone": job.backbone,
                    "layer": job.layer,
                    "threshold": threshold,
                    "plugin": described["plugin"],
                    "adapter_version": described["adapter_version"],
                    "weights_digest": described["weights"]["digest"],
                    "weights_source": described["weights"]["source"],
                    "preprocessing": described["preprocessing"],
                    "channels": described["layers"][job.layer]["channels"],
                }
                save_scorer(folder / f"{_safe(name)}.{_safe(probe)}.{label}.safetensors", fit.scorer, metadata)


def _safe(name: str) -> str:
    """A name as a part of a file's name, distinct for distinct names."""
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _write_scores(folder: Path, job: JobInput, assessed: Sequence[Assessed]) -> None:
    """Pooled margins of every reference cell for the reported points: ``chosen``, ``full`` and k@tau."""
    points: dict[str, Point] = {}
    for a in assessed:
        shares = [curve_k(job, assessed, a.point.probe, a.point.concept, share) for share in SHARES]
        if isinstance(a.point.rung, str) or a.point.rung in [at.k for at in shares if at is not None]:
            points[point_id(job, a.point.probe, a.point.concept, a.point.rung)] = a.point
    margins = pool(job, list(points.values())).margins
    header = {"points": json.dumps(list(points))}
    write_atomically(folder / "scores.safetensors", save({"margins": margins}, header))
