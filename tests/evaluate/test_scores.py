"""Scores equal scikit-learn's and brute force, ties included, whatever the order of rows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from probekit.evaluate import average_precision, best_f1_threshold, confusion, roc_auc, score_all


@st.composite
def scored(draw, both=True):
    """Few distinct scores, so that ties abound; at least one positive (and one negative)."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = rng.normal(size=levels)[rng.integers(0, levels, n)].astype(dtype)
    y = (rng.random(n) < draw(st.sampled_from([0.05, 0.3, 0.8]))).astype(np.int8)
    y[0] = 1
    if both:
        y[1] = 0
    return scores, y


@settings(deadline=None, max_examples=200)
@given(scored())
def test_ap_and_auc_equal_scikit_learns(case):
    scores, y = case
    assert average_precision(scores, y) == pytest.approx(metrics.average_precision_score(y, scores), rel=1e-12)
    assert roc_auc(scores, y) == pytest.approx(metrics.roc_auc_score(y, scores), rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(scored(both=False), st.integers(0, 2**32 - 1))
def test_order_of_rows_and_monotone_maps_change_nothing(case, seed):
    scores, y = case
    order = np.random.default_rng(seed).permutation(len(y))
    for function in (average_precision, roc_auc):
        value = function(scores, y)
        np.testing.assert_equal(function(scores[order], y[order].astype(bool)), value)
        np.testing.assert_equal(function(scores.astype(np.float64) * 4 - 1, y), value)


def test_constant_scores_give_prevalence_and_one_half():
    y = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    assert average_precision(np.zeros(8), y) == 0.25
    assert roc_auc(np.zeros(8), y) == 0.5


def test_without_a_class_there_is_no_score():
    zeros, scores = np.zeros(3, np.int8), np.array([0.1, 0.2, 0.3])
    assert math.isnan(average_precision(scores, zeros))
    assert math.isnan(roc_auc(scores, zeros))
    assert math.isnan(roc_auc(scores, zeros + 1))
    assert all(math.isnan(value) for value in best_f1_threshold(scores, zeros))
    assert average_precision(scores, zeros + 1) == 1.0


def test_nan_scores_are_a_bug():
    with pytest.raises(ValueError, match="NaN"):
        average_precision(np.array([0.0, np.nan]), np.array([1, 0]))


@settings(deadline=None, max_examples=100)
@given(scored())
def test_counts_equal_scikit_learns(case):
    scores, y = case
    predicted = scores >= np.median(scores)
    counts = confusion(predicted, y)
    assert [[counts.tn, counts.fp], [counts.fn, counts.tp]] == metrics.confusion_matrix(y, predicted).tolist()
    assert counts.precision == pytest.approx(metrics.precision_score(y, predicted))
    assert counts.recall == pytest.approx(metrics.recall_score(y, predicted))
    assert counts.f1 == pytest.approx(metrics.f1_score(y, predicted))
    assert counts.iou == pytest.approx(metrics.jaccard_score(y, predicted))
    # Balanced figures: what the scores are where every class weighs the same.
    weight = np.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    if counts.tp + counts.fp:
        assert counts.balanced_precision == pytest.approx(metrics.precision_score(y, predicted, sample_weight=weight))
    assert counts.balanced_f1 == pytest.approx(metrics.f1_score(y, predicted, sample_weight=weight))


def test_nothing_called_positive_has_no_precision():
    counts = confusion(np.zeros(4, bool), np.array([1, 0, 0, 0]))
    assert math.isnan(counts.precision)
    assert math.isnan(counts.balanced_precision)
    assert (counts.recall, counts.f1, counts.iou, counts.balanced_f1) == (0, 0, 0, 0)
    assert math.isnan(confusion(np.ones(4, bool), np.zeros(4, int)).f1)


@settings(deadline=None, max_examples=100)
@given(scored(both=False))
def test_the_best_threshold_is_the_highest_of_the_best(case):
    scores, y = case
    threshold, f1 = best_f1_threshold(scores, y)
    tried = {float(t): confusion(scores >= t, y).f1 for t in np.unique(scores)}
    assert f1 == pytest.approx(max(tried.values()))
    assert confusion(scores >= threshold, y).f1 == f1
    assert threshold == max(t for t, value in tried.items() if value == max(tried.values()))


def test_all_scores_of_a_point():
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.2).astype(np.int8)
    scores = rng.normal(size=200) + y
    predicted = scores > 0.7
    rows = {(row.metric, row.sampling): row.value for row in score_all(scores, predicted, y)}
    counts = confusion(predicted, y)
    assert rows["average_precision", "natural"] == average_precision(scores, y)
    assert rows["roc_auc", "natural"] == roc_auc(scores, y)
    assert rows["f1", "natural"] == counts.f1
    assert rows["prevalence", "natural"] == y.mean()
    assert rows["precision", "balanced"] == counts.balanced_precision
    assert rows["f1", "balanced"] == counts.balanced_f1
    natural = {metric for metric, sampling in rows if sampling == "natural"}
    assert natural == {"average_precision", "precision", "recall", "f1", "iou", "roc_auc", "prevalence"}
    assert len(rows) == len(list(itertools.chain(natural, ("precision", "recall", "f1"))))
