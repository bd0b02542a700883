"""Knockoffs: their moments, the copies that tell least, the threshold, and false discoveries on simulated rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from probekit.evaluate.knockoffs import (
    LEAST_SHRINKAGE,
    antisymmetric,
    draw_knockoffs,
    gaussian_knockoffs,
    knockoff_selection,
    knockoff_threshold,
    least_reconstructable,
    shrunk_correlation,
)


def covariance(p, seed, scale=True):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(p, p)) + rng.normal(size=(p, 1))
    sigma = a @ a.T / p + 0.1 * np.eye(p)
    d = np.exp(rng.normal(size=p)) if scale else np.ones(p)
    return sigma * d[:, None] * d


def exchanged(joint, j, p):
    """A joint covariance of channels and copies with channel j and its copy exchanged."""
    order = np.arange(2 * p)
    order[[j, p + j]] = [p + j, j]
    return joint[np.ix_(order, order)]


@pytest.mark.parametrize("seed", range(3))
def test_exchanging_a_channel_with_its_copy_changes_no_moment(seed):
    p = 7
    sigma = covariance(p, seed)
    law = gaussian_knockoffs(sigma)
    across = sigma @ law.keep
    copies = law.keep.T @ sigma @ law.keep + law.root @ law.root.T
    joint = np.block([[sigma, across], [across.T, copies]])
    for j in range(p):
        np.testing.assert_allclose(exchanged(joint, j, p), joint, atol=1e-8 * np.abs(sigma).max())
    assert np.linalg.eigvalsh(joint)[0] > 0
    np.testing.assert_allclose(np.diag(across), np.diag(sigma) - law.s)


def loss(sigma, s):
    if (s <= 0).any() or np.linalg.eigvalsh(2 * sigma - np.diag(s))[0] <= 0:
        return np.inf
    return np.trace(np.linalg.inv(2 * sigma - np.diag(s))) + (1 / s).sum()


@pytest.mark.parametrize("seed", range(3))
def test_copies_tell_least_of_their_channels(seed):
    sigma = covariance(5, seed, scale=False)
    sigma /= np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
    s = least_reconstructable(sigma)
    start = np.full(5, np.linalg.eigvalsh(sigma)[0])
    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20000, "maxfev": 20000}
    best = minimize(lambda v: loss(sigma, v), start, method="Nelder-Mead", options=options)
    assert loss(sigma, s) <= best.fun * (1 + 1e-5)
    np.testing.assert_allclose(s, best.x, rtol=0.01)
    joint = np.block([[sigma, sigma - np.diag(s)], [sigma - np.diag(s), sigma]])
    assert np.trace(np.linalg.inv(joint)) == pytest.approx(loss(sigma, s))


def test_independent_channels_get_independent_copies():
    np.testing.assert_allclose(least_reconstructable(np.diag([1.0, 4.0, 0.25])), [1.0, 4.0, 0.25])


def test_s_follows_units_and_order():
    sigma, scale = covariance(6, 4, scale=False), np.array([1, 10, 0.1, 3, 1, 2.0])
    s = least_reconstructable(sigma, 1e-10)
    np.testing.assert_allclose(least_reconstructable(sigma * np.outer(scale, scale), 1e-10), s * scale**2, rtol=1e-6)
    turned = np.array([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(least_reconstructable(sigma[np.ix_(turned, turned)], 1e-10), s[turned], rtol=1e-6)


def test_a_covariance_that_is_not_positive_definite_is_refused():
    with pytest.raises(ValueError, match="positive definite"):
        least_reconstructable(np.array([[1.0, 1.1], [1.1, 1.0]]))


def grouped(rng, groups, rows, p, share):
    """Channels with a part that groups share; both parts correlated."""
    root = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))))
    of = np.repeat(np.arange(groups), rows)
    shared = rng.normal(size=(groups, p)) @ root.T
    own = rng.normal(size=(groups * rows, p)) @ root.T
    return np.sqrt(share) * shared[of] + np.sqrt(1 - share) * own, of


def test_drawn_copies_have_the_moments_of_their_channels_between_and_within_groups():
    p, groups, rows = 4, 4000, 5
    x, of = grouped(np.random.default_rng(0), groups, rows, p, 0.4)
    x = 3 + x * [1, 2, 0.5, 1]
    copies = draw_knockoffs(x, of, 1)
    both = np.hstack([x, copies]) / np.tile([1, 2, 0.5, 1], 2)
    means = both.reshape(groups, rows, 2 * p).mean(axis=1)
    np.testing.assert_allclose(means[:, p:].mean(axis=0), means[:, :p].mean(axis=0), atol=1e-9 + 0.05)
    within = (both.reshape(groups, rows, 2 * p) - means[:, None]).reshape(-1, 2 * p)
    for joint in (np.cov(means.T), within.T @ within / (groups * (rows - 1))):
        for j in range(p):
            np.testing.assert_allclose(exchanged(joint, j, p), joint, atol=0.04)
        # a copy is no channel again
        assert (np.diag(joint[:p, p:]) < 0.8 * np.diag(joint[:p, :p])).all()


def test_copies_follow_the_seed_and_the_order_of_groups_does_not_matter():
    x, of = grouped(np.random.default_rng(1), 20, 4, 5, 0.5)
    np.testing.assert_array_equal(draw_knockoffs(x, of, 3), draw_knockoffs(x, of, 3))
    assert (draw_knockoffs(x, of, 3) != draw_knockoffs(x, of, 4)).all()
    np.testing.assert_allclose(draw_knockoffs(x, of * 7 + 2, 3), draw_knockoffs(x, of, 3))


def test_one_row_a_group_is_one_level():
    x, _ = grouped(np.random.default_rng(1), 60, 1, 5, 0.0)
    np.testing.assert_allclose(draw_knockoffs(x, np.arange(60), 3), draw_knockoffs(x, None, 3))


@pytest.mark.parametrize("by_group", [True, False])
def test_a_channel_that_does_not_vary_is_its_own_copy(by_group):
    x, of = grouped(np.random.default_rng(2), 30, 4, 5, 0.3)
    x[:, 1] = 7.0
    x[:, 3] = of  # varies between groups only
    copies = draw_knockoffs(x, of if by_group else None, 0)
    np.testing.assert_array_equal(copies[:, 1], x[:, 1])
    assert np.isfinite(copies).all()
    assert np.ptp(copies[:4, 3]) < 1e-9 or not by_group


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="two groups"):
        draw_knockoffs(np.random.default_rng(0).normal(size=(8, 3)), np.zeros(8, int), 0)


def standard(z):
    z = z - z.mean(axis=0)
    return z / np.sqrt((z**2).sum(axis=0) / (len(z) - 1))


def test_shrinkage_lowers_the_error_of_correlations():
    truth = 0.5 ** np.abs(np.subtract.outer(np.arange(25), np.arange(25)))
    root, rng = np.linalg.cholesky(truth), np.random.default_rng(0)
    errors = []
    for _ in range(20):
        z = standard(rng.normal(size=(30, 25)) @ root.T)
        shrunk, intensity = shrunk_correlation(z, None, 29)
        errors.append([np.linalg.norm(z.T @ z / 29 - truth), np.linalg.norm(shrunk - truth)])
        assert 0.1 < intensity < 0.7
    assert np.mean(errors, axis=0) @ [1, -1.15] > 0


def test_shrinkage_at_its_ends():
    rng = np.random.default_rng(1)
    assert shrunk_correlation(standard(rng.normal(size=(50, 30))), None, 49)[1] > 0.85
    common = standard(rng.normal(size=(5000, 1)) + 0.3 * rng.normal(size=(5000, 6)))
    assert shrunk_correlation(common, None, 4999)[1] == LEAST_SHRINKAGE
    assert shrunk_correlation(common[:, :1], None, 4999)[1] == 1.0


def test_rows_that_repeat_one_another_count_once_for_shrinkage():
    rng = np.random.default_rng(2)
    z = standard(rng.normal(size=(40, 10)) + 0.5 * rng.normal(size=(40, 1)))
    often = np.repeat(z, 25, axis=0)
    once = shrunk_correlation(z, None, 39)
    by_unit = shrunk_correlation(often, np.repeat(np.arange(40), 25), 25 * 39)
    assert by_unit[1] == pytest.approx(once[1], rel=0.02)
    assert shrunk_correlation(often, None, 25 * 39)[1] < once[1] / 10


def test_threshold_by_hand():
    w = np.array([5.0, 4.0, 3.0, 2.0, 1.5, -1.0, 0.5, 0.0])
    # at 1.5: (1 + 0) / 5; at 1: (1 + 1) / 5; at .5: (1 + 1) / 6
    assert knockoff_threshold(w, 0.2) == 1.5
    assert knockoff_threshold(w, 0.34) == 0.5
    assert knockoff_threshold(w, 0.1) == math.inf
    np.testing.assert_array_equal(knockoff_selection(w, 0.2), w >= 1.5)
    assert not knockoff_selection(w, 0.1).any()
    assert not knockoff_selection(np.zeros(4), 0.5).any()
    with pytest.raises(ValueError, match="between 0 and 1"):
        knockoff_threshold(w, 1.0)


@given(st.lists(st.integers(-6, 9), min_size=1, max_size=40), st.sampled_from([0.1, 0.25, 0.5]))
def test_threshold_is_the_least_that_keeps_the_rate(values, q):
    w = np.array(values, dtype=float)
    fits = [t for t in sorted({abs(v) for v in values} - {0}) if 1 + (w <= -t).sum() <= q * max((w >= t).sum(), 0)]
    assert knockoff_threshold(w, q) == (fits[0] if fits else math.inf)


def test_exchanging_turns_the_sign():
    b = np.array([3.0, -2.0, 0.5, 1.0, 4.0, 0.5])
    np.testing.assert_array_equal(antisymmetric(b), [2.0, -2.0, 0.0])
    np.testing.assert_array_equal(antisymmetric(b[[3, 1, 2, 0, 4, 5]]), [-2.0, -2.0, 0.0])
    with pytest.raises(ValueError, match="copies"):
        antisymmetric(b[:5])


def discoveries(seed, groups, rows, share, by_group, p=40, true=12, q=0.2):
    """Share of false among the selected, and of the true that are selected, of a concept whose prevalence differs
    between groups beyond what the channels tell."""
    rng = np.random.default_rng(seed)
    x, of = grouped(rng, groups, rows, p, share)
    beta = np.zeros(p)
    beta[rng.choice(p, true, replace=False)] = rng.choice([-0.9, 0.9], true)
    margin = x @ beta + (rng.normal(size=groups)[of] if rows > 1 else 0)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-margin))
    columns = np.hstack([x, draw_knockoffs(x, of if by_group else None, seed)])
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    w = antisymmetric(LogisticRegression(C=0.05).fit(columns, y).coef_[0])
    found = knockoff_selection(w, q)
    return (found & (beta == 0)).sum() / max(found.sum(), 1), (found & (beta != 0)).sum() / true


def rate(runs, **setting):
    """Mean and standard error of the share of false discoveries, and the share of true ones found."""
    false, power = np.array([discoveries(seed, **setting) for seed in range(runs)]).T
    return false.mean(), false.std() / math.sqrt(runs), power.mean()


def test_false_discoveries_of_independent_rows_keep_the_rate():
    mean, error, power = rate(60, groups=500, rows=1, share=0.0, by_group=False)
    assert mean <= 0.2 + 2.6 * error
    assert power > 0.6


def test_false_discoveries_of_grouped_rows_keep_the_rate_with_two_levels():
    mean, error, power = rate(60, groups=40, rows=15, share=0.4, by_group=True)
    assert mean <= 0.2 + 2.6 * error
    assert power > 0.5
    # Why there are two: copies drawn row by row lack what a group shares.
    mean, error, _ = rate(60, groups=40, rows=15, share=0.4, by_group=False)
    assert mean > 0.2 + 2.6 * error
