"""The gap of any fit, near the optimum or far from it, bounds how far it is; and a pass knows its sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probekit_linear.solve.batch import make_batch, signed_weights
from probekit_linear.solve.certificate import l1_gaps, l2_gaps
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.sweep import sweep
from probekit_linear.solve.workers import Workers

WORK = Workers(None)


def batch_for(seed, n=80, p=5, m=2):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) * rng.uniform(0.2, 5, p) + rng.uniform(-3, 3, p)
    y = (x[:, 0] > x[:, 0].mean() + rng.standard_normal((m, n))).astype(int)
    y[:, :2] = 0, 1
    weights = rng.uniform(0.1, 3, (m, n)) * (rng.random((m, n)) < 0.8)
    weights[:, :2] = 1
    weights[0, weights[1] == 0] = 1  # no row without weight in both: the batch would leave it out
    return x, make_batch(RowSource(x), signed_weights(y, weights, n), None, WORK)


def dense(x, batch, j):
    """z, weights that sum to 1, and signs of a problem."""
    used = batch.signed[j] != 0
    s = np.abs(batch.signed[j][used])
    return ((x - batch.mean[j]) / batch.scale[j])[used], s / s.sum(), np.sign(batch.signed[j][used])


def dual_of(s, y, z, margin, lam=None, used=None):
    """The value of the dual point made of the margins, and v, in plain float64."""
    a = np.exp(-np.logaddexp(0, margin))
    masses = (s * a)[y > 0].sum(), (s * a)[y < 0].sum()
    a = a * np.where(y > 0, min(masses) / masses[0], min(masses) / masses[1])
    v = (s * a * y) @ z
    if lam is not None:
        a = a / max(1.0, (np.abs(v) / lam).max())
    inside = (a > 0) & (a < 1)
    part = a[inside]
    return s[inside] @ -(part * np.log(part) + (1 - part) * np.log1p(-part)), v if used is None else v * used


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.0, 1e-3, 1.0, 30.0]), exact=st.booleans())
def test_a_pass_finds_the_sums(seed, size, exact):
    x, batch = batch_for(seed)
    rng = np.random.default_rng(seed)
    problem = np.array([1, 0, 1])
    w, b = size * rng.standard_normal((3, 5)), size * rng.standard_normal(3)
    found = sweep(batch, problem, w, b, WORK, exact=exact, groups=np.array([0, 1, 0]))
    near = {"rtol": 1e-9, "atol": 1e-12} if exact else {"rtol": 1e-4, "atol": 1e-5}
    bends = np.zeros((3, len(x)))
    for i, j in enumerate(problem):
        z, s, y = dense(x, batch, j)
        margin = y * (z @ w[i] + b[i])
        a = np.exp(-np.logaddexp(0, margin))
        np.testing.assert_allclose(found.loss[i], s @ np.logaddexp(0, -margin), **near)
        np.testing.assert_allclose(found.gradient[i], -(s * a * y) @ z, **near)
        np.testing.assert_allclose(found.slope[i], -(s * a) @ y, **near)
        np.testing.assert_allclose(found.curvature[i], (s * a) @ (1 - a), **near)
        bends[i, batch.signed[j] != 0] = s * a * (1 - a)
        if exact:
            up = y > 0
            np.testing.assert_allclose(found.positive[i], -(s * a)[up] @ z[up], **near)
            np.testing.assert_allclose(found.mass[:, i], [(s * a)[up].sum(), (s * a)[~up].sum()], **near)
            np.testing.assert_allclose(
                found.turn[:, i], [(s * a * margin)[up].sum(), (s * a * margin)[~up].sum()], **near
            )
    np.testing.assert_allclose(found.rows, [(bends[0] + bends[2]) / 2, bends[1]], rtol=1e-3, atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.0, 1e-4, 0.1, 1.0, 10.0, 300.0]),
    power=st.floats(-8, 1),
    spread=st.floats(0, 2),
)
def test_the_gap_is_never_below_that_of_its_own_dual_point(seed, size, power, spread):
    """That point, evaluated plainly, is feasible: weak duality makes its gap a bound, whatever the optimum is."""
    x, batch = batch_for(seed)
    rng = np.random.default_rng(seed)
    problem = np.array([0, 1, 1])
    w, b = size * rng.standard_normal((3, 5)) * (rng.random((3, 5)) < 0.7), size * rng.standard_normal(3)
    b[0] = batch.null_intercept[0]
    penalty = 10**power * 10 ** rng.uniform(-spread, spread, (3, 5))
    ridge, used = 10 ** (power + rng.uniform(-1, 1, 3)), rng.random((3, 5)) < 0.6
    found = sweep(batch, problem, w, b, WORK)
    smooth = sweep(batch, problem, w * used, b, WORK)
    null = batch.null[problem]
    ones = l1_gaps(found, w, penalty, null)
    twos = l2_gaps(smooth, w * used, ridge, null, used)
    for i, j in enumerate(problem):
        z, s, y = dense(x, batch, j)
        margin = y * (z @ w[i] + b[i])
        dual, v = dual_of(s, y, z, margin, lam=penalty[i])
        primal = s @ np.logaddexp(0, -margin) + penalty[i] @ np.abs(w[i])
        assert ones[i] >= (primal - dual) / null[i] - 1e-12 * (1 + primal)
        margin = y * (z @ (w[i] * used[i]) + b[i])
        dual, v = dual_of(s, y, z, margin, used=used[i])
        primal = s @ np.logaddexp(0, -margin) + ridge[i] / 2 * (w[i] * used[i]) @ w[i]
        assert twos[i] >= (primal - dual + v @ v / (2 * ridge[i])) / null[i] - 1e-12 * (1 + primal + v @ v / ridge[i])


def test_the_gap_vanishes_at_the_optimum_and_only_there():
    _, batch = batch_for(0)
    zero, problem = np.zeros((2, 5)), np.arange(2)
    found = sweep(batch, problem, zero, batch.null_intercept, WORK)
    largest = np.abs(found.gradient).max(axis=1)[:, None] * np.ones(5)
    assert np.abs(l1_gaps(found, zero, largest, batch.null)).max() < 1e-14
    assert (l1_gaps(found, zero, 0.9 * largest, batch.null) > 1e-4).all()
    aside = sweep(batch, problem, zero, batch.null_intercept + 0.1, WORK)
    assert (l1_gaps(aside, zero, largest, batch.null) > 1e-4).all()


def test_one_class_far_off_does_not_hide_what_the_other_costs():
    """The sums of each class are its own: a difference of totals would lose the small one."""
    x, batch = batch_for(1154)
    _, s, y = dense(x, batch, 1)
    b = np.array([-60.0])  # positives at margins near -60, negatives near 60
    found = sweep(batch, np.array([1]), np.zeros((1, 5)), b, WORK)
    for c, sign in enumerate((1, -1)):
        mine, margin = y == sign, sign * b[0]
        np.testing.assert_allclose(found.mass[c], s[mine].sum() * np.exp(-np.logaddexp(0, margin)), rtol=1e-9)
        np.testing.assert_allclose(found.turn[c], found.mass[c] * margin, rtol=1e-9)
        np.testing.assert_allclose(found.spread[c], s[mine].sum() * np.exp(-margin), rtol=1e-9)


@pytest.mark.parametrize("size", [50.0, 800.0, 1e5])
def test_a_hopeless_fit_has_a_finite_gap_that_says_so(size):
    _, batch = batch_for(1)
    w, problem = np.full((2, 5), size), np.arange(2)
    found = sweep(batch, problem, w, np.zeros(2), WORK)
    gap = l1_gaps(found, w, np.full((2, 5), 1e-9), batch.null)
    assert np.isfinite(gap).all()
    assert (gap > 1).all()
