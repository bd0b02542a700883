"""The solvers: optimality, not remembered numbers; scikit-learn as reference; a gap that never flatters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probekit_linear.certificate import class_correlations, duality_gap, duals, loss, null_objective
from probekit_linear.design import Design
from probekit_linear.lasso import LassoSolver
from probekit_linear.quadratic import minimise, newton_step, steepest
from probekit_linear.ridge import RidgeSolver
from sklearn.linear_model import LogisticRegression

from probekit.testing.probes import ArrayRows, make_problem


def design_of(n=400, p=15, seed=0, noise=1.0, training=0.8):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 1))
    x = (rng.standard_normal((n, p)) + common) * rng.uniform(0.1, 10, p) + rng.uniform(-5, 5, p)
    score = x @ (rng.standard_normal(p) * (rng.random(p) < 0.4) / x.std(axis=0))
    y = (score + noise * rng.standard_normal(n) > score.mean() + 0.7).astype(np.int8)
    y[:2] = 0, 1
    keep = rng.random(n) < training
    keep[:2] = True
    return Design.of(ArrayRows(x), make_problem(x, y, keep))


def standardised(design):
    return (design.x.astype(np.float64) - design.mean) / design.scale


def objective(design, w, b, lam=0.0, ridge=0.0):
    f = standardised(design) @ w + b
    fitted = design.weights @ np.logaddexp(0, -design.sign * f) / design.total
    return fitted + lam * np.abs(w).sum() + ridge / 2 * w @ w


def gradient(design, w, b):
    z = standardised(design)
    residual = -design.weights * design.sign / (1 + np.exp(design.sign * (z @ w + b))) / design.total
    return residual @ z, residual.sum()


def test_chunked_sums_equal_the_plain_ones(monkeypatch):
    design = design_of(n=700)
    monkeypatch.setattr("probekit_linear.design.CHUNK", 64)
    z, rng = standardised(design), np.random.default_rng(0)
    w, b, residual = rng.standard_normal((2, 15)), rng.standard_normal(2), rng.standard_normal((2, len(z)))
    some = np.array([3, 1, 14])
    np.testing.assert_allclose(design.scores(w, b), w @ z.T + b[:, None], atol=1e-10)
    np.testing.assert_allclose(design.scores(w[:, :4], b, slice(0, 4)), w[:, :4] @ z.T[:4] + b[:, None], atol=1e-10)
    np.testing.assert_allclose(design.correlate(residual, some), residual @ z[:, some], atol=1e-10)
    curvature = rng.random(len(z))
    centred = z - curvature @ z / curvature.sum()
    np.testing.assert_allclose(design.metric(curvature), centred.T * curvature @ centred, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("seed", range(4))
def test_the_path_meets_the_optimality_conditions(seed):
    design = design_of(seed=seed)
    solver = LassoSolver(design, 1e-12)
    for share in (0.9, 0.3, 0.1, 0.01):
        lam = share * solver.lambda_max
        found = solver.solve(lam)
        of_w, of_b = gradient(design, found.w, found.b)
        assert abs(of_b) < 1e-9
        assert np.abs(of_w).max() <= lam * (1 + 1e-4)
        active = found.w != 0
        np.testing.assert_allclose(of_w[active], -lam * np.sign(found.w[active]), rtol=1e-4)
    assert active.any()


def test_lambda_max_is_where_the_first_channel_enters():
    design = design_of()
    solver = LassoSolver(design, 1e-12)
    assert not solver.solve(solver.lambda_max * 1.0001).w.any()
    assert solver.solve(solver.lambda_max * 0.98).w.any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("C", [0.01, 0.1, 1.0])
def test_the_l1_objective_is_not_above_scikit_learns(seed, C):
    design = design_of(seed=seed)
    lam = 1 / (C * design.total)
    found = LassoSolver(design, 1e-8).solve(lam)
    reference = LogisticRegression(C=C, l1_ratio=1.0, solver="saga", tol=1e-8, max_iter=20000, random_state=0)
    reference.fit(standardised(design), design.sign, sample_weight=design.weights)
    theirs = objective(design, reference.coef_[0], float(reference.intercept_[0]), lam=lam)
    ours = objective(design, found.w, found.b, lam=lam)
    assert ours <= theirs + 1e-8
    np.testing.assert_allclose(found.w, reference.coef_[0], atol=2e-3)


@pytest.mark.parametrize("ridge", [1.0, 0.01, 1e-4])
def test_the_l2_fit_is_scikit_learns_and_its_gradient_vanishes(ridge):
    design = design_of()
    (found,) = RidgeSolver(design, (ridge,), 1e-14, np.zeros(15)).solve(15)
    of_w, of_b = gradient(design, found.w, found.b)
    assert np.abs(of_w + ridge * found.w).max() < 1e-7
    assert abs(of_b) < 1e-9
    reference = LogisticRegression(C=1 / (ridge * design.total), solver="newton-cholesky", tol=1e-10, max_iter=200)
    reference.fit(standardised(design), design.sign, sample_weight=design.weights)
    np.testing.assert_allclose(found.w, reference.coef_[0], atol=1e-4)
    assert found.b == pytest.approx(float(reference.intercept_[0]), abs=1e-4)


def test_leading_channels_and_many_ridges_at_once_equal_each_alone():
    design, ridges = design_of(), (0.5, 1e-3)
    together = RidgeSolver(design, ridges, 1e-13, np.zeros(15))
    for k in (15, 9, 2, 1):
        for ridge, found in zip(ridges, together.solve(k), strict=True):
            cut = Design(design.x[:, :k], design.mean[:k], design.scale[:k], design.sign, design.weights)
            (alone,) = RidgeSolver(cut, (ridge,), 1e-13, np.ones(k)).solve(k)
            np.testing.assert_allclose(found.w, alone.w, atol=1e-5)
            assert found.gap == pytest.approx(duality_gap(cut, found.w, found.b, ridge=ridge), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 50), share=st.floats(0.02, 1.2), size=st.floats(0, 3), ridge=st.floats(1e-3, 10))
def test_the_gap_bounds_the_distance_to_the_minimum(seed, share, size, ridge):
    design = design_of(n=80, p=6, seed=seed)
    solver = LassoSolver(design, 1e-11)
    lam = share * solver.lambda_max
    best = solver.solve(lam)
    (smooth,) = RidgeSolver(design, (ridge,), 1e-11, np.zeros(6)).solve(6)
    rng = np.random.default_rng(seed)
    w, b = best.w + size * rng.standard_normal(6), best.b + size * rng.standard_normal()
    unit = null_objective(design)
    above = objective(design, w, b, lam=lam) - objective(design, best.w, best.b, lam=lam)
    assert duality_gap(design, w, b, lam=lam) * unit >= above - 1e-9
    above = objective(design, w, b, ridge=ridge) - objective(design, smooth.w, smooth.b, ridge=ridge)
    assert duality_gap(design, w, b, ridge=ridge) * unit >= above - 1e-9


def test_the_reported_gap_is_that_of_what_is_returned():
    design = design_of(n=2000, p=40, seed=3)
    solver = LassoSolver(design, 1e-6)
    for share in (0.8, 0.2, 0.02, 1e-3):
        lam = share * solver.lambda_max
        found = solver.solve(lam)
        assert found.gap <= 1e-6
        assert duality_gap(design, found.w, found.b, lam=lam) == pytest.approx(found.gap, abs=1e-12)


def test_balanced_weights_make_the_null_objective_log_two():
    assert null_objective(design_of()) == pytest.approx(np.log(2))


def test_class_correlations_differ_by_the_gradient():
    design = design_of()
    w, b = np.linspace(-1, 1, 15), 0.3
    scores = design.scores(w[None], np.array([b]))
    positive, negative = class_correlations(design, duals(design, scores))
    np.testing.assert_allclose((negative - positive)[0], gradient(design, w, b)[0], atol=1e-12)
    assert float(loss(design, scores)[0]) == pytest.approx(objective(design, w, b))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), rank=st.integers(1, 12), lam=st.floats(0.01, 3))
def test_the_quadratic_is_solved_whatever_its_rank(seed, k, rank, lam):
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((rank, k))
    H, c = half.T @ half + 1e-6 * np.eye(k), half.T @ rng.standard_normal(rank)
    w = minimise(H, c, lam, rng.standard_normal(k) * (rng.random(k) < 0.5), 1e-7)
    assert np.abs(steepest(H @ w - c, w, lam)).max() <= 1e-6


def test_a_metric_that_rounding_made_indefinite_still_gives_a_step():
    H = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-7]])
    step = newton_step(H, np.array([1.0, 1.0]))
    assert np.isfinite(step).all()
    assert step.sum() > 0


def test_separable_rows_are_never_called_converged_when_they_are_not():
    design = design_of(n=60, p=30, noise=0.0)
    solver = LassoSolver(design, 1e-12, iterations=2)
    found = solver.solve(1e-9 * solver.lambda_max)
    assert np.isfinite(found.w).all()
    assert found.gap > 1e-12
    assert duality_gap(design, found.w, found.b, lam=1e-9 * solver.lambda_max) == pytest.approx(found.gap, rel=1e-6)


def test_more_channels_than_rows():
    design = design_of(n=40, p=100)
    solver = LassoSolver(design, 1e-6)
    assert all(solver.solve(share * solver.lambda_max).gap <= 1e-6 for share in (0.5, 0.1, 0.01))
    (found,) = RidgeSolver(design, (0.01,), 1e-6, np.zeros(100)).solve(100)
    assert found.gap <= 1e-6


def test_a_problem_of_one_class_is_refused():
    x, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) < 5
    problem = make_problem(x, y, np.ones(20, dtype=bool))
    problem.weights[:5] = 0
    with pytest.raises(ValueError, match="both classes"):
        Design.of(ArrayRows(x), problem)
