"""What the scenes of one flight share: light, camera, soil, kind of pot, plants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probekit_nursery.canvas import Colour

PLASTICS: dict[str, tuple[Colour, ...]] = {
    "black": ((0.10, 0.10, 0.11), (0.15, 0.14, 0.14)),
    "terracotta": ((0.62, 0.34, 0.23), (0.52, 0.30, 0.22)),
    "green": ((0.20, 0.33, 0.22), (0.30, 0.40, 0.25)),
    "white": ((0.78, 0.77, 0.72), (0.68, 0.69, 0.68)),
    "grey": ((0.42, 0.42, 0.43), (0.33, 0.35, 0.37)),
    "brown": ((0.36, 0.26, 0.19), (0.28, 0.21, 0.17)),
}
SOILS: tuple[Colour, ...] = (
    (0.42, 0.33, 0.25), (0.50, 0.40, 0.30), (0.34, 0.27, 0.22), (0.50, 0.35, 0.26), (0.47, 0.44, 0.38),
)  # fmt: skip
GROUNDS = ("soil", "gravel", "mulch", "fabric", "straw", "sand")
SPECIES = ("broad", "tuft", "shrub", "fern", "spiky", "succulent", "flowering")


@dataclass(frozen=True)
class Flight:
    """One flight over the nursery. Lengths in pixels, colours between 0 and 1, angles in radians."""

    sun: tuple[float, float]
    """Unit vector on the picture, towards the sun."""
    throw: float
    """Length of a shadow by the height of what casts it."""
    shade: float
    """How much light a shadow takes away."""
    softness: float
    light: Colour
    exposure: float
    blur: float
    grain: float
    vignette: float
    tilt: tuple[float, float]
    """Where the point below the camera lies, in picture widths from the picture's centre."""
    quality: int
    soil: Colour
    mixture: Colour
    grounds: tuple[str, str]
    row_angle: float
    pot: Colour
    pot_kind: str
    radius: float
    taper: float
    rim: float
    level: float
    """How far below the rim the potting mixture lies, in radii."""
    cover: float
    """The plants' radius in pot radii."""
    species: tuple[str, ...]
    hue: float
    """Moves the flight's greens towards yellow (negative) or blue (positive)."""


def draw_flight(seed: int, index: int) -> Flight:
    """The flight's own draw: it depends on the seed and the flight's number alone."""
    rng = np.random.default_rng([seed, 1, index])
    # kinds of pot and ground take turns, so that even a few flights differ; the order is the seed's
    order = np.random.default_rng([seed, 0])
    kinds = order.permutation(sorted(PLASTICS))
    grounds = order.permutation(GROUNDS)
    kind = str(kinds[index % len(kinds)])
    low, high = PLASTICS[kind]
    share = rng.uniform(-0.2, 1.2)
    pot = [
        float(np.clip(a + (b - a) * share + rng.normal(0, 0.02), 0.05, 0.85)) for a, b in zip(low, high, strict=True)
    ]
    azimuth = rng.uniform(0, 2 * np.pi)
    overcast = rng.random() < 0.3
    warmth = rng.normal(0, 0.08)
    soil = np.asarray(SOILS[rng.integers(len(SOILS))]) * rng.uniform(0.8, 1.15)
    mixture = np.asarray((0.20, 0.15, 0.12)) * rng.uniform(0.6, 1.5) + rng.uniform(0, 0.25) * (soil - 0.2)
    first = str(grounds[(index + index // len(grounds)) % len(grounds)])
    second = str(rng.choice([g for g in GROUNDS if g != first]))
    return Flight(
        sun=(float(np.cos(azimuth)), float(np.sin(azimuth))),
        throw=float(rng.uniform(0.35, 1.3)),
        shade=float(rng.uniform(0.2, 0.35) if overcast else rng.uniform(0.42, 0.68)),
        softness=float(rng.uniform(3, 5) if overcast else rng.uniform(0.6, 1.6)),
        light=(1 + warmth, 1.0 + float(rng.normal(0, 0.015)), 1 - warmth),
        exposure=float(rng.uniform(0.72, 1.35)),
        blur=float(rng.uniform(0.35, 0.8)),
        grain=float(rng.uniform(0.006, 0.028)),
        vignette=float(rng.uniform(0.05, 0.3)),
        tilt=(float(rng.normal(0, 0.35)), float(rng.normal(0, 0.35))),
        quality=int(rng.integers(72, 95)),
        soil=(float(soil[0]), float(soil[1]), float(soil[2])),
        mixture=(float(mixture[0]), float(mixture[1]), float(mixture[2])),
        grounds=(first, second),
        row_angle=float(rng.uniform(0, np.pi)),
        pot=(pot[0], pot[1], pot[2]),
        pot_kind=kind,
        radius=float(rng.uniform(12, 22)),
        taper=float(rng.uniform(0.66, 0.86)),
        rim=float(rng.uniform(0.07, 0.15)),
        level=float(rng.uniform(0.15, 0.5)),
        cover=float(rng.uniform(1.05, 1.5)),
        species=tuple(str(s) for s in rng.choice(SPECIES, size=int(rng.integers(2, 5)), replace=False)),
        hue=float(rng.normal(0, 0.5)),
    )
