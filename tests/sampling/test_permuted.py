"""Donors of label maps: of another group, each once where that can be, of the same size first, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.api import ProbekitError
from probekit.sampling.permuted import assign_donors

SIZES = [(640, 1024), (1024, 640), (600, 800)]


@st.composite
def image_tables(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2, 40))
    groups = rng.integers(0, draw(st.integers(2, 12)), n)
    if draw(st.booleans()):
        groups[rng.random(n) < draw(st.floats(0.0, 0.9))] = 0  # one is large
    groups[:2] = 0, 1
    sizes = [SIZES[i] for i in rng.integers(0, draw(st.integers(1, 3)), n)]
    return [f"i{i}" for i in rng.permutation(n)], [f"g{i}" for i in groups], sizes


def same_size(donor, sizes):
    return sum(sizes[i] == sizes[d] for i, d in enumerate(donor))


@settings(deadline=None, max_examples=150)
@given(image_tables(), st.integers(0, 5))
def test_donors_are_of_other_groups_and_each_gives_once_where_that_can_be(table, seed):
    ids, groups, sizes = table
    donors = assign_donors(ids, groups, sizes, seed)
    n, largest = len(ids), max(groups.count(group) for group in groups)
    assert all(groups[i] != groups[d] for i, d in enumerate(donors.donor))
    uses = np.bincount(donors.donor, minlength=n)
    if 2 * largest <= n:
        assert uses.tolist() == [1] * n
        assert donors.note is None
    else:
        name = max(set(groups), key=groups.count)
        others = np.array([group != name for group in groups])
        assert donors.note is not None
        assert f"{largest} of {n}" in donors.note
        assert uses[others].max() - uses[others].min() <= 1  # none more often than needed
        assert uses[~others].max() <= 1
        assert uses[~others].sum() == n - largest


@settings(deadline=None, max_examples=60)
@given(image_tables(), st.integers(0, 2**32 - 1))
def test_ids_decide_not_order_and_not_the_names_of_groups(table, seed):
    ids, groups, sizes = table
    donors = assign_donors(ids, groups, sizes, 3)
    order = np.random.default_rng(seed).permutation(len(ids))
    names = dict(zip(sorted(set(groups)), np.random.default_rng(seed).permutation(100).astype(str), strict=False))
    again = assign_donors([ids[i] for i in order], [names[groups[i]] for i in order], [sizes[i] for i in order], 3)
    assert {ids[i]: ids[d] for i, d in enumerate(donors.donor)} == {
        ids[order[i]]: ids[order[d]] for i, d in enumerate(again.donor)
    }
    assert donors.note == again.note


def test_every_donor_has_the_same_size_where_that_can_be():
    # Groups of one size each, and of both.
    sizes = [SIZES[0]] * 30 + [SIZES[1]] * 20
    groups = [f"g{i // 6}" for i in range(50)]
    for seed in range(5):
        donor = assign_donors([f"{i:02d}" for i in range(50)], groups, sizes, seed).donor
        assert same_size(donor, sizes) == 50


def test_only_what_must_be_has_a_donor_of_another_size():
    # Eight of ten small images in one group: two of them find a small donor, six cannot.
    sizes = [SIZES[2]] * 10 + [SIZES[0]] * 20
    groups = ["a"] * 8 + ["b"] * 2 + [f"c{i}" for i in range(20)]
    for seed in range(5):
        donors = assign_donors([f"{i:02d}" for i in range(30)], groups, sizes, seed)
        assert sorted(donors.donor) == list(range(30))
        assert same_size(donors.donor, sizes) == 30 - 12


def test_where_all_sizes_differ_donors_cover_more_than_by_chance():
    rng = np.random.default_rng(0)
    sizes = [(int(h), int(w)) for h, w in rng.integers(200, 1200, (200, 2))]
    groups = [f"g{i // 4}" for i in range(200)]

    def overlap(donor):
        extent = np.array(sizes)
        common = np.minimum(extent, extent[donor]).prod(axis=1)
        return (common / np.maximum(extent.prod(axis=1), extent[donor].prod(axis=1))).mean()

    donor = assign_donors([f"{i:03d}" for i in range(200)], groups, sizes, 0).donor
    assert sorted(donor) == list(range(200))
    assert overlap(donor) > 1.3 * overlap(rng.permutation(200))


def test_seeds_draw_differently_and_groups_are_scattered():
    groups = [f"g{i // 10}" for i in range(100)]
    draws = [assign_donors([f"{i:02d}" for i in range(100)], groups, [SIZES[0]] * 100, seed).donor for seed in range(4)]
    assert len({tuple(donor) for donor in draws}) == 4
    for donor in draws:
        # Ten images draw from nine groups at random: nearly six different ones on average.
        assert np.mean([len({groups[d] for d in donor[i : i + 10]}) for i in range(0, 100, 10)]) > 4.5


def test_all_allowed_pairs_come_up_equally_often():
    groups = ["a", "a", "b", "b", "c", "c"]
    counts = np.zeros((6, 6))
    for seed in range(300):
        donor = assign_donors(list("pqrstu"), groups, [SIZES[0]] * 6, seed).donor
        counts[np.arange(6), donor] += 1
    allowed = np.array(groups)[:, None] != np.array(groups)
    assert counts[~allowed].sum() == 0
    # 75 each; five standard deviations of a binomial.
    assert np.abs(counts[allowed] - 75).max() < 5 * np.sqrt(300 * 0.25 * 0.75)


def test_one_group_is_refused():
    with pytest.raises(ProbekitError, match="at least two groups"):
        assign_donors(["a", "b"], ["g", "g"], [SIZES[0]] * 2, 0)


def test_many_images_at_once():
    rng = np.random.default_rng(1)
    n = 4000
    groups = [f"g{i}" for i in np.where(rng.random(n) < 0.45, 0, rng.integers(1, 200, n))]
    sizes = [SIZES[i] for i in rng.integers(0, 3, n)]
    donors = assign_donors([f"{i:04d}" for i in range(n)], groups, sizes, 0)
    assert sorted(donors.donor) == list(range(n))
    assert all(groups[i] != groups[d] for i, d in enumerate(donors.donor))
    assert same_size(donors.donor, sizes) == n
