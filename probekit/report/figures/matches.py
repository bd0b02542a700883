"""Channels of two layers set against each other: a bipartite picture of what is shared and what is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from probekit.report.digits import signed
from probekit.report.figures.drawing import Drawing, slug
from probekit.report.figures.material import Key, Material
from probekit.report.figures.style import INK, MUTED, PAPER, SMALL, TYPE, Sheet, fitted, known, plain

_SHORT = {"one-to-many": "to-many", "unmatched": "alone"}
_SHOWN = 40
_PITCH, _TOP, _BELOW, _COLUMN = 7.6, 30.0, 24.0, 72.0
_End = tuple[float, float, int]
"""Where a channel's dot is: x in points, y in lines, and -1 on the left, 1 on the right."""
_Ends = dict[int, _End]
_SINGLE, _MANY, _NONE = "one-to-one", "one-to-many", "unmatched"


@dataclass
class Side:
    """A layer's selected channels, the largest coefficients first.

    Attributes:
        key: backbone and layer.
        rows: rows of ``matches`` in which this layer is a.
        shown: channels that are drawn, from above: selected ones, then others that are matched with.
        more: how many of them are not selected.
    """

    key: Key
    rows: pd.DataFrame
    shown: list[int] = field(default_factory=list)
    more: int = 0

    @property
    def selected(self) -> pd.DataFrame:
        """The rows of the selected channels that are drawn."""
        return self.rows.head(_SHOWN)

    def counts(self) -> dict[str, int]:
        """How many of all selected channels are of each kind."""
        counts = {kind: int((self.rows["kind"] == kind).sum()) for kind in (_SINGLE, _MANY, _NONE)}
        untested = len(self.rows) - sum(counts.values())
        return {**counts, **({"not tested": untested} if untested else {})}

    def told(self) -> str:
        """``4 one-to-one, 2 one-to-many, 7 unmatched``."""
        return ", ".join(f"{count} {kind}" for kind, count in self.counts().items())


def pairs(material: Material, concept: str) -> Iterator[tuple[Side, Side]]:
    """The unordered pairs of layers that ``matches`` holds, the better model left."""
    table = material.of("matches", concept)
    table = table.assign(_size=table["coefficient"].abs()).sort_values("_size", ascending=False, kind="stable")
    order = {key: place for place, key in enumerate(material.looks)}
    found: dict[tuple[Key, Key], pd.DataFrame] = {
        ((str(ba), str(la)), (str(bb), str(lb))): rows
        for (ba, la, bb, lb), rows in table.groupby(["backbone_a", "layer_a", "backbone_b", "layer_b"], sort=True)
    }
    seen = {tuple(sorted(pair, key=lambda key: (order.get(key, len(order)), key))) for pair in found}
    for one, other in sorted(seen, key=lambda pair: [(order.get(key, len(order)), key) for key in pair]):
        yield Side(one, found.get((one, other), table[:0])), Side(other, found.get((other, one), table[:0]))


def draw_matches(material: Material, concept: str, width: float) -> list[Drawing]:
    """A picture a pair of layers; none where channels were not matched."""
    return [
        _draw(material, concept, one, other, width)
        for one, other in pairs(material, concept)
        if material.matched is None or (concept, frozenset({one.key, other.key})) in material.matched
    ]


def _draw(material: Material, concept: str, one: Side, other: Side, width: float) -> Drawing:
    sides = (one, other)
    _choose(one, other)
    _choose(other, one)
    lines = max(len(side.shown) + (1 if side.more else 0) for side in sides)
    sheet = Sheet(width, _TOP + _PITCH * max(lines, 1) + _BELOW)
    axes = sheet.axes(0, _TOP, sheet.width, _PITCH * max(lines, 1))
    axes.set(xlim=(0, sheet.width), ylim=(max(lines, 1), 0))
    axes.axis("off")
    columns = (_COLUMN, sheet.width - _COLUMN)
    left, right = _ends(one, columns[0], -1), _ends(other, columns[1], 1)
    _links(axes, material, one, other, (left, right))
    _links(axes, material, other, one, (right, left))
    _channels(axes, material, one, left, columns[0])
    _channels(axes, material, other, right, columns[1])
    for index, side in enumerate(sides):
        _head(sheet, material, side, index)
    key = "thick: one-to-one, width by |r| · thin: rebuilt by several · short: end not drawn"
    sheet.text(
        sheet.width / 2,
        sheet.height - 3,
        fitted(key, SMALL - 0.4, sheet.width - 4),
        ha="center",
        color=MUTED,
        fontsize=SMALL - 0.4,
    )
    names = [f"{plain(side.key[0])} {plain(side.key[1])}" for side in sides]
    return Drawing(
        slug("matches", concept, *one.key, *other.key),
        "matches",
        concept,
        f"{plain(concept)}: {names[0]} ({one.told()}) and {names[1]} ({other.told()})",
        _said(names, sides),
        sheet.figure,
    )


def _choose(side: Side, other: Side) -> None:
    """Which channels of a side are drawn: its largest, then partners of the other side's that it did not select."""
    side.shown = [int(channel) for channel in side.selected["channel"]]
    wanted = other.selected[other.selected["kind"] == _SINGLE]["partner"].dropna().astype(int)
    further = [int(channel) for channel in dict.fromkeys(wanted) if channel not in set(side.rows["channel"])]
    side.more = min(len(further), _SHOWN - len(side.shown))
    side.shown += further[: side.more]


def _links(axes: Axes, material: Material, side: Side, other: Side, ends: tuple[_Ends, _Ends]) -> None:
    """Lines of one-to-one matches (once a pair), fans of one-to-many; a stub where the other end is not drawn.

    Args:
        ends: where the channels of the side and of the other are.
    """
    theirs = {int(row["channel"]): row for row in other.selected.to_dict("records") if row["kind"] == _SINGLE}
    here, there = ends
    for row in side.selected.to_dict("records"):
        channel, partner = int(row["channel"]), known(row["partner"])
        if row["kind"] == _SINGLE and partner is not None:
            back = theirs.get(int(partner))
            if back is not None and back["partner"] == channel and here[channel][0] > there[int(partner)][0]:
                continue  # drawn from the left
            width = 0.4 + 2.2 * (known(row["r"]) or 0.0) ** 2
            look = {"color": INK, "linewidth": width, "alpha": 0.85, "zorder": 3}
            _link(axes, here[channel], [there.get(int(partner))], f"{_SINGLE} {channel} {partner:.0f}", look)
        elif row["kind"] == _MANY:
            look = {"color": _colour(material, side.key), "linewidth": 0.5, "alpha": 0.6, "zorder": 2}
            builders = _ints(row["rebuilt_by"])
            _link(axes, here[channel], [there.get(builder) for builder in builders], f"{_MANY} {channel}", look)


def _link(axes: Axes, start: _End, others: Sequence[_End | None], gid: str, look: dict[str, Any]) -> None:
    """Curves from a channel to others, and one stub if some are not drawn."""
    x0, y0, side = start
    x0 -= side * 4
    path = Path(np.empty((0, 2)), np.empty(0, dtype=Path.code_type))
    for end in others:
        if end is not None:
            x1, y1 = end[0] - end[2] * 4, end[1]
            middle = (x0 + x1) / 2
            bend = [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]
            path = Path.make_compound_path(path, Path(bend, [Path.MOVETO] + [Path.CURVE4] * 3))
    if None in others:
        path = Path.make_compound_path(path, Path([(x0, y0), (x0 - side * 9, y0)]))
    axes.add_patch(
        PathPatch(path, fill=False, edgecolor=look.pop("color"), capstyle="butt", clip_on=False, gid=gid, **look)
    )


def _ends(side: Side, x: float, direction: int) -> _Ends:
    """Where the channels of a side are drawn; unmatched ones stand aside."""
    matched = set(side.rows["channel"][side.rows["kind"].isin([_SINGLE, _MANY])].astype(int))
    last = len(side.shown) - side.more
    return {
        channel: (
            x + (direction * 7 if index < last and channel not in matched else 0),
            index + 0.5 + (index >= last),
            direction,
        )
        for index, channel in enumerate(side.shown)
    }


def _channels(axes: Axes, material: Material, side: Side, ends: _Ends, column: float) -> None:
    """Dots with their channels' numbers and coefficients."""
    colour = _colour(material, side.key)
    rows = {int(row["channel"]): row for row in side.selected.to_dict("records")}
    for channel, (x, y, direction) in ends.items():
        row = rows.get(channel)
        matched = row is not None and row["kind"] in (_SINGLE, _MANY)
        axes.plot(
            x,
            y,
            "o",
            color=colour if matched else PAPER,
            markeredgecolor=MUTED if row is None else colour,
            markersize=4 if matched else 3,
            markeredgewidth=0.7,
            zorder=5,
            clip_on=False,
            gid=f"channel {channel}",
        )
        edge = column + direction * 13
        look: dict[str, Any] = {"ha": "right" if direction < 0 else "left", "va": "center_baseline", "fontsize": SMALL}
        axes.text(edge, y, f"{channel}", color=INK if matched else MUTED, **look)
        if row is not None:
            axes.text(
                edge + direction * 21, y, signed(row["coefficient"]).replace("-", "\N{MINUS SIGN}"), color=MUTED, **look
            )
    if side.more:
        axes.text(edge, len(side.shown) - side.more + 0.5, "not selected", color=MUTED, style="italic", **look)


def _head(sheet: Sheet, material: Material, side: Side, index: int) -> None:
    x, align = (4.0, "left") if index == 0 else (sheet.width - 4.0, "right")
    room = sheet.width / 2 - 8
    sheet.text(
        x,
        8,
        fitted(f"{plain(side.key[0])} {plain(side.key[1])}", TYPE, room),
        ha=align,
        color=_colour(material, side.key),
    )
    told = " · ".join(f"{count} {_SHORT.get(kind, kind)}" for kind, count in side.counts().items())
    sheet.text(x, 18, fitted(told, SMALL, room + 2), ha=align, color=MUTED, fontsize=SMALL)
    hidden = len(side.rows) - len(side.selected)
    if hidden:
        sheet.text(
            x, sheet.height - 13, f"and {hidden} more with smaller coefficients", ha=align, color=MUTED, fontsize=SMALL
        )


def _colour(material: Material, key: Key) -> str:
    return material.looks[key].colour if key in material.looks else MUTED


def _ints(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _said(names: Sequence[str], sides: Sequence[Side]) -> str:
    said = "; ".join(
        f"of {len(side.rows)} selected channels of {name}: {side.told()}"
        for name, side in zip(names, sides, strict=True)
    )
    best = sides[0].rows[sides[0].rows["kind"] == _SINGLE]
    best = best.reindex(best["r"].abs().sort_values(ascending=False, kind="stable").index).head(3)
    pairs_told = ", ".join(
        f"{row['channel']} with {row['partner']:.0f} (r {row['r']:+.2f})" for row in best.to_dict("records")
    )
    reasons = sorted({plain(reason) for side in sides for reason in side.rows["reason"].dropna()})
    return (
        f"{said[0].upper()}{said[1:]}."
        + (f" The closest one-to-one matches: {pairs_told}." if pairs_told else "")
        + (f" Not tested: {'; '.join(reasons)}." if reasons else "")
    )
