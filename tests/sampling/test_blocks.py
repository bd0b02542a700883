"""Blocks of large images: every cell in one of them, and nothing of training sees what is tested beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.geometry.tiles import cut_tiles
from probekit.sampling import Fold
from probekit.sampling.blocks import Layout, block_of, leave_out


@st.composite
def images(draw):
    """(height, width) of a few images, and how they are cut: (size, overlap, cell, block)."""
    cell = draw(st.sampled_from([1, 8, 16]))
    size = draw(st.integers(2 * cell, 12 * cell))
    overlap = draw(st.integers(0, size - cell))
    step = max((size - overlap) // cell * cell, 1)
    side = st.integers(1, 4 * step + size)
    shapes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=3))
    return shapes, (size, overlap, cell), draw(st.integers(size, 4 * size))


def laid_out(shapes, cutting, block, origins=None):
    """The layout of images cut so, and its groups by name."""
    size, overlap, cell = cutting
    names, origin, image, windows, cores = [], [], [], [], []
    for number, (height, width) in enumerate(shapes):
        own = number if origins is None else origins[number]
        for tile in cut_tiles(height, width, size, overlap, cell):
            place = block_of(tile.core, height, width, block)
            names.append(str(own) if place is None else f"{own}/{number}@{place}")
            origin.append(own)
            image.append(number)
            windows.append((tile.window.x, tile.window.y, tile.window.right, tile.window.bottom))
            cores.append((tile.core.x, tile.core.y, tile.core.right, tile.core.bottom))
    groups, group = np.unique(names, return_inverse=True)
    return Layout(group, np.array(origin), np.array(image), np.array(windows), np.array(cores)), groups.tolist()


def random_fold(n_groups, seed):
    part = np.random.default_rng(seed).choice(3, n_groups, p=[0.5, 0.2, 0.3])
    return Fold(0, *(np.flatnonzero(part == i) for i in range(3)))


def meet(a, b, buffer=0):
    """Rectangles (x, y, right, bottom) of which one, grown by the buffer, shares a pixel with the other."""
    return a[0] - buffer < b[2] and b[0] < a[2] + buffer and a[1] - buffer < b[3] and b[1] < a[3] + buffer


@settings(deadline=None, max_examples=60)
@given(images(), st.integers(0, 200), st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_left_out_is_all_that_lies_near_and_no_more(drawn, buffer, seed, one_origin):
    shapes, cutting, block = drawn
    layout, names = laid_out(shapes, cutting, block, [0] * len(shapes) if one_origin else None)
    fold = random_fold(len(names), seed)
    left = leave_out(fold, layout, buffer)
    assert all((getattr(left, part) == getattr(fold, part)).all() for part in ("train", "validation", "test"))

    def near(i, j):
        if layout.image[i] != layout.image[j]:
            return layout.origin[i] == layout.origin[j]
        return meet(layout.windows[i], layout.cores[j], buffer) or meet(layout.windows[j], layout.cores[i], buffer)

    cuts = {part: fold.cuts(part, layout.group) for part in ("train", "validation", "test")}
    validation = [i for i in cuts["validation"] if not any(near(i, j) for j in cuts["test"])]
    train = [i for i in cuts["train"] if not any(near(i, j) for j in [*cuts["test"], *validation])]
    assert left.cuts("test", layout.group).tolist() == cuts["test"].tolist()
    assert left.cuts("validation", layout.group).tolist() == validation
    assert left.cuts("train", layout.group).tolist() == train
    # The point of it, said once more without the words above: a core that is tested, with its buffer, is not seen.
    for i in train:
        for j in cuts["test"]:
            if layout.image[i] == layout.image[j]:
                x, y, right, bottom = layout.cores[j]
                assert not meet((x - buffer, y - buffer, right + buffer, bottom + buffer), layout.windows[i])


@settings(deadline=None, max_examples=60)
@given(images())
def test_every_cell_is_in_one_block_and_blocks_are_of_tiles_side_by_side(drawn):
    shapes, (size, overlap, cell), block = drawn
    for height, width in shapes:
        seen = np.zeros((height, width), dtype=int)
        ranges = {}
        for tile in cut_tiles(height, width, size, overlap, cell):
            seen[tile.core.slices] += 1
            place = block_of(tile.core, height, width, block)
            assert (place is None) == (height <= block and width <= block)
            if place is None:
                continue
            rows, columns = -(-height // block), -(-width // block)
            x, y = tile.core.x + tile.core.width / 2, tile.core.y + tile.core.height / 2
            assert place[0] * height / rows <= y < (place[0] + 1) * height / rows
            assert place[1] * width / columns <= x < (place[1] + 1) * width / columns
            ranges.setdefault(place, []).append(tile.core)
        assert (seen == 1).all()
        for of in ranges.values():  # the cores of a block make a rectangle
            box = max(r.right for r in of) - min(r.x for r in of), max(r.bottom for r in of) - min(r.y for r in of)
            assert sum(r.width * r.height for r in of) == box[0] * box[1]


@settings(deadline=None, max_examples=40)
@given(images(), st.integers(0, 100), st.integers(0, 2**32 - 1))
def test_the_order_of_the_cuts_does_not_matter(drawn, buffer, seed):
    shapes, cutting, block = drawn
    layout, names = laid_out(shapes, cutting, block)
    fold = random_fold(len(names), seed)
    order = np.random.default_rng(seed).permutation(len(layout.group))
    other = Layout(
        layout.group[order], layout.origin[order], layout.image[order], layout.windows[order], layout.cores[order]
    )
    assert sorted(order[leave_out(fold, other, buffer).left_out]) == leave_out(fold, layout, buffer).left_out.tolist()


def test_an_image_that_fits_is_no_block_and_axes_are_divided_alike():
    (tile,) = cut_tiles(100, 100, 100, 0, 10)
    assert block_of(tile.core, 100, 100, 100) is None
    tiles = cut_tiles(100, 260, 20, 0, 10)
    found = {block_of(tile.core, 100, 260, 100) for tile in tiles}
    assert found == {(0, 0), (0, 1), (0, 2)}  # of 87 pixels, not of 100, 100 and 60
    widths = [0, 0, 0]
    for core in (tile.core for tile in tiles if tile.core.y == 0):
        widths[block_of(core, 100, 260, 100)[1]] += core.width
    assert widths == [80, 100, 80]


@pytest.mark.parametrize(("overlap", "buffer", "first"), [
    (0, 0, 1), (0, 1, 2), (0, 20, 2), (0, 21, 3), (0, 1000, 10),
    (10, 0, 2), (10, 5, 2), (10, 6, 3),
])  # fmt: skip
def test_a_strip_of_tiles_by_hand(overlap, buffer, first):
    """Ten tiles of 20 pixels, the first is tested: which is the first that is trained on?"""
    step = 20 - overlap
    layout, names = laid_out([(20, 20 + 9 * step)], (20, overlap, 1), 20)
    assert len(layout.group) == 10
    groups = np.arange(len(names))
    test = layout.group[0]
    fold = leave_out(Fold(0, groups[groups != test], groups[:0], groups[[test]]), layout, buffer)
    assert fold.cuts("train", layout.group).tolist() == list(range(first, 10))


def test_images_of_one_group_are_not_split_apart_but_by_their_own_blocks():
    shapes, cutting = [(20, 80), (20, 80), (20, 20)], (20, 0, 10)
    layout, names = laid_out(shapes, cutting, 20, origins=[0, 0, 1])
    number = {name: i for i, name in enumerate(names)}
    test = np.array([number["0/0@(0, 0)"]])
    rest = np.array([i for i in range(len(names)) if i not in test])
    left = leave_out(Fold(0, rest, rest[:0], test), layout, 0)
    trained = {names[layout.group[i]] for i in left.cuts("train", layout.group)}
    assert trained == {"0/0@(0, 1)", "0/0@(0, 2)", "0/0@(0, 3)", "1"}  # of the same image, or of another group


def test_a_fold_that_leaves_nothing_out_is_as_it_was():
    fold = Fold(0, np.array([0]), np.array([1]), np.array([2]))
    assert fold.left_out.size == 0
    assert fold.cuts("train", np.array([2, 0, 0, 1])).tolist() == [1, 2]
