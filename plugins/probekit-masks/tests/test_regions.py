"""Polygons by brute force over pixel centres; run lengths there and back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray
from probekit_masks import regions

masks = stn.arrays(bool, st.tuples(st.integers(1, 17), st.integers(1, 23)))


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """Column by column, outside first."""
    counts, current, length = [], False, 0
    for value in mask.T.ravel().tolist():
        if value != current:
            counts.append(length)
            current, length = value, 0
        length += 1
    return [*counts, length]


def compressed(counts: list[int]) -> str:
    """The text form, written from its definition."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text += chr(48 + bits + (0 if done else 32))
            if done:
                break
    return text


def brute_force(points: list[tuple[float, float]], height: int, width: int) -> NDArray[np.bool_]:
    """Even-odd at every pixel's centre, in exact arithmetic."""
    inside = np.zeros((height, width), bool)
    corners = [(Fraction(x), Fraction(y)) for x, y in points]
    for row in range(height):
        for column in range(width):
            x, y = Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2)
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                    inside[row, column] ^= True
    return inside


@given(masks)
def test_run_lengths_come_back(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    counts = runs_of(mask)
    for form in (counts, compressed(counts)):
        filled = regions.fill({"size": [height, width], "counts": form}, height, width)
        assert np.array_equal(filled, mask)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=30))
def test_compressed_counts_come_back_whatever_their_size(counts: list[int]) -> None:
    assert regions.decompress(compressed(counts)) == counts


def test_a_text_worked_out_by_hand() -> None:
    # 6, 1, 40 and 4 = 1 + 3: 6 -> '6'; 1 -> '1'; 40 = 8 + 32 * 1 -> 8 with more to come, 'X', then '1'; 3 -> '3'
    assert regions.decompress("61X13") == [6, 1, 40, 4]
    # the fourth as a difference below zero: 1 - 5 = -4 -> five bits 11100 with the sign: 28 -> 'L'
    assert regions.decompress("050L") == [0, 5, 0, 1]


@given(masks, st.integers(1, 5))
def test_runs_that_do_not_add_up_are_refused(mask: NDArray[np.bool_], more: int) -> None:
    height, width = mask.shape
    counts = runs_of(mask)
    counts[-1] += more
    for form in (counts, compressed(counts)):
        with pytest.raises(ValueError, match=f"add up to {mask.size + more}, not to {height} x {width} = {mask.size}"):
            regions.check({"size": [height, width], "counts": form}, height, width)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [4, 4], "counts": [16]}, "size"),
        ({"size": [3, 4], "counts": [13, -1]}, "negative"),
        ({"size": [3, 4], "counts": [True, 11]}, "neither text nor a list"),
        ({"size": [3, 4], "counts": None}, "neither text nor a list"),
        ({"size": [3, 4]}, "neither text nor a list"),
        ({"size": [3, 4], "counts": "X"}, "end within a number"),
        ({"size": [3, 4], "counts": "p"}, "character 'p'"),
        ({"size": [3, 4], "counts": "é"}, "character 'é'"),
        ([], "no segmentation"),
        (None, "no segmentation"),
        ([[0, 0, 1, 1]], "polygon of 4 numbers"),
        ([[0, 0, 1, 1, 2, 2, 3]], "polygon of 7 numbers"),
        ([[0, 0, 1, float("nan"), 2, 2]], "not finite"),
        ([[0, 0, 1, "1", 2, 2]], "no list of numbers"),
        ([0, 0, 1, 1, 2, 2], "no list of numbers"),
    ],
)
def test_malformed_segmentations_say_why(segmentation: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regions.check(segmentation, 3, 4)
    with pytest.raises(ValueError, match=message):
        regions.fill(segmentation, 3, 4)


# Quarters are exact in binary, so that many centres lie exactly on edges and corners.
coordinate = st.integers(-12, 60).map(lambda n: n / 4)
triangle_or_more = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9)


@settings(deadline=None, max_examples=150)
@given(triangle_or_more)
def test_polygons_equal_brute_force(points: list[tuple[float, float]]) -> None:
    height, width = 11, 9
    flat = [value for point in points for value in point]
    expected = brute_force(points, height, width)
    ours = regions.fill([flat], height, width)
    # Where an edge's slope is no binary fraction its crossing may be off by a rounding: only centres on an edge differ.
    for row, column in np.argwhere(ours != expected).tolist():
        assert on_an_edge(points, Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2))


def on_an_edge(points: list[tuple[float, float]], x: Fraction, y: Fraction) -> bool:
    corners = [(Fraction(a), Fraction(b)) for a, b in points]
    return any(
        (x1 - x0) * (y - y0) == (y1 - y0) * (x - x0)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
    )


def test_a_square_on_pixel_borders_covers_its_pixels() -> None:
    filled = regions.fill([[1, 2, 4, 2, 4, 5, 1, 5]], 6, 7)
    expected = np.zeros((6, 7), bool)
    expected[2:5, 1:4] = True
    assert np.array_equal(filled, expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 11)), min_size=1, max_size=1), st.data())
def test_polygons_that_share_edges_share_no_pixel_and_leave_none_out(
    middle: list[tuple[float, float]], data: st.DataObject
) -> None:
    (x, y), height, width = middle[0], 11, 9
    corners = [(0.0, 0.0), (9.0, 0.0), (9.0, 11.0), (0.0, 11.0)]
    turned = data.draw(st.booleans())
    total = np.zeros((height, width), int)
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        points = [(x, y), b, a] if turned else [(x, y), a, b]
        total += regions.fill([[value for point in points for value in point]], height, width)
    assert (total == 1).all()


def test_the_polygons_of_an_annotation_are_united_and_each_alone_is_even_odd() -> None:
    inner_twice = [[0, 0, 6, 0, 6, 6, 0, 6], [2, 2, 4, 2, 4, 4, 2, 4]]
    assert regions.fill(inner_twice, 6, 6).all()
    # One closed line around both squares, which crosses between them along one path there and back: a ring.
    ring = [[0, 0, 6, 0, 6, 6, 0, 6, 0, 0, 2, 2, 2, 4, 4, 4, 4, 2, 2, 2]]
    filled = regions.fill(ring, 6, 6)
    assert not filled[2:4, 2:4].any()
    assert filled.sum() == 36 - 4


def test_what_lies_outside_the_image_is_cut_off() -> None:
    assert regions.fill([[-50, -50, 50, -50, 50, 50, -50, 50]], 5, 4).all()
    assert not regions.fill([[10, 10, 20, 10, 20, 20]], 5, 4).any()
