"""Folds: groups are never cut, every part gets its share of every concept, order of the groups does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.api import ProbekitError
from probekit.sampling import Fold, group_kfold, holdout, leave_one_outer_out, missing_classes


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


def test_what_a_fold_leaves_out_is_missed():
    """Groups 0, 1 and 2 of two cuts each: the positive of the training group lies in a cut that is left out."""
    positives = np.array([[0], [5], [5], [0], [5], [0]])
    negatives = np.full_like(positives, 9)
    cuts = np.array([0, 0, 1, 1, 2, 2])
    fold = Fold(0, np.array([0]), np.array([1]), np.array([2]))
    assert missing_classes([fold], positives, negatives, ["a"], where="a.yaml", cuts=cuts) == []
    without = Fold(0, fold.train, fold.validation, fold.test, np.array([1]))
    (issue,) = missing_classes([without], positives, negatives, ["a"], where="a.yaml", cuts=cuts)
    assert issue.what.startswith("the split has no positive 'a' in training that does not lie too near")
    assert "a smaller split.buffer" in issue.what
    fewer = positives * [[1], [0], [1], [1], [1], [1]]
    (issue,) = missing_classes([fold], fewer, negatives, ["a"], where="a.yaml", cuts=cuts)
    assert "2 groups hold all of them" in issue.what
    assert "buffer" not in issue.what


@settings(deadline=None, max_examples=40)
@given(group_counts(), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_each_outer_group_is_tested_by_what_the_others_taught(data, n_outer, seed):
    groups, positives, negatives = data
    rng = np.random.default_rng(seed)
    outer = [f"road {i}" for i in rng.integers(0, n_outer, len(groups))]
    outer[0], outer[1] = "road 0", "road 1"
    found = leave_one_outer_out(groups, outer, positives, negatives, validation=0.2, seed=1)
    assert found.scored.shape == (len(found.folds), positives.shape[1])
    assert [fold.index for fold in found.folds] == list(range(len(found.names)))
    assert len(found.names) + len(found.skipped) == len(set(outer))
    for name, fold, scored in zip(found.names, found.folds, found.scored, strict=True):
        assert sorted(np.concatenate(parts(fold))) == list(range(len(groups)))
        assert fold.test.tolist() == [i for i, of in enumerate(outer) if of == name]
        assert scored.any()
        for concept in np.flatnonzero(scored):
            for part in parts(fold):
                assert positives[part, concept].sum() > 0
                assert negatives[part, concept].sum() > 0
    for name in set(outer) - set(found.names):
        assert any(sentence.startswith(f"{name} was not left out: ") for sentence in found.skipped)
    order = rng.permutation(len(groups))
    shuffled = [groups[i] for i in order], [outer[i] for i in order], positives[order], negatives[order]
    again = leave_one_outer_out(*shuffled, validation=0.2, seed=1)
    assert again.names == found.names
    for one, other in zip(found.folds, again.folds, strict=True):
        for a, b in zip(parts(one), parts(other), strict=True):
            assert set(a) == set(order[b])


def test_an_outer_group_without_a_positive_is_not_left_out():
    positives = np.array([[3, 1], [2, 0], [4, 0], [1, 0], [0, 0], [0, 0], [5, 0], [1, 2]])
    outer = ["a", "a", "b", "b", "c", "c", "d", "d"]
    negatives = np.full_like(positives, 9)
    found = leave_one_outer_out(list("stuvwxyz"), outer, positives, negatives, validation=0.3, seed=0)
    assert found.names == ("a", "b", "d")
    # The second concept is in one group of `a` and one of `d`: where one is the test, the other cannot be two parts.
    assert found.scored.tolist() == [[True, False], [True, False], [True, False]]
    assert found.skipped == ("c was not left out: no concept has both classes in it and in all others",)
    with pytest.raises(ProbekitError, match="one outer group"):
        leave_one_outer_out(["x", "y"], ["a", "a"], positives[:2], negatives[:2], validation=0.3, seed=0)
    few = leave_one_outer_out(["x", "y", "z"], ["a", "a", "b"], positives[:3], negatives[:3], validation=0.3, seed=0)
    assert few.names == ("b",)
    assert few.skipped == ("a was not left out: all others are one group, too few to train and to choose",)


def test_an_outer_groups_fold_is_the_same_whoever_else_there_is_to_leave_out():
    groups, positives, negatives = rare(0, (30,), 40)
    outer = ["a"] * 10 + ["b"] * 15 + ["c"] * 15
    merged = ["a"] * 10 + ["b"] * 30
    one = leave_one_outer_out(groups, outer, positives, negatives, validation=0.2, seed=0)
    other = leave_one_outer_out(groups, merged, positives, negatives, validation=0.2, seed=0)
    for a, b in zip(parts(one.folds[0]), parts(other.folds[0]), strict=True):
        assert a.tolist() == b.tolist()
    repeated = leave_one_outer_out(groups, outer, positives, negatives, validation=0.2, seed=0, repeat=1)
    assert repeated.folds[0].test.tolist() == one.folds[0].test.tolist()
    assert repeated.folds[0].validation.tolist() != one.folds[0].validation.tolist()
