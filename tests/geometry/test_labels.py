"""Labels of cells equal exact rational arithmetic on every pixel, whatever the grid."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from probekit.api import NEGATIVE, POSITIVE, VOID, Affine, Grid
from probekit.geometry import cell_areas, label_cells, reference_grid

steps = st.sampled_from([0.375, 0.5, 1.0, 1.3, 2.0, 2.5, 3.0, 4.0, 7.7])
offsets = st.sampled_from([-5.0, -2.25, -0.7, 0.0, 0.5, 1.9, 3.0])


@st.composite
def masks(draw, max_side=9):
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    return draw(arrays(np.uint8, (height, width), elements=st.sampled_from([NEGATIVE, POSITIVE, VOID])))


@st.composite
def grids(draw):
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    affine = Affine(draw(steps), draw(steps), draw(offsets), draw(offsets))
    return Grid(rows, columns, affine, draw(st.integers(1, rows)), draw(st.integers(1, columns)))


def overlap(start: Fraction, step: Fraction, cell: int, pixel: int) -> Fraction:
    low, high = start + step * cell, start + step * (cell + 1)
    return max(Fraction(0), min(high, Fraction(pixel + 1)) - max(low, Fraction(pixel)))


def brute_areas(mask, grid, i, j) -> dict[int, Fraction]:
    """Area of each value in cell (i, j), as shares of its footprint, in rational arithmetic."""
    affine = grid.to_pixels
    sx, sy = Fraction(affine.step_x), Fraction(affine.step_y)
    ox, oy = Fraction(affine.offset_x), Fraction(affine.offset_y)
    areas = {value: Fraction(0) for value in (NEGATIVE, POSITIVE, VOID)}
    for (row, column), value in np.ndenumerate(mask):
        areas[int(value)] += overlap(oy, sy, i, row) * overlap(ox, sx, j, column)
    return {value: area / (sx * sy) for value, area in areas.items()}


def brute_label(areas: dict[int, Fraction], positive: Fraction, negative: Fraction) -> tuple[int, str]:
    inside, labelled = sum(areas.values()), areas[NEGATIVE] + areas[POSITIVE]
    slack = Fraction(1, 10**9)
    if inside < Fraction(1, 2) - slack:
        return VOID, "outside"
    if labelled < Fraction(1, 2) - slack:
        return VOID, "unlabelled"
    share = areas[POSITIVE] / labelled
    if share >= positive - slack:
        return POSITIVE, "positive"
    return (NEGATIVE, "negative") if share <= negative + slack else (VOID, "between")


@settings(deadline=None, max_examples=150)
@given(masks(), grids())
def test_areas_equal_rational_arithmetic(mask, grid):
    areas = cell_areas(mask, grid)
    for i in range(grid.rows):
        for j in range(grid.columns):
            expected = brute_areas(mask, grid, i, j)
            assert areas.positive[i, j] == pytest.approx(float(expected[POSITIVE]), abs=1e-12)
            assert areas.void[i, j] == pytest.approx(float(expected[VOID]), abs=1e-12)
            assert areas.inside[i, j] == pytest.approx(float(sum(expected.values())), abs=1e-12)


@settings(deadline=None, max_examples=150)
@given(masks(), grids(), st.sampled_from([(0.25, 0.05), (0.5, 0.5), (1.0, 0.0), (0.25, 0.25)]))
def test_labels_and_counts_equal_rational_arithmetic(mask, grid, thresholds):
    positive, negative = thresholds
    labels = label_cells(mask, grid, positive, negative)
    why = []
    for i in range(grid.rows):
        for j in range(grid.columns):
            value, reason = brute_label(brute_areas(mask, grid, i, j), Fraction(positive), Fraction(negative))
            if i >= grid.valid_rows or j >= grid.valid_columns:
                value, reason = VOID, "outside"
            assert labels.values[i, j] == value, (i, j)
            why.append(reason)
    assert labels.values.dtype == np.int8
    assert (labels.between, labels.outside, labels.unlabelled) == (
        why.count("between"),
        why.count("outside"),
        why.count("unlabelled"),
    )


def test_a_share_exactly_at_a_threshold_is_decided_by_it():
    mask = np.zeros((16, 48), np.uint8)
    mask[:8, :8] = POSITIVE  # 64 of 256 pixels: a quarter
    mask[0, 16:28] = POSITIVE  # 12 of 256: under one twentieth
    mask[0, 32:45] = POSITIVE  # 13 of 256: over it
    labels = label_cells(mask, reference_grid(16, 48, 16), 0.25, 0.05)
    assert labels.values.tolist() == [[POSITIVE, NEGATIVE, VOID]]
    assert (labels.between, labels.outside, labels.unlabelled) == (1, 0, 0)


def test_the_denominator_is_what_is_labelled():
    mask = np.full((16, 16), VOID, np.uint8)
    mask[:9] = NEGATIVE
    mask[:3] = POSITIVE  # 3 of 9 labelled rows; 3 of 16 of the footprint
    assert label_cells(mask, reference_grid(16, 16, 16), 0.25, 0.05).values.item() == POSITIVE


@pytest.mark.parametrize(("rows_seen", "label"), [(8, NEGATIVE), (7, VOID)])
def test_a_cell_is_void_when_more_than_half_of_it_is_outside(rows_seen, label):
    mask = np.zeros((16 + rows_seen, 16), np.uint8)
    labels = label_cells(mask, reference_grid(*mask.shape, 16), 0.25, 0.05)
    assert labels.values[1, 0] == label
    assert labels.outside == (label == VOID)


def test_rounding_in_a_step_does_not_move_a_cell_over_a_threshold():
    # 100 pixels in 3 cells whose step is no finite binary fraction; each third holds exactly a quarter.
    mask = np.zeros((1, 1200), np.uint8)
    for start in (0, 400, 800):
        mask[0, start : start + 100] = POSITIVE
    grid = Grid(1, 3, Affine(1200 / 7 * 7 / 3, 1.0), 1, 3)
    assert (label_cells(mask, grid, 0.25, 0.05).values == POSITIVE).all()


def test_long_strips_are_summed_without_overflow():
    mask = np.ones((1000, 4), np.uint8)
    assert cell_areas(mask, Grid(1, 1, Affine(4.0, 1000.0), 1, 1)).positive.item() == 1.0


def test_unknown_mask_values_and_thresholds_are_refused():
    with pytest.raises(ValueError, match="255"):
        label_cells(np.full((4, 4), 255, np.uint8), reference_grid(4, 4, 2), 0.25, 0.05)
    with pytest.raises(ValueError, match="negative <= positive"):
        label_cells(np.zeros((4, 4), np.uint8), reference_grid(4, 4, 2), 0.05, 0.25)
