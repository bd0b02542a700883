"""Layers along depth: score against cost and against how few channels suffice, with the fronts of both."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probekit.report.figures.drawing import Drawing, slug
from probekit.report.figures.material import Look, Material
from probekit.report.figures.style import (
    INK,
    MUTED,
    PAPER,
    SMALL,
    Sheet,
    fitted,
    grid_lines,
    holds,
    interval,
    known,
    log_ticks,
    number,
    plain,
    score_ticks,
    set_log,
    text_width,
)

_LEFT, _TOP, _BELOW, _HEIGHT, _RIGHT = 21.0, 31.0, 27.0, 112.0, 6.0
_LINE = 9.0
"""From one line of names to the next."""
_PANELS = (
    ("megaflops", "front_cost", "megaflops up to the layer"),
    ("k95", "front_k", "channels for 95 % of the score (k@95)"),
)


_Box = tuple[float, float, float, float]
"""Left, lower, right and upper end, in points."""


def layers_of(material: Material, concept: str) -> pd.DataFrame:
    """The rows of ``depth`` that are drawn: layers of models that are no controls and have a score, along depth."""
    rows = material.of("depth", concept)
    rows = rows[~rows["control"].astype(bool) & rows["score"].notna()]
    own = [key in material.looks for key in zip(rows["backbone"], rows["layer"], strict=True)]
    return rows[np.array(own, dtype=bool)].sort_values(["backbone", "place"], kind="stable")


def draw_depth(material: Material, concept: str, width: float) -> list[Drawing]:
    """Both panels of a concept; none where fewer than two layers can be set against each other."""
    rows = layers_of(material, concept)
    panels = [panel for panel in _PANELS if (rows[panel[0]] > 0).sum() > 1]
    if not panels:
        return []
    abreast = len(panels) if width > 120 else 1
    lines = len(panels) // abreast
    each = _HEIGHT + _BELOW
    looks = {str(key[0]): material.looks[key] for key in zip(rows["backbone"], rows["layer"], strict=True)}
    names = _placed(looks, width / 25.4 * 72)
    first = _TOP + _LINE * (len(names) - 1)
    sheet = Sheet(width, first + lines * each + (lines - 1) * 8)
    room = (sheet.width - abreast * (_LEFT + _RIGHT)) / abreast
    top = min(1.0, max(0.01, 1.08 * float(np.nanmax(rows[["score", "hi"]].to_numpy(float)))))
    for place, panel in enumerate(panels):
        left = _LEFT + place % abreast * (room + _LEFT + _RIGHT)
        above = first + place // abreast * (each + 8)
        axes = sheet.axes(left, above, room, _HEIGHT)
        _panel(axes, looks, rows[rows[panel[0]] > 0], panel, top, room)
        sheet.text(left + room, above + _HEIGHT + 22, panel[2], ha="right")
    sheet.text(_LEFT, 8, "average precision")
    _names(sheet, looks, names)
    return [
        Drawing(
            slug("depth", concept),
            "depth",
            concept,
            f"{plain(concept)}: layers by score, cost and channels",
            _said(rows),
            sheet.figure,
        )
    ]


def _placed(looks: dict[str, Look], width: float) -> list[list[tuple[float, str, str]]]:
    """Lines of backbones above the panels: (x, backbone, its name); the first line leaves room for "front"."""
    lines: list[list[tuple[float, str, str]]] = [[]]
    x, end = _LEFT, width - 45
    for backbone in looks:
        name = fitted(plain(backbone), SMALL, width - _LEFT - _RIGHT - 8)
        wide = 8 + text_width(name, SMALL)
        if x + wide > end and (lines[-1] or len(lines) == 1):
            lines.append([])
            x, end = _LEFT, width - _RIGHT
        lines[-1].append((x, backbone, name))
        x += wide + 10
    return lines


def _names(sheet: Sheet, looks: dict[str, Look], lines: list[list[tuple[float, str, str]]]) -> None:
    for place, line in enumerate(lines):
        y = 20 + _LINE * place
        for x, backbone, name in line:
            look = looks[backbone]
            sheet.line([x + 2.5], [y - 2.2], marker=look.marker, color=look.colour, markersize=4, linestyle="none")
            sheet.text(x + 8, y, name, color=look.colour, fontsize=SMALL)
    right = sheet.width - _RIGHT
    sheet.text(right, 8, "chosen on validation", ha="right", color=MUTED, fontsize=SMALL)
    x = right - text_width("chosen on validation", SMALL) - 6
    sheet.line([x], [5.8], marker="o", markersize=6, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.6)
    sheet.text(right, 20, "front", ha="right", color=MUTED, fontsize=SMALL)
    x = right - text_width("front", SMALL) - 4
    sheet.line([x - 14, x], [17.8] * 2, color=MUTED, linewidth=0.8, linestyle=(0, (3, 1.5)))


def _panel(
    axes: Axes, looks: dict[str, Look], rows: pd.DataFrame, panel: tuple[str, str, str], top: float, room: float
) -> None:
    column, flag, _ = panel
    grid_lines(axes)
    values = rows[column].to_numpy(float)
    low, high = values.min() * 0.72, values.max() * 1.5
    ticks = log_ticks(low, high, 5) or [float(values.min())]
    set_log(axes, "x", low, high, ticks, [number(tick) for tick in ticks])
    score_ticks(axes, top)
    front = rows[rows[flag].map(holds)].sort_values(column)
    if len(front):
        axes.step(
            [*front[column], high],
            [*front["score"], front["score"].iloc[-1]],
            where="post",
            color=MUTED,
            linewidth=0.8,
            linestyle=(0, (3, 1.5)),
            zorder=1,
            gid="front",
        )
    for backbone, own in rows.groupby("backbone", sort=False):
        look = looks[str(backbone)]
        axes.plot(own[column], own["score"], color=look.colour, linewidth=0.8, alpha=0.6, zorder=2, gid="layers")
        for row in own.to_dict("records"):
            lo, hi = known(row["lo"]), known(row["hi"])
            if lo is not None and hi is not None:
                axes.plot(
                    [row[column]] * 2, [lo, hi], color=look.colour, linewidth=0.6, alpha=0.45, zorder=2, gid="interval"
                )
            on = holds(row[flag])
            axes.plot(
                row[column],
                row["score"],
                look.marker,
                color=look.colour if on else PAPER,
                markeredgecolor=look.colour,
                markersize=4.5,
                markeredgewidth=0.9,
                zorder=4,
                gid="layer",
            )
            if holds(row["chosen"]):
                axes.plot(
                    row[column],
                    row["score"],
                    "o",
                    color="none",
                    markeredgecolor=INK,
                    markersize=8.5,
                    markeredgewidth=0.6,
                    zorder=3,
                    gid="chosen",
                )
    _label(axes, looks, rows, column, room)


def _label(axes: Axes, looks: dict[str, Look], rows: pd.DataFrame, column: str, room: float) -> None:
    """Layers' names beside their marks, where they hide neither marks nor one another."""
    (x0, x1), (_, y1) = np.log(axes.get_xlim()), axes.get_ylim()
    x = (np.log(rows[column].to_numpy(float)) - x0) / (x1 - x0) * room
    y, lo, hi = (rows[name].to_numpy(float) / y1 * _HEIGHT for name in ("score", "lo", "hi"))
    marks = [(a - 3.5, b - 3.5, a + 3.5, b + 3.5) for a, b in zip(x, y, strict=True)]
    whiskers = [(a - 1, b, a + 1, c) for a, b, c in zip(x, lo, hi, strict=True) if b == b and c == c]
    for a, b, backbone, layer in zip(x, y, rows["backbone"], rows["layer"], strict=True):
        name = fitted(plain(layer), SMALL, 60)
        wide = text_width(name, SMALL)
        places = [
            (6, 4),
            (6, -9),
            (-6 - wide, 4),
            (-6 - wide, -9),
            (7, -2),
            (-7 - wide, -2),
            (-wide / 2, 7),
            (-wide / 2, -12),
        ]
        for hidden in (marks + whiskers, marks):
            free = [
                (dx, dy)
                for dx, dy in places
                if a + dx >= -4
                and a + dx + wide <= room + _RIGHT
                and 0 <= b + dy <= _HEIGHT
                and not any(_meet((a + dx, b + dy - 1, a + dx + wide, b + dy + 5), box) for box in hidden)
            ]
            if free:
                (dx, dy) = free[0]
                marks.append((a + dx, b + dy - 1, a + dx + wide, b + dy + 5))
                axes.annotate(
                    name,
                    (a / room, b / _HEIGHT),
                    xycoords="axes fraction",
                    xytext=(dx, dy),
                    textcoords="offset points",
                    color=looks[str(backbone)].colour,
                    fontsize=SMALL,
                    zorder=3,
                    bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.4},
                )
                break


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _said(rows: pd.DataFrame) -> str:
    each = []
    for row in rows.to_dict("records"):
        value = interval(row["score"], known(row["lo"]), known(row["hi"]))
        notes = [f"{row['megaflops']:,.0f} megaflops"] if known(row["megaflops"]) is not None else []
        notes += [f"k@95 {row['k95']:.0f}"] if known(row["k95"]) is not None else ["no k@95"]
        notes += ["chosen on validation"] if holds(row["chosen"]) else []
        each.append(f"{plain(row['backbone'])} {plain(row['layer'])} {value} ({', '.join(notes)})")
    return "Average precision of each layer: " + "; ".join(each) + "."
