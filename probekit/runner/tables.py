"""The tables of a run: their columns, and how they are written so that two runs of one spec are equal byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from probekit.runner.folder import write_atomically

SCHEMA_VERSION = 2

_IDENTITY = [
    ("backbone", pa.string()),
    ("layer", pa.string()),
    ("concept", pa.string()),
    ("probe", pa.string()),
    ("repeat", pa.int32()),
    ("condition", pa.string()),
]

SCHEMAS: Mapping[str, pa.Schema] = {
    "points": pa.schema(
        [
            ("point_id", pa.string()),
            *_IDENTITY,
            ("rung", pa.string()),
            ("lambda_ratio", pa.float64()),
            ("k", pa.int32()),
            ("n_channels", pa.float64()),
            ("circular", pa.bool_()),
        ]
    ),
    "results": pa.schema(
        [
            ("point_id", pa.string()),
            ("split", pa.string()),
            ("sampling", pa.string()),
            ("grid", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("lo", pa.float64()),
            ("hi", pa.float64()),
            ("n_groups", pa.int32()),
            ("reason", pa.string()),
            ("circular", pa.bool_()),
        ]
    ),
    "fits": pa.schema(
        [
            ("fit_id", pa.string()),
            ("point_id", pa.string()),
            ("fold", pa.int32()),
            ("label", pa.string()),
            ("lambda", pa.float64()),
            ("lambda_ratio", pa.float64()),
            ("C", pa.float64()),
            ("ridge", pa.float64()),
            ("epochs", pa.int32()),
            ("n_channels", pa.int32()),
            ("chosen", pa.bool_()),
            ("validation_ap", pa.float64()),
            ("threshold", pa.float64()),
            ("gap", pa.float64()),
            ("certified", pa.bool_()),
            ("iterations", pa.int32()),
            ("rows", pa.int32()),
            ("details", pa.string()),
        ]
    ),
    "channels": pa.schema(
        [
            ("fit_id", pa.string()),
            ("channel", pa.int32()),
            ("rank", pa.int32()),
            ("coefficient", pa.float64()),
            ("weight", pa.float64()),
            ("folds", pa.float64()),
            ("substitutes", pa.list_(pa.int32())),
            ("correlations", pa.list_(pa.float64())),
        ]
    ),
    "k_tau": pa.schema(
        [
            *_IDENTITY,
            ("tau", pa.float64()),
            ("k", pa.int32()),
            ("lo", pa.int32()),
            ("hi", pa.int32()),
            ("open_below", pa.bool_()),
            ("open_above", pa.bool_()),
            ("share", pa.float64()),
            ("k_validation", pa.int32()),
            ("full", pa.float64()),
            ("agrees", pa.bool_()),
            ("reason", pa.string()),
            ("circular", pa.bool_()),
        ]
    ),
    "models": pa.schema(
        [
            ("backbone", pa.string()),
            ("layer", pa.string()),
            ("concept", pa.string()),
            ("probe", pa.string()),
            ("control", pa.bool_()),
            ("channels", pa.int32()),
            ("score", pa.float64()),
            ("lo", pa.float64()),
            ("hi", pa.float64()),
            ("rank", pa.int32()),
            ("nulls", pa.string()),
            ("not_above", pa.list_(pa.string())),
            ("cells", pa.int64()),
            ("images", pa.int32()),
            ("groups", pa.int32()),
            ("positive_groups", pa.int32()),
            ("effective_groups", pa.float64()),
            ("smallest_difference", pa.float64()),
            ("reason", pa.string()),
            ("circular", pa.bool_()),
        ]
    ),
    "differences": pa.schema(
        [
            ("concept", pa.string()),
            ("probe", pa.string()),
            ("backbone_a", pa.string()),
            ("layer_a", pa.string()),
            ("backbone_b", pa.string()),
            ("layer_b", pa.string()),
            ("difference", pa.float64()),
            ("lo", pa.float64()),
            ("hi", pa.float64()),
            ("p", pa.float64()),
            ("p_holm", pa.float64()),
            ("smallest_difference", pa.float64()),
            ("established", pa.bool_()),
            ("tau", pa.float64()),
            ("k_a", pa.int32()),
            ("k_b", pa.int32()),
            ("share_a", pa.float64()),
            ("share_b", pa.float64()),
            ("k_differs", pa.bool_()),
            ("share_differs", pa.bool_()),
            ("reason", pa.string()),
            ("circular", pa.bool_()),
        ]
    ),
    "nulls": pa.schema(
        [
            ("backbone", pa.string()),
            ("layer", pa.string()),
            ("concept", pa.string()),
            ("probe", pa.string()),
            ("null", pa.string()),
            ("rung", pa.string()),
            ("draws", pa.int32()),
            ("score", pa.float64()),
            ("value", pa.float64()),
            ("difference", pa.float64()),
            ("lo", pa.float64()),
            ("hi", pa.float64()),
            ("p", pa.float64()),
            ("above", pa.bool_()),
            ("decides", pa.bool_()),
            ("reason", pa.string()),
            ("circular", pa.bool_()),
        ]
    ),
    "replicates": pa.schema([("point_id", pa.string()), ("metric", pa.string()), ("deleted", pa.list_(pa.float64()))]),
    "null_draws": pa.schema(
        [
            *_IDENTITY,
            ("rung", pa.string()),
            ("draw", pa.int32()),
            ("value", pa.float64()),
            ("deleted", pa.list_(pa.float64())),
            ("reason", pa.string()),
        ]
    ),
    "selections": pa.schema(
        [
            *_IDENTITY,
            ("rung", pa.int32()),
            ("of", pa.string()),
            ("number", pa.int32()),
            ("channels", pa.list_(pa.int32())),
        ]
    ),
    "stability": pa.schema(
        [
            *_IDENTITY,
            ("rung", pa.int32()),
            ("pairs", pa.int32()),
            ("q", pa.float64()),
            ("threshold", pa.float64()),
            ("bound", pa.float64()),
            ("assumption", pa.string()),
            ("stable", pa.list_(pa.int32())),
            ("frequencies", pa.list_(pa.float64())),
            ("knockoffs", pa.list_(pa.int32())),
            ("index_folds", pa.float64()),
            ("index_disjoint", pa.float64()),
            ("index", pa.float64()),
            ("lo", pa.float64()),
            ("hi", pa.float64()),
            ("reason", pa.string()),
            ("circular", pa.bool_()),
        ]
    ),
    "codes": pa.schema(
        [
            *_IDENTITY,
            ("bits", pa.float64()),
            ("uniform", pa.float64()),
            ("compression", pa.float64()),
            ("plain", pa.float64()),
            ("final", pa.float64()),
            ("portions", pa.list_(pa.float64())),
            ("portions_uniform", pa.list_(pa.float64())),
        ]
    ),
    "reliability": pa.schema(
        [
            ("point_id", pa.string()),
            ("calibrated", pa.bool_()),
            ("bin", pa.int32()),
            ("predicted", pa.float64()),
            ("observed", pa.float64()),
            ("cells", pa.int64()),
            ("positives", pa.int64()),
        ]
    ),
    "outer": pa.schema(
        [
            *_IDENTITY,
            ("outer", pa.string()),
            ("value", pa.float64()),
            ("cells", pa.int64()),
            ("positives", pa.int64()),
            ("groups", pa.int32()),
            ("reason", pa.string()),
        ]
    ),
    "groups": pa.schema(
        [
            ("point_id", pa.string()),
            ("group", pa.string()),
            ("tp", pa.int64()),
            ("fp", pa.int64()),
            ("fn", pa.int64()),
            ("tn", pa.int64()),
            ("loss_negatives", pa.float64()),
            ("loss_positives", pa.float64()),
            ("positives", pa.list_(pa.int32())),
            ("negatives", pa.list_(pa.int32())),
        ]
    ),
    "histograms": pa.schema(
        [("point_id", pa.string()), ("edges", pa.list_(pa.float32())), ("tied", pa.list_(pa.bool_()))]
    ),
    "cross_label": pa.schema(
        [
            ("backbone", pa.string()),
            ("layer", pa.string()),
            ("concept", pa.string()),
            ("probe", pa.string()),
            ("rung", pa.string()),
            ("trained_on", pa.string()),
            ("scored_on", pa.string()),
            ("labels", pa.string()),
            ("circular", pa.bool_()),
            ("average_precision", pa.float64()),
            ("lo", pa.float64()),
            ("hi", pa.float64()),
            ("reason", pa.string()),
            ("cells", pa.int64()),
            ("positives", pa.int64()),
            ("groups", pa.int32()),
            ("positive_groups", pa.int32()),
        ]
    ),
    "label_agreement": pa.schema(
        [
            ("concept", pa.string()),
            ("one", pa.string()),
            ("other", pa.string()),
            ("cells", pa.int64()),
            ("both", pa.int64()),
            ("only_one", pa.int64()),
            ("only_other", pa.int64()),
            ("iou", pa.float64()),
            ("kappa", pa.float64()),
        ]
    ),
    "timings": pa.schema([("stage", pa.string()), ("what", pa.string()), ("seconds", pa.float64())]),
}
"""Every table by name; ``docs/reference/results.md`` describes each column, which a test holds to be so."""


def write_table(path: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows (a value a column; absent means null) as ``path/name.parquet``, whole or not at all."""
    write_arrow(path / f"{name}.parquet", pa.Table.from_pylist(list(rows), schema=SCHEMAS[name]))


def write_arrow(path: Path, table: pa.Table) -> None:
    """Writes an Arrow table atomically, with settings that are fixed."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6", store_schema=False)
    write_atomically(path, buffer.getvalue())


def join_tables(parts: Iterable[Path], path: Path, name: str) -> None:
    """Joins the parts' tables of one name, in the order given, into ``path/name.parquet``."""
    tables = [pq.read_table(part / f"{name}.parquet", schema=SCHEMAS[name]) for part in parts]
    write_arrow(path / f"{name}.parquet", pa.concat_tables(tables) if tables else SCHEMAS[name].empty_table())
