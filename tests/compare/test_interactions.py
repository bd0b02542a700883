"""Tests of products: they find what was planted, keep their level among dependent cells, and do not depend on units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from probekit.api import Scorer
from probekit.compare.interactions import LEADING, Expansion, PairTests, pair_tests
from probekit.evaluate.scorer import evaluate_scorers

Drawn = tuple[Any, Any, Any, Any]


def draw(
    rng: np.random.Generator, groups: int, each: int = 60, k: int = 4, product: float = 0.0, square: float = 0.0
) -> Drawn:
    """Channels and labels that have a part in common within a group, of unequal sizes: z, y, weights, groups. The
    product is that of channels 0 and 1, which are correlated; the square that of channel 0."""
    group = np.repeat(np.arange(groups), rng.integers(each // 2, 2 * each, groups))
    n = len(group)
    z = np.sqrt(0.4) * rng.standard_normal((groups, k))[group] + np.sqrt(0.6) * rng.standard_normal((n, k))
    z[:, 1] = 0.6 * z[:, 0] + 0.8 * z[:, 1]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    slopes = (rng.standard_normal(k) + 0.4 * rng.standard_normal((groups, k))) / np.sqrt(k)
    margin = (z * slopes[group]).sum(axis=1) - 1 + rng.standard_normal(groups)[group]
    margin += product * z[:, 0] * z[:, 1] + square * z[:, 0] ** 2
    y = (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(np.int8)
    positives = max(1, int(y.sum()))
    return z, y, np.where(y == 1, n / (2 * positives), n / (2 * (n - positives))), group


def every(k: int) -> Any:
    return np.arange(k, dtype=np.int64)


def of_pair(tests: PairTests, i: int, j: int) -> int:
    return int(np.flatnonzero((np.sort(tests.pairs, axis=1) == sorted((i, j))).all(axis=1))[0])


def test_a_planted_product_is_found_and_its_weight_with_it() -> None:
    z, y, weights, group = draw(np.random.default_rng(0), 60, k=8, product=0.8)
    tests = pair_tests(z, y, weights, group, every(8))
    assert len(tests.p) == 28
    assert tests.established()[0].tolist() == [0, 1]
    assert tests.q[0] < 0.01
    assert 0.4 < tests.weight[0] < 1.0
    assert tests.established(0).shape == (0, 2)


def test_exclusive_or_is_found_where_no_channel_alone_says_anything() -> None:
    rng = np.random.default_rng(1)
    z, _, _, group = draw(rng, 30, k=6)
    y = ((z[:, 2] * z[:, 4] > 0) ^ (rng.random(len(z)) < 0.1)).astype(np.int8)
    assert pair_tests(z, y, np.ones(len(z)), group, every(6)).established().tolist() == [[2, 4]]


@pytest.mark.parametrize("groups", [12, 30, 100])
def test_no_interaction_is_rejected_at_most_as_often_as_said(groups: int) -> None:
    rng, draws = np.random.default_rng(groups), 150
    found = sum(
        pair_tests(*draw(rng, groups, 40), every(4)[:2]).p[0] <= 0.05  # one pair a draw: independent
        for _ in range(draws)
    )
    assert found <= binom.ppf(0.999, draws, 0.05)


def test_a_product_that_works_either_way_in_different_groups_is_not_established() -> None:
    """To take the cells for independent would establish it."""
    rng, draws, found = np.random.default_rng(30), 100, [0, 0]
    for _ in range(draws):
        z, _, weights, group = draw(rng, 30, 40)
        way = rng.standard_normal(30)[group]
        y = (rng.random(len(z)) < 1 / (1 + np.exp(-way * z[:, 0] * z[:, 1]))).astype(np.int8)
        for place, taken in enumerate((group, rng.permutation(group))):
            found[place] += bool(pair_tests(z, y, weights, taken, every(4)[:2]).p[0] <= 0.05)
    assert found[0] <= binom.ppf(0.999, draws, 0.05) < found[1]


def test_a_curve_along_one_channel_is_no_interaction() -> None:
    rng, draws = np.random.default_rng(5), 100
    found = sum(pair_tests(*draw(rng, 40, 40, square=0.5), every(4)[:2]).p[0] <= 0.05 for _ in range(draws))
    assert found <= binom.ppf(0.999, draws, 0.05)


def test_the_statistic_is_what_its_definition_says() -> None:
    """The product's residual of weighted least squares, the groups' scores each at the coefficients of all others."""
    z, y, weights, group = draw(np.random.default_rng(2), 15, k=3)
    rng = np.random.default_rng(3)
    mixed = rng.permutation(len(y))
    tests = pair_tests(z[mixed], y[mixed], weights[mixed], group[mixed], every(3))
    squares = z**2
    design = np.column_stack([z, (squares - squares.mean(axis=0)) / squares.std(axis=0)])
    probe = LogisticRegression(C=1 / (1e-4 * weights.sum()), tol=1e-12, max_iter=10000).fit(design, y, weights)
    x = np.column_stack([design, np.ones(len(y))])
    w = np.append(probe.coef_[0], probe.intercept_)
    probability = 1 / (1 + np.exp(-x @ w))
    curvature = weights * probability * (1 - probability)
    ridge = np.diag([*[1e-4 * weights.sum()] * 6, 0.0])
    for m, (i, j) in enumerate(tests.pairs):
        product = z[:, i] * z[:, j]
        root = np.sqrt(curvature)[:, None]
        free = product - x @ np.linalg.lstsq(root * x, root[:, 0] * product)[0]
        scores = []
        for g in range(15):
            here = group == g
            rest = x[~here]
            gradient = rest.T @ (weights * (y - probability))[~here] - ridge @ w
            step = np.linalg.solve(rest.T @ (curvature[~here, None] * rest) + ridge, gradient)
            residual = weights * (y - probability) - curvature * (x @ step)
            scores.append(residual[here] @ free[here])
        total = free @ (weights * (y - probability))
        t = total / np.sqrt(15 * np.var(scores, ddof=1))
        assert tests.statistic[m] == pytest.approx(t, rel=2e-3, abs=1e-3)
        assert tests.weight[m] == pytest.approx(total / (curvature @ free**2), rel=2e-3, abs=1e-4)


def test_permuted_channels_rows_and_groups_permute_and_a_sign_turns() -> None:
    rng = np.random.default_rng(4)
    z, y, weights, group = draw(rng, 20, k=6, product=0.5)
    tests = pair_tests(z, y, weights, group, every(6))
    order, rows, names = rng.permutation(6), rng.permutation(len(y)), rng.permutation(20)
    other = pair_tests(z[rows][:, order], y[rows], weights[rows], names[group[rows]], every(6))
    signs = np.ones(6)
    signs[1] = -1
    turned = pair_tests(z * signs, y, weights, group, every(6))
    places = np.argsort(order)
    for m, (i, j) in enumerate(tests.pairs):
        same = of_pair(other, places[i], places[j])
        for name in ("weight", "statistic", "p", "q"):
            assert getattr(other, name)[same] == pytest.approx(getattr(tests, name)[m], rel=1e-5, abs=1e-9)
        sign = signs[i] * signs[j]
        assert turned.statistic[m] == pytest.approx(sign * tests.statistic[m], rel=1e-5, abs=1e-9)
        assert turned.p[m] == pytest.approx(tests.p[m], rel=1e-5)
    heavier = pair_tests(z, y, 7 * weights, group, every(6))
    np.testing.assert_allclose(heavier.statistic, tests.statistic, rtol=1e-6)


def test_channels_that_are_not_tried_are_in_the_model() -> None:
    """Else the product would take the credit of a channel that is correlated with it."""
    rng = np.random.default_rng(6)
    z, _, _, group = draw(rng, 40)
    product = z[:, 2] * z[:, 3]
    third = (product - product.mean()) / product.std() + 0.3 * rng.standard_normal(len(z))
    y = (rng.random(len(z)) < 1 / (1 + np.exp(0.5 - third))).astype(np.int8)
    weights = np.ones(len(z))
    known = pair_tests(np.column_stack([z, third]), y, weights, group, every(4)[2:])
    unknown = pair_tests(z, y, weights, group, every(4)[2:])
    assert known.pairs.tolist() == unknown.pairs.tolist() == [[2, 3]]
    assert unknown.p[0] < 1e-4 < 0.01 < known.p[0]


def test_products_made_of_the_channels_are_not_tested() -> None:
    z, y, weights, group = draw(np.random.default_rng(7), 20, k=4)
    z = np.column_stack([z, z[:, 0], np.zeros(len(z))])  # a copy, and one that is constant
    tests = pair_tests(z, y, weights, group, every(6))
    untested = {tuple(pair) for pair in tests.pairs[np.isnan(tests.p)].tolist()}
    assert untested == {(0, 4), *((i, 5) for i in range(5))}
    assert (np.isnan(tests.q) == np.isnan(tests.p)).all()
    assert np.isnan(tests.weight[np.isnan(tests.p)]).all()


@pytest.mark.parametrize("separable", [False, True])
def test_more_channels_than_rows_or_classes_apart_give_numbers(separable: bool) -> None:
    rng = np.random.default_rng(8)
    z = rng.standard_normal((40, 60 if not separable else 3))
    y = (z[:, 0] > 0).astype(np.int8)
    tests = pair_tests(z, y, np.ones(40), np.arange(40) // 4, every(3))
    known = ~np.isnan(tests.p)
    assert np.isfinite(tests.statistic[known]).all()
    assert ((tests.p[known] >= 0) & (tests.p[known] <= 1)).all()
    assert not len(tests.established())


def test_too_little_gives_no_test() -> None:
    z, y, weights, group = draw(np.random.default_rng(9), 10)
    for leading in (every(1), every(0)):
        assert pair_tests(z, y, weights, group, leading).established().shape == (0, 2)
    alone = pair_tests(z, y, weights, np.zeros_like(group), every(3))
    assert len(alone.pairs) == 3
    assert np.isnan(alone.p).all()
    assert not len(alone.established())
    assert LEADING * (LEADING - 1) // 2 == 190


def test_a_scorer_of_expanded_features_is_one_of_raw_ones() -> None:
    rng = np.random.default_rng(10)
    raw = (rng.standard_normal((300, 9)) * rng.uniform(0.1, 50, 9) + rng.uniform(-100, 100, 9)).astype(np.float32)
    channels = np.array([7, 2, 5])
    mean, scale = raw[:, channels].mean(axis=0, dtype=np.float64), raw[:, channels].std(axis=0, dtype=np.float64)
    expansion, values = Expansion.of(raw, channels, mean, scale, [(0, 1), (2, 2), (1, 2)])
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-5)
    order = np.array([4, 0, 3, 1, 5])  # not all of them
    arrays = {"weight": rng.standard_normal(5), "bias": np.array(0.7)}
    scorer = expansion.scorer(Scorer("linear", order, arrays))
    assert (scorer.kind, scorer.channels.tolist()) == ("polynomial", [7, 2, 5])
    (margins,) = evaluate_scorers([scorer], raw)
    np.testing.assert_allclose(margins, values[:, order] @ arrays["weight"] + 0.7, rtol=1e-5, atol=1e-5)


def test_an_expansion_of_constant_channels_is_finite() -> None:
    raw = np.full((20, 2), 3.0, dtype=np.float32)
    expansion, values = Expansion.of(raw, every(2), np.full(2, 3.0), np.ones(2), [(0, 1)])
    assert (values == 0).all()
    scorer = expansion.scorer(Scorer("linear", every(3), {"weight": np.ones(3), "bias": np.array(0.5)}))
    np.testing.assert_allclose(evaluate_scorers([scorer], raw)[0], 0.5)
