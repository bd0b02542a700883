"""A table of the page from rows of a run's table: a column each, in the order given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.report.digits import digits
from probekit.report.page.parts import Cell, Column, Row, Sentence, Strong, Table
from probekit.report.page.reader import DASH, Reader, model_of

_NAMES = ("backbone", "layer", "concept", "backbone_a", "layer_a", "backbone_b", "layer_b", "channel", "later")


@dataclass(frozen=True)
class Number:
    """A column of numbers: of the run's ``column``, written by ``write``, its interval below where it has one."""

    title: str
    column: str
    write: Callable[[float], str] = digits
    help: str = ""
    lo: str = ""
    hi: str = ""


@dataclass(frozen=True)
class Words:
    """A column of words, made of the row; below, what must be added."""

    title: str
    say: Callable[[Mapping[Any, Any]], str]
    help: str = ""
    below: Callable[[Mapping[Any, Any]], str] | None = None
    strong: bool = False
    good: str = ""
    bad: str = ""


@dataclass(frozen=True)
class Pair:
    """A column of two numbers side by side."""

    title: str
    columns: tuple[str, str]
    write: Callable[[float], str] = digits
    help: str = ""


Maker = Number | Words | Pair


def tabulate(reader: Reader, name: str, frame: pd.DataFrame, caption: str, makers: Sequence[Maker]) -> Table:
    """Rows of the run's table ``name`` (``frame``, with their places in the file) as a table of the page."""
    columns = tuple(Column(maker.title, not isinstance(maker, Words), maker.help) for maker in makers)
    rows = [
        Row(tuple(_cell(reader, name, int(str(index)), row, maker) for maker in makers), where_of(row))
        for index, row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]
    return Table(caption, columns, tuple(rows))


def where_of(row: Mapping[Any, Any]) -> dict[str, str]:
    """The names of a row by which a reader of the page finds it again."""
    return {column: str(row[column]) for column in _NAMES if row.get(column) is not None}


def _cell(reader: Reader, name: str, at: int, row: Mapping[Any, Any], maker: Maker) -> Cell:
    if isinstance(maker, Words):
        text = maker.say(row)
        below = maker.below(row) if maker.below is not None else ""
        tone = "good" if maker.good and text == maker.good else "bad" if maker.bad and text == maker.bad else ""
        return Cell((Strong(text) if maker.strong else text,), (below,) if below else (), text, tone=tone)
    if isinstance(maker, Pair):
        one, other = (reader.at(name, at, column, maker.write) for column in maker.columns)
        return Cell(
            (one, " : ", other) if one != DASH or other != DASH else (DASH,), key=number_key(row[maker.columns[0]])
        )
    below_parts: Sentence = reader.interval(name, at, maker.lo, maker.hi, maker.write) if maker.lo else ()
    return Cell((reader.at(name, at, maker.column, maker.write),), below_parts, number_key(row[maker.column]))


def number_key(value: Any) -> float | None:
    """What a sort goes by; none where there is no number."""
    return None if value is None or pd.isna(value) else float(value)


def present(value: Any) -> str:
    """A text of a table, or nothing."""
    return "" if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


def verdict(column: str, yes: str = "established", no: str = "not established") -> Callable[[Mapping[Any, Any]], str]:
    """The word for a flag of the row; null is "not tested"."""

    def say(row: Mapping[Any, Any]) -> str:
        value = row[column]
        if value is None or pd.isna(value):
            return "not tested"
        return yes if value else no

    return say


MODEL = Words("Model", model_of, strong=True)
CONCEPT = Words("Concept", lambda row: str(row["concept"]))
