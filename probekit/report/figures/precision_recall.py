"""Precision against recall at natural prevalence, from the margins of all reference cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probekit.report.digits import digits
from probekit.report.figures.drawing import Drawing, slug
from probekit.report.figures.material import Look, Material
from probekit.report.figures.style import (
    MUTED,
    PAPER,
    SMALL,
    Sheet,
    fitted,
    grid_lines,
    percent,
    plain,
    text_width,
)

_LEFT, _TOP, _BELOW, _HEIGHT, _RIGHT = 21.0, 19.0, 25.0, 150.0, 6.0
_POINTS = 200


def precision_recall(margins: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Recall and precision, (points, 2), by recall: at every margin of a positive, and just above it.

    Between two margins of positives precision only falls, so that these points hold the curve's whole shape. The last
    point calls every cell positive: recall 1, and precision the prevalence.

    Args:
        margins: without NaN, (cells,).
        positive: (cells,), at least one.
    """
    negatives = np.sort(margins[~positive])
    thresholds, at = np.unique(margins[positive], return_counts=True)
    thresholds, found = thresholds[::-1], np.cumsum(at[::-1])
    wrong = len(negatives) - np.searchsorted(negatives, thresholds, side="left")
    # Just above the next positive: as many found, and all negatives above it.
    next_wrong = len(negatives) - np.append(np.searchsorted(negatives, thresholds[1:], side="right"), 0)
    recall = np.repeat(found / found[-1], 2)
    precision = np.column_stack([found / (found + wrong), found / (found + next_wrong)]).ravel()
    return np.column_stack([recall, precision])


def thinned(curve: NDArray[np.float64], count: int = _POINTS) -> NDArray[np.float64]:
    """At most so many points of a curve, those that hold its shape best (Ramer, Douglas and Peucker), with both ends.

    Args:
        curve: (points, 2), in units in which a distance is what is seen.
    """
    kept = {0, len(curve) - 1}
    spans = [_farthest(curve, 0, len(curve) - 1)]
    while len(kept) < count and spans:
        spans.sort()
        distance, place, low, high = spans.pop()
        if distance <= 0:
            break
        kept.add(place)
        spans += [_farthest(curve, *ends) for ends in ((low, place), (place, high)) if ends[1] - ends[0] > 1]
    return curve[sorted(kept)]


def _farthest(curve: NDArray[np.float64], low: int, high: int) -> tuple[float, int, int, int]:
    """How far the farthest point between two lies from the segment that joins them, and which it is."""
    if high - low < 2:
        return 0.0, low, low, high
    inner = curve[low + 1 : high] - curve[low]
    along = curve[high] - curve[low]
    length = float(along @ along)
    share = np.clip(inner @ along / length, 0, 1) if length else np.zeros(len(inner))
    off = np.hypot(*(inner - share[:, None] * along).T)
    place = int(np.argmax(off))
    return float(off[place]), low + 1 + place, low, high


_Drawn = tuple[Look, pd.Series, NDArray[np.float64]]
"""A model, its point, and its curve thinned."""


def draw_precision_recall(material: Material, concept: str, width: float) -> list[Drawing]:
    """The curves of a concept's models; none where no margins were kept."""
    drawn: list[_Drawn] = []
    labels: NDArray[np.int64] | None = None
    for key, look in material.looks.items():
        point = material.whole(concept, key)
        margins = None if point is None else material.margins(point["point_id"])
        if point is None or margins is None:
            continue
        labels = material.labels(concept) if labels is None else labels
        scored = (labels < 2) & ~np.isnan(margins)
        positive = labels[scored] == 1
        if not positive.any():
            continue
        drawn.append((look, point, thinned(precision_recall(margins[scored], positive))))
    if not drawn:
        return []
    sheet = Sheet(width, _TOP + _HEIGHT + _BELOW)
    room = sheet.width - _LEFT - _RIGHT
    axes = sheet.axes(_LEFT, _TOP, room, _HEIGHT)
    grid_lines(axes)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, labels=[f"{tick:.1f}".lstrip("0") if 0 < tick < 1 else f"{tick:.0f}" for tick in ticks])
    for place, (look, point, curve) in enumerate(drawn):
        zorder = 5 - place / 10
        axes.plot(*curve.T, color=look.colour, linestyle=look.dash, zorder=zorder, gid="curve", clip_on=False)
        recall, precision = (material.number(point["point_id"], metric) for metric in ("recall", "precision"))
        if recall is not None and precision is not None:
            axes.plot(
                recall,
                precision,
                look.marker,
                color=look.colour,
                markersize=5,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
                zorder=zorder + 1,
                gid="operating",
            )
    chance = material.prevalence(concept)
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1, gid="prevalence")
    natural = f" at natural prevalence {percent(chance)}" if chance is not None else ""
    sheet.text(_LEFT, 8, ", ".join(filter(None, (f"precision{natural}", material.repeat(drawn[0][1])))))
    sheet.text(sheet.width - _RIGHT, sheet.height - 3, "recall", ha="right")
    _key(sheet, material, drawn, room, chance or 0.0)
    return [
        Drawing(
            slug("precision-recall", concept),
            "precision-recall",
            concept,
            f"{plain(concept)}: precision and recall at natural prevalence",
            _said(material, drawn, chance),
            sheet.figure,
        )
    ]


def _key(sheet: Sheet, material: Material, drawn: list[_Drawn], room: float, chance: float) -> None:
    """Names with their scores, in the corner that the curves leave empty."""
    crowded = max(float(np.interp(0.65, curve[:, 0], curve[:, 1])) for _, _, curve in drawn) > 0.6
    widest = min(max(text_width(look.name, SMALL) for look, _, _ in drawn), 0.45 * room)
    if crowded:
        left, top = _LEFT + 28, _TOP + _HEIGHT * (1 - chance) - 5 - 9.5 * (len(drawn) - 1)
    else:
        left, top = _LEFT + room - 38 - widest, _TOP + 12
    for place, (look, point, _) in enumerate(drawn):
        y = top + 9.5 * place
        sheet.line([left - 18, left - 4], [y - 2.2] * 2, color=look.colour, linestyle=look.dash, linewidth=1.2)
        sheet.line([left - 11], [y - 2.2], color=look.colour, marker=look.marker, markersize=3.5)
        sheet.text(left, y, fitted(look.name, SMALL, widest), color=look.colour, fontsize=SMALL)
        value = material.number(point["point_id"], "average_precision")
        if value is not None:
            sheet.text(left + widest + 34, y, f"AP {digits(value)}", color=look.colour, fontsize=SMALL, ha="right")


def _said(material: Material, drawn: list[_Drawn], chance: float | None) -> str:
    each = []
    for look, point, _ in drawn:
        value, recall, precision = (
            material.number(point["point_id"], m) for m in ("average_precision", "recall", "precision")
        )
        text = look.name + (f" has average precision {digits(value)}" if value is not None else "")
        if recall is not None and precision is not None:
            text += f" and at the thresholds that validation chose finds {percent(recall)} of the positive cells"
            text += f" with a precision of {percent(precision)}"
        each.append(text)
    what = ("Precision against recall over all test cells", material.repeat(drawn[0][1]))
    said = f"{', '.join(filter(None, what))}: {'; '.join(each)}."
    return said + (f" The dotted line is the prevalence, {percent(chance)}." if chance is not None else "")
