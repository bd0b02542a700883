"""Greedy selection: each choice by brute force, each refit by another solver."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from probekit_linear.forward_selection import ForwardSelection
from probekit_linear.parameters import ForwardSelectionParameters
from probekit_linear.solve.forward import forward_path
from scipy.optimize import minimize
from scipy.special import expit

from probekit.testing.probes import ArrayRows, make_problem


def greedy_rows(n=500, p=12, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) + rng.standard_normal((n, 1))) * rng.uniform(0.1, 10, p) - 2
    z = (x - x.mean(0)) / x.std(0)
    score = 2 * z[:, 2] - 1.5 * z[:, 5] + 1.2 * z[:, 9]
    return x, (score + noise * rng.logistic(size=n) > 0.7).astype(np.int8)


class Plain:
    """One class-balanced problem on a standardised float64 copy, with a ridge."""

    def __init__(self, x, y, ridge):
        x = np.asarray(x, dtype=np.float64)
        self.z, self.sign, self.ridge = (x - x.mean(0)) / x.std(0), np.where(y == 1, 1.0, -1.0), ridge
        self.s = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())

    def objective(self, channels, v):
        f = self.z[:, channels] @ v[:-1] + v[-1]
        residual = -self.s * self.sign * expit(-self.sign * f)
        value = self.s @ np.logaddexp(0, -self.sign * f) + self.ridge / 2 * v[:-1] @ v[:-1]
        return value, np.append(residual @ self.z[:, channels] + self.ridge * v[:-1], residual.sum())

    def best(self, channels):
        """(least objective, where) on some channels, by a long run of another solver."""
        channels = list(channels)
        options = {"maxiter": 2000, "gtol": 1e-10}
        found = minimize(lambda v: self.objective(channels, v), np.zeros(len(channels) + 1), jac=True, options=options)
        return found.fun, found.x

    def gains(self, channels, v):
        """Of every channel: the second-order gain of a joint step, from the dense Hessian with the intercept."""
        f = self.z[:, channels] @ v[:-1] + v[-1]
        a = expit(-self.sign * f)
        gradient = -(self.s * self.sign * a) @ self.z
        out = np.full(self.z.shape[1], -np.inf)
        for j in set(range(len(out))) - set(channels):
            design = np.column_stack([self.z[:, [*channels, j]], np.ones(len(f))])
            hessian = (design.T * (self.s * a * (1 - a))) @ design
            hessian[np.arange(len(v)), np.arange(len(v))] += self.ridge
            right = np.zeros(len(hessian))
            right[len(channels)] = gradient[j]
            out[j] = right @ np.linalg.solve(hessian, right) / 2
        return out


@pytest.mark.parametrize("seed", range(4))
def test_every_channel_that_enters_is_the_one_of_the_largest_gain(seed):
    x, y = greedy_rows(seed=seed)
    found = forward_path(x, y, k=8)
    plain = Plain(x, y, 1e-4)
    for size in range(8):
        channels = found.order[0, :size].tolist()
        v = plain.best(channels)[1]
        gains = plain.gains(channels, v)
        assert found.order[0, size] == gains.argmax()
        assert found.gain[0, size] == pytest.approx(gains.max() / np.log(2), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_first_channel_is_the_best_one_alone(seed):
    x, y = greedy_rows(seed=seed)
    plain = Plain(x, y, 1e-4)
    alone = [plain.best([j])[0] for j in range(12)]
    assert forward_path(x, y, k=1).order[0].tolist() == [int(np.argmin(alone))]


def test_on_orthogonal_channels_three_are_the_best_three():
    corners = np.array(list(product([-1.0, 1.0], repeat=6)))
    x = np.tile(corners, (12, 1))
    rng = np.random.default_rng(0)
    y = (x @ [0.2, 1.5, 0.0, -1.0, 0.1, 0.7] + rng.logistic(size=len(x)) > 0).astype(np.int8)
    plain = Plain(x, y, 1e-4)
    best = min(combinations(range(6), 3), key=lambda channels: plain.best(channels)[0])
    found = forward_path(x, y, k=3)
    assert set(found.order[0].tolist()) == set(best) == {1, 3, 5}


def test_a_near_twin_of_what_is_in_does_not_enter_before_what_is_new():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2000, 3))
    x[:, 1] = x[:, 0] + 0.05 * x[:, 1]
    y = (2 * x[:, 0] + 0.5 * x[:, 2] + rng.logistic(size=2000) > 0).astype(np.int8)
    assert forward_path(x, y, k=3).order[0, 1] == 2


@pytest.mark.parametrize("ridge", [1e-4, 0.1])
def test_each_refit_is_the_best_on_its_channels_and_its_gap_bounds_the_rest(ridge):
    x, y = greedy_rows()
    found = forward_path(x, y, k=6, ridge=ridge)
    plain, last = Plain(x, y, ridge), np.log(2)
    assert found.certified.all()
    for size in range(1, 7):
        channels = found.order[0, :size].tolist()
        v = np.append(found.coefficient[0, size - 1, :size], found.intercept[0, size - 1])
        value, gradient = plain.objective(channels, v)
        least, where = plain.best(channels)
        assert found.gap[0, size - 1] * np.log(2) >= value - least - 1e-12
        assert np.abs(gradient).max() < 1e-5
        np.testing.assert_allclose(v, where, atol=1e-4)
        penalty = ridge / 2 * v[:-1] @ v[:-1]
        assert found.loss[0, size - 1] == pytest.approx(value - penalty, abs=1e-12)
        assert value < last
        last = value
        assert not found.coefficient[0, size - 1, size:].any()


def test_planted_channels_enter_first_even_from_a_sample(monkeypatch):
    x, y = greedy_rows(n=3000)
    assert set(forward_path(x, y, k=3).order[0].tolist()) == {2, 5, 9}
    monkeypatch.setattr("probekit_linear.solve.forward.SAMPLE", 600)
    found = forward_path(x, y, k=5)
    assert set(found.order[0, :3].tolist()) == {2, 5, 9}
    assert found.certified.all()  # the refits use all rows
    plain = Plain(x, y, 1e-4)
    assert plain.best(found.order[0].tolist())[0] == pytest.approx(found.loss[0, -1], abs=1e-3)


def test_a_batch_equals_the_problems_one_by_one_and_threads_change_nothing():
    x, y = greedy_rows()
    other = (x[:, 7] + np.random.default_rng(1).standard_normal(len(x)) > 0).astype(np.int8)
    weights = np.ones((3, len(x)))
    weights[2, ::3] = 0
    labels = np.stack([y, other, y])
    together = forward_path(x, labels, weights, k=5)
    twice = forward_path(x, labels, weights, k=5, threads=2)
    assert together.coefficient.tobytes() == twice.coefficient.tobytes()
    for j in range(3):
        alone = forward_path(x, labels[j], weights[j], k=5)
        assert together.order[j].tolist() == alone.order[0].tolist()
        np.testing.assert_allclose(together.coefficient[j], alone.coefficient[0], atol=1e-6)
    assert together.reads <= 1 + 2 * 5


def test_problems_of_other_moments_keep_their_own_gains():
    x, y = greedy_rows()
    scale = x.std(0) * np.array([np.ones(12), np.linspace(0.2, 5, 12)])
    mean = x.mean(0) + np.array([np.zeros(12), np.ones(12)])
    both = forward_path(x, np.stack([y, y]), k=4, moments=(mean, scale))
    for j in range(2):
        alone = forward_path(x, y, k=4, moments=(mean[j : j + 1], scale[j : j + 1]))
        assert both.order[j].tolist() == alone.order[0].tolist()
        np.testing.assert_allclose(both.gain[j], alone.gain[0], rtol=1e-4)


def test_a_problem_knows_nothing_of_rows_that_only_another_has(monkeypatch):
    monkeypatch.setattr("probekit_linear.solve.forward.SAMPLE", 200)
    x, y = greedy_rows()
    weights = np.ones((2, len(x)))
    weights[0, 100:200] = 0
    moments = x.mean(0) * np.ones((2, 1)), x.std(0) * np.ones((2, 1))
    clean = forward_path(x, np.stack([y, y]), weights, k=5, moments=moments)
    x[100:200] = np.random.default_rng(1).standard_normal((100, 12)) * 50
    poisoned = forward_path(x, np.stack([y, y]), weights, k=5, moments=moments)
    assert poisoned.order[0].tolist() == clean.order[0].tolist()
    assert poisoned.coefficient[0].tobytes() == clean.coefficient[0].tobytes()
    assert poisoned.gap[0].tobytes() == clean.gap[0].tobytes()
    assert poisoned.coefficient[1].tobytes() != clean.coefficient[1].tobytes()


def test_permuted_and_rescaled_channels_enter_in_the_same_order():
    x, y = greedy_rows()
    order = np.random.default_rng(4).permutation(12)
    moved = x[:, order] * 2.0 ** (np.arange(12) - 6) + np.arange(12)
    found, other = forward_path(x, y, k=6), forward_path(moved, y, k=6)
    assert order[other.order[0]].tolist() == found.order[0].tolist()
    np.testing.assert_allclose(other.coefficient, found.coefficient, atol=1e-6)


def test_rows_may_lie_in_shards_tensors_or_half_precision():
    x, y = greedy_rows()
    half = x.astype(np.float16)
    whole = forward_path(half.astype(np.float64), y, k=4)
    for source in (half, torch.from_numpy(half), [half[:100], half[100:]]):
        found = forward_path(source, y, k=4)
        assert found.order.tolist() == whole.order.tolist()
        np.testing.assert_allclose(found.coefficient, whole.coefficient, atol=1e-8)


def test_separable_rows_constant_channels_and_twins_have_an_answer():
    x = greedy_rows(n=200)[0][:, :6]
    x[:, 0], x[:, 3] = 7.0, x[:, 2]
    y = (x[:, 2] > np.median(x[:, 2])).astype(np.int8)
    found = forward_path(x, y, k=6, ridge=1e-6)
    assert sorted(found.order[0].tolist()) == list(range(6))
    assert found.order[0, 0] == 2  # the lower of the twins
    assert np.isfinite(found.coefficient).all()
    assert found.certified.all()
    assert not found.coefficient[0, -1][found.order[0] == 0].any()


def test_more_channels_than_rows():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 80)), np.arange(30) % 3 == 0
    found = forward_path(x, y, k=40)
    assert found.certified.all()
    assert len(set(found.order[0].tolist())) == 40


@pytest.mark.parametrize(
    ("wrong", "says"), [({"k": 0}, "k is 0"), ({"k": 13}, "1 to 12"), ({"k": 2, "ridge": 0.0}, "ridge")]
)
def test_arguments_that_cannot_be_meant_are_refused(wrong, says):
    x, y = greedy_rows(n=60)
    with pytest.raises(ValueError, match=says):
        forward_path(x, y, **wrong)


def test_rows_that_are_not_numbers_are_refused():
    x, y = greedy_rows(n=60)
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        forward_path(x, y, k=2)


def test_k_above_the_width_is_dropped_and_said():
    probe = ForwardSelection(ForwardSelectionParameters(k=20), device="cpu")
    assert (probe.plan(12).rungs, probe.plan(12).dropped) == (12, ((("k",), "k = 20"),))
    assert probe.plan(20).dropped == ()


def test_a_final_fit_has_the_median_k_and_ranks_what_enters_later():
    x, y = greedy_rows()
    problem = make_problem(x, y, np.ones(len(y), dtype=bool))
    probe = ForwardSelection(ForwardSelectionParameters(k=6), device="cpu")
    (path,) = probe.fit(ArrayRows(x), [problem], None)
    assert [fit.rung for fit in path.fits] == [1, 2, 3, 4, 5, 6]
    assert path.fits[-1].details["entered"][:3] == path.fits[2].details["entered"]
    finals = {"chosen": [path.fits[1], path.fits[3], path.fits[2]]}
    (final,) = probe.fit(ArrayRows(x), [replace(problem, finals=finals)], None)
    (fit,) = final.fits
    assert (fit.rung, fit.choices["k"]) == (2, 3)
    assert fit.details["entered"] == path.fits[-1].details["entered"]
    assert set(fit.support.tolist()) == set(fit.details["entered"][:3])
