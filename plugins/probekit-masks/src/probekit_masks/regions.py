"""Regions of a COCO annotation: polygons and run lengths, checked and filled.

Polygons: coordinates are continuous, pixel (row 0, column 0) covers [0, 1) x [0, 1). A pixel belongs to a polygon if
its centre lies inside by the even-odd rule; a centre exactly on an edge belongs to the side right of it or below it,
so that polygons which share an edge share no pixel and leave none out. An annotation is the union of its polygons.

Run lengths: pixels column by column, runs of outside and inside in turn, beginning with outside (perhaps of length 0).
The compressed form writes each run as text: from the fourth on as the difference to the run two before; in groups of
five bits, the lowest first, one character each: 48 + bits, + 32 where another character follows; bit 16 of the last one
is the sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]


def check(segmentation: Any, height: int, width: int) -> None:
    """Whether an annotation's ``segmentation`` can be filled; fills nothing.

    Raises:
        ValueError: it cannot; says why.
    """
    if isinstance(segmentation, dict):
        runs(segmentation, height, width)
    else:
        polygons(segmentation)


def fill(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of one annotation, shape (height, width).

    Raises:
        ValueError: as :func:`check`.
    """
    if isinstance(segmentation, dict):
        return fill_runs(runs(segmentation, height, width), height, width)
    inside = np.zeros((height, width), bool)
    for polygon in polygons(segmentation):
        fill_polygon(polygon, inside)
    return inside


def polygons(segmentation: Any) -> list[Polygon]:
    """The polygons of an annotation, each (n, 2) of x and y.

    Raises:
        ValueError: no list of lists of at least three points, finite numbers all.
    """
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("has no segmentation")
    found = []
    for points in segmentation:
        if not isinstance(points, list) or not all(type(value) in (int, float) for value in points):
            raise ValueError("has a polygon that is no list of numbers")
        if len(points) < 6 or len(points) % 2:
            raise ValueError(f"has a polygon of {len(points)} numbers: it takes x and y of three points or more")
        if not all(math.isfinite(value) for value in points):
            raise ValueError("has a polygon with a number that is not finite")
        found.append(np.array(points, np.float64).reshape(-1, 2))
    return found


def fill_polygon(polygon: Polygon, inside: NDArray[np.bool_]) -> None:
    """Adds a polygon, (n, 2) of x and y, to the pixels ``inside``, (height, width), in place."""
    height, width = inside.shape
    top = max(math.ceil(polygon[:, 1].min() - 0.5), 0)
    bottom = min(math.ceil(polygon[:, 1].max() - 0.5), height)
    left = max(math.ceil(polygon[:, 0].min() - 0.5), 0)
    right = min(math.ceil(polygon[:, 0].max() - 0.5), width)
    if top >= bottom or left >= right:
        return
    start, end = polygon, np.roll(polygon, -1, axis=0)
    # Each edge downwards, so that two polygons compute the same crossings along an edge that they share.
    upward = start[:, 1] > end[:, 1]
    start, end = np.where(upward[:, None], end, start), np.where(upward[:, None], start, end)
    # Rows whose centre an edge crosses: start <= row + .5 < end.
    first = np.clip(np.ceil(start[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(end[:, 1] - 0.5), top, bottom).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(polygon)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
    # A crossing flips all pixels of its row whose centre is not left of it.
    column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.bitwise_xor.at(flips, (row - top, column - left), 1)
    inside[top:bottom, left:right] |= np.bitwise_xor.accumulate(flips, axis=1)[:, :-1].astype(bool)


def runs(segmentation: Any, height: int, width: int) -> list[int]:
    """The runs of a run-length segmentation, compressed or not.

    Raises:
        ValueError: malformed, of another size than the image, or not adding up to its pixels.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ValueError(f"has run lengths of size {size}, its image is {[height, width]} (height, width)")
    if isinstance(counts, str):
        counts = decompress(counts)
    if not isinstance(counts, list) or not all(type(run) is int for run in counts):
        raise ValueError("has run lengths that are neither text nor a list of whole numbers")
    if any(run < 0 for run in counts):
        raise ValueError("has a negative run length")
    if sum(counts) != height * width:
        raise ValueError(f"has run lengths that add up to {sum(counts)}, not to {height} x {width} = {height * width}")
    return counts


def decompress(text: str) -> list[int]:
    """The runs that a compressed text holds.

    Raises:
        ValueError: a character that cannot occur, or the text ends within a number.
    """
    found: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"has compressed run lengths with the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        found.append(value + found[-2] if len(found) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("has compressed run lengths that end within a number")
    return found


def fill_runs(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of runs that add up to height x width, shape (height, width)."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T
