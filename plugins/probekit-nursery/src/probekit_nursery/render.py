"""One scene: layout, painting in the order of height, light, camera."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from probekit_nursery.canvas import Floats, Layer, blurred, noise, resized, shifted
from probekit_nursery.flight import SPECIES, Flight, draw_flight
from probekit_nursery.foliage import draw_plant
from probekit_nursery.ground import draw_ground
from probekit_nursery.rounds import DECOYS, Pot, draw_decoy, draw_pot

RENDERER = "1"
"""Raised with every change that moves a pixel."""
SHARE = (0.042, 0.057)
"""What share of a scene's pixels shows pots: each scene draws its own between these."""


@dataclass(frozen=True)
class Scene:
    """A photograph (size, size, 3), the pixels that show pots (size, size), and the pots."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    pots: tuple[Pot, ...]


def _sites(rng: np.random.Generator, size: int, flight: Flight) -> NDArray[np.float64]:
    """Places on the flight's rows, (n, 2), in the order in which they fill: blocks first, then what lies farther."""
    pitch = flight.radius * 2 * rng.uniform(1.12, 1.6), flight.radius * 2 * rng.uniform(1.25, 2.1)
    reach = int(size / min(pitch)) + 2
    u, v = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    turn = flight.row_angle + rng.normal(0, 0.04)
    across = np.stack((u.ravel() * pitch[0], v.ravel() * pitch[1]), 1)
    spin = np.asarray(((np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))))
    places = across @ spin + size / 2 + rng.normal(0, flight.radius * 0.09, across.shape)
    blocks = rng.uniform(0.05, 0.95, (int(rng.integers(2, 5)), 2)) * size
    offset = np.abs((places[:, None] - blocks[None]) @ spin.T)
    order = (offset * (1.0, rng.uniform(0.5, 2.0))).max(2).min(1) + rng.exponential(flight.radius * 0.8, len(places))
    order = np.where(rng.random(len(places)) < 0.07, order + rng.uniform(0, size), order)
    places = places[np.argsort(order, kind="stable")]
    inside = ((places > -flight.radius) & (places < size + flight.radius)).all(1)
    return np.asarray(places[inside], np.float64)


def _fill_pots(
    rng: np.random.Generator, flight: Flight, pots: Layer, plants: Layer, sites: NDArray[np.float64], grain: Floats
) -> list[Pot]:
    """Puts pots and their plants on the sites until enough pot is to be seen; returns the pots."""
    size = pots.size
    wanted = rng.uniform(*SHARE) * size * size
    placed: list[Pot] = []
    seen = 0
    nadir = (0.5 + flight.tilt[0]) * size, (0.5 + flight.tilt[1]) * size
    for x, y in sites.tolist():
        if seen >= wanted:
            break
        if placed and rng.random() < 0.05:
            continue
        radius = flight.radius * rng.uniform(0.9, 1.08)
        # the base lies lower than the rim, so it is seen nearer to the point below the camera
        lean = (nadir[0] - x) / size * radius * 0.55, (nadir[1] - y) / size * radius * 0.55
        far = float(np.hypot(*lean))
        if far > 0.45 * radius:
            lean = lean[0] * 0.45 * radius / far, lean[1] * 0.45 * radius / far
        pot = Pot(x, y, radius, radius * flight.taper, lean)
        box = slice(max(0, int(y - 90)), max(0, int(y + 90))), slice(max(0, int(x - 90)), max(0, int(x + 90)))
        before = visible(pots, plants, box).sum()
        draw_pot(rng, pots, flight, pot, grain)
        if rng.random() < 0.9:
            species = str(rng.choice(flight.species))
            leaf = radius * flight.cover * rng.uniform(0.65, 1.2)
            off = rng.normal(0, 0.16 * radius, 2)
            draw_plant(rng, plants, flight, species, x - lean[0] * 0.4 + off[0], y - lean[1] * 0.4 + off[1], leaf)
        seen += int(visible(pots, plants, box).sum()) - int(before)
        placed.append(pot)
    return placed


def visible(pots: Layer, plants: Layer, window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Which pixels of a window show pot on at least half of their area."""
    return np.asarray(pots.alpha[window] * (1 - plants.alpha[window]) >= 0.5, np.bool_)


def _hoses(rng: np.random.Generator, layer: Layer, flight: Flight) -> None:
    """Hoses and pipes that wind over the ground."""
    size = layer.size
    body, shine = (Image.new("L", (2 * size, 2 * size), 0) for _ in range(2))
    for _ in range(int(rng.integers(1, 4))):
        t = np.linspace(-0.1, 1.1, 60)
        turn = rng.choice((flight.row_angle, rng.uniform(0, np.pi)))
        waves = [rng.normal(0, 0.05 / k) * np.sin(k * 5 * t + rng.uniform(0, 7)) for k in (1, 2, 4)]
        wave = np.sum(waves, 0) + rng.uniform(-0.4, 0.4)
        along = (t - 0.5) * 1.4
        points = np.stack((along * np.cos(turn) - wave * np.sin(turn), along * np.sin(turn) + wave * np.cos(turn)), 1)
        points = (points + 0.5) * 2 * size
        width = int(rng.integers(6, 13))
        up = points + np.asarray(flight.sun) * 2
        ImageDraw.Draw(body).line(points.ravel().tolist(), fill=255, width=width, joint="curve")
        ImageDraw.Draw(shine).line(up.ravel().tolist(), fill=120, width=max(2, width // 4), joint="curve")
    colours = (flight.pot, (0.16, 0.16, 0.17), (0.22, 0.42, 0.26), (0.65, 0.55, 0.2))
    colour = np.asarray(colours[int(rng.integers(len(colours)))], np.float32)
    cover, bright = (np.asarray(stencil.reduce(2), np.float32) / np.float32(255) for stencil in (body, shine))
    layer.alpha[:] = cover
    layer.rgb[:] = (cover * (1 - 0.4 * bright))[..., None] * colour + (cover * bright * np.float32(0.35))[..., None]


def _litter(
    rng: np.random.Generator, flight: Flight, low: Layer, sites: NDArray[np.float64], pots: list[Pot], grain: Floats
) -> None:
    """What lies and grows on the ground: hoses, round things, plants in rows without pots, weeds."""
    size, area = low.size, (low.size / 768) ** 2
    _hoses(rng, low, flight)
    taken = np.asarray([(p.x, p.y) for p in pots])

    def free(x: float, y: float, clearance: float) -> bool:
        return bool(np.hypot(taken[:, 0] - x, taken[:, 1] - y).min() > clearance)

    r = flight.radius
    rows = sites[len(pots) :]
    rows = rows[: int(len(rows) * rng.uniform(0.35, 0.9))]
    bedded = rng.uniform(0.6, 1)
    for x, y in rows[rng.random(len(rows)) < 0.75].tolist():
        if not free(x, y, 1.7 * r):
            continue
        if rng.random() < 0.25:
            draw_decoy(rng, low, flight, str(rng.choice(DECOYS)), x, y, r * rng.uniform(0.75, 1.1), grain)
            continue
        if rng.random() < bedded:
            kind = "edging" if rng.random() < 0.13 else "basin"
            draw_decoy(rng, low, flight, kind, x, y, r * rng.uniform(0.85, 1.1), grain)
        species = str(rng.choice(flight.species))
        draw_plant(rng, low, flight, species, x, y, r * flight.cover * rng.uniform(0.6, 1.2))
    for x, y in rng.uniform(0, size, (int(34 * area), 2)).tolist():
        kind = str(rng.choice(DECOYS))
        radius = r * rng.uniform(0.45, 1.15)
        if free(x, y, radius + 0.8 * r):
            draw_decoy(rng, low, flight, kind, x, y, radius, grain)
    patch = rng.uniform(0, size, (6, 2))
    for _ in range(int(55 * area)):
        x, y = rng.uniform(0, size, 2) if rng.random() < 0.5 else patch[rng.integers(6)] + rng.normal(0, 45, 2)
        draw_plant(rng, low, flight, str(rng.choice(SPECIES)), float(x), float(y), float(rng.uniform(4, 15)))


def _cast(flight: Flight, alpha: Floats, height: float) -> Floats:
    """The shadow of a layer that stands ``height`` pixels above what it falls on."""
    reach = height * flight.throw
    dark = shifted(alpha, -flight.sun[0] * reach, -flight.sun[1] * reach)
    if reach > 6:
        dark = np.maximum(dark, shifted(alpha, -flight.sun[0] * reach / 2, -flight.sun[1] * reach / 2))
    return blurred(dark, flight.softness)


def _photograph(rng: np.random.Generator, flight: Flight, picture: Floats) -> NDArray[np.uint8]:
    """Light, lens, sensor and file: what the camera makes of the scene."""
    size = picture.shape[0]
    at = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    falloff = 1 - np.float32(flight.vignette) * 2 * (at[None, :] ** 2 + at[:, None] ** 2)
    clouds = resized(rng.normal(1, 0.07, (4, 4)).astype(np.float32), size, size)
    gain = np.float32(flight.exposure * rng.uniform(0.88, 1.12)) * falloff * clouds
    picture *= gain[..., None]
    picture *= np.asarray(flight.light, np.float32)
    sharp = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    side = flight.blur**2 / 2
    row = np.asarray((side, 1 - 2 * side, side))
    lens = np.asarray(sharp.filter(ImageFilter.Kernel((3, 3), np.outer(row, row).ravel().tolist(), 1.0)), np.float32)
    lens += rng.standard_normal((size, size), np.float32)[..., None] * np.float32(255 * flight.grain)
    sensor = Image.fromarray(np.clip(lens, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    sensor.save(file, "JPEG", quality=flight.quality)
    return np.array(Image.open(file), np.uint8)


def render(seed: int, flight: int, scene: int, size: int) -> Scene:
    """Renders one scene; it depends on these four numbers alone, byte for byte on one platform.

    The mask is true where pot (wall, rim, inside, potting mixture) shows on at least half of a pixel, leaves in front
    of it taken off.
    """
    style = draw_flight(seed, flight)
    rng = np.random.default_rng([seed, 2, flight, scene])
    fine = noise(rng, size, (1, 2, 4), 0.4)
    broad = noise(rng, size, (32, 64, 128), 0.7)
    picture = draw_ground(rng, size, style, fine, broad)
    low, pots, plants = Layer(size), Layer(size), Layer(size)
    sites = _sites(rng, size, style)
    placed = _fill_pots(rng, style, pots, plants, sites, fine)
    _litter(rng, style, low, sites, placed, fine)
    light = np.float32(style.shade)
    picture *= (1 - light * _cast(style, low.alpha, 5))[..., None]
    picture = low.over(picture)
    tall = style.radius * 0.9
    shadow = np.maximum(_cast(style, pots.alpha, tall), _cast(style, plants.alpha, 1.6 * tall))
    picture *= (1 - light * shadow)[..., None]
    picture = pots.over(picture)
    picture *= (1 - light * _cast(style, plants.alpha, 0.35 * style.radius) * pots.alpha)[..., None]
    picture = plants.over(picture)
    everything = (slice(None), slice(None))
    return Scene(_photograph(rng, style, picture), visible(pots, plants, everything), tuple(placed))
