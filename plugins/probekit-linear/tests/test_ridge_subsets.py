"""L2 refits on nested subsets: stationary, certified, the same whatever they are solved beside."""

from __future__ import annotations

import numpy as np
import pytest
from probekit_linear.solve import ridge
from probekit_linear.solve.ridge import bands, ridge_subsets
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

K, RIDGES = [1, 2, 5, 20], [1.0, 1e-2, 1e-4]


def make_rows(n=1500, p=20, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) + rng.standard_normal((n, 1))) * rng.uniform(0.1, 9, p) + rng.uniform(-5, 5, p)
    score = ((x - x.mean(0)) / x.std(0)) @ rng.standard_normal(p)
    y = (score + 3 * rng.standard_normal(n) > np.quantile(score, 0.8)).astype(int)
    return x, y, rng.permutation(p)


def loss_and_gradient(x, y, w, b):
    z = (x - x.mean(0)) / x.std(0)
    n, sign = len(y), np.where(y == 1, 1.0, -1.0)
    s = np.where(y == 1, n / (2 * (y == 1).sum()), n / (2 * (y == 0).sum()))
    margin = sign * (z @ w + b)
    pull = s * sign * expit(-margin) / n
    return float(s @ np.logaddexp(0, -margin) / n), -(z.T @ pull), -float(pull.sum())


def whole(found, i, r, order):
    w = np.zeros(len(order))
    w[order[: found.k[i]]] = found.coefficient[i][0, r]
    return w, float(found.intercept[0, i, r])


@pytest.mark.parametrize("start", [None, 3.0])
def test_every_fit_is_stationary_on_its_channels(start):
    x, y, order = make_rows()
    begin = None if start is None else np.full((1, 20), start)
    found = ridge_subsets(x, y, order=order, k=K, ridges=RIDGES, start=begin, target=1e-12)
    assert found.certified.all()
    for i, k in enumerate(found.k):
        for r, penalty in enumerate(found.ridges):
            w, b = whole(found, i, r, order)
            _, of_w, of_b = loss_and_gradient(x, y, w, b)
            assert abs(of_b) < 1e-5
            assert np.abs(of_w + penalty * w)[order[:k]].max() < 1e-5
            assert not w[order[k:]].any()


def test_the_gap_bounds_what_scikit_learn_gains():
    x, y, order = make_rows(seed=1)
    found = ridge_subsets(x, y, order=order, k=K, ridges=RIDGES, target=1e-3)
    z = (x - x.mean(0)) / x.std(0)
    for i, k in enumerate(found.k):
        for r, penalty in enumerate(found.ridges):
            reference = LogisticRegression(C=1 / (penalty * len(y)), class_weight="balanced", tol=1e-10, max_iter=10000)
            reference.fit(z[:, order[:k]], y)
            other = np.zeros(20)
            other[order[:k]] = reference.coef_[0]
            w, b = whole(found, i, r, order)
            ours = loss_and_gradient(x, y, w, b)[0] + penalty / 2 * w @ w
            best = loss_and_gradient(x, y, other, reference.intercept_[0])[0] + penalty / 2 * other @ other
            assert ours - best <= found.gap[0, i, r] * np.log(2) + 1e-9
            assert found.gap[0, i, r] <= 1e-3


def test_a_batch_is_its_problems_one_by_one():
    x, y, order = make_rows(seed=2)
    fold = np.arange(len(y)) % 3
    weights = np.array([np.where(y == 1, 1 / (y[fold != f]).sum(), 1 / (1 - y[fold != f]).sum()) for f in range(3)])
    weights *= fold != np.arange(3)[:, None]
    orders = np.array([order, order[::-1], np.roll(order, 5)])
    together = ridge_subsets(x, np.tile(y, (3, 1)), weights, order=orders, k=K, ridges=RIDGES, target=1e-12)
    for f in range(3):
        alone = ridge_subsets(x[fold != f], y[fold != f], order=orders[f], k=K, ridges=RIDGES, target=1e-12)
        for one, other in zip(together.coefficient, alone.coefficient, strict=True):
            np.testing.assert_allclose(one[f], other[0], atol=1e-4)


def test_scouting_on_a_sample_ends_at_the_same_fits(monkeypatch):
    x, y, order = make_rows(seed=3)
    plain = ridge_subsets(x, y, order=order, k=K, ridges=RIDGES, target=1e-12)
    monkeypatch.setattr(ridge, "SCOUTS", 5)
    scouted = ridge_subsets(x, y, order=order, k=K, ridges=RIDGES, target=1e-12)
    for one, other in zip(plain.coefficient, scouted.coefficient, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_bands_hold_every_width_once():
    for widths in ([1], [7, 8, 100], [1, 2, 3, 60, 64, 200, 250, 256]):
        found = bands(np.array(widths), 256)
        assert sorted(place for band in found for place in band) == list(range(len(widths)))
        assert [max(band) for band in found] == sorted((max(band) for band in found), reverse=True)
