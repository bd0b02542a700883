"""A run's tables as a page reads them: every number comes with its table, row and column."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import pandas as pd

from probekit.report.digits import digits, whole
from probekit.report.page.parts import Faint, Part, Value
from probekit.report.table import uncertified
from probekit.runner.run import Run

DASH = "-"


class Reader:
    """Reads one run; its tables are read once.

    Attributes:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._tables: dict[str, pd.DataFrame] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def concepts(self) -> list[str]:
        """In the run's order."""
        return list(self.run.info["concepts"])

    @cached_property
    def folds(self) -> int:
        """Of the run."""
        return int(self.run.fits["fold"].max()) + 1

    def table(self, name: str) -> pd.DataFrame:
        """A table of the run; its index is the row in the file."""
        if name not in self._tables:
            self._tables[name] = self.run.table(name)
        return self._tables[name]

    def rows(self, name: str, **values: object) -> pd.DataFrame:
        """The rows that have these values (none: that lack one), with their places in the file."""
        frame = self.table(name)
        kept = pd.Series(True, index=frame.index)
        for column, value in values.items():
            kept &= frame[column].isna() if value is None else frame[column] == value
        return frame[kept]

    def places(self, name: str, **values: object) -> list[int]:
        """Of these rows in the file."""
        return [int(str(place)) for place in self.rows(name, **values).index]

    def raw(self, table: str, row: int, column: str) -> Any:
        """A value as it is; none where it is missing."""
        value = self.row(table, row)[column]
        return None if isinstance(value, float) and math.isnan(value) else value

    def row(self, table: str, row: int) -> dict[str, Any]:
        """A row of a table, by its place in the file."""
        if table not in self._rows:
            self._rows[table] = self.table(table).astype(object).to_dict("records")  # type: ignore[assignment]
        return self._rows[table][row]

    def at(self, table: str, row: int, column: str, write: Callable[[float], str] = digits) -> str | Value:
        """A number of a table, or a dash where it is missing."""
        value = self.raw(table, row, column)
        if value is None:
            return DASH
        full = str(int(value)) if float(value).is_integer() else repr(float(value))
        return Value(write(float(value)), full, f"{table} {row} {column}")

    def interval(
        self, table: str, row: int, lo: str = "lo", hi: str = "hi", write: Callable[[float], str] = digits
    ) -> tuple[Part, ...]:
        """``[lo, hi]``, or nothing where there is none."""
        low, high = self.at(table, row, lo, write), self.at(table, row, hi, write)
        if not isinstance(low, Value) or not isinstance(high, Value):
            return ()
        return (Faint(("[", low, ", ", high, "]")),)

    def told(self, table: str, row: int, column: str, write: Callable[[float], str] = digits) -> tuple[Part, ...]:
        """A number with its interval, for a sentence."""
        interval = self.interval(table, row, write=write)
        return (self.at(table, row, column, write), *((" ", *interval) if interval else ()))

    def info(self, *keys: str, write: Callable[[float], str] = whole) -> Value:
        """A number of ``run.json``.

        Raises:
            KeyError: there is none.
        """
        value: Any = self.run.info
        for key in keys:
            value = value[key]
        pointer = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
        return Value(write(float(value)), str(value), f"run.json {pointer}")

    def length(self, *keys: str) -> Value:
        """How many entries a list of ``run.json`` has."""
        value: Any = self.run.info
        for key in keys:
            value = value[key]
        return Value(whole(len(value)), str(len(value)), f"length /{'/'.join(keys)}")

    def count(self, name: str, **values: object) -> Value:
        """How many rows of a table have these values."""
        number = len(self.rows(name, **values))
        return Value(whole(number), str(number), f"count {name} {json.dumps(values)}")

    def warnings(self) -> Value:
        """How many warnings the run gave, those of probes that missed their target among them."""
        number = len(self.run.info["warnings"]) + len(uncertified(self.run))
        return Value(whole(number), str(number), "warnings")


def model_of(row: Mapping[Any, Any], end: str = "") -> str:
    """The model of a row; ``end`` is ``_a`` or ``_b`` where it names two."""
    return f"{row[f'backbone{end}']} {row[f'layer{end}']}"
