"""What ablation takes from a score: who stands for whom, what is claimed, and how often when nothing is true."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.compare.ablation import NEAREST, Moments, below_draws, like_channels, lost, overlap
from probekit.evaluate.intervals import Replicates


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_moments_are_those_of_all_cells_of_a_part() -> None:
    values = 1e4 + rng().normal(size=(60, 3)).astype(np.float32)
    values[:, 2] = 7.0
    moments = Moments(2, 3)
    for start, to in ((0, [0]), (20, [0, 1]), (20, []), (40, [1])):
        moments.add(values[start : start + 20], to)
    moments.add(values[:0], [0, 1])
    for part, cells in enumerate((values[:40], values[20:])):
        np.testing.assert_allclose(moments.mean[part], cells.astype(float).mean(axis=0))
        np.testing.assert_allclose(moments.variance[part], cells.astype(float).var(axis=0))
        assert moments.variance[part, 2] == 0


def test_moments_of_no_cells_are_zero() -> None:
    moments = Moments(1, 2)
    assert not moments.mean.any()
    assert not moments.variance.any()


def test_random_channels_are_others_of_like_variance_and_each_is_used_once() -> None:
    variance = np.exp(rng(1).normal(size=200) * 3)
    selected = rng(2).choice(200, 20, replace=False)
    sets = like_channels(selected, variance, 30, rng(3))
    assert sets is not None
    assert len({tuple(sorted(of)) for of in map(np.ndarray.tolist, sets)}) > 25
    rank = np.argsort(np.argsort(variance))
    for of in sets:
        assert len(set(of.tolist())) == len(selected)
        assert not set(of.tolist()) & set(selected.tolist())
        # all channels near one that is drawn may be selected or taken
        assert (np.abs(rank[of] - rank[selected]) <= NEAREST + 2 * len(selected)).all()
        assert np.median(np.abs(np.log(variance[of] / variance[selected]))) < 0.3
    again = like_channels(selected, variance, 30, rng(3))
    assert again is not None
    assert all(np.array_equal(a, b) for a, b in zip(sets, again, strict=True))


def test_too_few_other_channels_are_none_and_constant_ones_are_like_constant_ones() -> None:
    assert like_channels(np.arange(6), np.ones(12), 2, rng()) is None
    tight = like_channels(np.arange(5), np.ones(11), 20, rng())
    assert tight is not None
    assert all(set(of.tolist()) < set(range(5, 11)) for of in tight)
    assert 0.8 <= overlap(tight) < 0.9
    assert [of.tolist() for of in like_channels(np.arange(0), np.ones(4), 2, rng()) or ()] == [[], []]
    variance = np.concatenate([np.zeros(NEAREST + 1), np.full(50, 2.0)])
    (drawn,) = like_channels(np.array([0]), variance, 1, rng()) or ()
    assert drawn[0] <= NEAREST


def test_folds_that_select_much_the_same_draw_much_the_same() -> None:
    variance = np.exp(rng(1).normal(size=200))
    selected = np.arange(0, 200, 10)
    one = like_channels(selected, variance, 4, rng(7))
    other = like_channels(selected[::-1][1:], variance * 1.001, 4, rng(7))
    assert one is not None
    assert other is not None
    assert np.mean([np.isin(b, a).mean() for a, b in zip(one, other, strict=True)]) > 0.8
    assert overlap(one) < 0.5


def test_how_much_sets_share() -> None:
    assert overlap([np.array([1, 2]), np.array([2, 3]), np.array([4, 5])]) == pytest.approx(1 / 6)
    assert overlap([np.array([1, 2])]) == overlap([np.arange(0)] * 2) == 0


@pytest.mark.parametrize(("p", "k"), [(30, 10), (100, 6), (40, 1)])
def test_a_set_like_any_other_is_below_the_draws_one_time_in_twenty(p: int, k: int) -> None:
    called = []
    for seed in range(500):
        random = rng(seed)
        effects, selected = random.normal(size=p), random.permutation(p)[:k]
        sets = like_channels(selected, np.exp(random.normal(size=p)), 8, random)
        assert sets is not None
        sums = np.array([effects[of].sum() for of in sets])
        called.append(below_draws(float(effects[selected].sum()), sums, overlap(sets)) <= 0.05)
    assert np.mean(called) == pytest.approx(0.05, abs=0.03)


def test_a_draw_is_below_others_as_student_says() -> None:
    draws = np.array([0.5, 0.52, 0.48, 0.51, 0.49])
    assert below_draws(0.5, draws) == pytest.approx(0.5)
    assert below_draws(0.3, draws) < 0.001
    assert below_draws(0.7, draws) > 0.999
    assert below_draws(0.4, np.full(5, 0.4)) == 1.0
    assert below_draws(0.39, np.full(5, 0.4)) == 0.0
    normal = rng(4).normal(size=(4000, 6))
    p = np.array([below_draws(row[0], row[1:]) for row in normal])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.012)


def replicates(value: float, spread: float, seed: int, groups: int = 30) -> Replicates:
    return Replicates(value, value + rng(seed).normal(size=groups) * spread / np.sqrt(groups))


POSITIVES = np.full(30, 4)


def test_a_loss_that_random_channels_do_not_have_is_a_circuit() -> None:
    found = lost(0.6, replicates(0.2, 0.01, 0), [replicates(0.6 - d / 100, 0.01, d) for d in range(5)], POSITIVES)
    assert found.circuit is True
    assert found.random == pytest.approx(0.58)
    assert found.difference == pytest.approx(0.38)
    assert found.lo is not None
    assert 0 < found.lo < found.difference < (found.hi or 0)


def test_a_loss_that_random_channels_have_too_is_none() -> None:
    random = [replicates(value, 1e-4, d) for d, value in enumerate((0.2, 0.5, 0.35, 0.6, 0.3))]
    found = lost(0.6, replicates(0.3, 1e-4, 9), random, POSITIVES)
    # By groups alone it would be one: the sets differ far more than their scores are uncertain.
    assert found.lo is not None
    assert found.lo > 0
    assert found.p is not None
    assert found.p > 0.2
    assert found.circuit is False


def test_a_gain_is_no_circuit() -> None:
    found = lost(0.5, replicates(0.7, 0.01, 0), [replicates(0.5, 0.01, d) for d in (1, 2, 3)], POSITIVES)
    assert found.circuit is False
    assert found.p is not None
    assert found.p > 0.95


def test_nothing_is_claimed_where_nothing_can_be_tested() -> None:
    ablated, random = replicates(0.2, 0.01, 0), [replicates(0.6, 0.01, d) for d in range(3)]
    few = lost(0.6, ablated, random, np.array([9, 9, 9] + [0] * 27))
    assert few.circuit is None
    assert "too few groups" in (few.reason or "")
    assert few.difference == pytest.approx(0.4)
    one = lost(0.6, ablated, random[:1], POSITIVES)
    assert one.circuit is None
    assert one.p is None
    assert "ablation.draws" in (one.reason or "")
    same = lost(0.6, Replicates(0.6, np.full(30, 0.6)), [Replicates(0.6, np.full(30, 0.6))] * 3, POSITIVES)
    assert same.circuit is False


def test_sets_that_are_alike_are_called_a_circuit_no_more_often_than_one_time_in_twenty() -> None:
    called = 0
    for seed in range(400):
        effects = rng(seed).normal(0.5, 0.05, 11)
        of = [replicates(value, 0.02, 1000 * seed + i) for i, value in enumerate(effects)]
        called += bool(lost(0.6, of[0], of[1:], POSITIVES).circuit)
    assert called <= 400 * 0.05 + 2.5 * np.sqrt(400 * 0.05 * 0.95)
