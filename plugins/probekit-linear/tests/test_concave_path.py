"""The concave path: stationary, never above where it began, less biased, and a gap that is the convex problem's own."""

from __future__ import annotations

import numpy as np
import pytest
from probekit_linear.mcp_path import McpPath
from probekit_linear.parameters import McpPathParameters
from probekit_linear.solve.lasso import logistic_path
from probekit_linear.solve.mcp import FLOOR, concave_path, penalties, slopes
from scipy.optimize import minimize
from scipy.special import entr, expit

from probekit.testing.probes import ArrayRows, make_problem

RATIOS = (0.7, 0.3, 0.1, 0.03, 0.01)
PLANTED = (1, 4, 8)


def concave_rows(n=600, p=14, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) + 0.5 * rng.standard_normal((n, 1))) * rng.uniform(0.1, 10, p) + 3
    z = (x - x.mean(0)) / x.std(0)
    score = 2 * z[:, 1] - 1.5 * z[:, 4] + z[:, 8]
    return x, (score + noise * rng.logistic(size=n) > 0.7).astype(np.int8)


class Dense:
    """One class-balanced problem on a standardised float64 copy."""

    def __init__(self, x, y):
        self.z, self.sign = (x - x.mean(0)) / x.std(0), np.where(y == 1, 1.0, -1.0)
        self.s = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())

    def loss(self, w, b):
        return self.s @ np.logaddexp(0, -self.sign * (self.z @ w + b))

    def gradient(self, w, b):
        residual = -self.s * self.sign * expit(-self.sign * (self.z @ w + b))
        return residual @ self.z, residual.sum()

    def gap(self, w, b, penalty):
        """Of a weighted L1 problem, its dual point evaluated exactly."""
        a = expit(-self.sign * (self.z @ w + b))
        mass = np.array([(self.s * a)[self.sign == side].sum() for side in (1, -1)])
        a = a * np.where(self.sign > 0, mass.min() / mass[0], mass.min() / mass[1])
        v = (self.s * a * self.sign) @ self.z
        a = a / max(1.0, (np.abs(v) / penalty).max())
        dual = self.s @ (entr(a) + entr(1 - a))
        return (self.loss(w, b) + penalty @ np.abs(w) - dual) / np.log(2)

    def least(self, penalty, w, b):
        """The weighted L1 problem's objective after a long run of another solver, from a given point."""
        p = len(w)

        def split(v):
            of_w, of_b = self.gradient(v[:p] - v[p:-1], v[-1])
            value = self.loss(v[:p] - v[p:-1], v[-1]) + penalty @ (v[:p] + v[p:-1])
            return value, np.concatenate([of_w + penalty, penalty - of_w, [of_b]])

        start = np.concatenate([np.maximum(w, 0), np.maximum(-w, 0), [b]])
        options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 30}
        bounds = [(0, None)] * (2 * p) + [(None, None)]
        return minimize(split, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).fun


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gamma", [1.5, 3.0, 20.0])
def test_where_it_settled_the_penalised_objective_is_stationary(seed, gamma):
    x, y = concave_rows(seed=seed)
    found = concave_path(x, y, ratios=RATIOS, gamma=gamma, steps=60, target=1e-11)
    assert (found.residual <= 1e-3).all()
    dense = Dense(x, y)
    for lam, w, b in zip(found.lambdas[0], found.coefficient[0], found.intercept[0], strict=True):
        of_w, of_b = dense.gradient(w, b)
        slope = lam * slopes(w, np.array(lam), gamma)
        used = w != 0
        assert abs(of_b) < 1e-6
        assert np.abs(of_w).max() <= lam * (1 + 1e-4)
        np.testing.assert_allclose(of_w[used], -slope[used] * np.sign(w[used]), atol=2e-3 * lam)
    assert used.any()


def test_slopes_are_those_of_the_penalty_and_end_at_the_floor():
    w, lam, step = np.linspace(-4, 4, 801)[:, None], np.full(801, 0.7), 1e-6
    numeric = (penalties(w + step, lam, 2.5) - penalties(w - step, lam, 2.5)) / (2 * step)
    smooth = np.abs(w[:, 0]) > 1e-3
    np.testing.assert_allclose(np.abs(numeric[smooth]), 0.7 * slopes(w, lam, 2.5)[smooth, 0], atol=1e-6)
    assert slopes(np.array([[0.0, 100.0]]), np.array([0.7]), 2.5).tolist() == [[1.0, FLOOR]]


def test_more_linearisations_never_raise_the_objective():
    x, y = concave_rows(seed=2, p=30)
    start = logistic_path(x, y, ratios=RATIOS)
    dense = Dense(x, y)

    def objective(fits, i):
        w, b = fits.coefficient[0, i], fits.intercept[0, i]
        return dense.loss(w, b) + penalties(w, fits.lambdas[0, i], 3.0)

    last = np.array([objective(start, i) for i in range(len(RATIOS))])
    below = np.zeros(len(RATIOS), dtype=bool)
    for steps in (1, 2, 4, 8):
        found = concave_path(x, y, ratios=RATIOS, steps=steps)
        assert (found.steps <= steps).all()
        now = np.array([objective(found, i) for i in range(len(RATIOS))])
        assert (now <= last + 2e-6).all()
        below |= now < last - 1e-4
        last = now
    assert below.any()


@pytest.mark.parametrize("target", [1e-2, 1e-6])
@pytest.mark.parametrize("seed", range(2))
def test_the_gap_bounds_the_distance_to_the_linearisations_minimum(seed, target):
    x, y = concave_rows(n=200, p=10, seed=seed)
    found = concave_path(x, y, ratios=RATIOS, target=target, steps=3)
    dense = Dense(x, y)
    for i, lam in enumerate(found.lambdas[0]):
        penalty, w, b = lam * found.factors[0, i], found.coefficient[0, i], found.intercept[0, i]
        assert found.certified[0, i]
        ours = dense.loss(w, b) + penalty @ np.abs(w)
        least = dense.least(penalty, w, b)
        assert found.gap[0, i] * np.log(2) >= ours - least - 1e-10
        assert found.gap[0, i] >= dense.gap(w, b, penalty) - 1e-12


def test_the_residual_is_that_of_the_factors_at_the_fit():
    x, y = concave_rows(p=40, seed=1)
    found = concave_path(x, y, ratios=RATIOS, steps=1)
    at_fit = slopes(found.coefficient, found.lambdas, 3.0)
    np.testing.assert_allclose(found.residual, np.abs(at_fit - found.factors).max(axis=-1))
    assert found.residual.max() > 0.1  # one step is seldom enough


def test_on_the_same_support_it_is_less_biased_than_l1():
    x, y = concave_rows(n=4000)
    lasso, found = (solve(x, y, ratios=(0.25, 0.2, 0.15)) for solve in (logistic_path, concave_path))
    planted = list(PLANTED)
    alone = concave_path(x[:, planted], y, lambdas=[1e-6], target=1e-9)
    free = alone.coefficient[0, 0]  # what the planted channels weigh unpenalised
    same = [set(np.flatnonzero(w)) == set(PLANTED) for w in lasso.coefficient[0]]
    assert any(same)
    for i in np.flatnonzero(same):
        assert set(np.flatnonzero(found.coefficient[0, i])) == set(PLANTED)
        off_l1 = np.abs(lasso.coefficient[0, i][planted] - free).max()
        off = np.abs(found.coefficient[0, i][planted] - free).max()
        assert off < 0.2 * off_l1


def test_a_huge_gamma_is_the_l1_path_and_lambda_max_gives_zero():
    x, y = concave_rows()
    found = concave_path(x, y, ratios=(1.0, *RATIOS), gamma=1e9, target=1e-10)
    lasso = logistic_path(x, y, ratios=(1.0, *RATIOS), target=1e-10)
    np.testing.assert_allclose(found.coefficient, lasso.coefficient, atol=1e-4)
    assert not concave_path(x, y, ratios=(1.0,)).coefficient.any()


def test_a_batch_equals_the_problems_one_by_one_and_threads_change_nothing():
    x, y = concave_rows()
    other = (x[:, 6] + np.random.default_rng(1).standard_normal(len(x)) > 3).astype(np.int8)
    weights = np.ones((3, len(x)))
    weights[2, ::3] = 0
    labels = np.stack([y, other, y])
    together = concave_path(x, labels, weights, ratios=RATIOS, steps=30, target=1e-10)
    twice = concave_path(x, labels, weights, ratios=RATIOS, steps=30, target=1e-10, threads=2)
    assert together.coefficient.tobytes() == twice.coefficient.tobytes()
    assert together.gap.tobytes() == twice.gap.tobytes()
    for j in range(3):
        alone = concave_path(x, labels[j], weights[j], ratios=RATIOS, steps=30, target=1e-10)
        np.testing.assert_allclose(together.coefficient[j], alone.coefficient[0], atol=1e-3)


def test_separable_rows_are_never_certified_falsely():
    x, y = concave_rows(n=60, p=30, noise=0.0)
    found = concave_path(x, y, ratios=(0.1, 1e-3, 1e-6))
    dense = Dense(x, y)
    assert np.isfinite(found.coefficient).all()
    for i, lam in enumerate(found.lambdas[0]):
        exact = dense.gap(found.coefficient[0, i], found.intercept[0, i], lam * found.factors[0, i])
        assert found.gap[0, i] >= exact - 1e-12
        assert found.certified[0, i] == (found.gap[0, i] <= 1e-6)


def test_many_points_in_lots_are_those_of_one(monkeypatch):
    x, y = concave_rows()
    whole, told = concave_path(x, y, ratios=RATIOS, target=1e-10), []
    monkeypatch.setattr("probekit_linear.solve.mcp.STATE", 4 * len(x) * 2)
    lots = concave_path(x, y, ratios=RATIOS, target=1e-10, progress=lambda *now: told.append(now))
    np.testing.assert_allclose(lots.coefficient, whole.coefficient, atol=1e-4)
    assert [done for done, _, _ in told] == [2, 4, 5]
    assert {total for _, total, _ in told} == {5}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"gamma": 1.0}, "gamma"),
        ({"steps": 0}, "steps"),
        ({"lambdas": [0.1]}, "exactly one"),
        ({"ratios": [0.1, -1.0]}, "positive"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(wrong, says):
    x, y = concave_rows(n=60)
    with pytest.raises(ValueError, match=says):
        concave_path(x, y, **{"ratios": RATIOS, **wrong})


def test_the_family_says_what_its_certificate_is_of():
    x, y = concave_rows()
    problem = make_problem(x, y, np.ones(len(y), dtype=bool))
    parameters = McpPathParameters.model_validate({"lambda_ratio": {"points": 5, "min": 0.01}, "steps": 2})
    (path,) = McpPath(parameters, device="cpu").fit(ArrayRows(x), [problem], None)
    assert all(fit.certified and fit.details["lla_residual"] >= 0 for fit in path.fits)
    assert max(fit.details["linearisations"] for fit in path.fits) <= 2
    assert [fit.C * fit.lambda_ * len(y) for fit in path.fits] == pytest.approx([1] * 5)
