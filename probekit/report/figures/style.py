"""How figures look: sizes, colours, type. Everything is laid out in points from the upper left corner."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from probekit.report.digits import digits

SINGLE, DOUBLE = 89.0, 183.0
"""Widths of a paper's columns in millimetres. A single one fills a telephone too, with type of 9 pixels and more."""

PALETTE: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14171a"),
    "ink": ("#1d2126", "#e8eaed"),
    "muted": ("#5c6670", "#9aa4ae"),
    "grid": ("#d9dde2", "#363c43"),
    "series-1": ("#0069b4", "#58b4f5"),
    "series-2": ("#c94f00", "#f0883e"),
    "series-3": ("#007a5a", "#2fbf95"),
    "series-4": ("#a64d8c", "#dd8fc5"),
    "series-5": ("#7d6608", "#d9c34a"),
}
"""Custom property of a page -> its value on light and on dark paper. The first series is the accent."""

PAPER, INK, MUTED, GRID = (PALETTE[role][0] for role in ("paper", "ink", "muted", "grid"))
SERIES = tuple(light for role, (light, _) in PALETTE.items() if role.startswith("series"))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))

TYPE, SMALL = 7.0, 6.2
"""Sizes of type in points."""

_RC: Any = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],
    "font.size": TYPE,
    "lines.color": INK,
    "lines.linewidth": 1.2,
    "patch.edgecolor": INK,
    "patch.facecolor": INK,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # names may hold $ and _
    "text.usetex": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "xtick.major.pad": 2.5,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.pad": 2.5,
    "ytick.major.size": 0.0,
}


@contextmanager
def styled() -> Iterator[None]:
    """The look of the house, whatever the user's own settings; to draw in and to write in."""
    with warnings.catch_warnings(), matplotlib.rc_context():
        # Names may hold any letter: pages show them all, the font that files carry not.
        warnings.filterwarnings("ignore", message="(?s)Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def text_width(text: str, size: float) -> float:
    """In points."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0])


def plain(text: object) -> str:
    """A user's name in one line, without what XML cannot hold."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip() or "(no name)"


def fitted(text: str, size: float, room: float, head: float = 0.5) -> str:
    """A text with its middle left out where it is wider than the room, in points; ``head`` of what is left is its
    beginning."""
    if text_width(text, size) <= room:
        return text
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(_cut(text, middle, head), size) <= room else (low, middle - 1)
    return _cut(text, low, head)


def fitted_apart(texts: Sequence[str], size: float, room: float) -> list[str]:
    """Texts that are shortened at one place, where they differ as they do whole if there is such a place."""
    ways = [[fitted(text, size, room, head) for text in texts] for head in (0.5, 0.25, 0.75, 0.0, 1.0)]
    return next((way for way in ways if len(set(way)) == len(set(texts))), ways[0])


def _cut(text: str, kept: int, head: float) -> str:
    start = round(head * kept)
    return f"{text[:start].rstrip()}…{text[len(text) - (kept - start) :].lstrip() if kept > start else ''}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near as can be to the wanted ones (least squares) and at least ``gap`` apart, in the order given.

    Args:
        wanted: in any order.
        gap: made smaller where the room from ``low`` to ``high`` is too little.
    """
    count = len(wanted)
    if count < 2:
        return [min(max(place, low), high) for place in wanted]
    gap = min(gap, (high - low) / (count - 1))
    order = sorted(range(count), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # pooled neighbours: their mean once the gaps are taken off, how many
    for rank, index in enumerate(order):
        mean, size = wanted[index] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            other, many = blocks.pop()
            mean, size = (mean * size + other * many) / (size + many), size + many
        blocks.append((mean, size))
    pooled = [mean for mean, size in blocks for _ in range(size)]
    placed = [0.0] * count
    for rank, index in enumerate(order):
        placed[index] = min(max(pooled[rank], low), high - (count - 1) * gap) + rank * gap
    return placed


class Sheet:
    """A figure laid out in points, from the upper left corner.

    Args:
        width: in millimetres.
        height: in points.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width / 25.4 * 72, height
        self.figure = Figure(figsize=(self.width / 72, height / 72))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame is there."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, text: str, **look: Any) -> None:
        """A text whose baseline is there."""
        look = {"va": "baseline", "fontsize": TYPE, **look}
        self.figure.text(x / self.width, 1 - y / self.height, text, **look)

    def line(self, x: Sequence[float], y: Sequence[float], **look: Any) -> None:
        """A line or a mark outside of axes."""
        places = [at / self.width for at in x], [1 - at / self.height for at in y]
        self.figure.add_artist(Line2D(*places, **look))


def interval(value: float, lo: float | None, hi: float | None) -> str:
    """``.192 [.143, .251]``, or the score alone."""
    return digits(value) if lo is None or hi is None else f"{digits(value)} [{digits(lo)}, {digits(hi)}]"


def percent(share: float) -> str:
    """``0.6 %``."""
    return f"{100 * share:.2g} %" if share < 0.001 else f"{100 * share:.1f} %"


def score_ticks(axes: Axes, top: float) -> None:
    """A score's axis, from 0 to ``top``, with few ticks."""
    axes.set_ylim(0, top)
    step = next(step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if top / step <= 5.5)
    places = [step * i for i in range(int(top / step + 1e-9) + 1)]
    form = ".3f" if step < 0.01 else ".2f"
    axes.set_yticks(places, labels=[f"{at:{form}}".removeprefix("0") if 0 < at < 1 else f"{at:.0f}" for at in places])
    axes.spines["left"].set_visible(False)


def known(value: Any) -> float | None:
    """A number of a table, or none where it is null."""
    return None if value is None or value != value else float(value)


def holds(flag: Any) -> bool:
    """A flag of a table; null is no."""
    return known(flag) == 1.0


def grid_lines(axes: Axes, which: str = "y") -> None:
    """Faint lines behind everything."""
    axes.grid(axis=which, color=GRID, linewidth=0.5, zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def log_ticks(low: float, high: float, at_most: int = 4) -> list[float]:
    """Few round numbers between two, even on a logarithmic axis."""
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        places = (step * 10.0**power for power in range(-9, 10) for step in steps)
        ticks = [place for place in places if low / 1.0001 <= place <= high * 1.0001]
        if len(ticks) <= at_most:
            return ticks
    return ticks[:: -(len(ticks) // -at_most)]


def set_log(axes: Axes, which: str, low: float, high: float, ticks: Sequence[float], texts: Sequence[str]) -> None:
    """A logarithmic axis with these ticks and no others."""
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low, high)
    getattr(axes, f"set_{which}ticks")(list(ticks), labels=list(texts))
    getattr(axes, f"set_{which}ticks")([], minor=True)


def number(value: float) -> str:
    """``0.001``, ``5``, ``1,200``: a tick of a logarithmic axis."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.6f}".rstrip("0").lstrip("0")
