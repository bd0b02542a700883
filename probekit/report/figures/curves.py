"""Test score against the number of channels, with what it must be above and how few channels suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probekit.report.digits import digits
from probekit.report.figures.drawing import Drawing, slug
from probekit.report.figures.material import Key, Look, Material
from probekit.report.figures.style import (
    MUTED,
    PAPER,
    SMALL,
    Sheet,
    fitted_apart,
    grid_lines,
    holds,
    interval,
    known,
    log_ticks,
    number,
    percent,
    plain,
    score_ticks,
    set_log,
    spread,
    text_width,
)

_LEFT, _TOP, _BELOW = 24.0, 19.0, 25.0
_HEIGHT, _STRIP = 122.0, 8.0
_TAU = 0.95
_Row = dict[Any, Any]


def curve(material: Material, concept: str, key: Key) -> pd.DataFrame:
    """A model's refit curve, by ``k`` up to ``full``: ``k``, ``value``, ``lo``, ``hi`` (null where absent), ``rung``.

    A probe without refits is drawn at the channels that its path uses, the median over folds.
    """
    points = material.scored
    own = points[(points["concept"] == concept) & (points["backbone"] == key[0]) & (points["layer"] == key[1])]
    own = own[own["rung"] != "chosen"]
    k = own["k"] if own["k"].notna().any() else own["n_channels"]
    own = own.assign(k=k.astype(float))[["k", "value", "lo", "hi", "rung"]]
    own = own[(own["k"] > 0) & own["value"].notna()]
    return own.sort_values("k", kind="stable").drop_duplicates("k", keep="last")


def draw_curves(material: Material, concept: str, width: float) -> list[Drawing]:
    """The curves of a concept; none where no model has one."""
    curves = {key: curve(material, concept, key) for key in material.looks}
    curves = {key: rows for key, rows in curves.items() if len(rows) > 1}
    if not curves:
        return []
    models = material.of("models", concept)
    controls = [
        (_control_name(row, models), float(row["score"]))
        for row in models[models["control"].astype(bool)]
        .sort_values("score", ascending=False, kind="stable")
        .to_dict("records")
        if known(row["score"]) is not None
    ]
    enough = {key: _enough(material, concept, key) for key in curves}
    names = [look.name for look in material.looks.values()] + [name for name, _ in controls]
    gutter = min(max(text_width(name, SMALL) for name in names) + 31, 0.44 * width / 25.4 * 72)
    marks = [row for row in enough.values() if row is not None]
    strip = 8 + _STRIP * len(marks) if marks else 0.0
    sheet = Sheet(width, _TOP + _HEIGHT + strip + _BELOW)
    room = sheet.width - _LEFT - gutter
    axes = sheet.axes(_LEFT, _TOP, room, _HEIGHT)
    below = sheet.axes(_LEFT, _TOP + _HEIGHT + 3, room, strip - 3) if marks else None
    low = min(rows["k"].min() for rows in curves.values())
    high = max(rows["k"].max() for rows in curves.values())
    values = [rows[["value", "hi"]].max().max() for rows in curves.values()] + [value for _, value in controls]
    top = min(1.0, max(0.01, 1.06 * max(values)))
    _frame(axes, below, low, high, top)
    labels: list[tuple[float, str, str, str]] = []  # place, name, score, colour
    for place, (key, rows) in enumerate(curves.items()):
        look = material.looks[key]
        _model(axes, rows, look, high, zorder=5 - place / 10)
        _random(axes, material, concept, key, look)
        labels.append((rows["value"].iloc[-1], look.name, digits(rows["value"].iloc[-1]), look.colour))
    if below is not None:
        _enough_marks(sheet, below, material, {key: row for key, row in enough.items() if row is not None}, room)
    _name_random(axes, [random_channels(material, concept, key) for key in curves], room)
    for name, value in controls:
        axes.plot(
            [0.97, 1.0], [value, value], transform=axes.get_yaxis_transform(), color=MUTED, linewidth=0.7, gid="control"
        )
        labels.append((value, name, digits(value), MUTED))
    chance = material.prevalence(concept)
    _labels(sheet, labels, gutter, top)
    sheet.text(
        _LEFT, 8, "average precision" + (f" at natural prevalence {percent(chance)}" if chance is not None else "")
    )
    sheet.text(_LEFT + room, sheet.height - 3, "channels", ha="right")
    return [
        Drawing(
            slug("curve", concept),
            "curves",
            concept,
            f"{plain(concept)}: score against the number of channels",
            _said(material, curves, enough, controls, chance),
            sheet.figure,
        )
    ]


def _control_name(row: _Row, models: pd.DataFrame) -> str:
    layers = models[models["backbone"] == row["backbone"]]["layer"].nunique()
    return plain(f"{row['backbone']} {row['layer']}" if layers > 1 else row["backbone"])


def _frame(axes: Axes, below: Axes | None, low: float, high: float, top: float) -> None:
    grid_lines(axes)
    score_ticks(axes, top)
    ticks = log_ticks(low, high, 6)
    for each in (axes, below):
        if each is not None:
            set_log(each, "x", low * 0.88, high * 1.06, ticks, [number(tick) for tick in ticks])
    if below is not None:
        axes.tick_params(axis="x", labelbottom=False, length=0)
        below.spines["left"].set_visible(False)
        below.set_yticks([])


def _model(axes: Axes, rows: pd.DataFrame, look: Look, high: float, zorder: float) -> None:
    bounded = rows["lo"].notna() & rows["hi"].notna()
    axes.fill_between(
        rows["k"],
        rows["lo"],
        rows["hi"],
        where=bounded,
        color=look.colour,
        alpha=0.13,
        linewidth=0,
        zorder=2,
        gid="band",
    )
    axes.plot(rows["k"], rows["value"], color=look.colour, linestyle=look.dash, zorder=zorder, gid="curve")
    last = rows.iloc[-1]
    axes.plot(
        last["k"],
        last["value"],
        look.marker,
        color=look.colour,
        markersize=4.5,
        markeredgecolor=PAPER,
        markeredgewidth=0.5,
        zorder=zorder + 1,
        gid="full",
        clip_on=False,
    )
    if last["k"] < high:  # all of its channels are fewer than another model's: a faint line goes on to its name
        axes.plot(
            [last["k"], high * 1.06],
            [last["value"]] * 2,
            color=look.colour,
            linewidth=0.5,
            linestyle=(0, (1, 2)),
            zorder=1,
        )


def _random(axes: Axes, material: Material, concept: str, key: Key, look: Look) -> None:
    """Means of random channels, faint."""
    nulls = random_channels(material, concept, key)
    axes.plot(
        nulls["k"],
        nulls["value"],
        look.marker,
        color="none",
        markeredgecolor=look.colour,
        markeredgewidth=0.6,
        markersize=3,
        alpha=0.75,
        linestyle="none",
        zorder=3,
        gid="random",
    )


def random_channels(material: Material, concept: str, key: Key) -> pd.DataFrame:
    """``k`` and mean test AP (``value``) of as many channels drawn at random."""
    nulls = material.run.nulls
    own = nulls[
        (nulls["concept"] == concept)
        & (nulls["backbone"] == key[0])
        & (nulls["layer"] == key[1])
        & (nulls["null"] == "random-channels")
        & nulls["value"].notna()
    ]
    return own.assign(k=own["rung"].astype(float))[["k", "value"]]


def _enough(material: Material, concept: str, key: Key) -> _Row | None:
    table = material.run.k_tau
    rows = table[
        (table["concept"] == concept)
        & (table["backbone"] == key[0])
        & (table["layer"] == key[1])
        & (table["probe"] == material.probe)
        & np.isclose(table["tau"], _TAU)
    ]
    rows = rows[rows["repeat"].isna()] if material.several else rows
    return None if rows.empty or pd.isna(rows["k"].iloc[0]) else rows.iloc[0].to_dict()


def _enough_marks(sheet: Sheet, below: Axes, material: Material, enough: dict[Key, _Row], room: float) -> None:
    """A line a model below the axis: k@95, its set, and both as numbers."""
    below.set_ylim(-0.4, len(enough) + 0.1)
    top, high = _TOP + _HEIGHT + 3, 5 + _STRIP * len(enough)
    for place, (key, row) in enumerate(enough.items()):
        look = material.looks[key]
        _mark(below, row, look, len(enough) - 1 - place)
        y = top + high * (place + 0.6) / (len(enough) + 0.5) + 2.2
        sheet.text(_LEFT + room + 8, y, _with_set(row), color=look.colour, fontsize=SMALL)
    sheet.text(_LEFT - 2.5, top + high / 2 + 2, f"k@{100 * _TAU:.0f}", ha="right", color=MUTED, fontsize=SMALL)


def _mark(below: Axes, row: _Row, look: Look, place: int) -> None:
    """k@95 on the axis, with its set; an open end is an arrow."""
    y = place + 0.5
    lo, hi = known(row["lo"]), known(row["hi"])
    if lo is not None and hi is not None:
        below.plot([lo, hi], [y, y], color=look.colour, linewidth=1.0, alpha=0.55, gid="set", solid_capstyle="butt")
        for open_end, at, arrow in ((row["open_below"], lo, "<"), (row["open_above"], hi, ">")):
            below.plot(
                at,
                y,
                arrow if holds(open_end) else "|",
                color=look.colour,
                markersize=3.2,
                markeredgewidth=0.8,
                clip_on=False,
                gid="open" if holds(open_end) else "end",
            )
    below.plot(
        row["k"],
        y,
        look.marker,
        color=look.colour,
        markersize=4,
        markeredgecolor=PAPER,
        markeredgewidth=0.5,
        gid="k",
        clip_on=False,
    )


def _with_set(row: _Row) -> str:
    """``140 [49, 347]``; an open end says so: ``140 [<49, all]``."""
    lo, hi = known(row["lo"]), known(row["hi"])
    if lo is None or hi is None:
        return f"{row['k']:.0f}"
    below = "<" if holds(row["open_below"]) else ""
    return f"{row['k']:.0f} [{below}{lo:.0f}, {'all' if holds(row['open_above']) else f'{hi:.0f}'}]"


def _name_random(axes: Axes, nulls: list[pd.DataFrame], room: float) -> None:
    """Says what the faint marks are, right of the last one that leaves room for it, where they are lowest."""
    drawn = pd.concat(nulls)
    drawn = drawn[drawn["k"].map(drawn["k"].value_counts()) == drawn["k"].value_counts().max()]  # all models have marks
    text, (low, high) = "random channels", np.log(axes.get_xlim())
    lowest = drawn.groupby("k")["value"].min()
    right = (np.log(lowest.index.to_numpy(float)) - low) / (high - low) * room + 5 + text_width(text, SMALL)
    if (right < 0.96 * room).any():
        k = lowest.index[right < 0.96 * room].max()
        axes.annotate(
            text, (k, lowest[k]), xytext=(5, -2), textcoords="offset points", color=MUTED, fontsize=SMALL, va="center"
        )


def _labels(sheet: Sheet, labels: list[tuple[float, str, str, str]], gutter: float, top: float) -> None:
    """Names at the right edge beside their scores, moved apart where they would overlap."""
    wanted = [_TOP + _HEIGHT * (1 - value / top) for value, *_ in labels]
    placed = spread(wanted, 8.2, _TOP - 2, _TOP + _HEIGHT - 2)
    edge = sheet.width - gutter
    names = fitted_apart([name for _, name, *_ in labels], SMALL, gutter - 30)
    for (_, _, value, colour), name, y, at in zip(labels, names, placed, wanted, strict=True):
        sheet.line([edge + 0.8, edge + 6.5], [at, y], color=colour, linewidth=0.5)
        sheet.text(edge + 8, y + 2.2, name, color=colour, fontsize=SMALL)
        sheet.text(sheet.width - 1, y + 2.2, value, color=colour, fontsize=SMALL, ha="right")


def _said(
    material: Material,
    curves: dict[Key, pd.DataFrame],
    enough: dict[Key, _Row | None],
    controls: list[tuple[str, float]],
    chance: float | None,
) -> str:
    each = []
    for key, rows in curves.items():
        last = rows.iloc[-1]
        value = interval(last["value"], known(last["lo"]), known(last["hi"]))
        every = "all " if last["rung"] == "full" else ""
        text = f"{material.looks[key].name} scores {value} with {every}{last['k']:.0f} channels"
        row = enough[key]
        if row is not None:
            text += f" and reaches 95 % of its full score with {_with_set(row)}"
        each.append(text)
    said = "Average precision on test" + (f" at natural prevalence {percent(chance)}" if chance is not None else "")
    said += " against the number of channels, with pointwise 95 % intervals: " + "; ".join(each) + "."
    if controls:
        said += " Controls: " + ", ".join(f"{name} {digits(value)}" for name, value in controls) + "."
    return said
