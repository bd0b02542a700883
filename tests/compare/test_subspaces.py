"""What a linear map explains of other channels, where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.compare import subspaces
from probekit.compare.subspaces import Explained, explained_variance, group_folds, standardised
from probekit.evaluate.intervals import WIDE
from probekit.evaluate.paired import difference_interval

GROUPS, CELLS = 40, 50
NAMES = [f"street {i}" for i in range(GROUPS)]
GROUP = np.repeat(np.arange(GROUPS), CELLS)
FOLDS = group_folds(NAMES, seed=0)


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def explain(target: np.ndarray, source: np.ndarray) -> Explained:
    return explained_variance(target, source, GROUP, FOLDS)


def test_a_rotation_is_explained_wholly_both_ways() -> None:
    a = normal(GROUPS * CELLS, 6, seed=0)
    b = a @ np.linalg.qr(normal(6, 6, seed=1))[0] * 3 + 7
    for target, source in ((a, b), (b, a)):
        found = explain(target, source)
        assert found.r2.value == pytest.approx(1, abs=1e-10)
        assert found.r2.lo == pytest.approx(1, abs=1e-10)
        assert found.r2.hi is not None
        assert found.r2.hi <= 1
        assert found.constant == 0


def test_noise_explains_nothing_even_where_it_has_many_channels() -> None:
    a, b = normal(GROUPS * CELLS, 5, seed=0), normal(GROUPS * CELLS, 300, seed=1)
    found = explain(a, b).r2
    assert -0.005 < found.value < 0.005
    assert found.lo is not None
    assert found.lo < 0.005


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_a_planted_share_is_found_in_its_direction_alone(share: float) -> None:
    b = normal(GROUPS * CELLS, 4, seed=2)
    noise = normal(GROUPS * CELLS, 4, seed=3)
    a = np.sqrt(share) * b @ np.linalg.qr(normal(4, 4, seed=4))[0] + np.sqrt(1 - share) * noise
    a, b = a.astype(np.float32), np.concatenate([b, normal(GROUPS * CELLS, 12, seed=5)], axis=1)
    found, back = explain(a, b).r2, explain(b, a).r2
    assert found.value == pytest.approx(share, abs=0.02)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < share < found.hi
    assert back.value == pytest.approx(share / 4, abs=0.02)  # of 16 channels 4 have to do with a


def test_a_map_that_differs_between_groups_is_none() -> None:
    b = normal(GROUPS * CELLS, 3, seed=6)
    signs = np.random.default_rng(7).permutation([-1, 1] * (GROUPS // 2))
    assert abs(explain(b * signs[GROUP][:, None], b).r2.value) < 0.05


def test_ridge_keeps_many_alike_cells_from_counting_as_many() -> None:
    """Thirty channels that hardly vary within a group are thirty numbers a group: 32 groups to fit a map by."""
    a, b = (normal(GROUPS, k, seed=k)[GROUP] + 0.01 * normal(GROUPS * CELLS, k, seed=9) for k in (3, 30))
    plain = float("nan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subspaces, "RIDGES", (1e-8,))
        plain = explain(a, b).r2.value
    assert plain < -1
    assert -0.3 < explain(a, b).r2.value < 0.1


def test_it_is_the_regression_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ridge = 0.1
    monkeypatch.setattr(subspaces, "RIDGES", (ridge,))
    b = normal(GROUPS * CELLS, 4, seed=10) * [1, 2, 3, 4] + 5
    a = b[:, :2] * 0.5 + normal(GROUPS * CELLS, 2, seed=11) + 0.5 * normal(GROUPS, 2, seed=12)[GROUP]
    x, y = ((of - of.mean(axis=0)) / of.std(axis=0) for of in (b, a))
    errors, totals = np.zeros(GROUPS), np.zeros(GROUPS)
    for fold in range(5):
        held = FOLDS[GROUP] == fold
        mean_x, mean_y = x[~held].mean(axis=0), y[~held].mean(axis=0)
        centred = x[~held] - mean_x
        gram = centred.T @ centred
        gram += ridge * np.trace(gram) / 4 * np.eye(4)
        predicted = mean_y + (x[held] - mean_x) @ np.linalg.solve(gram, centred.T @ (y[~held] - mean_y))
        np.add.at(errors, GROUP[held], ((y[held] - predicted) ** 2).sum(axis=1))
        np.add.at(totals, GROUP[held], ((y[held] - mean_y) ** 2).sum(axis=1))
    without = [1 - np.delete(errors, g).sum() / np.delete(totals, g).sum() for g in range(GROUPS)]
    expected = difference_interval(1 - errors.sum() / totals.sum(), np.array(without), totals)
    found = explain(a, b).r2
    assert (found.value, found.lo, found.hi, found.df) == pytest.approx(
        (expected.value, expected.lo, expected.hi, expected.df), rel=1e-5
    )


def test_order_and_names_of_channels_cells_and_groups_change_nothing() -> None:
    b = normal(GROUPS * CELLS, 5, seed=13)
    a = b[:, :3] + normal(GROUPS * CELLS, 3, seed=14)
    value = explain(a, b).r2
    rng = np.random.default_rng(15)
    cells, groups = rng.permutation(GROUPS * CELLS), rng.permutation(GROUPS)
    renumbered = np.argsort(groups)[GROUP][cells]
    folds = group_folds([NAMES[g] for g in groups], seed=0)
    np.testing.assert_array_equal(folds, FOLDS[groups])
    other = explained_variance(a[cells][:, ::-1], 8 * b[cells][:, rng.permutation(5)], renumbered, folds).r2
    assert (other.value, other.lo, other.hi) == pytest.approx((value.value, value.lo, value.hi), rel=1e-6)


def test_folds_are_even_and_leave_few_groups_out_one_by_one() -> None:
    assert set(np.bincount(FOLDS)) == {GROUPS // 5}
    assert sorted(group_folds(NAMES[:4], seed=0)) == [0, 1, 2, 3]
    assert (group_folds(NAMES, seed=1) != FOLDS).any()


def test_channels_that_do_not_vary_are_left_out_and_counted() -> None:
    b = normal(GROUPS * CELLS, 3, seed=16)
    a = b[:, :2] + normal(GROUPS * CELLS, 2, seed=17)
    flat = np.full((GROUPS * CELLS, 2), 1e3, dtype=np.float32)
    flat[::2, 1] = np.nextafter(np.float32(1e3), np.float32(2e3))
    found = explain(np.concatenate([flat, a], axis=1), np.concatenate([b, flat], axis=1))
    assert found.constant == 2
    assert found.r2.value == pytest.approx(explain(a, b).r2.value, abs=1e-9)
    assert standardised(flat).shape == (GROUPS * CELLS, 0)
    for target, source, word in ((flat, b, "to be explained"), (a, flat, "explains")):
        nothing = explain(target, source).r2
        assert np.isnan(nothing.value)
        assert nothing.lo is None
        assert word in str(nothing.reason)


def test_few_groups_give_no_interval_and_one_group_nothing() -> None:
    b = normal(GROUPS * CELLS, 3, seed=18)
    for groups in (2, 3, WIDE - 1):
        cells = np.isin(GROUP, np.arange(groups))
        found = explained_variance(b[cells], b[cells] * 2, GROUP[cells], group_folds(NAMES[:groups], seed=0)).r2
        assert found.value == pytest.approx(1, abs=1e-6)
        assert found.lo is None
        assert found.reason == f"too few groups: {groups}, an interval of R2 needs {WIDE}"
    alone = explained_variance(b[:CELLS], b[:CELLS], GROUP[:CELLS], np.zeros(1, dtype=np.int64)).r2
    assert np.isnan(alone.value)
    assert alone.reason == "1 group: none can be left out"


def test_one_group_that_varies_most_gives_no_interval() -> None:
    scale = np.where(GROUP == 0, 1000, 1)[:, None]
    b = normal(GROUPS * CELLS, 3, seed=19) * scale
    found = explain(b + normal(GROUPS * CELLS, 3, seed=20) * scale, b).r2
    assert found.lo is None
    assert "effective groups" in str(found.reason)


def test_more_channels_than_cells_and_numbers_that_are_none() -> None:
    a, b = normal(GROUPS, 3, seed=21), normal(GROUPS, 200, seed=22)
    found = explained_variance(a, b, np.arange(GROUPS), FOLDS).r2
    assert found.value < 0.5
    b[3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        explained_variance(a, b, np.arange(GROUPS), FOLDS)
