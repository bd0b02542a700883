"""Tiles: cores partition the photograph along reference cells, windows give them context, each cell has one owner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probekit.api import Affine, Grid
from probekit.geometry import Resampler, cut_tiles, reference_grid


@st.composite
def cuts(draw):
    cell = draw(st.sampled_from([1, 4, 7, 16]))
    size = draw(st.integers(cell, 120))
    overlap = draw(st.integers(0, 60))
    assume(overlap + cell <= size)
    return draw(st.integers(1, 300)), draw(st.integers(1, 300)), size, overlap, cell


@settings(deadline=None, max_examples=200)
@given(cuts())
def test_cores_partition_the_photograph_inside_their_windows(cut):
    height, width, size, overlap, cell = cut
    owners = np.zeros((height, width), int)
    for tile in cut_tiles(*cut):
        window, core = tile.window, tile.core
        owners[core.slices] += 1
        assert core.width > 0
        assert core.height > 0
        assert window.x >= 0
        assert window.y >= 0
        assert window.right <= width
        assert window.bottom <= height
        assert window.width == min(size, width)
        assert window.height == min(size, height)
        for low, high, core_low, core_high, length in (
            (window.x, window.right, core.x, core.right, width),
            (window.y, window.bottom, core.y, core.bottom, height),
        ):
            margin = max(0.0, (overlap - cell) / 2)
            assert core_low == 0 or (core_low % cell == 0 and core_low - low >= margin)
            assert core_high == length or (core_high % cell == 0 and high - core_high >= margin)
            assert core_low > 0 or low == 0
            assert core_high < length or high == length
    assert (owners == 1).all()


@settings(deadline=None, max_examples=50)
@given(cuts())
def test_reference_cells_have_one_tile_each(cut):
    height, width, _, _, cell = cut
    whole = reference_grid(height, width, cell)
    owners = np.zeros((whole.rows, whole.columns), int)
    for tile in cut_tiles(*cut):
        part, where = tile.reference(cell)
        owners[where] += 1
        assert owners[where].shape == (part.rows, part.columns)
        np.testing.assert_array_equal(
            part.to_pixels.centers_x(part.columns), whole.to_pixels.centers_x(whole.columns)[where[1]]
        )
    assert (owners == 1).all()


def test_an_image_not_larger_than_a_tile_is_one_tile():
    (tile,) = cut_tiles(640, 1024, 1024, 128, 16)
    assert tile.window == tile.core
    assert (tile.window.width, tile.window.height) == (1024, 640)


def test_native_cells_have_one_owner():
    height, width = 224, 320  # two by three windows, all at multiples of 96: their cells lie on one lattice
    tiles = cut_tiles(height, width, 128, 32, 16)
    assert len(tiles) == 6
    owned = np.zeros((height // 8, width // 8), int)
    for tile in tiles:
        grid = tile.place(Grid(16, 16, Affine(8.0, 8.0), 16, 16))
        i, j = np.nonzero(tile.owns(grid))
        y, x = grid.to_pixels.centers_y(16)[i], grid.to_pixels.centers_x(16)[j]
        np.add.at(owned, ((y // 8).astype(int), (x // 8).astype(int)), 1)
    assert (owned == 1).all()


def test_padding_is_nobodys():
    for tile in cut_tiles(100, 100, 64, 16, 16):
        grid = tile.place(Grid(16, 16, Affine(8.0, 8.0), 8, 5))
        assert not tile.owns(grid)[:, 5:].any()
        assert tile.owns(grid).any()


def test_a_cell_centred_on_the_photographs_border_is_owned():
    (tile,) = cut_tiles(24, 24, 64, 0, 16)
    grid = Grid(2, 2, Affine(16.0, 16.0), 2, 2)  # the second centre lies at 24
    assert tile.owns(grid).all()


def test_stitched_tiles_read_a_ramp_like_the_whole():
    height, width = 150, 230
    reference = reference_grid(height, width, 16)
    stitched = np.full((reference.rows, reference.columns), np.nan)
    for tile in cut_tiles(height, width, 96, 48, 16):
        rows, columns = -(-tile.window.height // 8), -(-tile.window.width // 8)
        native = tile.place(Grid(rows, columns, Affine(8.0, 8.0), rows, columns))
        ramp = native.to_pixels.centers_x(columns)[None, :] + 2 * native.to_pixels.centers_y(rows)[:, None]
        part, where = tile.reference(16)
        stitched[where] = Resampler(native, part, height, width)(ramp)
    expected = (
        reference.to_pixels.centers_x(reference.columns)[None, :]
        + 2 * reference.to_pixels.centers_y(reference.rows)[:, None]
    )
    np.testing.assert_allclose(stitched[1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-12)


def test_tiles_too_small_for_their_overlap_are_refused():
    with pytest.raises(ValueError, match="cannot overlap"):
        cut_tiles(100, 100, 64, 56, 16)
