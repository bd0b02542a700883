"""A run's folder with rows in every table that a page shows, whatever the run was made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

from probekit.runner.run import Run, load
from probekit.runner.schemas import SCHEMAS

Rows = list[dict[str, Any]]


def copied(run: Run, folder: Path) -> Path:
    """A run's folder to be changed."""
    shutil.copytree(run.path, folder)
    return folder


def write_rows(folder: Path, table: str, rows: Rows) -> None:
    """A table of these rows; columns that a row leaves out are null."""
    schema = SCHEMAS[table]
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{table}.parquet")


def edit(folder: Path, table: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Changes every row of a table: what ``change`` returns is set."""
    rows = pq.read_table(folder / f"{table}.parquet").to_pylist()
    write_rows(folder, table, [{**row, **change(row)} for row in rows])


def fill(folder: Path) -> Run:
    """Writes rows into every table of the comparison, as a run of several layers and models would."""
    run = load(folder)
    draw = np.random.default_rng(5)
    models = run.models
    keys = [
        (str(r["backbone"]), str(r["layer"]), str(r["concept"])) for r in models[~models["control"]].to_dict("records")
    ]
    selected = {key: list(_selected(run, *key)) for key in keys}
    for table, rows in (
        ("depth", _depth(models, draw)),
        ("profiles", [row for key, found in selected.items() for row in _profiles(key, found, draw)]),
        ("exemplars", [row for key, found in selected.items() for row in _exemplars(run, key, found[:6], draw)]),
        ("matches", [row for a, b in _pairs(keys) for row in _matches(a, b, selected, draw)]),
        ("subspaces", [_subspace(a, b, draw) for a, b in _pairs(keys)]),
        ("complements", [_complement(a, b, draw) for a, b in _pairs(keys)]),
        ("interactions", [row for key, found in selected.items() for row in _interactions(key, found, draw)]),
        ("ablation", [_ablation(key, draw) for key in keys]),
        ("cross_label", [row for key in keys for row in _cross_label(run, key, draw)]),
        ("label_agreement", [_agreement(concept, draw) for concept in run.info["concepts"]]),
    ):
        write_rows(folder, table, rows)
    return load(folder)


def _pairs(keys: list[tuple[str, str, str]]) -> Iterator[tuple[tuple[str, str, str], tuple[str, str, str]]]:
    return ((a, b) for a, b in permutations(keys, 2) if a[2] == b[2] and a[0] != b[0])


def _names(*keys: tuple[str, str, str]) -> dict[str, Any]:
    if len(keys) == 1:
        return dict(zip(("backbone", "layer", "concept"), keys[0], strict=True))
    a, b = keys
    return {"backbone_a": a[0], "layer_a": a[1], "backbone_b": b[0], "layer_b": b[1], "concept": a[2]}


def _selected(run: Run, backbone: str, layer: str, concept: str) -> Iterator[dict[str, Any]]:
    start = f"{backbone}|{layer}|{concept}|{run.info['reported_probe']}|0|observed"
    for label in ("k95", "chosen"):
        rows = run.channels[run.channels["fit_id"] == f"{start}|{label}|final"]
        if len(rows):
            rows = rows.reindex(rows["coefficient"].abs().sort_values(ascending=False, kind="stable").index)
            yield from rows.to_dict("records")
            return


def _spread(draw: np.random.Generator, at: float, by: float = 0.05) -> tuple[float, float, float]:
    low, high = at - by * draw.random() - 0.01, at + by * draw.random() + 0.01
    return at, low, high


def _depth(models: pd.DataFrame, draw: np.random.Generator) -> Rows:
    return [
        {
            **{column: row[column] for column in ("backbone", "layer", "concept", "probe", "control")},
            **{column: None if pd.isna(row[column]) else row[column] for column in ("score", "lo", "hi")},
            "channels": int(row["channels"]),
            "place": 0,
            "k95": int(draw.integers(2, 40)),
            "validation": float(draw.random()),
            "chosen": True,
            "megaflops": float(draw.integers(100, 900)),
            "front_cost": bool(draw.random() < 0.5),
            "front_k": bool(draw.random() < 0.5),
        }
        for row in models.to_dict("records")
    ]


def _profiles(key: tuple[str, str, str], found: Rows, draw: np.random.Generator) -> Rows:
    return [
        {
            **_names(key),
            **{column: row[column] for column in ("channel", "rank", "coefficient", "folds")},
            "mean_inside": float(draw.normal(1)),
            "mean_outside": float(draw.normal()),
            "deviation": 1.0,
            "selectivity": float(draw.normal()),
            "alone": float(draw.random()),
            "used_by": [],
        }
        for row in found
    ]


def _exemplars(run: Run, key: tuple[str, str, str], found: Rows, draw: np.random.Generator) -> Rows:
    """Windows of 16 by 16 cells in the run's thumbnails."""
    pictures = run.path / "pictures"
    pictures.mkdir(exist_ok=True)
    cell = run.info["spec"]["evaluation"]["grid"]
    rows = []
    for row in found:
        for kind in ("highest", "lowest", "threshold"):
            for number in range(3):
                image = int(draw.integers(len(run.info["images"])))
                shutil.copy(run.path / "sample" / "thumbnails" / f"{image:06d}.webp", pictures / f"{image:06d}.webp")
                shape = [min(16, -(-side // cell)) for side in run.info["sizes"][image]]
                rows.append(
                    {
                        **_names(key),
                        "channel": row["channel"],
                        "kind": kind,
                        "related": kind != "unmatched",
                        "number": number,
                        "image": run.info["images"][image],
                        **dict(zip(("row", "column", "top", "left"), (1, 1, 0, 0), strict=True)),
                        "value": float(draw.normal()),
                        **dict(zip(("rows", "columns"), shape, strict=True)),
                        "activation": draw.integers(0, 256, shape, dtype=np.uint8).tobytes(),
                        "low": -1.0,
                        "high": 3.0,
                        "picture": image,
                    }
                )
    return rows


def _matches(
    a: tuple[str, str, str],
    b: tuple[str, str, str],
    selected: dict[tuple[str, str, str], Rows],
    draw: np.random.Generator,
) -> Rows:
    partners = [int(row["channel"]) for row in selected[b]]
    rows = []
    for place, row in enumerate(selected[a]):
        kind = ("one-to-one", "one-to-many", "unmatched")[place % 3]
        partner = partners[place % len(partners)]
        q = 0.004 if kind == "one-to-one" else 0.6
        rows.append(
            {
                **_names(a, b),
                "channel": row["channel"],
                "coefficient": row["coefficient"],
                "kind": kind,
                "related": kind != "unmatched",
                "partner": partner,
                "r": float(draw.uniform(0.3, 0.95)),
                "p": q / 2,
                "q": q,
                "mutual": kind == "one-to-one",
                "assigned": partner if place < len(partners) else None,
                "r_assigned": float(draw.uniform(0.2, 0.8)) if place < len(partners) else None,
                "rebuilt_by": partners[:3],
                "r2": float(draw.uniform(0.1, 0.8)),
                "p_rebuilt": 0.01,
                "q_rebuilt": 0.02,
            }
        )
    return rows


def _subspace(a: tuple[str, str, str], b: tuple[str, str, str], draw: np.random.Generator) -> dict[str, Any]:
    r2, lo, hi = _spread(draw, float(draw.uniform(0.3, 0.7)))
    return {
        **_names(a, b),
        "channels_a": 8,
        "channels_b": 5,
        "r2": r2,
        "lo": lo,
        "hi": hi,
        "cka": 0.44,
        "cells": 5000,
        "groups": 12,
    }


def _complement(a: tuple[str, str, str], b: tuple[str, str, str], draw: np.random.Generator) -> dict[str, Any]:
    alone = float(draw.uniform(0.3, 0.6))
    gain, lo, hi = _spread(draw, 0.03)
    both = {
        "channels_a": 8.0,
        "channels_b": 5.0,
        "alone": alone,
        "joint": alone + gain,
        "gain": gain,
        "lo": lo,
        "hi": hi,
    }
    return {**_names(a, b), "probe": "topk", **both, "p": 0.2, "p_holm": 0.4, "established": False}


def _interactions(key: tuple[str, str, str], found: Rows, draw: np.random.Generator) -> Rows:
    channels = [int(row["channel"]) for row in found][:4]
    pairs = [
        {
            **_names(key),
            "channel_i": i,
            "channel_j": j,
            "weight": 0.1,
            "statistic": 2.0,
            "p": float(draw.random()),
            "q": 0.9,
        }
        for i, j in permutations(channels, 2)
        if i < j
    ]
    together = {"alone": 0.4, "joint": 0.41, "gain": 0.01, "lo": -0.01, "hi": 0.03, "p_gain": 0.3}
    together |= {"p_holm": 0.6, "established": False}
    return [*pairs, {**_names(key), **together}]


def _ablation(key: tuple[str, str, str], draw: np.random.Generator) -> dict[str, Any]:
    at = {
        "score": 0.5,
        "ablated": 0.2,
        "random": 0.45,
        "difference": 0.25,
        "lo": 0.1,
        "hi": 0.4,
        "p": 0.01,
        "p_holm": 0.03,
        "circuit": True,
    }
    return {
        **_names(key),
        "later": "head",
        "probe": "topk",
        "channels": 5.0,
        "draws": 20,
        "images": 12,
        "groups": 12,
        **at,
    }


def _cross_label(run: Run, key: tuple[str, str, str], draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    for trained_on, scored_on in product(("people", "sam"), repeat=2):
        score, low, high = _spread(draw, 0.2 + 0.5 * draw.random())
        yield {
            **_names(key),
            **{"probe": run.info["reported_probe"], "rung": "full", "trained_on": trained_on, "scored_on": scored_on},
            **{"labels": "people" if scored_on == "people" else "model", "circular": trained_on == "sam"},
            **{"average_precision": score, "lo": low, "hi": high, "cells": 900, "positives": 40, "groups": 20},
        }


def _agreement(concept: str, draw: np.random.Generator) -> dict[str, Any]:
    both, one, other = (int(count) for count in draw.integers(10, 90, 3))
    return {
        **{"concept": concept, "one": "people", "other": "sam", "cells": 900},
        **{"both": both, "only_one": one, "only_other": other, "iou": both / (both + one + other), "kappa": 0.4},
    }


def renamed(folder: Path, names: Mapping[str, str]) -> Run:
    """The run with other names for its concepts, images, models, groups: in every table and in ``run.json``."""
    text = (folder / "run.json").read_text()
    info = _renamed(json.loads(text), names)
    (folder / "run.json").write_text(json.dumps(info))
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        columns = [_renamed(name, names, label=True) for name in table.column_names]
        rows = [dict(zip(columns, _renamed(list(row.values()), names), strict=True)) for row in table.to_pylist()]
        fields = [field.with_name(name) for field, name in zip(table.schema, columns, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path)
    for path in (folder / "scores").glob("*.safetensors"):
        with safe_open(path, "np") as file:
            points = _renamed(json.loads(file.metadata()["points"]), names)
            margins = file.get_tensor("margins")
        save_file({"margins": margins}, path, {"points": json.dumps(points)})
    return load(folder)


def _renamed(value: Any, names: Mapping[str, str], label: bool = False) -> Any:
    if isinstance(value, str):
        if label and value.startswith("label "):
            return f"label {names.get(value[6:], value[6:])}"
        return "|".join(names.get(part, part) for part in value.split("|")) if not label else value
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(each, names) for key, each in value.items()}
    return value
