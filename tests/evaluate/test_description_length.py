"""The online code: exact where it can be worked by hand, short for what is known, uniform for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from probekit.evaluate.description_length import best_scale, label_bits, online_code
from probekit.sampling.portions import cut_portions, portion_order


def test_a_case_worked_by_hand():
    # Odds of 3: right costs log2(4/3), wrong log2(4) bits.
    margins = np.array([np.nan, 1e9, np.log(3), -np.log(3), 0.0, np.log(3)])
    y = np.array([1, 0, 1, 1, 0, 0])
    weights = np.array([1.0, 1, 2, 1, 1, 2])
    group = np.array([0, 1, 2, 3, 4, 5])
    code = online_code(margins, y, weights, np.array([0, 0, 1, 1, 2, 2]), group)
    right = np.log2(4 / 3)
    assert [portion.uniform for portion in code.portions] == [2, 3, 3]
    assert [portion.plain for portion in code.portions] == pytest.approx([2, 2 * right + 2, 1 + 2 * 2])
    assert code.portions[1].scale == 1
    # In the second portion a third of the weight was wrong: odds of 2, not of 3, would have been right; but two groups
    # say little against the margins as they are.
    scale = code.portions[2].scale
    assert np.log(2) / np.log(3) < scale < 1
    pull = 2 * np.log(3) * (1 / 3 - 1 / (1 + 3**scale))
    assert scale * pull + np.log(scale) / np.log(10) ** 2 == pytest.approx(0, abs=1e-5)
    wrong = np.log2(1 + 3**scale)
    assert [portion.bits for portion in code.portions] == pytest.approx([2, 2 * right + 2, 1 + 2 * wrong])
    assert (code.plain, code.uniform) == pytest.approx((9 + 2 * right, 8))
    assert code.bits == pytest.approx(5 + 2 * right + 2 * wrong)
    assert code.compression == pytest.approx(8 / code.bits)
    assert code.per_label * code.compression == pytest.approx(1)
    assert code.regret is None
    whole = online_code(margins, y, weights, np.zeros(6, int), group)
    assert whole.compression == 1


def test_the_final_fit_is_scaled_on_all_labels():
    y, group = np.arange(400) % 2, np.arange(400) // 4
    tiny = np.where(np.arange(400) % 40 < 38, 2 * y - 1, 1 - 2 * y) * 1e-3
    code = online_code(np.zeros(400), y, np.ones(400), (group > 50).astype(int), group, tiny)
    # A twentieth is wrong, and a hundred groups make that known.
    assert code.final == pytest.approx(-400 * (0.95 * np.log2(0.95) + 0.05 * np.log2(0.05)), rel=0.05)
    assert code.regret == pytest.approx(400 - code.final)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e3]), st.sampled_from([1, 10, 200]))
def test_the_scale_is_the_best_under_its_rule(seed, size, groups):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 30)
    margins = size * (rng.standard_normal(30) + rng.uniform(-1, 2) * (2 * y - 1))
    weights = rng.uniform(0.1, 3, 30)

    def cost(scale):
        mean = weights @ label_bits(scale * margins, y) * np.log(2) / weights.sum()
        return groups * mean + np.log(scale) ** 2 / (2 * np.log(10) ** 2)

    found = best_scale(margins, y, weights, groups)
    assert cost(found) <= min(cost(scale) for scale in np.geomspace(1e-5, 1e5, 201)) + 1e-9
    assert best_scale(margins, y, 2 * weights, groups) == pytest.approx(found, rel=1e-4)


def test_margins_that_say_the_opposite_shrink_and_those_that_say_nothing_stay():
    y = np.array([0, 1, 0, 1])
    assert best_scale(np.zeros(4), y, np.ones(4), 9) == pytest.approx(1, abs=1e-4)
    shrunk = [best_scale(np.array([1.0, -1, 1, -1]), y, np.ones(4), groups) for groups in (3, 30, 300)]
    assert 1 > shrunk[0] > shrunk[1] > shrunk[2]
    assert shrunk[2] < 0.05


def test_a_sure_label_costs_nothing_and_a_sure_error_its_margin():
    bits = label_bits(np.array([900.0, -900.0, 0.0], np.float32), np.array([1, 1, 1]))
    assert bits == pytest.approx([0, 900 / np.log(2), 1])
    assert label_bits(np.array([900.0, -900.0]), np.array([0, 0])) == pytest.approx([900 / np.log(2), 0])


def test_who_knows_all_pays_for_the_first_portion_and_who_is_wrong_more_than_the_uniform_code():
    y, group = np.arange(640) % 2, np.arange(640) // 2
    portion = group // 40
    knows = online_code(np.where(y == 1, 40.0, -40.0), y, np.ones(640), portion, group)
    assert knows.plain == pytest.approx(80)
    assert knows.bits == pytest.approx(80)
    wrong = online_code(np.where(y == 1, -40.0, 40.0), y, np.ones(640), portion, group)
    assert wrong.plain == pytest.approx(80 + 560 * 40 / np.log(2))
    assert wrong.portions[1].bits == wrong.portions[1].plain > wrong.uniform
    assert wrong.compression < 0.2
    assert all(1 < portion.bits / portion.uniform < 1.2 for portion in wrong.portions[2:])


@pytest.mark.parametrize("size", [0.01, 100.0])
def test_margins_of_the_wrong_size_cost_little_once_enough_groups_are_sent(size):
    rng = np.random.default_rng(0)
    group = np.arange(6400) // 10
    portion = np.searchsorted([10, 20, 40, 80, 160, 320], group, side="right")
    y = rng.integers(0, 2, 6400)
    margins = 2 * rng.standard_normal(6400) + 2 * (2 * y - 1)  # these are the log odds
    true, other = (online_code(k * margins, y, np.ones(6400), portion, group) for k in (1.0, size))
    assert true.bits == pytest.approx(true.plain, rel=0.01)
    assert other.portions[1].bits > 1.2 * true.portions[1].bits
    for one, two in zip(true.portions[3:], other.portions[3:], strict=True):
        assert two.bits < 1.05 * one.bits
        assert two.plain > 1.2 * one.plain


def test_an_empty_portion_changes_nothing():
    x, y, groups = some(1.0, n_groups=8)
    margins, weights = x[:, 0], np.ones(len(y))
    portion = groups // 2
    one, two = (online_code(margins, y, weights, of, groups) for of in (portion, portion + (portion > 1)))
    assert [p for p in two.portions if p.uniform > 0] == list(one.portions)
    assert two.portions[2].bits == 0


def test_rows_that_cannot_be_coded_are_refused():
    y, weights = np.array([0, 1]), np.ones(2)
    with pytest.raises(ValueError, match="first portion"):
        online_code(np.zeros(2), y, weights, np.array([1, 1]), y)
    with pytest.raises(ValueError, match="finite"):
        online_code(np.array([0, np.nan]), y, weights, np.array([0, 1]), y)


def fitted(x, y, groups, copies=1, ridge=0.05):
    """The code of a logistic probe that is fitted on all earlier portions, rows given so many times over."""
    n_groups = int(groups.max()) + 1
    classes = np.zeros((n_groups, 2), bool)
    classes[groups, y] = True
    order = portion_order([f"{i:03d}" for i in range(n_groups)], classes[:, 1], 0)
    x, y, groups = (np.repeat(of, copies, axis=0) for of in (x, y, groups))
    portion = cut_portions(order, classes)[groups]
    weights = len(y) / (2 * np.bincount(y)[y])
    margins = np.zeros(len(y))
    for sent in range(1, portion.max() + 1):
        before = portion < sent
        # The ridge stands against the mean loss, whatever the number of rows.
        probe = LogisticRegression(C=1 / (ridge * before.sum()), class_weight="balanced", tol=1e-8, max_iter=1000)
        probe.fit(x[before], y[before])
        here = portion == sent
        margins[here] = probe.decision_function(x[here])
    return online_code(margins, y, weights, portion, groups)


def some(signal, n_groups=64, each=12, channels=6, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), each)
    y = (rng.random(len(groups)) < 0.3).astype(int)
    x = rng.standard_normal((len(y), channels)) + 0.5 * rng.standard_normal((n_groups, channels))[groups]
    x[:, 0] += signal * y
    return x, y, groups


def test_bits_fall_with_what_the_channels_know():
    lengths = [fitted(*some(signal)).per_label for signal in (0, 1, 2, 4, 8)]
    assert lengths == sorted(lengths, reverse=True)
    assert 0.98 < lengths[0] < 1.2
    assert lengths[-1] < 0.2


def test_labels_that_nothing_tells_cost_the_uniform_code_or_more():
    codes = [fitted(*some(0.0, seed=seed)) for seed in range(10)]
    assert all(code.compression < 1.02 for code in codes)
    assert np.mean([code.compression for code in codes]) < 1


def test_a_concept_that_takes_longer_to_find_costs_more_where_both_are_readable_in_the_end():
    easy = fitted(*some(4.0, channels=2))
    hard = fitted(*some(4.0, channels=60))
    assert hard.portions[-1].bits / hard.portions[-1].uniform < 0.6
    assert hard.per_label > easy.per_label


def test_doubled_rows_cost_the_same_a_label():
    data = some(1.5)
    once, twice = fitted(*data), fitted(*data, copies=2)
    assert twice.uniform == pytest.approx(2 * once.uniform)
    assert twice.per_label == pytest.approx(once.per_label, rel=1e-5)


def test_a_penalty_that_ranks_as_well_codes_about_as_well():
    data = some(2.0)
    codes = [fitted(*data, ridge=ridge) for ridge in (0.1, 1.0, 10.0)]
    assert codes[-1].uniform / codes[-1].plain < 1.2
    assert min(code.compression for code in codes) > 0.85 * max(code.compression for code in codes) > 1.2
