"""What a page is made of: numbers that know where they are from, sentences, tables, figures, cards."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Value:
    """A number of a run.

    Attributes:
        text: as readers see it.
        full: all its digits.
        source: where it is from: ``models 3 score`` (table, row from 0, column), ``run.json /labels/pothole/cells``
            (a JSON pointer), ``length /images`` (how many it has there), ``count matches {"kind": "unmatched"}``
            (the rows of a table that have these values, null: that lack one; ``run.json/backbones`` for the backbones),
            or ``warnings`` (how many the run gave).
    """

    text: str
    full: str
    source: str


@dataclass(frozen=True)
class Strong:
    """A name that stands out in a sentence."""

    text: str


@dataclass(frozen=True)
class Faint:
    """An aside: an interval, a unit."""

    parts: tuple[str | Value, ...]


@dataclass(frozen=True)
class Link:
    """Words that lead to a section of the page: ``to`` is its name."""

    parts: tuple[str | Value, ...]
    to: str


Part = str | Value | Strong | Faint | Link
Sentence = tuple[Part, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        parts: its first line.
        below: a second line, smaller: intervals.
        key: what a sort goes by; none for the text.
        span: shares of the column's width: (from, at, to) of an interval that is drawn.
    """

    parts: Sentence = ()
    below: Sentence = ()
    key: float | str | None = None
    span: tuple[float, float, float] | None = None
    tone: str = ""

    @property
    def own_key(self) -> float | str | None:
        """The key, where it is not what the first line begins with: that need not be written twice."""
        first = self.parts[0] if self.parts else ""
        if isinstance(first, Value):
            return None if self.key == float(first.full) else self.key
        return None if self.key == (first.text if isinstance(first, Strong) else first) else self.key


@dataclass(frozen=True)
class Row:
    """A row: its first cell is its header. ``where`` says which rows of the run's tables it may be from."""

    cells: tuple[Cell, ...]
    where: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column; numbers are set to the right. ``drawn``: it repeats in a picture what another says."""

    title: str
    number: bool = True
    help: str = ""
    drawn: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; ``apart`` are rows of controls below the others, under a line that says so."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    apart: tuple[Row, ...] = ()
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Lines:
    """Sentences, one below the other."""

    sentences: tuple[Sentence, ...]
    kind: str = "lines"


@dataclass(frozen=True)
class Figure:
    """A drawing as SVG."""

    name: str
    title: str
    svg: Markup
    kind: str = "figure"


@dataclass(frozen=True)
class Picture:
    """A photograph or a part of one, as WebP within the page."""

    source: str
    alt: str
    caption: Sentence
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """Photographs side by side."""

    pictures: tuple[Picture, ...]
    caption: str
    kind: str = "pictures"


@dataclass(frozen=True)
class Card:
    """A channel: its title, its numbers as pairs, and what it shows, a row of pictures a kind."""

    title: Sentence
    facts: tuple[tuple[str, Sentence], ...]
    pictures: tuple[Pictures, ...]
    where: dict[str, str]


@dataclass(frozen=True)
class Cards:
    """Cards of one model and concept."""

    title: str
    lead: Sentence
    cards: tuple[Card, ...]
    kind: str = "cards"


@dataclass(frozen=True)
class Code:
    """Text to be read or copied as it is."""

    title: str
    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Folded:
    """What is closed until a reader opens it."""

    title: str
    blocks: tuple[Block, ...]
    kind: str = "folded"


Block = Table | Lines | Figure | Pictures | Cards | Code | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, heading and blocks."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    lead: str = ""
