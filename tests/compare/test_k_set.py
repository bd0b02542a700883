"""The set of k@tau: it holds the crossing, narrows with the groups, and says where it is open."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.compare.k_set import KSet, disjoint, k_set

WIDTHS = np.array([1, 2, 4, 8, 16, 32, 64])
CURVE = np.array([0.10, 0.20, 0.35, 0.45, 0.49, 0.498, 0.50])


def deleted(spread: float, n_groups: int = 30, seed: int = 0) -> np.ndarray:
    """A curve without each group: noise shared by all widths, and some of each width's own; none at the full probe."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((len(WIDTHS), n_groups))
    own[-1] = 0
    return CURVE[:, None] + spread * (own + 3 * rng.standard_normal(n_groups)) / n_groups


def found(spread: float, tau: float = 0.9, n_groups: int = 30) -> KSet:
    values = deleted(spread, n_groups)
    return k_set(tau, WIDTHS, CURVE, CURVE[-1], values, values[-1], np.full(n_groups, 6))


def test_a_sure_curve_leaves_one_width() -> None:
    assert found(1e-6, tau=0.95) == KSet(16, 16)


def test_sets_widen_with_the_noise_and_hold_the_estimate() -> None:
    sizes = []
    for spread in (0.05, 0.3, 1.0):
        at = found(spread, tau=0.95)
        assert at.lo <= 16 <= at.hi
        sizes.append(np.log2(at.hi / at.lo))
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


def test_open_ends_are_said() -> None:
    at = found(30.0)
    assert at.lo == 1
    assert not at.open_below  # nothing is fewer than one channel
    assert at.hi == 64
    assert at.open_above
    values = deleted(30.0)[2:]
    at = k_set(0.9, WIDTHS[2:], CURVE[2:], CURVE[-1], values, values[-1], np.full(30, 6))
    assert at.lo == 4
    assert at.open_below


def test_too_few_groups_have_no_set() -> None:
    at = found(0.1, n_groups=9)
    assert (at.lo, at.hi) == (None, None)
    assert "too few groups" in at.reason


def test_a_wider_level_gives_a_wider_set() -> None:
    values = deleted(0.3)
    inputs = (0.95, WIDTHS, CURVE, CURVE[-1], values, values[-1], np.full(30, 6))
    at, wider = k_set(*inputs), k_set(*inputs, level=0.999)
    assert wider.lo <= at.lo
    assert at.hi <= wider.hi


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (KSet(4, 8), KSet(16, 32), True),
        (KSet(16, 32), KSet(4, 8), True),
        (KSet(4, 16), KSet(16, 32), False),
        (KSet(4, 8), KSet(16, 32, open_below=True), False),
        (KSet(4, 8, open_above=True), KSet(16, 32), False),
        (KSet(reason="none"), KSet(16, 32), False),
    ],
)
def test_only_disjoint_sets_are_apart(one: KSet, other: KSet, apart: bool) -> None:
    assert disjoint(one, other) is apart
