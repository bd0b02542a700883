"""The L1 path: optimal by an independent judge, and unchanged by what should change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import ALIKE, RATIOS, Judge, balanced, bytes_of, check, make_rows, same_within_certificates
from probekit_linear.solve.lasso import logistic_path
from sklearn.linear_model import LogisticRegression

# -- optimality


@settings(max_examples=25, **ALIKE)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(60, 500),
    p=st.integers(1, 25),
    noise=st.sampled_from([0.2, 1.0, 5.0]),
    share=st.sampled_from([0.05, 0.3, 0.5]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_every_point_of_a_path_is_optimal(seed, n, p, noise, share, dtype):
    x, y = make_rows(n, p, seed, noise, share, dtype)
    check(logistic_path(x, y, ratios=RATIOS), 0, Judge(x, y))


def test_the_optimality_conditions_hold_closely_at_a_small_target():
    x, y = make_rows(n=1500, p=40, seed=2)
    judge, found = Judge(x, y), logistic_path(x, y, ratios=RATIOS, target=1e-12)
    assert found.gap.max() <= 1e-12
    assert found.certified.all()
    for lam, w, b in zip(found.lambdas[0], found.coefficient[0], found.intercept[0], strict=True):
        of_w, of_b = judge.gradient(w, b)
        assert abs(of_b) < 1e-6
        assert np.abs(of_w).max() <= lam + 1e-6
        np.testing.assert_allclose(of_w[w != 0], -lam * np.sign(w[w != 0]), atol=2e-6)


def test_a_spent_target_is_kept_and_a_smaller_one_gets_nearer():
    x, y = make_rows(n=1000, p=30)
    judge = Judge(x, y)
    best = logistic_path(x, y, ratios=RATIOS, target=1e-13)
    for target in (1e-2, 1e-4, 1e-8):
        found = logistic_path(x, y, ratios=RATIOS, target=target)
        assert found.gap.max() <= target
        for i, lam in enumerate(found.lambdas[0]):
            above = judge.objective(found.coefficient[0, i], found.intercept[0, i], lam) - judge.objective(
                best.coefficient[0, i], best.intercept[0, i], lam
            )
            assert -1e-12 <= above <= found.gap[0, i] * judge.null + 1e-12


@pytest.mark.parametrize(("solver", "scaling"), [("saga", 1.0), ("liblinear", 100.0)])
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_the_objective_is_not_above_scikit_learns(solver, scaling, noise):
    x, y = make_rows(n=300, p=8, noise=noise)
    judge = Judge(x, y)
    found = logistic_path(x, y, ratios=(0.5, 0.1, 0.02))
    for i, lam in enumerate(found.lambdas[0]):
        reference = LogisticRegression(
            C=1 / (lam * len(y)), l1_ratio=1.0, solver=solver, tol=1e-8, max_iter=20000, intercept_scaling=scaling,
            random_state=0,
        )  # fmt: skip
        reference.fit(judge.z, y, sample_weight=balanced(y))
        theirs = judge.objective(reference.coef_[0], float(reference.intercept_[0]), lam)
        ours = judge.objective(found.coefficient[0, i], found.intercept[0, i], lam)
        assert ours <= theirs + found.gap[0, i] * judge.null + 1e-12
        assert ours >= theirs - 1e-4  # or they did not solve what we solved


def test_the_gap_bounds_where_one_row_lies_far_on_the_wrong_side():
    """Its share of the sums is 1e15 times the other class's, and its weight next to nothing."""
    for seed in (2, 5, 9, 13):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((400, 4))
        y = (x[:, 0] + 0.02 * rng.standard_normal(400) > 0).astype(int)
        far = rng.integers(400)
        x[far], y[far] = 0, 1
        x[far, 0] = -rng.uniform(2, 8)
        weights = np.ones(400)
        weights[far] = 10.0 ** rng.uniform(-9, -3)
        judge = Judge(x, y, weights)
        found = logistic_path(x, y, weights, ratios=(0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), target=1e-3)
        for lam, w, b, gap in zip(
            *(a[0] for a in (found.lambdas, found.coefficient, found.intercept, found.gap)), strict=True
        ):
            assert judge.gap(w, b, lam) <= gap + 1e-11


# -- the largest lambda


@settings(max_examples=20, **ALIKE)
@given(seed=st.integers(0, 10**6), n=st.sampled_from([50, 400, 3000]), p=st.integers(1, 20), above=st.floats(0, 1e-6))
def test_at_the_largest_lambda_and_above_every_coefficient_is_zero(seed, n, p, above):
    x, y = make_rows(n, p, seed)
    found = logistic_path(x, y, ratios=(1 + above, 1.0, 0.5))
    np.testing.assert_allclose(found.lambda_max, Judge(x, y).lambda_max(), rtol=1e-9)
    assert not found.coefficient[0, :2].any()
    assert found.coefficient[0, 2].any()
    check(found, 0, Judge(x, y))


def test_just_below_the_largest_lambda_a_channel_enters():
    for seed in range(8):
        x, y = make_rows(seed=seed)
        found = logistic_path(x, y, ratios=[0.999], target=1e-10)
        assert (found.coefficient != 0).sum() == 1


def test_lambdas_far_above_the_largest_give_the_log_odds():
    x, y = make_rows(seed=1)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    found = logistic_path(x, y, weights, lambdas=[1e300, 1e6, 10])
    assert not found.coefficient.any()
    np.testing.assert_allclose(found.intercept, Judge(x, y, weights).null_intercept, rtol=1e-9)
    assert found.certified.all()


# -- what changes nothing


def test_permuting_channels_permutes_the_answer():
    x, y = make_rows(n=600, p=20)
    order = np.random.default_rng(1).permutation(20)
    one = logistic_path(x, y, ratios=RATIOS, target=1e-12)
    two = logistic_path(x[:, order], y, ratios=RATIOS, target=1e-12)
    np.testing.assert_allclose(two.coefficient, one.coefficient[:, :, order], atol=1e-5)
    np.testing.assert_allclose(two.intercept, one.intercept, atol=1e-5)


@settings(max_examples=15, **ALIKE)
@given(seed=st.integers(0, 1000), power=st.floats(-12, 12), offset=st.floats(-50, 50), flip=st.booleans())
def test_scaling_and_shifting_a_channel_changes_nothing(seed, power, offset, flip):
    x, y = make_rows(n=300, p=6, seed=seed)
    size = (-1 if flip else 1) * 10.0**power
    other = x.copy()
    other[:, 2] = (x[:, 2] + offset * x[:, 2].std()) * size
    one = logistic_path(x, y, ratios=RATIOS, target=1e-11)
    two = logistic_path(other, y, ratios=RATIOS, target=1e-11)
    turn = np.ones(6)
    turn[2] = np.sign(size)
    np.testing.assert_allclose(two.coefficient * turn, one.coefficient, atol=2e-4)
    np.testing.assert_allclose(two.intercept, one.intercept, atol=2e-4)
    check(two, 0, Judge(other, y))


def test_duplicating_every_row_changes_nothing():
    x, y = make_rows(n=500, p=12)
    for times in (np.full(500, 3), np.where(y == 1, 4, 1)):  # every row, or every row of one class
        moments = x.mean(0)[None], x.std(0)[None]
        one = logistic_path(x, y, ratios=RATIOS, moments=moments)
        two = logistic_path(np.repeat(x, times, axis=0), np.repeat(y, times), ratios=RATIOS, moments=moments)
        np.testing.assert_allclose(two.lambda_max, one.lambda_max, rtol=1e-10)
        same_within_certificates(Judge(x, y), one, two)


def test_duplicating_a_row_is_doubling_its_weight():
    x, y = make_rows(n=300, p=8)
    weights = np.random.default_rng(0).integers(1, 4, 300)
    moments = x.mean(0)[None], x.std(0)[None]
    one = logistic_path(x, y, weights, ratios=RATIOS, moments=moments)
    again = np.repeat(np.arange(300), weights)
    two = logistic_path(x[again], y[again], np.ones(len(again)), ratios=RATIOS, moments=moments)
    np.testing.assert_allclose(two.lambda_max, one.lambda_max, rtol=1e-10)
    same_within_certificates(Judge(x, y, weights, moments=(x.mean(0), x.std(0))), one, two)


@pytest.mark.parametrize("size", [1e-200, 1e-50, 1e-3, 1e9, 1e40, 1e200])
def test_the_size_of_the_weights_changes_nothing(size, quickly):
    x, y = make_rows(n=300, p=8)
    weights = np.random.default_rng(0).uniform(0.5, 2, 300)
    check(logistic_path(x, y, size * weights, ratios=RATIOS), 0, Judge(x, y, weights))


def test_swapping_the_classes_turns_the_answer():
    x, y = make_rows(n=300, p=8)
    one = logistic_path(x, y, ratios=RATIOS, target=1e-12)
    two = logistic_path(x, 1 - y, ratios=RATIOS, target=1e-12)
    np.testing.assert_allclose(two.coefficient, -one.coefficient, atol=1e-5)
    np.testing.assert_allclose(two.intercept, -one.intercept, atol=1e-5)


def test_the_order_of_the_rows_changes_nothing():
    x, y = make_rows(n=2000, p=10)
    order = np.argsort(y, kind="stable")
    same_within_certificates(
        Judge(x, y), logistic_path(x, y, ratios=RATIOS), logistic_path(x[order], y[order], ratios=RATIOS)
    )


def test_rows_without_weight_change_no_byte():
    x, y = make_rows(p=8)
    weights = balanced(y)
    weights[[0, *range(50, 120), 399]] = 0
    plain = logistic_path(x, y, weights, ratios=RATIOS)
    used = weights > 0
    assert bytes_of(logistic_path(x[used], y[used], weights[used], ratios=RATIOS)) == bytes_of(plain)
    for value in (0.0, 1e30, -1e300, np.nan, np.inf):
        other = x.copy()
        other[~used] = value
        assert bytes_of(logistic_path(other, np.where(used, y, 1), weights, ratios=RATIOS)) == bytes_of(plain)


@pytest.mark.parametrize("value", [1e3, 65504.0, 1e6, 1e8, 1e30])
def test_rows_that_a_problem_of_a_batch_leaves_out_do_not_reach_it(value, quickly):
    x, y = make_rows(p=8, dtype=np.float32)
    x[0] = value
    weights = np.stack([balanced(y), balanced(y)])
    weights[1, 0] = 0
    found = logistic_path(x, np.stack([y, y]), weights, ratios=RATIOS)
    check(found, 1, Judge(x, y, weights[1]))


# -- support


def test_a_planted_support_is_recovered():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 60)) + 0.5 * rng.standard_normal((4000, 1))
    planted = np.sort(rng.choice(60, 6, replace=False))
    y = (x[:, planted] @ rng.choice([-1.0, 1.0], 6) + 0.3 * rng.standard_normal(4000) > 0.5).astype(int)
    found = logistic_path(x, y, ratios=np.geomspace(1, 0.05, 12), target=1e-8)
    supports = [np.flatnonzero(w) for w in found.coefficient[0]]
    assert any(np.array_equal(support, planted) for support in supports)
    assert np.array_equal(np.sort(np.argsort(-np.abs(found.coefficient[0, -1]))[:6]), planted)
