"""What the painters share: layers of premultiplied colour, windows around a point, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.floating[Any]]
Colour: TypeAlias = tuple[float, float, float]
Window: TypeAlias = tuple[slice, slice]


class Layer:
    """Paint over what was painted before: premultiplied ``rgb`` (size, size, 3) and ``alpha`` (size, size)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rgb: Floats = np.zeros((size, size, 3), np.float32)
        self.alpha: Floats = np.zeros((size, size), np.float32)

    def paint(self, window: Window, rgb: Floats, alpha: Floats) -> None:
        """Lays ``rgb`` (h, w, 3), not premultiplied, with coverage ``alpha`` (h, w) over a window."""
        keep = 1 - alpha
        self.rgb[window] = self.rgb[window] * keep[..., None] + rgb * alpha[..., None]
        self.alpha[window] = self.alpha[window] * keep + alpha

    def over(self, below: Floats) -> Floats:
        """This layer over an opaque picture (size, size, 3)."""
        below *= (1 - self.alpha)[..., None]
        below += self.rgb
        return below


def around(x: float, y: float, reach: float, size: int) -> tuple[Window, Floats, Floats] | None:
    """The window of a canvas within ``reach`` pixels of (x, y).

    Returns:
        the window and the offsets of its pixels' centres from (x, y): (1, w) and (h, 1); none where it is empty.
    """
    left, right = max(0, int(np.floor(x - reach))), min(size, int(np.ceil(x + reach)))
    top, bottom = max(0, int(np.floor(y - reach))), min(size, int(np.ceil(y + reach)))
    if left >= right or top >= bottom:
        return None
    dx = (np.arange(left, right) + 0.5 - x).astype(np.float32)[None, :]
    dy = (np.arange(top, bottom) + 0.5 - y).astype(np.float32)[:, None]
    return (slice(top, bottom), slice(left, right)), dx, dy


def resized(grid: Floats, height: int, width: int) -> Floats:
    """A small grid of numbers, enlarged smoothly."""
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def noise(rng: np.random.Generator, size: int, scales: Sequence[int], fall: float = 1.0) -> Floats:
    """Smooth noise, mean 0 and deviation about 1: octaves at ``scales`` pixels, weighted by scale ** fall."""
    total: Floats = np.zeros((size, size), np.float32)
    power = 0.0
    for scale in scales:
        cells = size // scale + 3
        octave = rng.standard_normal((cells, cells), np.float32)
        if scale > 1:
            top, left = rng.integers(scale, size=2)
            octave = resized(octave, cells * scale, cells * scale)[top : top + size, left : left + size]
        else:
            octave = octave[:size, :size]
        weight = (scale / scales[-1]) ** fall
        total += octave * np.float32(weight)
        power += (weight * (0.75 if scale > 1 else 1.0)) ** 2
    total /= np.float32(np.sqrt(power))
    return total


def mix(a: Floats, b: Floats | Colour, share: Numbers) -> Floats:
    """``a`` (h, w, 3) where ``share`` (h, w) is 0, ``b`` where it is 1."""
    colour = np.asarray(b, np.float32)
    return np.asarray(a + (colour - a) * share[..., None], np.float32)


def tint(colour: Colour, brightness: Numbers) -> Floats:
    """One colour at a brightness for each pixel: (h, w, 3)."""
    return np.asarray(brightness[..., None] * np.asarray(colour, np.float32), np.float32)


def shifted(field: Floats, dx: float, dy: float) -> Floats:
    """A field moved by whole pixels, zeros moving in."""
    out: Floats = np.zeros_like(field)
    x, y = round(dx), round(dy)
    height, width = field.shape
    if abs(x) < width and abs(y) < height:
        out[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)] = field[
            max(0, -y) : height + min(0, -y), max(0, -x) : width + min(0, -x)
        ]
    return out


def blurred(field: Floats, radius: float) -> Floats:
    """A field of numbers between 0 and 1, box-blurred; eight bits are enough for shadows."""
    picture = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius))
    return np.asarray(picture, np.float32) / np.float32(255)
