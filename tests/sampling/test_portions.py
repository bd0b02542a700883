"""Portions of groups: whole groups, doubling, a positive first, however the groups are listed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.sampling.portions import LEAST_GROUPS, cut_portions, portion_order


def names(n):
    return [f"g{i:04d}" for i in range(n)]


@st.composite
def some_groups(draw):
    n = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(n) < draw(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]))


@settings(deadline=None, max_examples=60)
@given(some_groups(), st.integers(0, 5))
def test_groups_with_a_positive_are_spread_evenly_one_of_them_first(holds, seed):
    order = portion_order(names(len(holds)), holds, seed, 0, "crack")
    assert sorted(order) == list(range(len(holds)))
    seen, fair = np.cumsum(holds[order]), holds.mean() * np.arange(1, len(holds) + 1)
    assert (seen >= fair - 1e-9 - 0.5).all()
    assert (seen <= fair + 1 + 1e-9).all()
    assert holds[order[0]] or not holds.any()


@settings(deadline=None, max_examples=30)
@given(some_groups(), st.integers(0, 2**32 - 1))
def test_only_the_order_of_the_ids_matters(holds, seed):
    ids, shuffle = names(len(holds)), np.random.default_rng(seed).permutation(len(holds))
    order = [ids[i] for i in portion_order(ids, holds, 3, 0, "crack")]
    given_otherwise = portion_order([ids[i] for i in shuffle], holds[shuffle], 3, 0, "crack")
    assert [ids[shuffle[i]] for i in given_otherwise] == order
    renamed = portion_order([f"road {name[1:]}" for name in ids], holds, 3, 0, "crack")
    assert [ids[i] for i in renamed] == order


def test_repeats_concepts_and_seeds_have_orders_of_their_own():
    holds = np.arange(40) % 3 == 0
    keys = [(0, 0, "crack"), (1, 0, "crack"), (0, 1, "crack"), (0, 0, "pothole")]
    assert len({tuple(portion_order(names(40), holds, *key)) for key in keys}) == 4
    firsts = {portion_order(names(40), holds, seed, 0, "crack")[0] for seed in range(300)}
    assert firsts == set(np.flatnonzero(holds))


def test_ids_must_differ():
    with pytest.raises(ValueError, match="differ"):
        portion_order(["a", "a"], np.ones(2, bool), 0)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (1, [1]),
        (3, [3]),
        (4, [3, 1]),
        (6, [3, 3]),
        (12, [3, 3, 6]),
        (30, [3, 1, 4, 7, 15]),
        (100, [7, 6, 12, 25, 50]),
        (640, [40, 40, 80, 160, 320]),
    ],
)
def test_all_that_is_sent_doubles(n, sizes):
    order = np.random.default_rng(n).permutation(n)
    portion = cut_portions(order, np.ones((n, 2), bool))
    assert np.bincount(portion).tolist() == sizes
    assert (np.diff(portion[order]) >= 0).all()


@settings(deadline=None, max_examples=60)
@given(some_groups(), some_groups())
def test_the_first_portion_has_both_classes_and_a_few_groups(holds, others):
    n = min(len(holds), len(others))
    classes = np.stack([others[:n], holds[:n]], axis=1)
    order = portion_order(names(n), classes[:, 1], 0)
    if not classes.any(axis=0).all():
        with pytest.raises(ValueError, match="one of the classes"):
            cut_portions(order, classes)
        return
    portion = cut_portions(order, classes)
    first = portion == 0
    assert classes[first].any(axis=0).all()
    assert first.sum() >= min(LEAST_GROUPS, n)
    sizes = np.bincount(portion)
    assert (sizes > 0).all()
    assert len(sizes) <= 5
    # Not larger than it must be: without its last group it would be too small or lack a class.
    less = order[: first.sum() - 1]
    assert len(less) < max(LEAST_GROUPS, n / 16) or not classes[less].any(axis=0).all()
