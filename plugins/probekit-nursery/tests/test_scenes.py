"""What a scene shows, against the geometry that it was made from."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from probekit_nursery.canvas import Layer
from probekit_nursery.flight import PLASTICS, draw_flight
from probekit_nursery.render import Scene, render
from probekit_nursery.rounds import DECOYS, Pot, draw_decoy, draw_pot


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render(0, flight, flight % 4, 768) for flight in range(0, 12, 3)]


Window = tuple[slice, slice]


def silhouette(pot: Pot, size: int) -> tuple[Window, NDArray[np.bool_], NDArray[np.bool_]]:
    """A window around a pot; its pixels whose centre lies in one of the circles between rim and base, by trying many;
    and those too close to the outline for that to tell."""
    top, left = max(0, int(pot.y) - 56), max(0, int(pot.x) - 56)
    rows, columns = np.arange(top, min(size, top + 112)) + 0.5, np.arange(left, min(size, left + 112)) + 0.5
    depth = np.full((rows.size, columns.size), -np.inf)
    for t in np.linspace(0, 1, 30):
        radius = pot.radius + t * (pot.base - pot.radius)
        rho = np.hypot(columns[None, :] - pot.x - t * pot.lean[0], rows[:, None] - pot.y - t * pot.lean[1])
        depth = np.maximum(depth, radius - rho)
    window = slice(top, top + rows.size), slice(left, left + columns.size)
    return window, depth >= 0, np.abs(depth) < 0.05


@settings(max_examples=20, deadline=None)
@given(
    x=st.floats(-10, 106), y=st.floats(-10, 106), radius=st.floats(8, 30), taper=st.floats(0.5, 0.95),
    lean=st.floats(0, 0.6), turn=st.floats(0, 6.3),
)  # fmt: skip
def test_a_pot_nothing_hides_is_its_silhouette(
    x: float, y: float, radius: float, taper: float, lean: float, turn: float
) -> None:
    pot = Pot(x, y, radius, radius * taper, (lean * radius * np.cos(turn), lean * radius * np.sin(turn)))
    layer = Layer(96)
    draw_pot(np.random.default_rng(0), layer, draw_flight(0, 0), pot, np.zeros((96, 96), np.float32))
    window, truth, unsure = silhouette(pot, 96)
    painted = layer.alpha >= 0.5
    assert np.array_equal(painted[window] | unsure, truth | unsure)
    assert painted.sum() == painted[window].sum()


def test_masks_lie_on_pots_and_show_whole_ones(scenes: list[Scene]) -> None:
    whole = 0
    for scene in scenes[:2]:
        anywhere = np.zeros_like(scene.mask)
        for pot in scene.pots:
            window, truth, unsure = silhouette(pot, 768)
            anywhere[window] |= truth | unsure
            inside = truth & ~unsure
            whole += bool(inside.any() and scene.mask[window][inside].all())
            rows, columns = np.nonzero(truth)
            assert rows.size == 0 or max(np.ptp(rows), np.ptp(columns)) < 64
        assert not scene.mask[~anywhere].any()
    assert whole >= 2


def test_plants_hide_a_part_of_the_pots(scenes: list[Scene]) -> None:
    scene = scenes[2]
    area = sum(int(silhouette(pot, 768)[1].sum()) for pot in scene.pots)
    assert 0.3 < scene.mask.sum() / area < 0.95


def test_pots_are_four_to_six_percent_of_the_pixels(scenes: list[Scene]) -> None:
    assert all(0.04 <= scene.mask.mean() <= 0.06 for scene in scenes)


def test_photographs_use_the_range_of_light(scenes: list[Scene]) -> None:
    for scene in scenes:
        grey = scene.image.mean(2)
        assert 40 < grey.mean() < 215
        assert grey.std() > 15
        assert (grey >= 254).mean() < 0.05


def test_flights_take_turns_in_kinds_of_pot() -> None:
    kinds = [draw_flight(7, flight).pot_kind for flight in range(2 * len(PLASTICS))]
    assert set(kinds[: len(PLASTICS)]) == set(PLASTICS)
    assert kinds[: len(PLASTICS)] == kinds[len(PLASTICS) :]


def test_scenes_and_seeds_differ() -> None:
    images = [render(*asked, 128).image for asked in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    for i, one in enumerate(images):
        assert not any(np.array_equal(one, other) for other in images[:i])


@pytest.mark.parametrize("kind", DECOYS)
def test_round_things_paint_where_they_lie(kind: str) -> None:
    layer = Layer(96)
    draw_decoy(np.random.default_rng(0), layer, draw_flight(0, 1), kind, 40, 50, 20, np.zeros((96, 96), np.float32))
    assert layer.alpha[30:70, 20:60].max() > 0.5
    at = np.arange(96) + 0.5
    assert not layer.alpha[np.hypot(at[None, :] - 40, at[:, None] - 50) > 1.5 * 20 + 2].any()
    assert np.isfinite(layer.rgb).all()


def test_another_process_renders_the_same_bytes() -> None:
    code = (
        "import hashlib; from probekit_nursery.render import render; s = render(3, 1, 2, 200); "
        "print(hashlib.sha256(s.image.tobytes() + s.mask.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"})
    render(5, 0, 0, 160)
    scene = render(3, 1, 2, 200)
    assert other.stdout.strip() == hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()
