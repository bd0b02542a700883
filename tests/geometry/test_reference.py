"""Score maps on the reference grid: bilinear reading at 16 points a cell, ramps exact, padding never read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.api import Affine, Grid, InputGeometry
from probekit.geometry import Resampler, reference_grid


def bilinear(values, grid, x, y):
    """One bilinear read between the centres of valid cells, clamped to them."""
    u = np.clip((x - grid.to_pixels.offset_x) / grid.to_pixels.step_x - 0.5, 0, grid.valid_columns - 1)
    v = np.clip((y - grid.to_pixels.offset_y) / grid.to_pixels.step_y - 0.5, 0, grid.valid_rows - 1)
    j, i = int(np.floor(u)), int(np.floor(v))
    j2, i2 = min(j + 1, grid.valid_columns - 1), min(i + 1, grid.valid_rows - 1)
    a, b = u - j, v - i
    top = values[i, j] * (1 - a) + values[i, j2] * a
    bottom = values[i2, j] * (1 - a) + values[i2, j2] * a
    return top * (1 - b) + bottom * b


def brute(values, native, reference, height, width):
    """(scores, valid) of every reference cell, point by point; NaN where no point lies in the photograph."""
    to = reference.to_pixels
    scores = np.full((reference.rows, reference.columns), np.nan)
    valid = np.zeros(scores.shape, bool)
    at = native.to_pixels
    for i in range(reference.rows):
        for j in range(reference.columns):
            reads, covered = [], []
            for a in range(4):
                for b in range(4):
                    y = to.offset_y + to.step_y * (i + (a + 0.5) / 4)
                    x = to.offset_x + to.step_x * (j + (b + 0.5) / 4)
                    if y < height and x < width:
                        reads.append(bilinear(values, native, x, y))
                        u, v = (x - at.offset_x) / at.step_x, (y - at.offset_y) / at.step_y
                        covered.append(
                            -1e-6 <= u <= native.valid_columns + 1e-6 and -1e-6 <= v <= native.valid_rows + 1e-6
                        )
            if reads:
                scores[i, j], valid[i, j] = np.mean(reads), all(covered)
    return scores, valid


@st.composite
def cases(draw):
    height, width = draw(st.integers(5, 60)), draw(st.integers(5, 60))
    cell = draw(st.sampled_from([4, 7, 16]))
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    native = Grid(
        rows,
        columns,
        Affine(
            draw(st.floats(2, 30)),
            draw(st.floats(2, 30)),
            draw(st.sampled_from([-3.0, 0.0, 11.5])),
            draw(st.floats(-4, 9)),
        ),
        draw(st.integers(1, rows)),
        draw(st.integers(1, columns)),
    )
    return height, width, cell, native, draw(st.integers(0, 2**32 - 1))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_equals_reading_point_by_point(case):
    height, width, cell, native, seed = case
    reference = reference_grid(height, width, cell)
    values = np.random.default_rng(seed).normal(size=(2, native.rows, native.columns))
    resample = Resampler(native, reference, height, width)
    result = resample(values)
    assert result.shape == (2, reference.rows, reference.columns)
    for one, got in zip(values, result, strict=True):
        expected, valid = brute(one, native, reference, height, width)
        has_points = ~np.isnan(expected)
        np.testing.assert_allclose(got[has_points], expected[has_points], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(resample.valid, valid)


@pytest.mark.parametrize("step", [(4.0, 4.0), (8.0, 6.4), (16.0, 16.0), (24.5, 31.0)])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (-3.0, 5.0)])
def test_an_affine_ramp_comes_back_exactly_where_no_point_is_clamped(step, offset):
    height, width = 251, 330
    rows, columns = int(height / step[1]) + 1, int(width / step[0]) + 1
    native = Grid(rows, columns, Affine(*step, *offset), rows, columns)

    def ramp(x, y):
        return 3.0 + 0.25 * x[None, :] - 0.75 * y[:, None]

    x, y = native.to_pixels.centers_x(columns), native.to_pixels.centers_y(rows)
    reference = reference_grid(height, width, 16)
    resample = Resampler(native, reference, height, width)
    x_r, y_r = reference.to_pixels.centers_x(reference.columns), reference.to_pixels.centers_y(reference.rows)
    # All four points between the outermost centres, and inside the photograph.
    interior = np.outer(
        (y_r - 6 >= y[0]) & (y_r + 6 <= y[-1]) & (y_r + 6 < height),
        (x_r - 6 >= x[0]) & (x_r + 6 <= x[-1]) & (x_r + 6 < width),
    )
    assert interior.sum() > 50
    np.testing.assert_allclose(resample(ramp(x, y))[interior], ramp(x_r, y_r)[interior], rtol=1e-12)
    assert resample.valid[interior].all()


def test_padding_never_leaks_whatever_it_holds():
    geometry = InputGeometry(640, 1000, 655, 1024, 1024, 1024)
    native = geometry.grid(64, 64)
    assert native.valid_rows < 64
    clean = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    dirty = np.where(native.valid, clean, np.float32(np.nan))
    reference = reference_grid(640, 1000, 16)
    resample = Resampler(native, reference, 640, 1000)
    result = resample(dirty)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(result, resample(np.where(native.valid, clean, np.float32(7))))


def test_a_constant_map_stays_constant_and_so_does_the_range():
    native = Grid(7, 9, Affine(13.7, 9.1, -2.0, 1.0), 6, 8)
    resample = Resampler(native, reference_grid(61, 118, 16), 61, 118)
    np.testing.assert_allclose(resample(np.full((7, 9), 2.5)), 2.5, rtol=1e-12)
    noise = np.random.default_rng(1).random((7, 9))
    assert resample(noise).min() >= noise[:6, :8].min() - 1e-12
    assert resample(noise).max() <= noise[:6, :8].max() + 1e-12


def test_equal_grids_blur_by_an_eighth():
    grid = reference_grid(80, 80, 16)
    impulse = np.zeros((5, 5))
    impulse[2, 2] = 1.0
    kernel = np.array([0, 0.125, 0.75, 0.125, 0])
    np.testing.assert_allclose(Resampler(grid, grid, 80, 80)(impulse), np.outer(kernel, kernel), atol=1e-12)


def test_cells_past_the_valid_ones_are_not_valid():
    native = Grid(4, 4, Affine(16.0, 16.0), 2, 4)
    valid = Resampler(native, reference_grid(64, 64, 16), 64, 64).valid
    assert valid[:2].all()
    assert not valid[2:].any()


def test_a_sliver_without_points_is_not_valid_and_yet_finite():
    reference = reference_grid(33, 32, 16)
    assert (reference.rows, reference.columns) == (3, 2)
    native = Grid(5, 4, Affine(8.0, 8.0), 5, 4)
    resample = Resampler(native, reference, 33, 32)
    assert not resample.valid[2].any()
    assert resample.valid[:2].all()
    assert np.isfinite(resample(np.ones((5, 4)))).all()


def test_only_points_inside_the_photograph_must_be_covered():
    # The last reference cell's points are at 18, 22, 26 and, outside, 30; the native cell ends at 26.5.
    native = Grid(1, 1, Affine(27.0, 26.5), 1, 1)
    assert Resampler(native, reference_grid(27, 27, 16), 27, 27).valid.all()
    native = Grid(1, 1, Affine(27.0, 25.5), 1, 1)
    assert Resampler(native, reference_grid(27, 27, 16), 27, 27).valid.tolist() == [[True, True], [False, False]]


def test_a_map_of_another_shape_is_refused():
    grid = reference_grid(32, 32, 16)
    with pytest.raises(ValueError, match="score maps"):
        Resampler(grid, grid, 32, 32)(np.zeros((3, 2)))
