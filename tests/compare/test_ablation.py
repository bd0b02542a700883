"""What ablation takes from a score: who stands for whom, what is claimed, and how often when nothing is true."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from probekit.compare.ablation import NEAREST, Floats, Moments, above_draws, like_channels, lost, overlap
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
    drawn = like_channels(np.array([0]), variance, 1, rng())
    assert drawn is not None
    assert drawn[0][0] <= NEAREST


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


def called(draw: Callable[[np.random.Generator, int], Floats], p: int, k: int, draws: int = 8) -> float:
    """How often a set like any other is below .05, its channels' effects being drawn and their sums what is lost."""
    found = []
    for seed in range(40):
        random = rng(seed)
        selected = random.permutation(p)[:k]
        sets = like_channels(selected, np.exp(random.normal(size=p)), draws, random)
        assert sets is not None
        for _ in range(25):
            effects = draw(random, p)
            losses = np.array([effects[of].sum() for of in sets])
            found.append(above_draws(float(effects[selected].sum()), losses, overlap(sets)) <= 0.05)
    return float(np.mean(found))


@pytest.mark.parametrize(("p", "k"), [(30, 10), (100, 6), (40, 1)])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_a_set_like_any_other_is_above_the_draws_one_time_in_twenty_at_most(p: int, k: int, mean: float) -> None:
    assert 0.005 < called(lambda random, n: random.normal(mean, 1.0, n), p, k) < 0.065


@pytest.mark.parametrize(("p", "k", "draws"), [(100, 3, 10), (100, 10, 5), (100, 1, 20)])
def test_a_few_channels_that_carry_the_effect_are_not_called_twice_as_often(p: int, k: int, draws: int) -> None:
    for sigma, most in ((1.0, 0.085), (1.5, 0.1)):
        assert called(lambda random, n, s=sigma: random.lognormal(0.0, s, n), p, k, draws) < most  # type: ignore[misc]


def test_the_larger_p_of_losses_and_of_their_logarithm_counts() -> None:
    losses = np.array([0.02, 0.05, 0.1, 0.03, 0.3])
    spread = np.append(losses, 1e-4)
    assert above_draws(losses.mean(), losses) >= 0.5
    assert above_draws(0.6, losses) > 0.05  # six times the mean: t of losses alone says .02
    assert above_draws(30.0, losses) < 0.02
    assert above_draws(0.01, losses) > 0.5
    assert above_draws(0.6, 10 * losses) > above_draws(0.6, losses) > above_draws(6.0, losses)
    assert above_draws(0.6, losses, 0.5) > above_draws(0.6, losses)
    # units do not matter, and neither do losses that are next to nothing, or none
    assert above_draws(0.6, losses) == pytest.approx(above_draws(6.0, 10 * losses))
    assert above_draws(0.6, np.append(losses, -1e-4)) == pytest.approx(above_draws(0.6, spread), rel=0.05)
    p = [above_draws(loss, losses) for loss in np.linspace(-0.5, 2.0, 60)]
    assert (np.diff(p) < 0).all()


def test_random_sets_that_lose_the_same_do_not_say_how_much_sets_differ() -> None:
    assert above_draws(0.1, np.full(4, 0.1)) == 1.0
    assert above_draws(0.05, np.full(4, 0.1)) == 1.0
    assert above_draws(0.9, np.full(4, 0.1)) == 0.2
    assert above_draws(0.9, np.zeros(19)) == pytest.approx(0.05)


def replicates(value: float, spread: float, seed: int, groups: int = 30) -> Replicates:
    return Replicates(value, value + rng(seed).normal(size=groups) * spread / np.sqrt(groups))


POSITIVES = np.full(30, 4)


def test_a_loss_that_random_channels_do_not_have_is_a_circuit() -> None:
    random = [replicates(0.6 - d / 200, 0.01, d) for d in range(1, 11)]
    found = lost(0.6, replicates(0.2, 0.01, 0), random, POSITIVES)
    assert found.p is not None
    assert found.p < 0.01
    assert found.random == pytest.approx(0.5725)
    assert found.difference == pytest.approx(0.3725)
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


def test_a_gain_is_no_circuit() -> None:
    found = lost(0.5, replicates(0.7, 0.01, 0), [replicates(0.5, 0.01, d) for d in (1, 2, 3)], POSITIVES)
    assert found.p is not None
    assert found.p > 0.95


def test_nothing_is_claimed_where_nothing_can_be_tested() -> None:
    ablated, random = replicates(0.2, 0.01, 0), [replicates(0.6, 0.01, d) for d in range(3)]
    few = lost(0.6, ablated, random, np.array([9, 9, 9] + [0] * 27))
    assert few.p is None
    assert "too few groups" in (few.reason or "")
    assert few.difference == pytest.approx(0.4)
    alike = random[:1] * 3
    for one in (lost(0.6, ablated, random[:1], POSITIVES), lost(0.6, ablated, alike, POSITIVES, shared=1.0)):
        assert one.p is None
        assert one.lo is not None
        assert "ablation.draws" in (one.reason or "")
    same = lost(0.6, Replicates(0.6, np.full(30, 0.6)), [Replicates(0.6, np.full(30, 0.6))] * 3, POSITIVES)
    assert same.p == 1.0


def test_one_channel_and_two_draws_of_it_are_one_random_set() -> None:
    sets = next(
        of
        for seed in range(200)
        if (of := like_channels(np.array([0]), np.ones(5), 2, rng(seed))) is not None and (of[0] == of[1]).all()
    )
    random = [replicates(0.5, 0.01, 1)] * len(sets)
    assert lost(0.6, replicates(0.2, 0.01, 0), random, POSITIVES, overlap(sets)).p is None


def test_sets_that_are_alike_are_called_a_circuit_no_more_often_than_one_time_in_twenty() -> None:
    times = 0
    for seed in range(400):
        effects = rng(seed).normal(0.5, 0.05, 11)
        of = [replicates(value, 0.02, 1000 * seed + i) for i, value in enumerate(effects)]
        found = lost(0.6, of[0], of[1:], POSITIVES)
        times += found.p is not None and found.p <= 0.05 and (found.lo or 0) > 0
    assert times <= 400 * 0.05 + 2.5 * np.sqrt(400 * 0.05 * 0.95)
