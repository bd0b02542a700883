"""Intervals from groups: by hand where that can be done, and unchanged by what should change nothing."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t as student

from probekit.evaluate.groups import histogram_average_precision, histogram_roc_auc, score_histograms
from probekit.evaluate.intervals import (
    Interval,
    Replicates,
    bootstrap_interval,
    delete_one,
    effective_number,
    jackknife_interval,
    kurtosis_df,
    too_few,
)
from probekit.evaluate.scores import average_precision, roc_auc


def simulate(n_groups=30, cells=40, seed=0, prevalence=0.2):
    """Scores in groups that differ in level: (scores, y, groups)."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), cells)
    y = (rng.random(len(groups)) < prevalence).astype(np.int8)
    scores = rng.normal(size=len(groups)) + 1.5 * y + 0.7 * rng.normal(size=n_groups)[groups]
    return scores.astype(np.float32), y, groups


def interval_of(scores, y, groups, n_groups):
    histograms = score_histograms(scores, y, groups, n_groups)
    score = partial(histogram_average_precision, tied=histograms.tied)
    deleted = delete_one(score, histograms.positives, histograms.negatives)
    return jackknife_interval(average_precision(scores, y), deleted, histograms.positives.sum(axis=1))


def test_delete_one_is_the_score_of_the_other_groups() -> None:
    scores, y, groups = simulate(n_groups=9)
    histograms = score_histograms(scores, y, groups, 9)
    score = partial(histogram_average_precision, tied=histograms.tied)
    deleted = delete_one(score, histograms.positives, histograms.negatives)
    areas = delete_one(histogram_roc_auc, histograms.positives, histograms.negatives)
    for g in range(9):
        rest = groups != g
        assert deleted[g] == pytest.approx(average_precision(scores[rest], y[rest]), abs=4e-5)
        assert areas[g] == pytest.approx(roc_auc(scores[rest], y[rest]), abs=1e-3)


def test_the_interval_is_the_jackknife_on_the_logit() -> None:
    rng = np.random.default_rng(1)
    deleted = np.clip(0.4 + 0.03 * rng.standard_normal(20), 0.01, 0.99)
    positives = np.full(20, 7)
    found = jackknife_interval(0.4, deleted, positives)
    u = logit(deleted) - logit(deleted).mean()
    error = np.sqrt(19 / 20 * (u**2).sum())
    df = min(19, 20.0, 3 * (u**2).sum() ** 2 / (u**4).sum() - 1)
    half = student.ppf(0.975, df) * error
    assert found.df == pytest.approx(df)
    assert (found.lo, found.hi) == pytest.approx((expit(logit(0.4) - half), expit(logit(0.4) + half)))
    assert 0 < found.lo < 0.4 < found.hi < 1


def test_unequal_groups_count_for_fewer() -> None:
    assert effective_number(np.full(10, 3)) == pytest.approx(10)
    assert effective_number(np.array([100, 1, 1, 0])) == pytest.approx(102**2 / 10002)
    assert effective_number(np.zeros(4)) == 0
    deleted = np.clip(0.4 + 0.03 * np.random.default_rng(1).standard_normal(20), 0.01, 0.99)
    even = jackknife_interval(0.4, deleted, np.full(20, 5))
    uneven = jackknife_interval(0.4, deleted, np.array([50, 50, 50, 50] + [1] * 16))
    assert uneven.hi - uneven.lo > even.hi - even.lo


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=40))
def test_degrees_of_freedom_by_kurtosis(values: list[float]) -> None:
    u = np.array(values) - np.mean(values)
    df = float(kurtosis_df(u))
    assert df >= 1
    if (u**2).sum() > 1e-6:
        assert df <= 3 * len(u) - 1 + 1e-9  # equal sizes: the most that there can be


@pytest.mark.parametrize(
    ("positives", "words"),
    [
        (np.full(11, 5), "11 scored, an interval needs 12"),
        (np.array([9, 9, 9, 9] + [0] * 20), "4 hold a positive, an interval needs 5"),
        (np.array([1000, 1, 1, 1, 1, 1] + [0] * 20), "1.0 effective groups"),
    ],
)
def test_too_few_groups_get_one_sentence_and_no_interval(positives: np.ndarray, words: str) -> None:
    reason = too_few(positives)
    assert reason is not None
    assert words in reason
    deleted = np.linspace(0.3, 0.5, len(positives))
    assert jackknife_interval(0.4, deleted, positives) == Interval(0.4, reason=reason)


def test_what_cannot_be_said_is_not_said() -> None:
    positives = np.full(20, 5)
    assert jackknife_interval(1.0, np.ones(20), positives).lo is None
    assert jackknife_interval(float("nan"), np.full(20, 0.5), positives).reason is not None


def test_permuting_groups_and_cells_changes_nothing() -> None:
    scores, y, groups = simulate()
    rng = np.random.default_rng(3)
    order, names = rng.permutation(len(y)), rng.permutation(30)
    one, other = interval_of(scores, y, groups, 30), interval_of(scores[order], y[order], names[groups[order]], 30)
    assert (one.lo, one.hi, one.df) == pytest.approx((other.lo, other.hi, other.df), rel=1e-9)


def test_duplicating_every_cell_changes_nothing_beyond_the_bins() -> None:
    scores, y, groups = simulate()
    one = interval_of(scores, y, groups, 30)
    many = interval_of(np.tile(scores, 5), np.tile(y, 5), np.tile(groups, 5), 30)
    assert many.value == pytest.approx(one.value, abs=1e-12)
    assert (many.lo, many.hi) == pytest.approx((one.lo, one.hi), abs=5e-4)


@pytest.mark.parametrize("turn", [np.cbrt, lambda s: np.exp(s / 4), lambda s: 3 * s - 100])
def test_a_monotone_transform_of_the_scores_changes_nothing(turn) -> None:
    scores, y, groups = simulate()
    one, other = interval_of(scores.astype(np.float64), y, groups, 30), None
    other = interval_of(turn(scores.astype(np.float64)), y, groups, 30)
    assert (one.value, one.lo, one.hi) == pytest.approx((other.value, other.lo, other.hi), abs=1e-9)


def test_more_groups_say_more() -> None:
    few, many = (interval_of(*simulate(n_groups=g, seed=5), g) for g in (15, 150))
    assert many.hi - many.lo < 0.6 * (few.hi - few.lo)


def test_the_bootstrap_is_there_to_compare_with() -> None:
    scores, y, groups = simulate()
    histograms = score_histograms(scores, y, groups, 30)
    score = partial(histogram_average_precision, tied=histograms.tied)
    counts = histograms.positives, histograms.negatives
    value = average_precision(scores, y)
    found = bootstrap_interval(score, *counts, value=value, rng=np.random.default_rng(0))
    again = bootstrap_interval(score, *counts, value=value, rng=np.random.default_rng(0))
    own = interval_of(scores, y, groups, 30)
    assert found == again
    assert found.lo < value < found.hi
    assert 0.5 < (found.hi - found.lo) / (own.hi - own.lo) < 1.1


def test_repeats_are_averaged_within_each_replicate() -> None:
    a, b = Replicates(0.2, np.array([0.1, 0.3])), Replicates(0.4, np.array([0.5, 0.5]))
    mean = Replicates.mean([a, b])
    assert mean.value == pytest.approx(0.3)
    np.testing.assert_allclose(mean.deleted, [0.3, 0.4])
    np.testing.assert_allclose((b - a).deleted, [0.4, 0.2])
