"""Pots, and round things that are no pots, painted analytically: coverage is one half exactly on the outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probekit_nursery.canvas import Colour, Floats, Layer, Numbers, around, mix, tint
from probekit_nursery.flight import Flight

DECOYS = ("lid", "saucer", "stone", "ring", "puddle", "cover", "hole", "bucket", "stump", "basin", "edging")


@dataclass(frozen=True)
class Pot:
    """A pot: a cone whose rim is the circle around (x, y); the base leans away from the point below the camera."""

    x: float
    y: float
    radius: float
    base: float
    lean: tuple[float, float]

    def distance(self, dx: Floats, dy: Floats) -> Floats:
        """Signed distance from the silhouette (negative inside), at offsets from the rim's centre, in pixels."""
        rho = np.hypot(dx, dy)
        far = float(np.hypot(*self.lean))
        if far <= self.radius - self.base:
            return np.asarray(rho - self.radius, np.float32)
        # the silhouette is the hull of two circles: two arcs and the two tangents between them
        ux, uy = self.lean[0] / far, self.lean[1] / far
        along, across = dx * ux + dy * uy, np.abs(dy * ux - dx * uy)
        sine = (self.radius - self.base) / far
        cosine = float(np.sqrt(1 - sine * sine))
        foot = along * cosine - across * sine
        tangent = across * cosine + along * sine - self.radius
        base = np.hypot(along - far, across) - self.base
        distance = np.where(foot < 0, rho - self.radius, np.where(foot > far * cosine, base, tangent))
        return np.asarray(distance, np.float32)


def _covers(distance: Numbers) -> Floats:
    return np.asarray(np.clip(0.5 - distance, 0, 1), np.float32)


def draw_pot(rng: np.random.Generator, layer: Layer, flight: Flight, pot: Pot, grain: Floats) -> None:
    """Paints a pot: wall, rim, inner wall, potting mixture in the rim's shadow."""
    found = around(pot.x, pot.y, pot.radius + float(np.hypot(*pot.lean)) + 2, layer.size)
    if found is None:
        return
    window, dx, dy = found
    r, (sx, sy) = pot.radius, flight.sun
    rho = np.hypot(dx, dy)
    lit = (dx * sx + dy * sy) / np.maximum(rho, 1)
    colour = flight.pot
    rgb = tint(colour, 0.58 + 0.30 * lit)
    rgb = mix(rgb, tint(colour, 1.0 + 0.28 * lit + 0.05), _covers(rho - r))
    inner = r * (1 - flight.rim)
    rgb = mix(rgb, tint(colour, 0.50 - 0.32 * lit), _covers(rho - inner))
    level = flight.level * rng.uniform(0.8, 1.2)
    soil_x, soil_y = pot.lean[0] * level * 0.6, pot.lean[1] * level * 0.6
    deep = r * (1 - flight.rim - (1 - flight.taper) * level) - 0.6
    texture = grain[window]
    shadow = _covers(inner - np.hypot(dx + sx * r * level * flight.throw, dy + sy * r * level * flight.throw))
    soil = tint(flight.mixture, (1 + 0.22 * texture) * (1 - flight.shade * shadow))
    soil[texture > 2.1] = 0.62
    rgb = mix(rgb, soil, _covers(np.maximum(np.hypot(dx - soil_x, dy - soil_y) - deep, rho - inner)))
    layer.paint(window, rgb, _covers(pot.distance(dx, dy)))


def draw_decoy(
    rng: np.random.Generator, layer: Layer, flight: Flight, kind: str, x: float, y: float, r: float, grain: Floats
) -> None:
    """Paints a round thing that is no pot, in colours that pots have too."""
    found = around(x, y, 1.4 * r + 4, layer.size)
    if found is None:
        return
    window, dx, dy = found
    sx, sy = flight.sun
    rho = np.hypot(dx, dy)
    lit = (dx * sx + dy * sy) / np.maximum(rho, 1)
    texture = grain[window]
    angle = np.arctan2(dy, dx)
    waves = [rng.normal(0, 0.09 / k) * np.cos(k * angle + rng.uniform(0, 7)) for k in range(2, 6)]
    uneven = np.asarray(rho * (1 + np.sum(waves, 0)), np.float32)
    pot, mixture, earth = flight.pot, flight.mixture, flight.soil
    other: Colour = (0.35, 0.36, 0.38) if rng.random() < 0.3 else pot
    cover = _covers(rho - r)
    if kind == "lid":
        ridges = 0.06 * np.cos(rho * (2 * np.pi / max(3.0, r / 4)))
        rgb = tint(other, 0.95 + ridges * lit * 2 + 0.12 * _covers(np.abs(rho - r + 2) - 1.2) * lit)
    elif kind == "saucer":
        rgb = tint(other, 0.8 - 0.1 * lit)
        rgb = mix(rgb, tint(other, 1.02 + 0.28 * lit), _covers(r * 0.86 - rho))
        rgb = mix(rgb, tint(mixture, 1.1 + 0.3 * texture), _covers(uneven - r * rng.uniform(0.0, 0.75)))
    elif kind == "stone":
        grey = rng.uniform(0.7, 1.25)
        rgb = tint((0.46 * grey, 0.44 * grey, 0.41 * grey), 0.85 + 0.3 * lit * rho / r + 0.08 * texture)
        cover = _covers(uneven - r * 0.8)
    elif kind == "ring":
        band = max(1.3, 0.5 * r * flight.rim)
        rgb = tint(other, 0.85 + 0.35 * lit * np.sign(rho - r + band))
        cover = _covers(np.abs(rho - r + band) - band)
    elif kind == "puddle":
        sky = rng.uniform(0.3, 0.6)
        rgb = tint((sky * 0.9, sky, sky * 1.08), 1 + 0.15 * lit * rho / r + 0.02 * texture)
        rgb = mix(rgb, tint(earth, 0.62 + 0.1 * texture), _covers(r * 0.85 - uneven))
        cover = _covers(uneven - r) * np.float32(0.9)
    elif kind == "cover":
        pattern = np.sign(np.sin(dx * 0.9) * np.sin(dy * 0.9)) * 0.12
        rgb = tint((0.38, 0.37, 0.36), 0.9 + pattern + 0.2 * lit * _covers(np.abs(rho - r * 0.9) - 1.2))
    elif kind == "hole":
        rgb = tint(earth, 1.1 - 0.3 * lit + 0.15 * texture)
        rgb = mix(rgb, tint(mixture, 0.75 - 0.45 * lit * rho / r + 0.2 * texture), _covers(uneven - r * 0.78))
        cover = np.asarray(np.clip((r - uneven) / 5 + 0.3 * texture, 0, 1), np.float32)
    elif kind == "bucket":
        rgb = tint(other, 1.0 + 0.3 * lit)
        rgb = mix(rgb, tint(other, 0.5 - 0.32 * lit), _covers(rho - r * (1 - flight.rim)))
        sky = rng.uniform(0.25, 0.55)
        rgb = mix(rgb, tint((sky * 0.9, sky, sky * 1.06), 1 - 0.2 * lit), _covers(rho - r * 0.78))
        rgb = mix(rgb, (0.7, 0.7, 0.7), _covers(np.abs(dx * sy - dy * sx + 0.35 * r) - 0.8) * cover)
    elif kind == "stump":
        rings = 0.1 * np.cos(uneven * 1.6) + 0.08 * texture
        rgb = tint((0.60, 0.48, 0.34), 0.95 + rings)
        rgb = mix(rgb, tint((0.27, 0.21, 0.16), 1 + 0.35 * lit), _covers(r * 0.86 - uneven))
        cover = _covers(uneven - r)
    elif kind == "edging":
        # a ring of plastic set into the ground around a bed: a pot's colours without its depth
        rgb = tint(pot, 0.95 + 0.28 * lit)
        bed = tint(mixture, 1 + 0.22 * texture)
        bed[texture > 2.1] = 0.62
        rgb = mix(rgb, bed, _covers(rho - r * (1 - flight.rim * rng.uniform(0.7, 1.3))))
    else:  # a basin: potting mixture heaped around a plant in the ground
        rgb = tint(mixture, 1 + 0.25 * texture + 0.18 * lit * rho / r)
        rgb[texture > 2.1] = 0.62
        cover = np.asarray(np.clip((r - uneven) / 3 + 0.4 * texture + 0.3, 0, 1), np.float32)
    layer.paint(window, rgb, cover)
