"""Photographs with cells drawn over them, in numpy and Pillow: colour over grey, outlines along cells, hatching.

Everything is painted at three times the size that is asked for and reduced at the end, which smooths lines and dots.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

Colour = tuple[int, int, int]

ABOVE: Colour = (255, 122, 26)
BELOW: Colour = (66, 133, 255)
"""A channel above and below what it is outside the concept: apart in every common colour deficiency."""

_DARK, _LIGHT = (12, 14, 18), (255, 255, 255)
_FINER = 3
_QUIET = 0.2
_LINES: Mapping[str, tuple[int, int]] = {"solid": (1, 1), "dashed": (4, 3), "dotted": (2, 1)}
"""Period of a line, and how much of it is drawn, in widths of the line."""


@dataclass(frozen=True)
class Style:
    """How cells of one kind are marked: no two kinds differ by colour alone."""

    colour: Colour
    line: Literal["solid", "dashed", "dotted"]
    hatched: bool = False


class Canvas:
    """A photograph, or a part of it that begins at a cell's corner, to be painted on.

    Args:
        photograph: (h, w, 3), of any size.
        size: longest side of the picture that comes out, in pixels.
        extent: (height, width) that the photograph shows, in cells; fractions where it ends within a cell.
    """

    def __init__(self, photograph: NDArray[np.uint8], size: int, extent: tuple[float, float]) -> None:
        scale = size / max(extent)
        self._extent = extent
        self._shape = (max(1, round(extent[0] * scale)) * _FINER, max(1, round(extent[1] * scale)) * _FINER)
        picture = Image.fromarray(photograph).resize(self._shape[::-1], Image.Resampling.BICUBIC)
        self._pixels = np.array(picture, dtype=np.float32)
        self._y, self._x = (
            np.floor((np.arange(n) + 0.5) * cells / n).astype(np.intp)
            for n, cells in zip(self._shape, extent, strict=True)
        )

    def mute(self, colour: float, contrast: float) -> None:
        """Takes colour and contrast out of the photograph, so that what is painted stands out.

        Args:
            colour, contrast: shares that stay.
        """
        grey = self._pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        self._pixels = grey[..., None] + colour * (self._pixels - grey[..., None])
        self._pixels = 118 + contrast * (self._pixels - 118)

    def tint(self, values: NDArray[np.floating[Any]]) -> None:
        """Paints values over the photograph: ``ABOVE`` for those above zero, ``BELOW`` for those below; the larger, the
        less of the photograph is seen, and nothing is painted within ``_QUIET`` of zero. Smooth between the cells'
        centres.

        Args:
            values: (rows, columns) in [-1, 1], cells from the top left.
        """
        rows, columns = self._extent
        smooth = Image.fromarray(values.astype(np.float32)).resize(
            self._shape[::-1], Image.Resampling.BILINEAR, box=(0.0, 0.0, columns, rows)
        )
        amount = np.asarray(smooth)
        for colour, part in ((ABOVE, amount), (BELOW, -amount)):
            self._blend(colour, 0.8 * np.clip((part - _QUIET) / (1 - _QUIET), 0.0, 1.0) ** 0.8)

    def mark(self, cells: NDArray[np.bool_], style: Style, width: int = 2) -> None:
        """Outlines cells just within their borders, over a dark edge; not along the picture's own border.

        Args:
            cells: (rows, columns).
            style: of the line.
            width: of the line, in pixels of the picture.
        """
        mask = self._on_canvas(cells)
        if not mask.any():
            return
        if style.hatched:
            self._blend(style.colour, 0.75 * (mask & (self._diagonal(15) < 5)))
        thick = width * _FINER
        self._blend(_DARK, 0.55 * (_dilated(mask, 2) & ~_eroded(mask, thick + 1)))
        period, drawn = _LINES[style.line]
        line = mask & ~_eroded(mask, thick)
        self._blend(style.colour, line & (self._diagonal(period * thick) < drawn * thick))

    def outline(self, cells: NDArray[np.bool_]) -> None:
        """A thin light line with a dark edge around cells."""
        mask = self._on_canvas(cells)
        self._blend(_DARK, 0.6 * (_dilated(mask, 4) & ~_eroded(mask, 4)))
        self._blend(_LIGHT, _dilated(mask, 2) & ~_eroded(mask, 2))

    def ring(self, row: int, column: int, radius: float = 6.0) -> None:
        """A light circle with a dark edge, ``radius`` pixels of the picture around a cell's centre."""
        y, x = (
            np.arange(n) + 0.5 - (at + 0.5) / cells * n
            for at, cells, n in zip((row, column), self._extent, self._shape, strict=True)
        )
        away = np.hypot(y[:, None], x) - radius * _FINER
        self._blend(_DARK, 0.6 * (np.abs(away) < 1.5 * _FINER))
        self._blend(_LIGHT, np.abs(away) < 0.75 * _FINER)

    def veil(self, cells: NDArray[np.bool_]) -> None:
        """Dots cells lightly: those of which nothing is known."""
        dots = np.logical_and.outer(np.arange(self._shape[0]) % 12 < 3, np.arange(self._shape[1]) % 12 < 3)
        self._blend(_LIGHT, 0.5 * (self._on_canvas(cells) & dots))

    def webp(self) -> bytes:
        """The picture."""
        pixels = np.clip(np.rint(self._pixels), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).reduce(_FINER).save(buffer, "WEBP", quality=75)
        return buffer.getvalue()

    def _on_canvas(self, cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return cells[self._y[:, None], self._x]

    def _diagonal(self, period: int) -> NDArray[np.intp]:
        return np.add.outer(np.arange(self._shape[0]), np.arange(self._shape[1])) % period

    def _blend(self, colour: Colour, alpha: NDArray[np.floating[Any]] | NDArray[np.bool_]) -> None:
        where = alpha > 0  # little of a picture: several times faster than to blend all of it
        share = alpha[where].astype(np.float32)[:, None]
        self._pixels[where] += share * (np.array(colour, dtype=np.float32) - self._pixels[where])


def _eroded(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """What lies more than ``by`` pixels inside; the picture's border is no border."""
    return np.asarray(minimum_filter(mask, size=2 * by + 1, mode="nearest"))


def _dilated(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    return np.asarray(maximum_filter(mask, size=2 * by + 1, mode="nearest"))
