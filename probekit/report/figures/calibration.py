"""What probabilities are worth, before and after calibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.path import Path
from numpy.typing import NDArray

from probekit.report.figures.drawing import Drawing, slug
from probekit.report.figures.material import Look, Material
from probekit.report.figures.style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    SMALL,
    Sheet,
    fitted,
    grid_lines,
    log_ticks,
    number,
    plain,
    set_log,
    text_width,
)

_LEFT, _TOP, _BELOW, _BETWEEN, _RIGHT = 25.0, 20.0, 25.0, 12.0, 8.0
_BEND = 4 / 3 * math.tan(math.pi / 8)
_TURNS = [1, *(1j**quarter * at for quarter in range(4) for at in (1 + _BEND * 1j, _BEND + 1j, 1j)), 1]
_ROUND = Path([(at.real, at.imag) for at in _TURNS], [Path.MOVETO] + [Path.CURVE4] * 12 + [Path.CLOSEPOLY])
"""A circle in four curves: matplotlib's has eight, and a mark whose size is its own is written out each time."""
_RARE = 0.05
"""Below this prevalence both axes are logarithmic: on even ones nearly all bins lie in the corner."""


def sizes(cells: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Areas of marks in square points: in proportion to the logarithm of how many cells a bin holds."""
    return np.asarray(4.0 + 4.5 * np.log10(np.maximum(cells, 1)))


def draw_calibration(material: Material, concept: str, width: float) -> list[Drawing]:
    """One panel a model; none where the run has no reliability tables."""
    table = material.run.table("reliability")
    panels = []
    for key, look in material.looks.items():
        point = material.whole(concept, key)
        rows = table[table["point_id"] == point["point_id"]] if point is not None else table[:0]
        rows = rows[(rows["cells"] > 0) & rows["predicted"].notna() & rows["observed"].notna()]
        if point is not None and len(rows):
            panels.append((look, point, rows.sort_values("bin", kind="stable")))
    if not panels:
        return []
    columns = min(len(panels), 2 if width < 120 else 4)
    total = width / 25.4 * 72
    side = min((total - _LEFT - _RIGHT - (columns - 1) * _BETWEEN) / columns, 150.0)
    lines = -(-len(panels) // columns)
    sheet = Sheet(width, _TOP + lines * (side + 16) + _BELOW - 4)
    everything = pd.concat([rows for _, _, rows in panels])
    chance = material.prevalence(concept)
    rare = chance is not None and chance < _RARE
    shown = everything[["predicted", "observed"]].to_numpy()
    low = max(0.6 * float(np.min(shown[shown > 0], initial=1.0)), 1e-6)
    for place, (look, _, rows) in enumerate(panels):
        left = _LEFT + place % columns * (side + _BETWEEN)
        top = _TOP + 12 + place // columns * (side + 16)
        axes = sheet.axes(left, top, side, side)
        _frame(axes, low, rare, first=place % columns == 0, last=place + columns >= len(panels))
        _panel(axes, look, rows, low if rare else None)
        sheet.text(left + 3, top - 4, fitted(look.name, SMALL, side - 6), color=look.colour, fontsize=SMALL)
    sheet.text(4, 8, ", ".join(filter(None, ("share of positives observed", material.repeat(panels[0][1])))))
    _keys(sheet, everything["cells"].to_numpy(), _LEFT + columns * side + (columns - 1) * _BETWEEN)
    return [
        Drawing(
            slug("calibration", concept),
            "calibration",
            concept,
            f"{plain(concept)}: what predicted probabilities are worth",
            _said(material, panels, rare),
            sheet.figure,
        )
    ]


def _frame(axes: Axes, low: float, rare: bool, first: bool, last: bool) -> None:
    if rare:
        ticks = log_ticks(low, 1, 4)
        for which in "xy":
            set_log(axes, which, low, 1.15, ticks, [number(tick) for tick in ticks])
    else:
        ticks = [0, 0.25, 0.5, 0.75, 1]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, labels=["0", "", ".5", "", "1"])
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    grid_lines(axes, "both")
    axes.plot([low if rare else 0, 1], [low if rare else 0, 1], color=MUTED, linewidth=0.6, zorder=1, gid="diagonal")
    axes.tick_params(labelleft=first, labelbottom=last)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(length=0)


def _panel(axes: Axes, look: Look, rows: pd.DataFrame, low: float | None) -> None:
    """Before hollow, after filled; on logarithmic axes from ``low`` a triangle where none were observed."""
    for calibrated, filled in ((False, PAPER), (True, look.colour)):
        own = rows[rows["calibrated"].astype(bool) == calibrated]
        placed = own["predicted"] > (low if low is not None else -1)
        shown = own[placed & (own["observed"] > (low if low is not None else -1))]
        gid = "after" if calibrated else "before"
        axes.plot(
            shown["predicted"],
            shown["observed"],
            color=look.colour,
            linewidth=0.8 if calibrated else 0.5,
            alpha=1.0 if calibrated else 0.5,
            zorder=2,
            gid=f"{gid} line",
        )
        axes.scatter(
            shown["predicted"],
            shown["observed"],
            s=sizes(shown["cells"].to_numpy()),
            marker=_ROUND,
            facecolor=filled,
            edgecolor=look.colour,
            linewidth=0.7,
            zorder=4 if calibrated else 3,
            gid=gid,
            clip_on=False,
        )
        if low is None:
            continue
        none = own[placed & (own["observed"] <= low)]
        axes.plot(
            none["predicted"],
            [low * 1.1] * len(none),
            "v",
            color=filled,
            markeredgecolor=look.colour,
            markersize=3.5,
            markeredgewidth=0.7,
            zorder=3,
            gid=f"{gid} none",
            clip_on=False,
        )


def _keys(sheet: Sheet, cells: NDArray[np.integer[Any]], right: float) -> None:
    """What hollow and filled mean, and the size of a mark."""
    ends = [int(cells.min()), int(cells.max())]
    x = right
    for text, look in (("after", {"mfc": INK}), ("before calibration,", {"mfc": PAPER})):
        width = _put(sheet, x, 8, text, look, 3.6)
        x -= width
    sheet.text(right, sheet.height - 3, "predicted", ha="right")
    x = 4.0
    for end, unit in zip(ends, ("", " cells"), strict=True):
        size = float(np.sqrt(sizes(np.array([end]))[0]))
        _dot(sheet, x + 4, sheet.height - 5.2, size, {"mfc": MUTED, "mec": MUTED})
        text = f"{end:,}{unit}"
        sheet.text(x + 9, sheet.height - 3, text, color=MUTED, fontsize=SMALL)
        x += 16 + text_width(text, SMALL)


def _put(sheet: Sheet, right: float, y: float, text: str, look: dict[str, str], size: float) -> float:
    """A mark and its word, ending at ``right``; the room they take."""
    wide = text_width(text, SMALL)
    sheet.text(right, y, text, ha="right", color=MUTED, fontsize=SMALL)
    _dot(sheet, right - wide - 5, y - 2.2, size, {"mec": INK, **look})
    return wide + 13


def _dot(sheet: Sheet, x: float, y: float, size: float, look: dict[str, str]) -> None:
    sheet.line([x], [y], marker="o", markersize=size, markeredgewidth=0.7, linestyle="none", **look)


def _said(material: Material, panels: list[tuple[Look, pd.Series, pd.DataFrame]], rare: bool) -> str:
    each = []
    for look, point, rows in panels:
        after = rows[rows["calibrated"].astype(bool)]
        brier = [material.number(point["point_id"], metric) for metric in ("brier_before", "brier")]
        text = look.name
        if None not in brier:
            text += f" has a Brier score of {brier[0]:.4f} before calibration and {brier[1]:.4f} after"
        if len(after):
            last = after.iloc[-1]
            text += "," if None not in brier else ""
            text += f" and where {last['predicted']:.2g} is predicted on average in the highest bin,"
            text += f" {last['observed']:.2g} is observed"
        each.append(text)
    what = "Share of positive cells against predicted probability, by bins"
    of = [material.repeat(panels[0][1]), "both on logarithmic axes" if rare else ""]
    return f"{', '.join(filter(None, (what, *of)))}: {'; '.join(each)}."
