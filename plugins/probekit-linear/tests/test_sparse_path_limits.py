"""The L1 path where rows, weights or grids are extreme: optimal, marked as not certified, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import ALIKE, RATIOS, Judge, check, make_rows, standard
from probekit_linear.solve.lasso import logistic_path

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
