"""Pictures of masks, grids and cells' labels over a photograph, so that a misaligned mask is seen.

What a cell is labelled shows by its pattern as well as its colour: a positive cell holds a cross, a void one stripes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from probekit.api import POSITIVE, VOID, Grid

ORANGE, BLUE, WHITE, BLACK = (240, 140, 0), (86, 190, 255), (255, 255, 255), (0, 0, 0)
_PAPER, _INK = (250, 250, 248), (30, 30, 30)
_PANEL, _GAP, _LINE = 600, 16, 20
_WINDOW = (24, 16)  # columns and rows of reference cells that a close-up shows


@dataclass(frozen=True, eq=False)
class Labelled:
    """A grid and what its cells are labelled: ``values`` (rows, columns); ``title`` says whose grid it is."""

    title: str
    grid: Grid
    values: NDArray[np.int8]


@dataclass(frozen=True)
class _View:
    """A window of the photograph, drawn ``scale`` times as large."""

    x: int
    y: int
    width: int
    height: int
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        return round(self.width * self.scale), round(self.height * self.scale)


def draw_preview(
    title: str, photograph: NDArray[np.uint8], mask: NDArray[np.uint8], grids: Sequence[Labelled]
) -> Image.Image:
    """Draws one photograph with one concept's mask: the whole with the first grid, then close-ups with each grid.

    Args:
        title: above all.
        photograph: (height, width, 3).
        mask: (height, width) of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
        grids: the reference grid first, in the photograph's pixels.
    """
    height, width = mask.shape
    total = 2 * _PANEL + _GAP
    whole = _View(0, 0, width, height, total / width)
    near = _close_up(grids[0], height, width)
    overview = _panel(photograph, mask, grids[0], whole, lines=False)
    frame = [(near.x, near.y), (near.x + near.width, near.y + near.height)]
    corners = [(x * whole.scale, y * whole.scale) for x, y in frame]
    pen = ImageDraw.Draw(overview)
    pen.rectangle([corners[0], corners[1]], outline=BLACK, width=5)
    pen.rectangle([corners[0], corners[1]], outline=WHITE, width=2)
    panels = [
        (f"{grids[0].title}; the frame is what the close-ups show", overview),
        ("close-up: the mask's outline alone", _panel(photograph, mask, None, near)),
        *((f"close-up: {one.title}", _panel(photograph, mask, one, near)) for one in grids),
    ]
    return _sheet(title, panels, total)


def legend() -> list[tuple[str, str]]:
    """(mark, what it means), as drawn: ``outline``, ``void outline``, ``positive``, ``void``, ``plain``."""
    return [
        ("outline", "the mask's edge"),
        ("void outline", "edge of unlabelled pixels"),
        ("positive", "positive cell (cross)"),
        ("void", "void cell (stripes): not used"),
        ("plain", "all other cells are negative"),
    ]


def _close_up(reference: Labelled, height: int, width: int) -> _View:
    """The window that holds most positive cells; the middle where there are none."""
    step = reference.grid.to_pixels.step_x
    columns, rows = min(_WINDOW[0], reference.grid.columns), min(_WINDOW[1], reference.grid.rows)
    sums = np.pad((reference.values == POSITIVE).astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    held = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    best = np.argwhere(held == held.max())
    positives = np.argwhere(reference.values == POSITIVE)
    # Of equal windows the one with its positive cells nearest to its middle.
    middles = best + np.array([rows, columns]) / 2
    target = np.array(reference.values.shape) / 2
    if len(positives):
        near = np.all((positives >= best[0]) & (positives < best[0] + (rows, columns)), axis=1)
        target = positives[near].mean(axis=0) + 0.5
    row, column = best[int(np.argmin(((middles - target) ** 2).sum(axis=1)))]
    x = int(reference.grid.to_pixels.offset_x + column * step)
    y = int(reference.grid.to_pixels.offset_y + row * reference.grid.to_pixels.step_y)
    wide, high = min(int(columns * step), width - x), min(int(rows * step), height - y)
    return _View(x, y, wide, high, _PANEL / wide)


def _panel(
    photograph: NDArray[np.uint8], mask: NDArray[np.uint8], labelled: Labelled | None, view: _View, lines: bool = True
) -> Image.Image:
    box = (view.x, view.y, view.x + view.width, view.y + view.height)
    picture = Image.fromarray(photograph).crop(box).resize(view.size, Image.Resampling.BICUBIC).convert("RGB")
    if labelled is not None:
        layer = Image.new("RGBA", view.size, (0, 0, 0, 0))
        _draw_cells(ImageDraw.Draw(layer), labelled, view, lines)
        picture = Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")
    pixels = np.array(picture)
    here = Image.fromarray(mask).crop(box).resize(view.size, Image.Resampling.NEAREST)
    for value, colour in ((VOID, BLUE), (POSITIVE, WHITE)):
        edge = _edge(np.asarray(here) == value)
        pixels[_grown(edge)] = BLACK
        pixels[edge] = colour
    return Image.fromarray(pixels)


def _draw_cells(pen: ImageDraw.ImageDraw, labelled: Labelled, view: _View, lines: bool) -> None:
    grid, affine = labelled.grid, labelled.grid.to_pixels
    xs = (affine.offset_x + affine.step_x * np.arange(grid.columns + 1) - view.x) * view.scale
    ys = (affine.offset_y + affine.step_y * np.arange(grid.rows + 1) - view.y) * view.scale
    right, bottom = view.size
    if lines and min(affine.step_x, affine.step_y) * view.scale >= 6:
        for x in xs[: grid.valid_columns + 1]:
            pen.line([(x, max(ys[0], 0)), (x, min(ys[grid.valid_rows], bottom))], fill=(*WHITE, 60))
        for y in ys[: grid.valid_rows + 1]:
            pen.line([(max(xs[0], 0), y), (min(xs[grid.valid_columns], right), y)], fill=(*WHITE, 60))
    for row, column in np.argwhere((labelled.values == POSITIVE) | ((labelled.values == VOID) & grid.valid)):
        x0, x1, y0, y1 = xs[column], xs[column + 1], ys[row], ys[row + 1]
        if x1 > 0 and x0 < right and y1 > 0 and y0 < bottom:
            _draw_cell(pen, int(labelled.values[row, column]), (x0, y0, x1, y1))


def _draw_cell(pen: ImageDraw.ImageDraw, value: int, box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    if value == POSITIVE:
        pen.rectangle([x0, y0, x1, y1], fill=(*ORANGE, 90), outline=(*ORANGE, 255))
        x, y, arm = (x0 + x1) / 2, (y0 + y1) / 2, min(x1 - x0, y1 - y0) / 5
        if arm >= 2:
            pen.line([(x - arm, y), (x + arm, y)], fill=(*ORANGE, 255), width=2)
            pen.line([(x, y - arm), (x, y + arm)], fill=(*ORANGE, 255), width=2)
    else:
        pen.rectangle([x0, y0, x1, y1], outline=(*BLUE, 200))
        width, height = x1 - x0, y1 - y0
        for share in (0.5, 1.0, 1.5):  # stripes from the lower left to the upper right
            a = (x0 + width * max(share - 1, 0), y0 + height * min(share, 1))
            b = (x0 + width * min(share, 1), y0 + height * max(share - 1, 0))
            pen.line([a, b], fill=(*BLUE, 255), width=1)


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of an area that touch what is not of it (the picture's border does not count)."""
    padded = np.pad(inside, 1, mode="edge")
    neighbours = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    result: NDArray[np.bool_] = inside & ~neighbours
    return result


def _grown(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(marked, 1)
    result: NDArray[np.bool_] = (
        padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | padded[1:-1, 1:-1]
    )
    return result


def _sheet(title: str, panels: Sequence[tuple[str, Image.Image]], width: int) -> Image.Image:
    """A title, the legend, the first panel over the whole width, the others in two columns with captions."""
    font, bold = _font(15), _font(19)
    captions = [
        textwrap.wrap(text, 150 if i == 0 else 78, break_on_hyphens=False) or [""] for i, (text, _) in enumerate(panels)
    ]
    rows = [[0], *([i, i + 1] if i + 1 < len(panels) else [i] for i in range(1, len(panels), 2))]
    spoken = [max(len(captions[i]) for i in row) * _LINE for row in rows]
    heights = [max(panels[i][1].height for i in row) + said + _GAP for row, said in zip(rows, spoken, strict=True)]
    head = 3 * _LINE + _GAP
    sheet = Image.new("RGB", (width + 2 * _GAP, head + sum(heights) + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet, "RGBA")
    pen.text((_GAP, _GAP - 4), title, fill=_INK, font=bold)
    _draw_legend(sheet, _GAP + _LINE + 10, font)
    y = head
    for row, said, height in zip(rows, spoken, heights, strict=True):
        for place, i in enumerate(row):
            x = _GAP + place * (_PANEL + _GAP)
            for j, line in enumerate(captions[i]):
                pen.text((x, y + j * _LINE), line, fill=_INK, font=font)
            sheet.paste(panels[i][1], (x, y + said))
        y += height
    return sheet


def _draw_legend(sheet: Image.Image, y: int, font: Any) -> None:
    pen = ImageDraw.Draw(sheet, "RGBA")
    x = float(_GAP)
    for mark, text in legend():
        if mark != "plain":
            pen.rectangle([x, y, x + 20, y + 20], fill=(110, 110, 110, 255))
            if mark in ("positive", "void"):
                _draw_cell(pen, POSITIVE if mark == "positive" else VOID, (x, y, x + 20, y + 20))
            else:
                pen.line([(x, y + 10), (x + 20, y + 10)], fill=(*BLACK, 255), width=5)
                pen.line([(x, y + 10), (x + 20, y + 10)], fill=(*(WHITE if mark == "outline" else BLUE), 255), width=2)
            x += 26
        pen.text((x, y + 1), text, fill=_INK, font=font)
        x += pen.textlength(text, font=font) + 22


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
