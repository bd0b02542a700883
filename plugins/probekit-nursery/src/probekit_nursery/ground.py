"""The ground of a scene: soil with furrows, gravel, bark mulch, landscape fabric, straw, sand."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from probekit_nursery.canvas import Floats, mix, noise, tint
from probekit_nursery.flight import Flight


def _relief(height: Floats, flight: Flight) -> Floats:
    """How much more light a slope gets that faces the sun."""
    slope = np.zeros_like(height)
    slope[:, 1:-1] = (height[:, :-2] - height[:, 2:]) * np.float32(flight.sun[0])
    slope[1:-1] += (height[:-2] - height[2:]) * np.float32(flight.sun[1])
    return -slope


def _pieces(
    rng: np.random.Generator, size: int, count: int, length: float, width: float, angle: float, spread: float
) -> Floats:
    """Many small pieces lying over one another: a brightness for each pixel, around 0, and 0 between the pieces."""
    picture = Image.new("L", (size, size), 128)
    draw = ImageDraw.Draw(picture)
    turn = rng.normal(angle, spread, count)
    half = np.stack((np.cos(turn), np.sin(turn)), 1) * (0.5 * length * rng.uniform(0.5, 1.5, count))[:, None]
    thick = np.stack((-np.sin(turn), np.cos(turn)), 1) * (0.5 * width * rng.uniform(0.6, 1.4, count))[:, None]
    centre = rng.uniform(-5, size + 5, (count, 2))
    corners = centre[:, None] + np.stack((half + thick, thick - half, -half - thick, half - thick), 1)
    corners[:, :2] += rng.normal(0, 0.15 * width, (count, 2, 2))
    bright = np.clip(rng.normal(128, 42, count), 20, 250).astype(int)
    for corner, value in zip(corners.reshape(count, 8).tolist(), bright.tolist(), strict=True):
        draw.polygon(corner, fill=value)
    return (np.asarray(picture, np.float32) - 128) / np.float32(42)


def _surface(rng: np.random.Generator, size: int, kind: str, flight: Flight, fine: Floats, broad: Floats) -> Floats:
    """One kind of ground over the whole scene, (size, size, 3)."""
    angle = flight.row_angle
    across = (
        np.arange(size, dtype=np.float32)[None, :] * np.float32(-np.sin(angle))
        + np.arange(size, dtype=np.float32)[:, None] * np.float32(np.cos(angle))
        + 6 * broad
    )
    area = size * size / 768**2
    if kind == "soil":
        furrows = np.sin(across * np.float32(2 * np.pi / rng.uniform(26, 48))) * np.float32(rng.uniform(0.5, 2.5))
        clods = noise(rng, size, (3, 6, 12), 0.8)
        return tint(flight.soil, 1 + 0.06 * broad + 0.05 * fine + 0.10 * _relief(furrows + 1.2 * clods, flight))
    if kind == "gravel":
        stones = noise(rng, size, (3, 5), 0.6)
        grey = rng.uniform(0.40, 0.58)
        rgb = tint((grey * 1.03, grey, grey * 0.94), 0.95 + 0.09 * _relief(stones, flight) + 0.05 * stones)
        single = _pieces(rng, size, int(5000 * area), 7, 6, 0, 3)
        return np.asarray(rgb * (1 + 0.14 * single + 0.05 * fine + 0.04 * broad)[..., None], np.float32)
    if kind == "mulch":
        chips = _pieces(rng, size, int(9000 * area), 13, 4, 0, 3)
        bark = rng.uniform(0.8, 1.25)
        return tint((0.36 * bark, 0.25 * bark, 0.18 * bark), 0.92 + 0.27 * chips + 0.07 * fine + 0.06 * broad)
    if kind == "fabric":
        weave = 0.10 * np.sign(np.sin(across * np.float32(1.9)))
        stripe = (np.abs(np.mod(across, np.float32(96)) - 48) < 1.3).astype(np.float32)
        dirt = np.clip(broad * 0.6 + 0.25 * fine - 0.2, 0, 1)
        wrinkles = _relief(noise(rng, size, (24, 60), 0.5) * 14, flight)
        rgb = tint((0.17, 0.17, 0.19), 1 + weave + 0.13 * fine + 0.10 * wrinkles)
        rgb = mix(rgb, (0.34, 0.42, 0.32), stripe * np.float32(0.6))
        return mix(rgb, flight.soil, dirt * np.float32(0.7))
    if kind == "straw":
        stems = _pieces(rng, size, int(7500 * area), 24, 1.6, angle, 0.9)
        return tint((0.58, 0.50, 0.34), 0.88 + 0.20 * stems + 0.09 * fine + 0.06 * broad)
    ripples = noise(rng, size, (4, 16, 50), 0.7)
    return tint((0.62, 0.54, 0.42), 0.95 + 0.05 * fine + 0.06 * broad + 0.12 * _relief(ripples * 2, flight))


def draw_ground(rng: np.random.Generator, size: int, flight: Flight, fine: Floats, broad: Floats) -> Floats:
    """The scene's ground, (size, size, 3): the flight's main surface, and its second one along a path or in patches.

    Args:
        fine, broad: noise of the grain of sand and of the size of a bed, (size, size).
    """
    main, second = (_surface(rng, size, kind, flight, fine, broad) for kind in flight.grounds)
    angle = flight.row_angle + (np.pi / 2 if rng.random() < 0.4 else 0)
    normal = np.float32(-np.sin(angle)), np.float32(np.cos(angle))
    place = (np.arange(size, dtype=np.float32)[None, :] - size / 2) * normal[0]
    place = place + (np.arange(size, dtype=np.float32)[:, None] - size / 2) * normal[1]
    off = np.abs(place - np.float32(rng.uniform(-0.35, 0.35) * size) + 9 * broad + 2 * fine)
    path = np.clip((np.float32(rng.uniform(35, 110)) - off) / 5, 0, 1)
    patches = np.clip((broad - np.float32(rng.uniform(0.9, 2.2))) * 4 + 0.3 * fine, 0, 1)
    return mix(main, second, np.maximum(path, patches).astype(np.float32))
