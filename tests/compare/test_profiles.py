"""What one channel does, against planted truth and brute force."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from probekit.compare.profiles import STEP, WINDOW, extreme_cells, profile, quantise, scale, window


def planted(inside: float, outside: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """A channel of unit noise with these means, each exact; one cell in eight is positive."""
    noise = np.random.default_rng(0).normal(size=n)
    positive = np.arange(n) % 8 == 0
    for of, mean in ((positive, inside), (~positive, outside)):
        noise[of] += mean - noise[of].mean()
    return noise.astype(np.float32), positive


def test_a_planted_channel_is_described() -> None:
    values, positive = planted(3.0, 1.0)
    found = profile(values, positive)
    assert found.inside == pytest.approx(3.0, abs=1e-4)
    assert found.outside == pytest.approx(1.0, abs=1e-4)
    assert found.deviation == pytest.approx(values.astype(float).std())
    assert found.selectivity == pytest.approx(2.0 / values.astype(float).std(), abs=1e-4)


@pytest.mark.parametrize("decimals", [7, 1], ids=["distinct", "tied"])
def test_alone_it_scores_as_scikit_learn_says(decimals: int) -> None:
    values, positive = planted(2.0, 1.0)
    values = values.round(decimals)
    found = profile(values, positive)
    assert found.alone == pytest.approx(average_precision_score(positive, values))
    at = [f1_score(positive, values >= threshold) for threshold in np.unique(values[positive])]
    assert f1_score(positive, values >= found.threshold) == pytest.approx(max(at))


def test_a_channel_against_the_concept_is_read_from_below() -> None:
    values, positive = planted(2.0, 1.0)
    towards, against = profile(values, positive), profile(-values, positive, against=True)
    assert against.alone == towards.alone
    assert against.threshold == -towards.threshold
    assert against.selectivity == pytest.approx(-towards.selectivity)
    assert profile(-values, positive).alone < towards.alone


def test_what_cannot_be_said_is_nan() -> None:
    nothing = profile(np.full(8, 0.1, dtype=np.float32), np.arange(8) < 4)
    assert nothing.deviation == 0
    assert np.isnan(nothing.selectivity)
    assert nothing.alone == pytest.approx(0.5)
    absent = profile(np.arange(8, dtype=np.float32), np.zeros(8, dtype=bool))
    assert np.isnan([absent.inside, absent.alone, absent.threshold, absent.selectivity]).all()
    assert absent.outside == 3.5
    empty = profile(np.empty(0, dtype=np.float32), np.empty(0, dtype=bool))
    assert np.isnan([empty.inside, empty.outside, empty.alone, empty.selectivity]).all()


@given(st.data())
def test_extremes_are_those_of_brute_force(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), max_size=7))
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    n = int(offsets[-1])
    drawn = data.draw(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 3.0]), min_size=n, max_size=n))
    values = np.array(drawn, dtype=np.float32)
    groups = np.repeat(data.draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes))), sizes)
    groups = groups.astype(np.int64)
    count = data.draw(st.integers(0, 5))
    best = []
    for start, stop in pairwise(offsets):
        cell = max(range(start, stop), key=lambda cell: (values[cell], -cell))
        if values[cell] > -np.inf:
            best.append(cell)
    best.sort(key=lambda cell: (-values[cell], cell))
    first = [cell for i, cell in enumerate(best) if groups[cell] not in {groups[other] for other in best[:i]}]
    kept = [*first, *(cell for cell in best if cell not in first)][:count]
    expected = [cell for cell in best if cell in kept]
    assert extreme_cells(values, offsets, groups, count).tolist() == expected


@given(st.integers(1, 400), st.data())
def test_windows_hold_their_cell_and_lie_inside(length: int, data: st.DataObject) -> None:
    cell = data.draw(st.integers(0, length - 1))
    start, size = window(cell, length)
    assert 0 <= start <= cell < start + size <= length
    assert size == min(length, WINDOW)
    assert start % STEP == 0 or start + size == length
    margin = min(cell - start, start + size - 1 - cell)
    assert margin >= STEP // 2 - 1 or start == 0 or start + size == length


def test_bytes_are_within_half_a_step() -> None:
    values = np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32)
    low, high = scale(values.ravel())
    assert (low, high) == tuple(np.percentile(values, [0.1, 99.9]))
    back = low + quantise(values, low, high).astype(float) * (high - low) / 255
    assert np.abs(back - np.clip(values, low, high)).max() <= (high - low) / 510 * (1 + 1e-6)


def test_a_scale_is_never_empty_where_the_channel_varies() -> None:
    rare = np.zeros(5000, dtype=np.float32)
    rare[7] = 4.0
    assert scale(rare) == (0.0, 4.0)
    assert quantise(rare, *scale(rare))[7] == 255
    constant = np.full(5, 2.0, dtype=np.float32)
    assert scale(constant) == (2.0, 2.0)
    assert not quantise(constant, *scale(constant)).any()
    assert scale(np.empty(0, dtype=np.float32)) == (0.0, 0.0)
