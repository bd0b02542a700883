"""Plants from above: leaves as polygons, drawn threefold and reduced, so that coverage is exact to a ninth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from probekit_nursery.canvas import Colour, Floats, Layer, around
from probekit_nursery.flight import Flight

OVERSAMPLING = 3
POINTS = 5
"""Along a leaf's midrib."""


@dataclass(frozen=True)
class Habit:
    """How a kind of plant grows: lengths in plant radii, ``whorls`` from the ground up."""

    leaves: int
    whorls: int
    length: tuple[float, float]
    width: float
    belly: float
    """Where along the leaf it is widest."""
    spread: float
    """How far from the stem leaves start."""
    bend: float
    colour: Colour
    vary: float = 0.12
    pinnate: int = 0
    """Leaflets on each side of a frond; 0 for simple leaves."""
    flowers: int = 0


HABITS = {
    "broad": Habit(15, 3, (0.55, 1.0), 0.36, 0.45, 0.05, 0.25, (0.33, 0.47, 0.21)),
    "tuft": Habit(40, 2, (0.5, 1.05), 0.055, 0.3, 0.12, 0.5, (0.40, 0.48, 0.22)),
    "shrub": Habit(80, 3, (0.2, 0.34), 0.5, 0.5, 0.78, 0.3, (0.27, 0.40, 0.18), 0.2),
    "fern": Habit(9, 1, (0.75, 1.05), 0.16, 0.4, 0.02, 0.3, (0.34, 0.52, 0.20), 0.12, 7),
    "spiky": Habit(22, 2, (0.6, 1.0), 0.12, 0.25, 0.03, 0.06, (0.40, 0.50, 0.36)),
    "succulent": Habit(24, 4, (0.35, 0.72), 0.5, 0.65, 0.03, 0.05, (0.43, 0.53, 0.43), 0.08),
    "flowering": Habit(48, 2, (0.22, 0.4), 0.45, 0.5, 0.7, 0.3, (0.30, 0.43, 0.19), 0.15, 0, 9),
}
PETALS: tuple[Colour, ...] = ((0.85, 0.80, 0.78), (0.80, 0.35, 0.45), (0.86, 0.70, 0.22), (0.58, 0.36, 0.66))


def _leaves(
    rng: np.random.Generator, habit: Habit, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where leaves start (n, 2), their directions, lengths, widths (n,), and how high they lie (n,), lowest first."""
    # small plants have fewer leaves
    n = max(5, int(habit.leaves * rng.uniform(0.75, 1.25) * min(1.0, 0.35 + radius / 32)))
    height = np.arange(n) / n
    turn = np.arange(n) * 2.39996 + rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.25, n)
    low, high = habit.length
    # upper whorls are shorter: what is seen from above are rings of leaves
    length = radius * rng.uniform(low, high, n) * (1 - 0.45 * height if habit.whorls > 1 else 1)
    out = radius * habit.spread * np.sqrt(rng.random(n)) * (1.1 - 0.6 * height)
    start = np.stack((out * np.cos(turn), out * np.sin(turn)), 1)
    turn = turn + rng.normal(0, 0.9 if habit.spread > 0.5 else 0.15, n)
    width = length * habit.width * rng.uniform(0.8, 1.2, n)
    if not habit.pinnate:
        return start, turn, length, width, height
    along = np.tile(np.linspace(0.15, 0.97, habit.pinnate), 2)
    side = np.repeat((-1.0, 1.0), habit.pinnate)
    bent = turn[:, None] + habit.bend * along * np.sign(np.cos(turn * 7))[:, None]
    base = start[:, None] + (length[:, None] * along)[..., None] * np.stack((np.cos(bent), np.sin(bent)), 2)
    leaflet = length[:, None] * 0.34 * np.sin(np.pi * (0.15 + 0.8 * along))
    angles = bent + side * 1.05
    count = along.size
    return base.reshape(-1, 2), angles.ravel(), leaflet.ravel(), leaflet.ravel() * 0.42, np.repeat(height, count)


def _outlines(
    start: NDArray[np.float64],
    turn: NDArray[np.float64],
    length: NDArray[np.float64],
    width: NDArray[np.float64],
    bend: NDArray[np.float64],
    belly: float,
) -> NDArray[np.float64]:
    """Each leaf as two halves along its midrib: (n, 2, points, 2)."""
    t = np.linspace(0, 1, POINTS)
    power = belly / (1 - belly)
    half = t**power * (1 - t)
    half /= half.max()
    angle = turn[:, None] + bend[:, None] * (t - 0.3)
    direction = np.stack((np.cos(angle), np.sin(angle)), 2)
    rib = start[:, None] + length[:, None, None] * t[None, :, None] * direction
    normal = np.stack((-direction[..., 1], direction[..., 0]), 2) * (0.5 * width[:, None] * half)[..., None]
    back = rib[:, ::-1]
    return np.stack((np.concatenate((rib + normal, back), 1), np.concatenate((rib - normal, back), 1)), 1)


def draw_plant(
    rng: np.random.Generator, layer: Layer, flight: Flight, species: str, x: float, y: float, radius: float
) -> None:
    """Paints one plant, at most ``1.4 * radius`` pixels from (x, y)."""
    found = around(x, y, 1.4 * radius + 2, layer.size)
    if found is None:
        return
    window, dx, dy = found
    habit = HABITS[species]
    start, turn, length, width, height = _leaves(rng, habit, radius)
    n = len(turn)
    outlines = _outlines(start, turn, length, width, rng.normal(0, habit.bend, n), habit.belly)
    scale = OVERSAMPLING
    outlines = (outlines - (float(dx[0, 0]) - 0.5, float(dy[0, 0]) - 0.5)) * scale
    # each half faces another way: the one towards the sun is brighter
    facing = flight.sun[1] * np.cos(turn) - flight.sun[0] * np.sin(turn)
    # what lies deep in the plant gets less light
    bright = (0.5 + 0.5 * height) * rng.normal(1.08, habit.vary, n)
    bright = bright[:, None] * (1 + 0.2 * np.stack((facing, -facing), 1))
    hue = flight.hue + rng.normal(0, 0.35) + rng.normal(0, 0.25, n)[:, None]
    base = np.asarray(habit.colour)
    colours = base * bright[..., None] * (1 + np.stack((-0.12 * hue, 0.02 * hue, 0.15 * hue), 2))
    fill = np.clip(colours * 255, 8, 250).astype(np.uint8)
    wide, tall = dx.size * scale, dy.size * scale
    under = tuple(int(v) for v in np.clip(base * 140, 0, 255))
    picture = Image.new("RGB", (wide, tall), under)
    cover = Image.new("L", (wide, tall), 0)
    paint, stencil = ImageDraw.Draw(picture), ImageDraw.Draw(cover)
    dark = (fill[:, 0] * 0.45).astype(np.uint8)
    drop = np.asarray(flight.sun) * -scale * 1.1
    whole = np.concatenate((outlines[:, 0, :POINTS], outlines[:, 1, POINTS - 1 :: -1]), 1).reshape(n, -1)
    left = outlines[:, 0].reshape(n, -1).tolist()
    shadow = (whole + np.tile(drop, 2 * POINTS)).tolist()
    broad = bool(width.mean() > 3)
    for i, (leaf, colour, deep) in enumerate(zip(whole.tolist(), fill.tolist(), dark.tolist(), strict=True)):
        # the shadow that a leaf throws on those below it keeps to the plant: the stencil does not get it
        paint.polygon(shadow[i], fill=tuple(deep))
        stencil.polygon(leaf, fill=255)
        paint.polygon(leaf, fill=tuple(colour[1]))
        if broad:
            paint.polygon(left[i], fill=tuple(colour[0]))
    if habit.flowers:
        petal = tuple(int(255 * v) for v in PETALS[int(abs(flight.hue) * 977) % len(PETALS)])
        away = np.sqrt(rng.random(habit.flowers)) * 0.8 * radius
        for r, a in zip(away, rng.uniform(0, 7, habit.flowers), strict=True):
            cx = (r * np.cos(a) - dx[0, 0] + 0.5) * scale
            cy = (r * np.sin(a) - dy[0, 0] + 0.5) * scale
            size = scale * rng.uniform(1.2, 2.4)
            for draw, colour in ((paint, petal), (stencil, 255)):
                draw.ellipse((cx - size, cy - size, cx + size, cy + size), fill=colour)
    rgb: Floats = np.asarray(picture.reduce(scale), np.float32) / np.float32(255)
    alpha: Floats = np.asarray(cover.reduce(scale), np.float32) / np.float32(255)
    layer.paint(window, rgb, alpha)
