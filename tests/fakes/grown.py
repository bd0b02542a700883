"""A run's folder with more models and concepts than were run: copies of one of each, under other names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

from probekit.runner.schemas import SCHEMAS


def grow(folder: Path, backbones: Sequence[str], concepts: Sequence[str], like: tuple[str, str]) -> None:
    """Adds copies of a backbone (with its twin) and of a concept: in every table, in ``run.json``, in scores.

    Args:
        like: the backbone and the concept that are copied.
    """
    for source, names in zip(like, (backbones, concepts), strict=True):
        renames = [{source: name, f"{source} random": f"{name} random"} for name in names]
        for table in SCHEMAS:
            rows = pq.read_table(folder / f"{table}.parquet").to_pylist()
            more = [
                {key: _renamed(value, new) for key, value in row.items()}
                for new in renames
                for row in rows
                if _names(row) & set(new)
            ]
            pq.write_table(pa.Table.from_pylist(rows + more, SCHEMAS[table]), folder / f"{table}.parquet")
        for path in (folder / "scores").glob("*.safetensors"):
            with safe_open(path, "np") as file:
                points, margins = json.loads(file.metadata()["points"]), file.get_tensor("margins")
            own = [(at, new) for new in renames for at, point in enumerate(points) if set(point.split("|")) & set(new)]
            points += [_renamed(points[at], new) for at, new in own]
            save_file(
                {"margins": np.concatenate([margins, margins[[at for at, _ in own]]])},
                path,
                {"points": json.dumps(points)},
            )
    cells = pq.read_table(folder / "cells.parquet")
    for concept in concepts:
        cells = cells.append_column(f"label {concept}", cells[f"label {like[1]}"])
    pq.write_table(cells, folder / "cells.parquet")
    info = json.loads((folder / "run.json").read_text())
    info["concepts"] += concepts
    for key in ("labels", "label_provenance"):
        info[key] |= dict.fromkeys(concepts, info[key][like[1]])
    for name in backbones:
        info["backbones"][name] = info["backbones"][like[0]]
        info["backbones"][f"{name} random"] = info["backbones"][f"{like[0]} random"]
    (folder / "run.json").write_text(json.dumps(info))


def _renamed(value: Any, names: dict[str, str]) -> Any:
    return "|".join(names.get(part, part) for part in value.split("|")) if isinstance(value, str) else value


def _names(row: dict[str, Any]) -> set[str]:
    return {part for value in row.values() if isinstance(value, str) for part in value.split("|")}
