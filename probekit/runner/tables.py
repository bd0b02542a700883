"""How the tables of a run are written, so that two runs of one spec are equal byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from probekit.runner.folder import write_atomically
from probekit.runner.schemas import SCHEMAS


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
