"""The L1 path of many problems: optimal by an independent judge, whatever the rows, weights and grids."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from probekit_linear.solve import lasso, rows
from probekit_linear.solve.lasso import logistic_path
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info

RATIOS = (1.0, 0.5, 0.1, 0.01, 1e-3)
TARGET = 1e-6
# the same examples every time; a path that stalls takes long to shrink
ALIKE = {"deadline": None, "derandomize": True, "phases": (Phase.explicit, Phase.generate)}


def make_rows(n=400, p=15, seed=0, noise=1.0, share=0.3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) + rng.standard_normal((n, 1))) * rng.uniform(0.1, 10, p) + rng.uniform(-5, 5, p)
    score = ((x - x.mean(0)) / x.std(0)) @ (rng.standard_normal(p) * (rng.random(p) < 0.4))
    y = (score + noise * rng.standard_normal(n) > np.quantile(score, 1 - share)).astype(np.int8)
    y[:2] = 0, 1
    return x.astype(dtype), y


def standard(x):
    return (x - x.mean(0)) / x.std(0)


def balanced(y):
    return np.where(y == 1, len(y) / (2 * (y == 1).sum()), len(y) / (2 * (y == 0).sum()))


class Judge:
    """One problem on a dense standardised copy, in long doubles: objective, gradient, and a dual point as it is."""

    def __init__(self, x, y, weights=None, factors=1.0, moments=None):
        s = balanced(y) if weights is None else np.asarray(weights)
        used = s > 0
        self.x, self.s = np.asarray(x)[used].astype(np.longdouble), s[used].astype(np.longdouble)
        self.s /= self.s.sum()
        self.sign, self.factors = np.where(y[used] == 1, 1.0, -1.0), factors
        share = self.s[self.sign > 0].sum()
        self.null = -share * np.log(share) - (1 - share) * np.log(1 - share)
        self.null_intercept = np.log(share) - np.log(1 - share)
        mean, scale = self.x.mean(0), self.x.std(0)
        varies = scale > 1e-9 * np.abs(mean)
        self.use(*((mean, np.where(varies, scale, 1.0)) if moments is None else moments))

    def use(self, mean, scale):
        self.mean, self.scale = mean, scale
        self.z = (self.x - mean) / scale

    def objective(self, w, b, lam):
        margin = self.sign * (self.z @ w + b)
        return self.s @ np.logaddexp(0, -margin) + (lam * self.factors * np.abs(w)).sum()

    def gradient(self, w, b):
        residual = -self.s * self.sign * np.exp(-np.logaddexp(0, self.sign * (self.z @ w + b)))
        return residual @ self.z, residual.sum()

    def lambda_max(self):
        return (np.abs(self.gradient(np.zeros(self.z.shape[1]), self.null_intercept)[0]) / self.factors).max()

    def gap(self, w, b, lam):
        """An upper bound of how far (w, b) is from the optimum, relative: its dual point is feasible to rounding."""
        margin = self.sign * (self.z @ w + b)
        a = np.exp(-np.logaddexp(0, margin))
        mass = {c: (self.s * a)[self.sign == c].sum() for c in (1, -1)}
        a *= np.where(self.sign > 0, min(mass.values()) / mass[1], min(mass.values()) / mass[-1])
        a /= max(1.0, (np.abs((self.s * a * self.sign) @ self.z) / (lam * self.factors)).max())
        inside = (a > 0) & (a < 1)
        part = a[inside]
        dual = self.s[inside] @ -(part * np.log(part) + (1 - part) * np.log1p(-part))
        return (self.objective(w, b, lam) - dual) / self.null


def check(found, j, judge, certified=True):
    """Every point of problem j is as near to the optimum as it says."""
    assert np.isfinite(found.coefficient).all()
    assert np.isfinite(found.intercept).all()
    assert np.abs((found.mean[j] - judge.mean) / judge.scale).max() < 1e-9
    np.testing.assert_allclose(found.scale[j], judge.scale.astype(float), rtol=1e-8)
    judge.use(found.mean[j], found.scale[j])  # where lambda is near rounding, a rounding of the rows is what decides
    for lam, w, b, gap, sure in zip(
        found.lambdas[j], found.coefficient[j], found.intercept[j], found.gap[j], found.certified[j], strict=True
    ):
        assert sure == (gap <= TARGET)
        if certified:
            assert sure, f"gap {gap:.1e} at lambda {lam:.1e}"
        if not np.isfinite(gap):
            continue
        # the product's bound is that of the same dual point, a little lower: never the better of the two
        tight = judge.gap(w, b, lam)
        assert tight <= gap + 1e-11
        if gap < 1e-3:
            assert gap <= 30 * tight + 1e-6  # but no idle bound
        # what moving one channel alone gains, by a bound of its curvature, cannot exceed what is left to gain
        of_w, of_b = judge.gradient(w, b)
        bend, penalty = np.maximum((judge.s @ judge.z**2) / 4, 1e-300), lam * judge.factors * np.ones_like(w)
        to = w - of_w / bend
        to = np.sign(to) * np.maximum(np.abs(to) - penalty / bend, 0)
        gain = -(of_w * (to - w) + bend / 2 * (to - w) ** 2 + penalty * (np.abs(to) - np.abs(w)))
        assert gain.max() <= gap * judge.null + 1e-11
        assert 2 * of_b**2 <= gap * judge.null + 1e-11


def same_within_certificates(judge, one, two):
    """Two fits of one problem differ by no more than their gaps allow."""
    for lam, w, b, gap, v, c, other in zip(
        one.lambdas[0], one.coefficient[0], one.intercept[0], one.gap[0], two.coefficient[0], two.intercept[0],
        two.gap[0], strict=True,
    ):  # fmt: skip
        assert abs(judge.objective(w, b, lam) - judge.objective(v, c, lam)) <= max(gap, other) * judge.null + 1e-12


def only(found, j):
    """Problem j of a batch, as a path of its own."""
    part = slice(j, j + 1)
    names = ("lambdas", "coefficient", "intercept", "gap", "certified", "iterations", "mean", "scale", "lambda_max")
    return lasso.LogisticPath(**{name: getattr(found, name)[part] for name in names}, reads=found.reads)


def bytes_of(found):
    return b"".join(
        np.ascontiguousarray(a).tobytes()
        for a in (found.coefficient, found.intercept, found.gap, found.mean, found.scale)
    )


@pytest.fixture
def quickly():
    """Fails a solver that never ends, instead of waiting for it."""

    def late(*_):
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


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


# -- many at once


def batch_of_problems():
    """Folds as zero weights, two concepts, permuted labels, own weights: on 700 rows of 12 channels."""
    x, y = make_rows(n=700, p=12, seed=4)
    _, other = make_rows(n=700, p=12, seed=5)
    rng = np.random.default_rng(0)
    fold = rng.integers(0, 3, 700)
    labels = np.stack([y, y, y, other, rng.permutation(y), y])
    folds = [np.where(fold != k, balanced(y), 0) for k in range(3)]
    weights = np.stack([*folds, balanced(other), np.ones(700), rng.uniform(0.1, 3, 700)])
    return x, labels, weights


def test_a_batch_is_its_problems_one_by_one():
    x, labels, weights = batch_of_problems()
    together = logistic_path(x, labels, weights, ratios=RATIOS)
    for j, (y, s) in enumerate(zip(labels, weights, strict=True)):
        alone = logistic_path(x, y, s, ratios=RATIOS)
        judge = Judge(x, y, s)
        check(together, j, judge)
        np.testing.assert_allclose(together.lambdas[j], alone.lambdas[0], rtol=1e-10)
        np.testing.assert_allclose(together.mean[j], alone.mean[0], rtol=1e-10, atol=1e-12)
        same_within_certificates(judge, only(together, j), alone)


def test_problems_may_have_moments_grids_and_factors_of_their_own():
    x, labels, weights = batch_of_problems()
    rng = np.random.default_rng(1)
    moments = x.mean(0) + rng.standard_normal((6, 12)), x.std(0) * 10 ** rng.uniform(-1, 1, (6, 12))
    factors, lambdas = 10 ** rng.uniform(-1, 1, (6, 12)), 10 ** rng.uniform(-4, -1, (6, 4))
    found = logistic_path(x, labels, weights, lambdas=lambdas, factors=factors, moments=moments)
    np.testing.assert_array_equal(found.lambdas, -np.sort(-lambdas, axis=1))
    np.testing.assert_array_equal(found.mean, moments[0])
    for j in range(6):
        own = moments[0][j], moments[1][j]
        check(found, j, Judge(x, labels[j], weights[j], factors[j], own))


def test_one_label_with_many_weights_and_many_labels_with_one_weight():
    x, labels, weights = batch_of_problems()
    found = logistic_path(x, labels[0], weights, ratios=[0.2])
    for j in range(6):
        check(found, j, Judge(x, labels[0], weights[j]))
    found = logistic_path(x, labels, weights[5], ratios=[0.2])
    for j in range(6):
        check(found, j, Judge(x, labels[j], weights[5]))


def test_problems_on_other_rows_with_opposite_labels_do_not_cancel():
    x, y = make_rows(n=600, p=8)
    here = np.arange(600) < 300
    labels = np.stack([y, y, 1 - y])
    weights = np.stack([here, ~here, ~here]).astype(float)
    found = logistic_path(x, labels, weights, ratios=RATIOS)
    for j in range(3):
        check(found, j, Judge(x, labels[j], weights[j]))


def test_an_easy_problem_does_not_wait_for_a_hopeless_one(quickly):
    x, y = make_rows(n=400, p=15, noise=0)
    labels = np.stack([y, np.random.default_rng(0).permutation(y)])
    found = logistic_path(x, labels, lambdas=[1e-1, 1e-2, 1e-12])
    check(found, 0, Judge(x, y), certified=False)
    check(found, 1, Judge(x, labels[1]))
    assert found.certified[0, :2].all()


def test_one_lambda_equals_the_same_one_in_a_grid():
    x, y = make_rows(n=1200, p=20)
    judge, grid = Judge(x, y), logistic_path(x, y, ratios=np.geomspace(1, 1e-3, 15))
    check(grid, 0, judge)
    for i in (4, 14):
        alone = logistic_path(x, y, lambdas=grid.lambdas[0, [i]])
        check(alone, 0, judge)
        difference = judge.objective(alone.coefficient[0, 0], alone.intercept[0, 0], grid.lambdas[0, i])
        difference -= judge.objective(grid.coefficient[0, i], grid.intercept[0, i], grid.lambdas[0, i])
        assert abs(difference) <= max(alone.gap[0, 0], grid.gap[0, i]) * judge.null + 1e-12


def test_lambdas_may_come_in_any_order_and_twice():
    x, y = make_rows()
    found = logistic_path(x, y, lambdas=[0.01, 0.1, 0.01, 1e-3])
    np.testing.assert_array_equal(found.lambdas, [[0.1, 0.01, 0.01, 1e-3]])
    check(found, 0, Judge(x, y))


@settings(max_examples=10, **ALIKE)
@given(spread=st.floats(0, 4), seed=st.integers(0, 1000))
def test_penalties_by_channel(spread, seed):
    x, y = make_rows(n=300, p=10, seed=seed)
    factors = 10 ** np.random.default_rng(seed).uniform(-spread, spread, 10)
    judge = Judge(x, y, None, factors)
    found = logistic_path(x, y, ratios=RATIOS, factors=factors)
    np.testing.assert_allclose(found.lambda_max, judge.lambda_max(), rtol=1e-9)
    check(found, 0, judge)


# -- where the solver cuts its work


@pytest.mark.parametrize("scouts", [1, 4, 10**6])
def test_scouting_on_a_sample_changes_nothing(monkeypatch, scouts):
    x, labels, weights = batch_of_problems()
    plain = logistic_path(x, labels, weights, ratios=RATIOS)
    monkeypatch.setattr(lasso, "SCOUTS", scouts)
    found = logistic_path(x, labels, weights, ratios=RATIOS)
    for j in range(6):
        judge = Judge(x, labels[j], weights[j])
        check(found, j, judge)
        same_within_certificates(judge, only(plain, j), only(found, j))


@pytest.mark.parametrize(("chunk", "blocks"), [(1, 32), (12 * 64, 2), (12 * 200, 3), (2**22, 1)])
def test_chunks_and_blocks_change_nothing(monkeypatch, chunk, blocks):
    x, labels, weights = batch_of_problems()
    plain = logistic_path(x, labels, weights, ratios=RATIOS)
    monkeypatch.setattr(rows, "CHUNK", chunk)
    monkeypatch.setattr(rows, "BLOCKS", blocks)
    found = logistic_path(x, labels, weights, ratios=RATIOS)
    for j in range(6):
        judge = Judge(x, labels[j], weights[j])
        check(found, j, judge)
        same_within_certificates(judge, only(plain, j), only(found, j))


def test_solving_points_in_lots_changes_nothing(monkeypatch):
    x, labels, weights = batch_of_problems()
    plain, told = logistic_path(x, labels, weights, ratios=RATIOS), []
    monkeypatch.setattr(lasso, "STATE", 1)
    found = logistic_path(x, labels, weights, ratios=RATIOS, progress=lambda *seen: told.append(seen))
    assert told[-1] == (30, 30, found.gap.max())
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    for j in range(6):
        same_within_certificates(Judge(x, labels[j], weights[j]), only(plain, j), only(found, j))


def test_the_number_of_threads_changes_no_byte(monkeypatch):
    x, labels, weights = batch_of_problems()
    monkeypatch.setattr(rows, "CHUNK", 12 * 64)
    found = [bytes_of(logistic_path(x, labels, weights, ratios=RATIOS, threads=threads)) for threads in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


def counts():
    return torch.get_num_threads(), sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, ValueError])
def test_thread_counts_are_left_as_they_were(threads, end):
    x, y = make_rows()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found, seen = counts(), []

        def told(*_):
            seen.append(torch.get_num_threads())
            if end is not None:
                raise end

        if end is None:
            logistic_path(x, y, ratios=RATIOS, threads=threads, progress=told)
        else:
            with pytest.raises(end):
                logistic_path(x, y, ratios=RATIOS, threads=threads, progress=told)
        assert set(seen) == {1}
        assert counts() == found
    finally:
        torch.set_num_threads(before)


def test_ctrl_c_in_the_middle_of_a_pass_leaves_thread_counts(monkeypatch):
    x, y = make_rows(n=3000)
    before = counts()
    chunks, seen = rows.RowSource.chunks, []

    def interrupted(self, *arguments):
        for piece in chunks(self, *arguments):
            seen.append(1)
            if len(seen) == 40:
                signal.raise_signal(signal.SIGINT)
            yield piece

    monkeypatch.setattr(rows, "CHUNK", 64 * 15)
    monkeypatch.setattr(rows.RowSource, "chunks", interrupted)
    for threads in (1, 3):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            logistic_path(x, y, ratios=RATIOS, threads=threads)
        assert counts() == before


# -- degenerate inputs


def test_constant_zero_and_duplicate_channels():
    x, y = make_rows()
    x[:, 3], x[:, 4], x[:, 6], x[:, 7] = 0.1, x[:, 5], 0.0, -3 * x[:, 5] + 1
    for dtype in (np.float32, np.float64):
        found = logistic_path(x.astype(dtype), y, ratios=(*RATIOS, 1e-5))
        assert not found.coefficient[:, :, [3, 6]].any()
        check(found, 0, Judge(x.astype(dtype), y))


@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4])
def test_nearly_duplicate_channels(apart, quickly):
    for seed in range(4):
        x, y = make_rows(n=2000, p=20, seed=seed)
        x = standard(x)
        x[:, 10:] = x[:, :10] + apart * x[:, 10:]
        check(logistic_path(x, y, ratios=(0.5, 0.1, 0.01, 1e-3)), 0, Judge(x, y))


def test_rows_that_do_not_vary_at_all():
    x, y = np.full((50, 3), 7.0), np.arange(50) % 2
    found = logistic_path(x, y, lambdas=[0.1, 1e-6])
    assert not found.coefficient.any()
    assert found.certified.all()
    assert found.lambda_max[0] < 1e-12


@settings(max_examples=15, **ALIKE)
@given(seed=st.integers(0, 10**6), n=st.integers(10, 80), extra=st.integers(0, 80), noise=st.sampled_from([0.0, 2.0]))
def test_no_more_rows_than_channels(seed, n, extra, noise):
    x, y = make_rows(n, n + extra, seed, noise)
    check(logistic_path(x, y, ratios=RATIOS), 0, Judge(x, y))


@pytest.mark.parametrize("small", [1e-6, 1e-9, 1e-12, 1e-50, 1e-300])
def test_separable_rows_at_tiny_lambda_are_never_called_optimal_when_they_are_not(small, quickly):
    for seed in range(3):
        x, y = make_rows(n=300, p=10, noise=0, seed=seed)
        found = logistic_path(x, y, lambdas=[1e-2, small])
        check(found, 0, Judge(x, y), certified=False)
        assert found.certified[0, 0]


@pytest.mark.parametrize("weighted", [False, True])
def test_one_row_of_a_class(weighted):
    x, y = make_rows(n=5000, p=5)
    y[:] = 0
    y[4321] = 1
    weights = np.ones(5000) if weighted else None
    check(logistic_path(x, y, weights, ratios=RATIOS), 0, Judge(x, y, weights))


def test_many_concepts_of_one_row_each():
    x, _ = make_rows(n=3000, p=5)
    labels = np.zeros((100, 3000), dtype=int)
    labels[np.arange(100), np.random.default_rng(0).choice(3000, 100, replace=False)] = 1
    found = logistic_path(x, labels, ratios=[0.5, 0.1])
    for j in range(0, 100, 10):
        check(found, j, Judge(x, labels[j]))


def test_weights_of_very_different_sizes():
    x, y = make_rows()
    weights = 10.0 ** np.random.default_rng(0).uniform(-30, 5, 400)
    check(logistic_path(x, y, weights, ratios=RATIOS), 0, Judge(x, y, weights))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [1e2, 3e2, 1e3, 1e4])
def test_channels_far_from_zero(offset, dtype, quickly):
    for seed in range(2):
        x, y = make_rows(seed=seed)
        x = (standard(x) + offset).astype(dtype)
        found = logistic_path(x, y, ratios=RATIOS)
        check(found, 0, Judge(x, y))


@pytest.mark.parametrize("size", [1e-100, 1e-40, 1e-30, 1e-10, 1e10, 1e30, 1e37, 1e100])
def test_channels_of_extreme_scale_are_solved_or_refused(size, quickly):
    x, y = make_rows(p=8)
    x[:, 2] *= size
    try:
        found = logistic_path(x, y, ratios=RATIOS)
    except ValueError as error:
        assert "channel" in str(error)  # noqa: PT017
        assert not 1e-31 < size < 1e31  # float32 holds these
    else:
        check(found, 0, Judge(x, y))


def test_outliers_do_not_stop_the_solver(quickly):
    for value in (1e3, 65504.0, 1e6):
        x, y = make_rows(p=8, dtype=np.float32)
        x[0] = value
        found = logistic_path(x, y, ratios=RATIOS)
        check(found, 0, Judge(x, y))


def test_float16_to_its_limits():
    x, y = make_rows(n=2000, p=20)
    x = x - x.mean(0)
    for most in (65504.0, 1.2e-6):  # the squares overflow; subnormal numbers
        half = (x / np.abs(x).max(0) * most).astype(np.float16)
        assert np.isfinite(half).all()
        check(logistic_path(half, y, ratios=RATIOS), 0, Judge(half, y))


# -- what is refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("own", [False, True])
def test_numbers_that_are_none_are_refused_where_they_count(value, own):
    x, y = make_rows(p=6)
    x[17, 3] = value
    moments = (np.zeros((1, 6)), np.ones((1, 6))) if own else None
    with pytest.raises(ValueError, match="NaN or inf"):
        logistic_path(x, y, ratios=RATIOS, moments=moments)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_refused(label):
    x, y = make_rows()
    with pytest.raises(ValueError, match="both classes"):
        logistic_path(x, np.full_like(y, label), ratios=RATIOS)
    with pytest.raises(ValueError, match=r"problem 1 .* both classes"):
        logistic_path(x, np.stack([y, y]), np.stack([np.ones(400), y == label]), ratios=RATIOS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "lambdas or ratios"),
        ({"lambdas": [0.1], "ratios": [0.1]}, "lambdas or ratios"),
        ({"lambdas": []}, "lambdas"),
        ({"lambdas": [0.1, -1]}, "lambdas"),
        ({"lambdas": [0.1, np.nan]}, "lambdas"),
        ({"lambdas": [0.0]}, "lambdas"),
        ({"lambdas": np.ones((3, 2))}, "lambdas"),
        ({"lambdas": [0.1], "factors": np.ones(3)}, "factors"),
        ({"lambdas": [0.1], "factors": np.zeros(15)}, "factors"),
        ({"lambdas": [0.1], "moments": (np.zeros((1, 15)), np.zeros((1, 15)))}, "scale"),
        ({"lambdas": [0.1], "moments": (np.zeros((3, 15)), np.ones((3, 15)))}, "moments"),
        ({"lambdas": [0.1], "moments": (np.zeros(15), np.ones(15))}, "moments"),
        ({"lambdas": [0.1], "weights": -np.ones(400)}, "weights"),
        ({"lambdas": [0.1], "weights": np.full(400, np.nan)}, "weights"),
        ({"lambdas": [0.1], "weights": np.ones(7)}, "weights"),
        ({"lambdas": [0.1], "weights": np.ones((2, 2, 400))}, "weights"),
        ({"lambdas": [0.1], "y": np.zeros(7)}, "y has shape"),
        ({"lambdas": [0.1], "y": np.full(400, 0.5)}, "y must hold"),
        ({"lambdas": [0.1], "x": np.zeros((0, 15)), "y": np.zeros(0)}, "row"),
        ({"lambdas": [0.1], "x": np.zeros((400, 0))}, "channel"),
        ({"lambdas": [0.1], "x": np.zeros(400)}, "two-dimensional"),
        ({"lambdas": [0.1], "threads": 0}, "threads"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, words):
    x, y = make_rows()
    with pytest.raises(ValueError, match=words):
        logistic_path(**{"x": x, "y": y, **given})
