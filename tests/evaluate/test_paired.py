"""Two models on the same groups: tests that hold their level, adjustments known by hand, ranks that share ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from probekit.evaluate.groups import histogram_average_precision
from probekit.evaluate.paired import (
    benjamini_hochberg,
    difference_interval,
    holm,
    one_sided_p,
    ranked_pair,
    smallest_difference,
    swap_test,
    tie_groups,
)
from probekit.evaluate.scores import average_precision


def two_models(n_groups=20, cells=60, seed=0, better=0.0, scale=1.0):
    """Scores of two models of the same cells: (one, other, y, groups)."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), cells)
    y = (rng.random(len(groups)) < 0.15).astype(np.int8)
    shared = rng.normal(size=len(groups)) + rng.normal(size=n_groups)[groups]
    one = shared + 0.6 * rng.normal(size=len(groups)) + (1 + better) * y
    return one, scale * (shared + 0.6 * rng.normal(size=len(groups)) + y), y, groups


def p_of(one, other, y, groups, n_groups, seed=0) -> float:
    return swap_test([ranked_pair(one, other, y, groups, n_groups)], np.random.default_rng(seed), swaps=499)


def test_ranks_keep_the_score() -> None:
    one, other, y, groups = two_models()
    pair = ranked_pair(one, other, y, groups, 20)
    for model, scores in enumerate((one, other)):
        p, cells = (of[model].sum(axis=0)[::-1] for of in (pair.positives, pair.cells))
        assert histogram_average_precision(p, cells - p, pair.tied[::-1]) == pytest.approx(
            average_precision(scores, y), abs=1e-4
        )
        np.testing.assert_array_equal(pair.positives[model].sum(axis=1), np.bincount(groups[y == 1], minlength=20))


def test_the_scale_of_margins_says_nothing() -> None:
    one, other, y, groups = two_models(better=0.3)
    assert p_of(one, other, y, groups, 20) == p_of(one, np.exp(other / 3) * 1e4, y, groups, 20)


def test_the_order_of_the_models_and_of_the_cells_says_nothing() -> None:
    one, other, y, groups = two_models(better=0.2)
    order = np.random.default_rng(1).permutation(len(y))
    assert p_of(one, other, y, groups, 20) == p_of(other, one, y, groups, 20)
    assert p_of(one, other, y, groups, 20) == p_of(one[order], other[order], y[order], groups[order], 20)


def test_equal_models_are_not_told_apart() -> None:
    one, _, y, groups = two_models()
    assert p_of(one, one, y, groups, 20) == 1.0


def test_all_exchanges_of_few_groups_are_tried() -> None:
    one, other, y, groups = two_models(n_groups=6, better=4.0)
    assert p_of(one, other, y, groups, 6) == pytest.approx(2 / 2**6)  # none or all exchanged


@pytest.mark.parametrize("n_groups", [8, 30])
def test_the_p_value_is_that_of_histograms_exchanged_one_by_one(n_groups: int) -> None:
    """The draws are those of one call of the generator, and groups in which the models agree are not drawn for."""
    one, other, y, groups = two_models(n_groups=n_groups, better=0.1)
    other[groups == 3], one[groups == 3] = -9.0, -9.0
    pair = ranked_pair(one, other, y, groups, n_groups)
    p, cells = (np.stack([of.toarray() for of in part])[..., ::-1] for part in (pair.positives, pair.cells))
    telling = np.flatnonzero((p[0] != p[1]).any(axis=1) | (cells[0] != cells[1]).any(axis=1))
    assert telling.tolist() == [group for group in range(n_groups) if group != 3]
    if n_groups == 8:
        draws = np.array(list(np.ndindex(*[2] * len(telling))))
    else:
        draws = np.random.default_rng(5).integers(0, 2, (499, len(telling)))
        draws = np.concatenate([np.zeros((1, len(telling)), int), draws])
    found = []
    for draw in draws:
        model = np.zeros(n_groups, int)
        model[telling] = draw
        scores = []
        for of in (model, 1 - model):
            positives, all_cells = (part[of, np.arange(n_groups)].sum(axis=0) for part in (p, cells))
            scores.append(histogram_average_precision(positives, all_cells - positives, pair.tied[::-1]))
        found.append(abs(scores[0] - scores[1]))
    expected = np.mean(np.array(found) >= found[0] - 1e-12)
    assert swap_test([pair], np.random.default_rng(5), swaps=499) == expected


@pytest.mark.parametrize(
    "of",
    [{"_AT_ONCE": 1}, {"_GROUPS_AT_ONCE": 8, "_IN_CACHE": 1}, {"_EXACT_SINGLES": 0}, {"_DENSE": 2}, {"_DENSE": -1}],
)
def test_blocks_and_the_kind_of_product_change_nothing(of: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [ranked_pair(*two_models(n_groups=29, seed=seed, better=0.1), 29) for seed in (0, 1)]
    rng = np.random.default_rng(0)
    expected, following = swap_test(pairs, rng, swaps=299), rng.random()
    assert 0 < expected < 1
    for name, value in of.items():
        monkeypatch.setattr(f"probekit.evaluate.paired.{name}", value)
    rng = np.random.default_rng(0)
    assert swap_test(pairs, rng, swaps=299) == expected
    assert rng.random() == following


def test_the_swap_test_holds_its_level_and_finds_what_is_there() -> None:
    level = [p_of(*two_models(seed=seed, scale=50.0), 20, seed) <= 0.05 for seed in range(150)]
    assert np.mean(level) < 0.11
    found = [p_of(*two_models(seed=seed, better=0.8), 20, seed) <= 0.05 for seed in range(20)]
    assert np.mean(found) > 0.9


def test_the_one_sided_test_and_the_interval_agree() -> None:
    rng = np.random.default_rng(0)
    positives = np.full(25, 4)
    for shift in (-0.02, 0.0, 0.01, 0.05):
        deleted = shift + 0.004 * rng.standard_normal(25)
        interval = difference_interval(shift, deleted, positives, level=0.9)
        p = one_sided_p(shift, deleted, positives)
        assert (p <= 0.05) == (interval.lo >= 0)
        assert p + one_sided_p(-shift, -deleted, positives) == pytest.approx(1)


def test_with_too_few_groups_nothing_is_tested() -> None:
    deleted, positives = np.linspace(0.1, 0.2, 8), np.full(8, 3)
    assert np.isnan(one_sided_p(0.1, deleted, positives))
    assert difference_interval(0.1, deleted, positives).lo is None


def test_the_smallest_difference_falls_with_the_groups() -> None:
    rng = np.random.default_rng(0)
    sizes = [smallest_difference(0.3 + rng.standard_normal(n) / n, np.full(n, 5)) for n in (20, 80, 320)]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]


def test_adjusted_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.5, 0.9]), [0.03, np.nan, 1.0, 1.0])
    assert len(holm([])) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_and_hochberg(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), atol=1e-12)
    assert (holm(p) >= benjamini_hochberg(p) - 1e-12).all()


def test_models_that_cannot_be_told_apart_share_a_rank() -> None:
    apart = np.zeros((4, 4), dtype=bool)
    assert tie_groups(apart) == [1, 1, 1, 1]
    for i, j in ((0, 2), (0, 3), (1, 3)):
        apart[i, j] = apart[j, i] = True
    assert tie_groups(apart) == [1, 1, 3, 3]
    assert tie_groups(~np.eye(3, dtype=bool)) == [1, 2, 3]
    assert tie_groups(np.zeros((0, 0), dtype=bool)) == []
