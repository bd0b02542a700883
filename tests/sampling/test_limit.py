"""A limit on images: concepts keep their groups, the rest spreads, order does not matter."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.sampling import choose_images


@st.composite
def image_tables(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    groups = [f"g{i}" for i in rng.integers(0, draw(st.integers(1, 15)), n)]
    positives = rng.poisson(0.5, (n, draw(st.integers(1, 3))))
    return [f"i{i}" for i in rng.permutation(n)], groups, positives, draw(st.integers(1, 45))


@settings(deadline=None, max_examples=80)
@given(image_tables(), st.integers(0, 2**32 - 1))
def test_so_many_and_whatever_the_order(table, seed):
    ids, groups, positives, limit = table
    chosen = choose_images(ids, groups, positives, limit=limit, seed=3)
    assert len(chosen) == min(limit, len(ids))
    assert (np.diff(chosen) > 0).all()
    order = np.random.default_rng(seed).permutation(len(ids))
    again = choose_images([ids[i] for i in order], [groups[i] for i in order], positives[order], limit=limit, seed=3)
    assert {ids[i] for i in chosen} == {ids[order[i]] for i in again}


def kept_groups(groups, positives, chosen):
    return [len({groups[i] for i in chosen if positives[i, c]}) for c in range(positives.shape[1])]


def test_every_concept_keeps_the_groups_that_it_can():
    # Concept 0 in all 20 groups, concept 1 in three of them, each in other images of five a group.
    groups = [f"g{i // 5:02d}" for i in range(100)]
    positives = np.zeros((100, 2), int)
    positives[::5, 0] = 1
    positives[[1, 26, 51], 1] = 1
    ids = [f"{i:03d}" for i in range(100)]
    for seed in range(5):
        assert kept_groups(groups, positives, choose_images(ids, groups, positives, limit=23, seed=seed)) == [20, 3]
        few = kept_groups(groups, positives, choose_images(ids, groups, positives, limit=9, seed=seed))
        assert few == [6, 3]


def test_one_image_may_serve_two_concepts():
    groups = ["a", "a", "b", "b", "c", "c"]
    positives = np.array([[1, 1], [1, 0], [0, 1], [1, 1], [1, 1], [0, 1]])
    chosen = choose_images(list("pqrstu"), groups, positives, limit=3, seed=0)
    assert chosen.tolist() == [0, 3, 4]


def test_what_is_left_is_spread_over_groups():
    groups = ["a"] * 30 + ["b"] * 5 + ["c"] * 5
    chosen = choose_images([str(i) for i in range(40)], groups, np.zeros((40, 1), int), limit=12, seed=0)
    counts = {g: sum(groups[i] == g for i in chosen) for g in "abc"}
    assert counts == {"a": 4, "b": 4, "c": 4}


def test_seeds_choose_differently():
    groups = [str(i // 4) for i in range(40)]
    ids = [str(i) for i in range(40)]
    picks = {tuple(choose_images(ids, groups, np.zeros((40, 1), int), limit=10, seed=s)) for s in range(4)}
    assert len(picks) == 4
