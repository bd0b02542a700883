"""How much of a page its pictures may take: a page of many models still opens at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from probekit.report.page.parts import Block, Folded, Lines, Section, Table
from probekit.report.page.reader import Reader
from probekit.report.page.sentences import leads


@dataclass(frozen=True)
class Room:
    """What pieces of one kind may take.

    Attributes:
        total: bytes of the page.
        piece: bytes of one, as a rule.
    """

    total: int
    piece: int

    @property
    def pieces(self) -> int:
        """How many there is room for."""
        return self.total // self.piece

    def allot(self, units: int, most: int) -> list[int]:
        """How many pieces each unit gets, the first units being the most important: the same for all, at most
        ``most``; where there is not one for each, the first have one."""
        each = min(most, self.pieces // max(units, 1))
        return [each] * units if each else [1] * self.pieces + [0] * (units - self.pieces)


CARDS = Room(500_000, 12_000)
PHOTOGRAPHS = Room(500_000, 20_000)
MATCHES = Room(500_000, 40_000)
"""A page of two models with two layers each and two concepts shows all; text and other figures take about 1 MB."""

ROWS, SENTENCES = 80, 24
"""Of a table and of a list, the one on what was found apart."""

Pair = tuple[str, tuple[str, str], tuple[str, str]]
"""A concept and two models, each (backbone, layer)."""


def allotted(reader: Reader, room: Room, most: int) -> list[tuple[int, int]]:
    """(row of ``models``, how many pieces) of each model that is spoken of, by concept; the best of each concept come
    first where there is not room for all."""
    rows = [(place, concept, row) for concept in reader.concepts for place, row in enumerate(leads(reader, concept))]
    best_first = sorted(range(len(rows)), key=lambda at: rows[at][0])
    counts = dict(zip(best_first, room.allot(len(rows), most), strict=True))
    return [(row, counts[at]) for at, (_, _, row) in enumerate(rows)]


def cut(counts: Sequence[tuple[int, int]], most: int, what: str) -> str:
    """What is left out so that the page stays small, in a sentence that follows others; nothing where all is shown."""
    shown = [count for _, count in counts if count]
    if len(shown) == len(counts) and (not shown or max(shown) == most):
        return ""
    more = f"; {len(counts) - len(shown)} of {len(counts)} have none" if len(shown) < len(counts) else ""
    return f" So that the page stays small, {max(shown)} of {most} {what} a model and concept are shown{more}."


def drawn_pairs(reader: Reader) -> tuple[frozenset[Pair], int]:
    """The pairs of models whose matches are drawn, the best models first, and how many pairs there are."""
    table = reader.table("matches")
    columns = ["concept", "backbone_a", "layer_a", "backbone_b", "layer_b"]
    held = {(c, frozenset({(a, i), (b, j)})) for c, a, i, b, j in table[columns].itertuples(index=False, name=None)}
    pairs: list[tuple[int, Pair]] = []
    for concept in reader.concepts:
        models = [reader.row("models", row) for row in leads(reader, concept)]
        keys = [(str(model["backbone"]), str(model["layer"])) for model in models]
        for (i, one), (j, other) in combinations(enumerate(keys), 2):
            if (concept, frozenset({one, other})) in held:
                pairs.append((i + j, (concept, one, other)))
    pairs.sort(key=lambda pair: pair[0])
    return frozenset(pair for _, pair in pairs[: MATCHES.pieces]), len(held)


def shortened(section: Section) -> Section:
    """The section with no more rows of a table and sentences of a list than a page holds; it says how many more."""
    return replace(section, blocks=tuple(map(_shortened, section.blocks)))


def _shortened(block: Block) -> Block:
    if isinstance(block, Folded):
        return replace(block, blocks=tuple(map(_shortened, block.blocks)))
    if isinstance(block, Table) and len(block.rows) > ROWS:
        note = f"{block.note} {len(block.rows) - ROWS} more rows are in the run's tables.".strip()
        return replace(block, rows=block.rows[:ROWS], note=note)
    if isinstance(block, Lines) and len(block.sentences) > SENTENCES:
        return replace(block, sentences=(*block.sentences[:SENTENCES], ("More are in the run's tables.",)))
    return block
