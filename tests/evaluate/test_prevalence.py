"""Scores at another prevalence equal those of test sets that have it, published figures become what they are worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from probekit.evaluate import average_precision, confusion, group_confusion, histogram_average_precision, roc_auc
from probekit.evaluate.groups import score_histograms
from probekit.evaluate.prevalence import (
    average_precision_at,
    f1_at,
    f1_range,
    histogram_average_precision_at,
    iou_at,
    negative_weight,
    precision_at,
    published_rates,
    rates_of_counts,
)

SHARES = st.floats(0.001, 0.999)


def scored(seed, n, positives, separation, n_groups=12):
    rng = np.random.default_rng(seed)
    y = np.zeros(n, np.int8)
    y[rng.choice(n, positives, replace=False)] = 1
    groups = rng.integers(0, n_groups, n)
    effect = rng.normal(size=n_groups)
    return (0.7 * rng.normal(size=n) + 0.7 * effect[groups] + separation * y).astype(np.float32), y, groups


def weights_at(y, prevalence):
    positives = np.count_nonzero(y)
    return np.where(y == 1, 1.0, float(negative_weight(np.array(positives), np.array(len(y) - positives), prevalence)))


def test_a_bare_f1_of_94_balanced_is_worth_61_at_5_percent():
    recall, fpr = published_rates(f1=0.94)
    assert (recall, fpr) == pytest.approx((0.94, 0.06))
    assert round(float(f1_at(recall, fpr, 0.05)), 2) == 0.61
    low, high = f1_range(0.94, 0.05)
    assert (round(low, 2), high) == (0.45, 0.94)


def test_the_recipes_top_50_row_is_worth_54_at_5_percent():
    assert round(float(f1_at(*published_rates(precision=0.92, recall=0.93), 0.05)), 2) == 0.54
    # Other readings of the two figures are not: swapped, or their F1 alone.
    assert round(float(f1_at(*published_rates(precision=0.93, recall=0.92), 0.05)), 2) == 0.57
    assert round(float(f1_at(*published_rates(f1=2 * 0.92 * 0.93 / 1.85), 0.05)), 2) == 0.55


@settings(deadline=None, max_examples=200)
@given(st.floats(0.01, 1), st.floats(0, 1), SHARES)
def test_published_figures_come_back_from_the_rates_whichever_two_are_given(recall, fpr, prevalence):
    precision, f1 = (float(score(recall, fpr, prevalence)) for score in (precision_at, f1_at))
    for given_two in (
        {"precision": precision, "recall": recall},
        {"f1": f1, "recall": recall},
        {"f1": f1, "precision": precision},
    ):
        assume(2 * given_two.get("recall", precision) - f1 > 1e-6)  # else F1 has forgotten the other
        found = published_rates(**given_two, prevalence=prevalence)
        assert float(f1_at(*found, prevalence)) == pytest.approx(f1, rel=1e-6)
        assert float(precision_at(*found, prevalence)) == pytest.approx(precision, rel=1e-6)
        assert found[0] == pytest.approx(recall, rel=1e-6)


@settings(deadline=None, max_examples=200)
@given(st.floats(0.01, 1), st.floats(0, 1), SHARES, SHARES)
def test_f1_elsewhere_lies_in_its_range_whatever_the_classifier(recall, fpr, published_at, prevalence):
    f1 = float(f1_at(recall, fpr, published_at))
    low, high = f1_range(f1, prevalence, published_at)
    assert low - 1e-9 <= float(f1_at(recall, fpr, prevalence)) <= high + 1e-9
    assert f1_range(f1, published_at, published_at) == pytest.approx((f1, f1))


def test_both_ends_of_the_range_are_reached():
    assert f1_range(0.4, 0.05) == pytest.approx((float(f1_at(0.5, 1.0, 0.05)), 0.4))
    assert f1_range(0.4, 0.9) == pytest.approx((0.4, float(f1_at(0.5, 1.0, 0.9))))
    assert f1_range(0.8, 0.05) == pytest.approx((float(f1_at(1.0, 0.5, 0.05)), 0.8))
    for found, fpr in ((0.5, 1.0), (0.25, 0.0)):
        assert float(f1_at(found, fpr, 0.5)) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="above 0"):
        f1_range(0.0, 0.05)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({}, "two of F1, precision and recall"),
        ({"precision": 0.9}, "two of F1, precision and recall"),
        ({"f1": 0.9, "precision": 0.9, "recall": 0.9}, "two of F1, precision and recall"),
        ({"f1": 0.0}, "above 0"),
        ({"f1": math.nan}, "above 0"),
        ({"precision": 1.2, "recall": 0.5}, "at most at 1"),
        ({"f1": 0.9, "recall": 0.4}, "no classifier"),
        ({"f1": 0.6, "recall": 0.31}, "no classifier"),
        ({"precision": 0.1, "recall": 0.9}, "no classifier"),
        ({"f1": 0.9, "prevalence": 1.0}, "between 0 and 1"),
    ],
)
def test_figures_that_cannot_be_are_refused(figures, message):
    with pytest.raises(ValueError, match=message):
        published_rates(**figures)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(4, 80), SHARES)
def test_scores_of_counts_equal_scikit_learns_with_weights(seed, n, prevalence):
    rng = np.random.default_rng(seed)
    y, predicted = rng.integers(0, 2, n), rng.random(n) < rng.random()
    y[:2] = 0, 1
    predicted[1] = True
    weight = weights_at(y, prevalence)
    assert weight[y == 1].sum() / weight.sum() == pytest.approx(prevalence)
    rates = rates_of_counts(group_confusion(predicted, y, np.zeros(n, int), 1).sum(axis=0))
    for ours, theirs in (
        (precision_at, metrics.precision_score),
        (f1_at, metrics.f1_score),
        (iou_at, metrics.jaccard_score),
    ):
        assert float(ours(*rates, prevalence)) == pytest.approx(theirs(y, predicted, sample_weight=weight))
    counts = confusion(predicted, y)
    assert float(precision_at(*rates, 0.5)) == counts.balanced_precision
    assert float(f1_at(*rates, 0.5)) == counts.balanced_f1
    own = y.mean()
    for ours, natural in ((precision_at, counts.precision), (f1_at, counts.f1), (iou_at, counts.iou)):
        assert float(ours(*rates, own)) == pytest.approx(natural)


def test_scores_of_many_counts_are_those_of_each_and_a_class_that_is_absent_gives_nan():
    counts = np.array([[5, 2, 3, 90], [0, 0, 8, 92], [0, 4, 0, 96], [7, 0, 1, 0]])
    recall, fpr = rates_of_counts(counts)
    found = np.stack([precision_at(recall, fpr, 0.2), f1_at(recall, fpr, 0.2), iou_at(recall, fpr, 0.2)])
    for column, row in zip(found.T, counts, strict=True):
        one = [float(score(*rates_of_counts(row), 0.2)) for score in (precision_at, f1_at, iou_at)]
        np.testing.assert_array_equal(column, one)
    np.testing.assert_array_equal(found[:, 1], [np.nan, 0, 0])
    assert np.isnan(found[:, 2:]).all()
    by_prevalence = f1_at(recall[0], fpr[0], [0.01, 0.1, 0.5])
    assert (np.diff(by_prevalence) > 0).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        f1_at(0.5, 0.5, [0.1, 0.0])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.sampled_from([1, 3, 1000]), SHARES)
def test_ap_at_a_prevalence_equals_scikit_learns_with_weights_ties_included(seed, n, levels, prevalence):
    rng = np.random.default_rng(seed)
    scores, y = rng.normal(size=levels)[rng.integers(0, levels, n)], rng.integers(0, 2, n)
    y[:2] = 0, 1
    wanted = metrics.average_precision_score(y, scores, sample_weight=weights_at(y, prevalence))
    assert average_precision_at(scores, y, prevalence) == pytest.approx(wanted, rel=1e-9)
    assert average_precision_at(np.exp(scores), y.astype(bool), prevalence) == pytest.approx(wanted, rel=1e-9)
    assert average_precision_at(scores, y, y.mean()) == pytest.approx(average_precision(scores, y), rel=1e-9)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("positives", "separation"), [(200, 2.0), (600, 1.0), (3000, 3.0), (15_000, 2.0)])
def test_ap_at_a_prevalence_from_histograms_is_off_by_less_than_1e4_for_resamples_too(positives, separation, rounded):
    n_groups = 12
    scores, y, groups = scored(positives, 30_000, positives, separation, n_groups)
    scores = np.round(scores, 2) if rounded else scores
    h = score_histograms(scores, y, groups, n_groups)
    keep = np.concatenate([np.ones((1, n_groups), int), 1 - np.eye(n_groups, dtype=int)[:3]])
    for prevalence in (0.005, 0.05, 0.5, 0.9):
        found = histogram_average_precision_at(keep @ h.positives, keep @ h.negatives, h.tied, prevalence)
        for value, kept in zip(found, keep, strict=True):
            rows = kept[groups] == 1
            weight = weights_at(y[rows], prevalence)
            wanted = metrics.average_precision_score(y[rows], scores[rows], sample_weight=weight)
            # A negative of such weight decides on a bin by where in it it lies.
            assert value == pytest.approx(wanted, abs=1e-4 if weight.max() < 100 else 3e-4)


def test_weights_on_positives_would_be_wrong_within_bins():
    scores, y, groups = scored(0, 30_000, 15_000, 2.0)
    h = score_histograms(scores, y, groups, 12)
    positives, negatives = h.positives.sum(axis=0), h.negatives.sum(axis=0)
    weight = weights_at(y, 0.005)
    exact = metrics.average_precision_score(y, scores, sample_weight=weight)
    on_positives = float(histogram_average_precision(positives / weight.max(), negatives, h.tied))
    assert abs(on_positives - exact) > 1e-3
    assert float(histogram_average_precision_at(positives, negatives, h.tied, 0.005)) == pytest.approx(exact, abs=1e-4)


def test_own_prevalence_and_duplicated_cells_change_nothing_and_ap_falls_with_prevalence():
    scores, y, groups = scored(5, 20_000, 400, 2.0)
    h = score_histograms(scores, y, groups, 12)
    positives, negatives = h.positives.sum(axis=0), h.negatives.sum(axis=0)
    own = float(histogram_average_precision_at(positives, negatives, h.tied, y.mean()))
    assert own == pytest.approx(float(histogram_average_precision(positives, negatives, h.tied)), rel=1e-12)
    twice = average_precision_at(np.tile(scores, 2), np.tile(y, 2), 0.1)
    assert twice == pytest.approx(average_precision_at(scores, y, 0.1), rel=1e-12)
    # Thinned negatives are a test set of that prevalence.
    thinned = (y == 1) | (np.random.default_rng(1).random(len(y)) < 0.2)
    share = y[thinned].mean()
    assert average_precision(scores[thinned], y[thinned]) == pytest.approx(
        average_precision_at(scores, y, share), abs=0.02
    )
    assert abs(average_precision(scores[thinned], y[thinned]) - average_precision(scores, y)) > 0.1
    by_prevalence = [average_precision_at(scores, y, p) for p in (0.001, 0.01, 0.1, 0.5, 0.99)]
    assert (np.diff(by_prevalence) > 0).all()
    assert roc_auc(scores[thinned], y[thinned]) == pytest.approx(roc_auc(scores, y), abs=0.02)


def test_an_absent_class_has_no_ap_and_nan_is_refused():
    scores = np.array([0.3, 0.1])
    for y in (np.zeros(2, int), np.ones(2, int)):
        assert math.isnan(average_precision_at(scores, y, 0.1))
        h = score_histograms(scores, y, np.zeros(2, int), 1)
        assert np.isnan(histogram_average_precision_at(h.positives, h.negatives, h.tied, 0.1)).all()
    with pytest.raises(ValueError, match="NaN"):
        average_precision_at(np.array([np.nan, 0.0]), np.array([0, 1]), 0.1)
