"""Halves of groups, the bounds of stability selection against worst cases, and the index of stability by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from probekit.api import ProbekitError
from probekit.evaluate.stability import (
    complementary_halves,
    disjoint_stability,
    expected_low,
    largest_tail,
    most_selected,
    selection_frequencies,
    stability_index,
    stability_interval,
    stability_variance,
    stable_set,
)

ASSUMPTIONS = ("none", "unimodal", "r-concave")


@given(st.lists(st.integers(0, 3), min_size=2, max_size=25), st.integers(0, 2**31))
def test_halves_are_disjoint_stratified_and_of_one_size(positives, seed):
    positives = np.array([1, 2, *positives])
    halves = complementary_halves([f"g{i}" for i in range(len(positives))], positives, 4, seed)
    assert halves.shape == (8, len(positives))
    assert not (halves[::2] & halves[1::2]).any()
    holds = positives > 0
    for stratum in (holds, ~holds):
        assert (halves[:, stratum].sum(axis=1) == stratum.sum() // 2).all()


def test_halves_depend_on_ids_and_seed_alone():
    groups, positives = [f"g{i:02}" for i in range(15)], np.arange(15) % 3
    halves = complementary_halves(groups, positives, 6, 1)
    turned = np.random.default_rng(0).permutation(15)
    again = complementary_halves([groups[i] for i in turned], positives[turned], 6, 1)
    np.testing.assert_array_equal(again, halves[:, turned])
    assert (complementary_halves(groups, positives, 6, 2) != halves).any()
    assert len(np.unique(halves, axis=0)) == 12


def test_each_group_is_as_often_in_a_half():
    halves = complementary_halves([str(i) for i in range(9)], np.array([1] * 5 + [0] * 4), 2000, 3)
    np.testing.assert_allclose(halves.mean(axis=0), [0.4] * 5 + [0.5] * 4, atol=0.04)


def test_halves_without_positives_are_refused():
    with pytest.raises(ProbekitError, match="of 4 groups 1 have any"):
        complementary_halves(["a", "b", "c", "d"], np.array([0, 7, 0, 0]), 5, 0)
    with pytest.raises(ValueError, match="differ"):
        complementary_halves(["a", "a"], np.array([1, 1]), 5, 0)


def test_theorem_1_by_hand():
    # q^2 / (p (2 pi - 1)): 9 / (100 * .5)
    assert expected_low(0.75, 3, 100, 50) == pytest.approx(0.18)
    assert expected_low(0.751, 3, 100, 2) == pytest.approx(0.09)  # frequencies are 0, .25, ..., 1


def test_theorem_2_by_hand():
    # 9 / 100 / (2 (.5 - .01)) at pi = 3/4; 9 / 100 * 4 (.1 + .01) / 1.02 at pi = .9
    assert expected_low(0.75, 3, 100, 50, "unimodal") == pytest.approx(0.09 / 0.98)
    assert expected_low(0.9, 3, 100, 50, "unimodal") == pytest.approx(0.09 * 0.44 / 1.02)


@pytest.mark.parametrize(
    ("q", "threshold", "unimodal", "concave"),
    [(1, 0.6, 0.02631579, 0.006971364), (5, 0.6, 0.6578947, 0.2605329), (10, 0.6, 2.631579, 1.141338)],
)
def test_bounds_agree_with_published_figures(q, threshold, unimodal, concave):
    """Printed by the R package stabs 0.6 for p = 100, B = 50. Its optimiser stops short of the ends of its intervals,
    so that its r-concave figures are up to 6 % too small."""
    assert expected_low(threshold, q, 100, 50, "unimodal") == pytest.approx(unimodal, rel=1e-6)
    assert expected_low(threshold, q, 100, 50, "r-concave") == pytest.approx(concave, rel=4e-3)
    assert expected_low(threshold, q, 100, 50, "r-concave") >= concave * (1 - 1e-6)


def unimodal_tail(mean, atoms, count):
    """The largest P(X >= count) of a unimodal law on 0, ..., atoms with at most that mean, by linear programmes."""
    best = 0.0
    i = np.arange(atoms + 1)
    for mode in range(atoms + 1):
        steps = np.diff(np.eye(atoms + 1), axis=0)  # f[i + 1] - f[i]
        steps[:mode] *= -1
        solved = linprog(
            -(i >= count).astype(float),
            A_ub=np.vstack([steps, i]),
            b_ub=np.append(np.zeros(atoms), mean * atoms),
            A_eq=np.ones((1, atoms + 1)),
            b_eq=[1.0],
        )
        best = max(best, -solved.fun) if solved.success else best
    return best


@pytest.mark.parametrize("theta", [0.05, 0.3, 0.5])
def test_theorem_2_bounds_every_unimodal_law(theta):
    pairs, p = 8, 1000
    for count in range(pairs + 1, 2 * pairs + 1):
        bound = expected_low(count / (2 * pairs), theta * p, p, pairs, "unimodal") / p
        # Both halves select a channel with probability theta^2; then in count - B of the pairs at least.
        assert unimodal_tail(theta**2, pairs, count - pairs) <= bound + 1e-9


def concave_law(rng, atoms, mean, r):
    """A random r-concave law on 0, ..., atoms of that mean: f^r convex, on a shorter support at times."""
    last = int(rng.integers(1, atoms + 1))
    bends = np.exp(rng.normal(0, 3, last))
    rise = np.concatenate([[0.0], np.cumsum(np.cumsum(bends))])
    if rng.random() < 0.5:  # one straight line, but for its end
        rise = np.arange(last + 1.0)
        rise[-1] += np.exp(rng.normal(0, 2))
    low, high = -40.0, 40.0
    for _ in range(50):
        law = (1 + np.exp((low + high) / 2) * rise) ** (1 / r)
        law /= law.sum()
        low, high = ((low + high) / 2, high) if law @ np.arange(last + 1) > mean * atoms else (low, (low + high) / 2)
    law = np.append(law, np.zeros(atoms - last))
    return law if law @ np.arange(atoms + 1) <= mean * atoms + 1e-9 else None


@pytest.mark.parametrize(("mean", "r"), [(0.03, -0.5), (0.12, -0.25), (0.2, -0.5)])
def test_largest_tail_is_the_largest_of_r_concave_laws(mean, r):
    atoms, rng = 8, np.random.default_rng(0)
    best = np.zeros(atoms + 1)
    bound = largest_tail(mean, atoms, r)
    for _ in range(1000):
        law = concave_law(rng, atoms, mean, r)
        if law is not None:
            tails = np.cumsum(law[::-1])[::-1]
            assert (tails <= bound + 1e-8).all()
            best = np.maximum(best, tails)
    known = bound < 1
    assert known.sum() >= 4
    assert (best[known] > 0.97 * bound[known]).all()


def test_more_is_assumed_less_is_expected():
    for q in (1, 30, 58, 90):
        bounds = np.array([[expected_low(t, q, 100, 20, a) for t in np.arange(21, 41) / 40] for a in ASSUMPTIONS])
        assert (np.diff(bounds, axis=0) <= 1e-12).all()
        assert (np.diff(bounds, axis=1) <= 1e-12).all()
    assert expected_low(0.9, 0, 100, 20, "r-concave") == 0


@pytest.mark.parametrize("threshold", [0.5, 0.3, 1.01])
def test_thresholds_of_which_nothing_is_known_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        expected_low(threshold, 5, 100, 50)


def test_an_unknown_assumption_is_refused():
    with pytest.raises(ValueError, match="assumption"):
        expected_low(0.8, 5, 100, 50, "concave")


def test_stable_set_takes_the_least_threshold_that_keeps_the_target():
    pairs, p = 10, 40
    frequencies = np.zeros(p)
    frequencies[:6] = [1, 0.95, 0.8, 0.7, 0.5, 0.05]
    for assumption in ASSUMPTIONS:
        found = stable_set(frequencies, pairs, 0.5, assumption)
        assert found.q == pytest.approx(4.0)
        assert found.bound == expected_low(found.threshold, found.q, p, pairs, assumption) <= 0.5
        assert expected_low(found.threshold - 1 / (2 * pairs), found.q, p, pairs, assumption) > 0.5
        np.testing.assert_array_equal(found.selected, frequencies >= found.threshold)
    none = stable_set(frequencies, pairs, 0.5)
    assert none.threshold == 0.9
    assert none.selected.sum() == 2


def test_stable_set_is_empty_and_says_so_where_no_threshold_keeps_the_target():
    found = stable_set(np.full(20, 0.5), 10, 1.0)
    assert found.threshold is None
    assert not found.selected.any()
    assert found.bound == pytest.approx(5.0)
    assert "10 of 20 channels" in found.reason


def test_most_selected_is_the_most():
    for assumption in ASSUMPTIONS:
        q = most_selected(200, 20, 0.5, 0.8, assumption)
        assert expected_low(0.8, q, 200, 20, assumption) <= 0.5 < expected_low(0.8, q + 1, 200, 20, assumption)
    assert most_selected(200, 20, 1e-6, 0.8) == 0
    assert most_selected(10, 20, 100, 0.8) == 10


def test_false_selections_keep_the_bound_when_channels_are_correlated():
    """Groups that shift all their cells, correlated channels, two of 30 that carry the concept; each half takes the six
    with the largest difference of means. The others are exchangeable: the bound speaks of them all."""
    groups, channels, q, pairs, runs = 24, 30, 6, 10, 150
    false = {a: [] for a in ("none", "unimodal")}
    kept = []
    for run in range(runs):
        rng = np.random.default_rng(run)
        x = 0.7 * rng.normal(size=(groups, 1)) + rng.normal(size=(groups, channels))
        x[:, :2] += 2.5
        halves = complementary_halves([f"{i:02}" for i in range(groups)], np.ones(groups), pairs, run)
        strength = np.abs(halves @ x)
        strength[:, 2:] = np.abs(halves @ (x[:, 2:] - x[:, 2:].mean(axis=1, keepdims=True)))
        selected = np.zeros((2 * pairs, channels), bool)
        np.put_along_axis(selected, np.argsort(-strength, axis=1)[:, :q], True, axis=1)
        for assumption, counts in false.items():
            found = stable_set(selection_frequencies(selected), pairs, 1.5, assumption)
            counts.append(found.selected[2:].sum())
            kept.append(found.selected[:2].all())
    for counts in false.values():
        mean, error = np.mean(counts), np.std(counts) / math.sqrt(runs)
        assert 0 < mean < 1.5 + 2.6 * error
    assert np.mean(kept) > 0.9


def sets(*rows):
    return np.array(rows, dtype=bool)


def test_index_by_hand():
    # d = 3, M = 2: {1, 2} and {1, 3}. Frequencies 1, 1/2, 1/2; mean 2/3; spread 2 (0 + 1/4 + 1/4) / 3 = 1/3.
    # 1 - (1/3) / (2/9) = -1/2: they share one of two channels, by chance 4/3.
    assert stability_index(sets([1, 1, 0], [1, 0, 1])) == pytest.approx(-0.5)
    # M = 3: {1}, {1}, {2}. Frequencies 2/3, 1/3, 0; spread 3/2 (2/9 + 2/9) / 3 = 2/9; mean 1/3. 1 - (2/9) / (2/9) = 0.
    assert stability_index(sets([1, 0, 0], [1, 0, 0], [0, 1, 0])) == pytest.approx(0.0)
    # M = 2, of unequal size: {1} and {1, 2}: frequencies 1, 1/2, 0; spread 2/4/3 = 1/6; mean 1/2. 1 - (1/6) / (1/4).
    assert stability_index(sets([1, 0, 0], [1, 1, 0])) == pytest.approx(1 / 3)
    # disjoint sets, d = 4: frequencies 1/2 each; spread 2 * 1/4; mean 1/2
    assert stability_index(sets([1, 1, 0, 0], [0, 0, 1, 1])) == pytest.approx(-1.0)


def test_equal_sets_are_stable():
    assert stability_index(np.tile(sets([1, 0, 0, 1, 0]), (4, 1))) == 1.0
    found = stability_interval(np.tile(sets([1, 0, 0, 1, 0]), (4, 1)))
    assert (found.value, found.lo, found.hi) == (1.0, None, None)
    assert "nothing differs" in found.reason


@pytest.mark.parametrize("size", [None, 10])
def test_sets_drawn_at_random_have_an_index_of_zero(size):
    rng = np.random.default_rng(0)
    keep = rng.integers(1, 40, 300) if size is None else np.full(300, size)
    selected = rng.random((300, 50)).argsort(axis=1).argsort(axis=1) < keep[:, None]
    assert stability_index(selected) == pytest.approx(0, abs=0.01)


def test_index_is_the_share_of_agreement_beyond_chance_for_sets_of_one_size():
    """Then it equals Kuncheva's: the mean over pairs of (r d - k^2) / (k (d - k)), r channels shared."""
    rng = np.random.default_rng(1)
    selected = (rng.random((7, 12)) + np.linspace(0, 1, 12)).argsort(axis=1).argsort(axis=1) >= 8
    shared = selected.astype(int) @ selected.T
    pairs = shared[np.triu_indices(7, 1)]
    assert stability_index(selected) == pytest.approx(((pairs * 12 - 16) / (4 * 8)).mean())


def test_variance_by_hand():
    # {1}, {1}, {2} of 3: the index is 0, so a set's part is (mean of its channels' frequencies - size mean) / (2/9):
    # (2/3 / 3 - 1/9) 9/2 = 1/2, 1/2, (1/3 / 3 - 1/9) 9/2 = 0. Sum of squares about 1/3: 1/36 + 1/36 + 1/9 = 1/6.
    assert stability_variance(sets([1, 0, 0], [1, 0, 0], [0, 1, 0])) == pytest.approx(4 / 9 / 6)
    # {1}, {1}, {1, 2} of 3: f = 1, 1/3, 0; m = 4/9; the index is 1 - (1/9) / (20/81) = 11/20. The parts times 20/81:
    # 1/3 - 4/27 + 11/40 (8/27 - 1/3 - 4/9 + 1) twice, 4/9 - 8/27 + 11/40 (16/27 - 2/3 - 4/9 + 1) once; 51/1080 apart.
    uneven = sets([1, 0, 0], [1, 0, 0], [1, 1, 0])
    assert stability_index(uneven) == pytest.approx(11 / 20)
    assert stability_variance(uneven) == pytest.approx(4 / 9 * 2 / 3 * (51 / 1080 * 81 / 20) ** 2)


def test_variance_is_that_of_the_jackknife_with_many_sets():
    rng = np.random.default_rng(2)
    selected = rng.random((400, 20)) < np.append(np.zeros(14), np.linspace(0.4, 0.9, 6)) * rng.uniform(0.2, 1, (400, 1))
    deleted = np.array([stability_index(np.delete(selected, i, axis=0)) for i in range(400)])
    jackknife = 399 / 400 * ((deleted - deleted.mean()) ** 2).sum()
    assert stability_variance(selected) == pytest.approx(jackknife, rel=0.02)


def test_sets_drawn_together_count_as_one():
    rng = np.random.default_rng(3)
    selected = rng.random((60, 20)) < np.linspace(0.05, 0.9, 20)
    twice = np.repeat(selected, 2, axis=0)
    assert stability_variance(twice, together=2) == pytest.approx(stability_variance(selected), rel=0.05)
    assert stability_variance(twice) == pytest.approx(stability_variance(selected) / 2, rel=0.05)
    with pytest.raises(ValueError, match="together"):
        stability_variance(selected[:5], together=2)


@pytest.mark.parametrize("together", [1, 2])
def test_intervals_of_the_index_cover(together):
    """50 sets; drawn together, the second of two is the first with half of its draws made anew."""
    rng = np.random.default_rng(4)
    chance = np.linspace(0.02, 0.9, 25)

    def draw(sets):
        z = rng.random((sets // together, together, 25))
        if together == 2:
            keep = rng.random((sets // 2, 25)) < 0.5
            z[:, 1] = np.where(keep, z[:, 0], z[:, 1])
        return z.reshape(sets, 25) < chance

    mean = chance.mean()
    truth = 1 - (chance * (1 - chance)).mean() / (mean * (1 - mean))
    found = [stability_interval(draw(50), together=together) for _ in range(400)]
    covered = np.mean([i.lo <= truth <= i.hi for i in found])
    assert 0.90 < covered < 0.985


def most_shifted(x, halves, k=6):
    strength = np.abs(halves.astype(float) @ x)
    selected = np.zeros(strength.shape, bool)
    np.put_along_axis(selected, np.argsort(-strength, axis=1)[:, :k], True, axis=1)
    return selected


def test_halves_without_a_common_group_agree_as_new_groups_would():
    groups, channels, rng = 16, 40, np.random.default_rng(5)
    shift = np.append(np.linspace(1.5, 0.1, 15), np.zeros(channels - 15))
    whole = np.ones((1, groups // 2))
    anew = np.vstack([most_shifted(shift + rng.normal(size=(groups // 2, channels)), whole) for _ in range(600)])
    found = []
    for run in range(150):
        halves = complementary_halves([f"{i:02}" for i in range(groups)], np.ones(groups), 20, run)
        selected = most_shifted(shift + rng.normal(size=(groups, channels)), halves)
        found.append([disjoint_stability(selected), stability_index(selected)])
    (disjoint, overlapping), error = np.mean(found, axis=0), np.std(found, axis=0)[0] / math.sqrt(150)
    assert abs(disjoint - stability_index(anew)) < 3 * error + 0.01
    assert overlapping > disjoint + 0.05


def test_disjoint_stability_by_hand():
    # of two sets it is the index itself
    pair = sets([1, 0, 0], [1, 1, 0])
    assert disjoint_stability(pair) == pytest.approx(stability_index(pair))
    # {1}, {1} agree, {2}, {3} do not: disagreement 2 of 6; mean 1/3. 1 - (1/6) / (2/9) = 1/4
    assert disjoint_stability(sets([1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1])) == pytest.approx(0.25)
    assert math.isnan(disjoint_stability(np.zeros((2, 3), bool)))
    with pytest.raises(ValueError, match="pairs"):
        disjoint_stability(np.eye(3, dtype=bool))


@pytest.mark.parametrize(("value", "what"), [(0, "empty"), (1, "all channels")])
def test_index_of_sets_without_a_choice_is_not_defined(value, what):
    selected = np.full((4, 6), value, dtype=bool)
    assert math.isnan(stability_index(selected))
    assert math.isnan(stability_variance(selected))
    found = stability_interval(selected)
    assert math.isnan(found.value)
    assert what in found.reason
    assert found.lo is None


def test_one_set_is_refused():
    with pytest.raises(ValueError, match="two sets"):
        stability_index(np.ones((1, 5), bool))


@settings(max_examples=30)
@given(st.integers(2, 8), st.integers(2, 9), st.integers(0, 2**31))
def test_index_knows_no_order_and_mirrors(n_sets, channels, seed):
    rng = np.random.default_rng(seed)
    selected = rng.random((n_sets, channels)) < 0.5
    if not selected.any() or selected.all():
        return
    turned = selected[rng.permutation(n_sets)][:, rng.permutation(channels)]
    assert stability_index(turned) == pytest.approx(stability_index(selected))
    assert stability_variance(turned) == pytest.approx(stability_variance(selected), abs=1e-12)
    assert stability_index(~selected) == pytest.approx(stability_index(selected))
    assert stability_index(selected) <= 1
