"""The inner problem, and the metric it is made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probekit_linear.solve.batch import make_batch, signed_weights
from probekit_linear.solve.metric import NOTHING, draw, measure
from probekit_linear.solve.quadratic import Quadratic, minimise, steepest
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import Workers


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6), k=st.integers(1, 40), rank=st.integers(1, 60), power=st.floats(-4, 1),
    warm=st.booleans(), pairs=st.integers(0, 3),
)  # fmt: skip
def test_the_quadratic_is_solved_whatever_its_rank(seed, k, rank, power, warm, pairs):
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((rank, k)) + rng.standard_normal((rank, 1))
    gram = (half.T @ half / rank + 1e-4 * np.eye(k)).astype(np.float32)
    steps = rng.standard_normal((pairs, k))
    taught = [(s, gram.astype(float) @ s * rng.uniform(0.5, 2)) for s in steps]
    H = Quadratic(gram, taught, None)
    w = rng.standard_normal(k) * (rng.random(k) < 0.5)
    start = rng.standard_normal(k) * (rng.random(k) < 0.5) if warm else w
    gradient, penalty = rng.standard_normal(k), 10**power * rng.uniform(0.5, 2, k)
    u = minimise(H, gradient, penalty, w, start, 1e-3)
    d = u - w
    here = gradient + H.times(d)
    assert np.abs(steepest(here, u, penalty)).max() <= 2e-3 + 1e-5 * np.abs(d).sum()
    # never above where it began
    assert gradient @ d + d @ H.times(d) / 2 + penalty @ (np.abs(u) - np.abs(w)) <= 1e-5 * (1 + np.abs(d).sum())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 30), pairs=st.integers(0, 3))
def test_solving_with_an_old_factor_is_solving(seed, k, pairs):
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((4 * k, k))
    gram = (half.T @ half / k).astype(np.float32)
    steps = rng.standard_normal((pairs, k))
    H = Quadratic(gram, [(s, gram.astype(float) @ s * rng.uniform(0.5, 2)) for s in steps], None)
    full = np.array([H.times(e) for e in np.eye(k)])
    for _ in range(4):
        active = np.flatnonzero(rng.random(k) < 0.6)
        if len(active) == 0:
            continue
        right = rng.standard_normal(len(active))
        found = H.solve(active, right)
        np.testing.assert_allclose(full[np.ix_(active, active)] @ found, right, atol=1e-3 * (1 + np.abs(found).max()))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 400), most=st.integers(1, 300), spread=st.floats(0, 8))
def test_rows_are_drawn_by_their_size(seed, n, most, spread):
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-spread, 0, n) * (rng.random(n) < 0.9)
    rows, chance = draw(size, most)
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= most + 1
    assert (size[rows] > 0).all()
    assert ((chance > 0) & (chance <= 1)).all()
    counts = size > NOTHING * size.mean()
    if counts.sum() <= most:
        assert np.array_equal(rows, np.flatnonzero(counts))
        assert (chance == 1).all()
        return
    assert len(rows) >= most - 1
    # sampling by size keeps the total, to within one draw and what counts for nothing
    off = (size[rows] / chance).max() * (1 + 1e-6) + NOTHING * size.sum()
    assert abs((size[rows] / chance).sum() - size.sum()) <= off


@pytest.mark.parametrize("most", [10**6, 3000])
def test_a_metric_is_the_hessian(most):
    rng = np.random.default_rng(0)
    n, p = 6000, 12
    x = rng.standard_normal((n, p)) * rng.uniform(0.1, 5, p) + rng.uniform(-20, 20, p)
    y, work = (rng.random(n) < 0.3).astype(int), Workers(None)
    batch = make_batch(RowSource(x), signed_weights(y, None, n), None, work)
    curvature = rng.random(n).astype(np.float32) / n
    channels = np.array([1, 2, 5, 11])
    metric = measure(batch, 0, curvature, channels, most, work)
    centre = curvature @ x[:, channels] / curvature.sum()
    z = (x[:, channels] - centre) / x[:, channels].std(0)
    expected = (z.T * curvature) @ z / curvature.sum()
    near = 1e-5 if most > n else 0.1
    np.testing.assert_allclose(metric.gram, expected, atol=near * np.abs(expected).max())
    np.testing.assert_allclose((metric.centre - centre) / x[:, channels].std(0), 0, atol=near)
