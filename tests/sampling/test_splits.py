"""Folds: groups are never cut, every part gets its share of every concept, order of the groups does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.api import ProbekitError
from probekit.sampling import Fold, group_kfold, holdout, missing_classes


@st.composite
def group_counts(draw):
    n = draw(st.integers(5, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    concepts = draw(st.integers(1, 3))
    positives = rng.poisson(rng.lognormal(1, 1.5, (n, concepts))) * (rng.random((n, concepts)) < 0.6)
    return [f"g{i}" for i in rng.permutation(n)], positives, rng.integers(0, 3000, (n, concepts))


def parts(fold):
    return fold.train, fold.validation, fold.test


@settings(deadline=None, max_examples=60)
@given(group_counts(), st.integers(2, 5), st.sampled_from([0.1, 0.2, 0.5]))
def test_parts_are_a_partition_and_every_group_is_tested_once(data, folds, validation):
    groups, positives, negatives = data
    split = group_kfold(groups, positives, negatives, folds=folds, validation=validation, seed=1)
    assert [fold.index for fold in split] == list(range(folds))
    for fold in split:
        assert sorted(np.concatenate(parts(fold))) == list(range(len(groups)))
        assert all(len(part) for part in parts(fold))
        assert all((np.diff(part) > 0).all() for part in parts(fold))
    assert sorted(np.concatenate([fold.test for fold in split])) == list(range(len(groups)))


@settings(deadline=None, max_examples=30)
@given(group_counts(), st.integers(0, 2**32 - 1))
def test_the_order_of_the_groups_does_not_matter(data, seed):
    groups, positives, negatives = data
    order = np.random.default_rng(seed).permutation(len(groups))
    shuffled = [groups[i] for i in order]
    for make in (
        lambda g, p, n: group_kfold(g, p, n, folds=3, validation=0.2, seed=5),
        lambda g, p, n: holdout(g, p, n, test=0.3, validation=0.2, seed=5),
    ):
        for one, other in zip(
            make(groups, positives, negatives), make(shuffled, positives[order], negatives[order]), strict=True
        ):
            for a, b in zip(parts(one), parts(other), strict=True):
                assert {groups[i] for i in a} == {shuffled[i] for i in b}


def rare(seed, holders=(6, 7, 10), n=40):
    rng = np.random.default_rng(seed)
    positives = np.zeros((n, len(holders)), int)
    for column, count in enumerate(holders):
        positives[rng.choice(n, count, replace=False), column] = rng.integers(1, 500, count)
    return [f"{i:02d}" for i in range(n)], positives, np.full_like(positives, 1000)


@pytest.mark.parametrize("seed", range(12))
def test_rare_concepts_reach_every_part_where_the_groups_allow_it(seed):
    groups, positives, negatives = rare(seed)
    split = group_kfold(groups, positives, negatives, folds=5, validation=0.2, seed=seed)
    assert missing_classes(split, positives, negatives, ["a", "b", "c"], where="spec.yaml") == []


def test_parts_hold_about_their_share_of_everything():
    rng = np.random.default_rng(0)
    n = 132
    positives = np.stack([rng.poisson(rng.lognormal(2, 1.2, n)), rng.poisson(rng.lognormal(3, 1, n))], axis=1)
    negatives = rng.integers(2000, 10000, n)[:, None] - positives
    split = group_kfold([str(i) for i in range(n)], positives, negatives, folds=5, validation=0.2, seed=0)
    for fold in split:
        for counts in (positives[:, 0], positives[:, 1], negatives[:, 0], np.ones(n), positives[:, 0] > 0):
            assert counts[fold.test].sum() / counts.sum() == pytest.approx(0.2, abs=0.03)
            rest = np.concatenate([fold.train, fold.validation])
            assert counts[fold.validation].sum() / counts[rest].sum() == pytest.approx(0.2, abs=0.03)
    (fold,) = holdout([str(i) for i in range(n)], positives, negatives, test=0.3, validation=0.2, seed=0)
    assert positives[fold.test].sum() / positives.sum() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_no_group_would_be_better_placed_in_another_fold(seed):
    rng = np.random.default_rng(seed)
    n, folds = 60, 4
    positives = rng.poisson(rng.lognormal(2, 1.2, (n, 2)))
    cells = rng.integers(2000, 10000, n)
    split = group_kfold(
        [str(i) for i in range(n)], positives, cells[:, None] - positives, folds=folds, validation=0.2, seed=seed
    )
    part = np.empty(n, int)
    for fold in split:
        part[fold.test] = fold.index

    def imbalance(part):
        total = 0.0
        balanced = [(positives[:, c], 0.5) for c in (0, 1)] + [(positives[:, c] > 0, 0.5) for c in (0, 1)]
        for counts, weight in [*balanced, (cells, 1), (np.ones(n), 1)]:
            shares = np.bincount(part, weights=counts, minlength=folds) / counts.sum()
            total += weight * ((shares - 1 / folds) ** 2).sum()
        return total

    best = imbalance(part)
    for group in range(n):
        for other in range(folds):
            moved = part.copy()
            moved[group] = other
            assert imbalance(moved) >= best - 1e-12


def test_repeats_and_seeds_are_other_splits_and_the_same_seed_is_the_same():
    groups, positives, negatives = rare(0, (20, 30), 60)

    def tests(**kwargs):
        folds = group_kfold(groups, positives, negatives, folds=4, validation=0.2, **kwargs)
        return [fold.test.tolist() for fold in folds]

    assert tests(seed=0) == tests(seed=0, repeat=0)
    assert tests(seed=0) != tests(seed=0, repeat=1)
    assert tests(seed=0) != tests(seed=1)
    # Not merely renamed folds: one group's companions differ.
    with_first = [next(set(fold) for fold in tests(seed=0, repeat=r) if 0 in fold) for r in range(4)]
    assert len({frozenset(companions) for companions in with_first}) == 4


def test_a_class_that_a_part_lacks_is_named_with_its_groups():
    positives = np.array([[5, 5], [1, 0], [1, 0], [1, 0], [1, 1], [1, 0]])
    negatives = np.full_like(positives, 9)
    folds = [
        Fold(0, np.array([0, 1]), np.array([2]), np.array([3, 4, 5])),
        Fold(1, np.array([4]), np.array([3, 5]), np.array([0, 1, 2])),
    ]
    (issue,) = missing_classes(folds, positives, negatives, ["crack", "pothole"], where="a.yaml", groups="stretches")
    assert issue.where == "a.yaml"
    assert issue.what.startswith("fold 1 of 2 has no positive 'pothole' in validation (and in another part): ")
    assert "2 stretches hold all of them" in issue.what
    assert "\n" not in issue.what


def test_fewer_folds_are_advised_where_they_would_do():
    groups, positives, negatives = rare(3, (4,))
    split = group_kfold(groups, positives, negatives, folds=6, validation=0.2, seed=0)
    (issue,) = missing_classes(split, positives, negatives, ["a"], where="a.yaml")
    assert "Fewer folds (split.folds: 4)" in issue.what
    fewer = group_kfold(groups, positives, negatives, folds=4, validation=0.2, seed=0)
    assert missing_classes(fewer, positives, negatives, ["a"], where="a.yaml") == []


def test_a_concept_without_negatives_is_named_too():
    groups, positives, negatives = rare(0, (20,))
    split = group_kfold(groups, positives, np.zeros_like(negatives), folds=3, validation=0.2, seed=0)
    (issue,) = missing_classes(split, positives, np.zeros_like(negatives), ["a"], where="a.yaml")
    assert "no negative 'a'" in issue.what
    assert "no groups hold any" in issue.what
    assert "split.folds" not in issue.what


def test_too_few_groups():
    counts = np.ones((4, 1), int)
    with pytest.raises(ProbekitError, match=r"split\.folds: 5 folds need at least 5 groups, the images are in 4"):
        group_kfold(list("abcd"), counts, counts, folds=5, validation=0.2, seed=0)
    with pytest.raises(ProbekitError, match="at least 3 groups"):
        holdout(["a", "b"], counts[:2], counts[:2], test=0.5, validation=0.5, seed=0)
