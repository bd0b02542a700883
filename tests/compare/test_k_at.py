"""k@tau on a refit curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.compare import k_at

K = [1, 2, 5, 10, 50]
CURVE = [0.10, 0.30, 0.285, 0.29, 0.31]


def test_the_smallest_width_that_reaches_the_share():
    assert k_at(0.9, K, CURVE, full=0.30).k == 2
    assert k_at(0.3, K, CURVE, full=0.30).k == 1
    assert k_at(1.0, K, CURVE, full=0.305).k == 50
    assert k_at(0.9, K, CURVE, full=0.30).reason is None


def test_exactly_the_share_reaches_it():
    assert k_at(0.5, [1, 2], [0.25, 0.5], full=0.5).k == 1


def test_it_is_undefined_with_a_reason():
    never = k_at(0.95, K, CURVE, full=0.9)
    assert (never.k, never.reason) == (None, "no width reaches 95% of the full probe")
    assert k_at(0.95, K, CURVE, full=float("nan")).reason == "the full probe has no score"
    assert k_at(0.9, [], [], full=0.3).k is None


def test_a_width_without_a_score_reaches_nothing():
    assert k_at(0.9, [1, 2], [float("nan"), 0.5], full=0.5).k == 2


@given(st.integers(0, 10_000), st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_larger_share_needs_no_fewer_channels(seed, a, b):
    rng = np.random.default_rng(seed)
    curve = rng.random(8)
    low, high = sorted((a, b))
    one, other = (k_at(tau, range(1, 9), curve, full=0.8) for tau in (low, high))
    if other.k is not None:
        assert one.k is not None
        assert one.k <= other.k


def test_shares_and_curves_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="share"):
        k_at(95, K, CURVE, full=0.3)
    with pytest.raises(ValueError, match="ascend"):
        k_at(0.9, [2, 1], [0.1, 0.2], full=0.3)
