"""What is kept by group: counts add up, and average precision comes back from histograms, for resamples too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from probekit.evaluate import (
    average_precision,
    confusion,
    group_confusion,
    group_losses,
    histogram_average_precision,
    score_histograms,
)


def clustered(seed, n, positives, n_groups, separation=2.0):
    rng = np.random.default_rng(seed)
    y = np.zeros(n, np.int8)
    y[rng.choice(n, positives, replace=False)] = 1
    groups = rng.integers(0, n_groups, n)
    effect = rng.normal(size=n_groups)
    scores = 0.7 * rng.normal(size=n) + 0.7 * effect[groups] + separation * y
    return scores.astype(np.float32), y, groups


def from_histograms(h, keep):
    return histogram_average_precision(keep @ h.positives, keep @ h.negatives, h.tied)


MAPS = {
    "continuous": lambda s: s,
    "rounded": lambda s: np.round(s, 2),
    "rectified": lambda s: np.maximum(s, 0),
    "float64": lambda s: s.astype(np.float64) / 3,
    "saturated": lambda s: np.minimum(s, 2),
    "constant": lambda s: s * 0,
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("positives", "separation"), [(200, 2.0), (3000, 1.0), (3000, 3.0)])
def test_ap_from_histograms_is_off_by_less_than_4e5_for_resamples_too(name, positives, separation):
    n_groups = 15
    scores, y, groups = clustered(positives, 60_000, positives, n_groups, separation)
    scores = MAPS[name](scores)
    h = score_histograms(scores, y, groups, n_groups)
    resamples = np.concatenate([np.ones((1, n_groups), int), 1 - np.eye(n_groups, dtype=int)])
    for keep, value in zip(resamples, from_histograms(h, resamples), strict=True):
        rows = keep[groups] == 1
        assert value == pytest.approx(average_precision(scores[rows], y[rows]), abs=4e-5)
    counts = np.random.default_rng(0).multinomial(n_groups, np.ones(n_groups) / n_groups)
    rows = np.repeat(np.arange(len(y)), counts[groups])
    assert from_histograms(h, counts) == pytest.approx(average_precision(scores[rows], y[rows]), abs=2e-4)


def test_few_distinct_positive_scores_are_exact_among_many_cells():
    scores, y, groups = clustered(3, 30_000, 300, 5, 1.0)
    for values in (scores, np.round(scores, 1)):
        h = score_histograms(values, y, groups, 5)
        for keep in 1 - np.eye(5, dtype=int):
            rows = keep[groups] == 1
            assert from_histograms(h, keep) == pytest.approx(average_precision(values[rows], y[rows]), rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.sampled_from([1, 3, 20, 10**6]))
def test_few_cells_are_exact_whatever_the_ties(seed, n, levels):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=levels).astype(np.float32)[rng.integers(0, levels, n)]
    y, groups = (rng.random(n) < 0.3).astype(np.int8), rng.integers(0, 4, n)
    h = score_histograms(scores, y, groups, 5)
    for keep in np.concatenate([np.ones((1, 5), int), 1 - np.eye(5, dtype=int)]):
        rows = keep[groups] == 1
        value = from_histograms(h, keep)
        np.testing.assert_allclose(value, average_precision(scores[rows], y[rows]), rtol=1e-12)
    for counts, wanted in ((h.positives, 1), (h.negatives, 0)):
        for group in range(5):
            for bin_, low in enumerate(h.edges):
                high = h.edges[bin_ + 1] if bin_ + 1 < len(h.edges) else np.inf
                here = (groups == group) & (y == wanted) & (scores >= low) & (scores < high)
                assert counts[group, bin_] == here.sum()
                assert not h.tied[bin_] or len(np.unique(scores[here])) <= 1


def test_bins_are_at_least_so_many_and_single_at_the_top():
    scores, y, groups = clustered(0, 50_000, 5000, 10)
    h = score_histograms(scores, y, groups, 10)
    total = (h.positives + h.negatives).sum(axis=0)
    assert len(total) >= 1024
    assert total.sum() == 50_000
    assert (total[::-1][:250] == 1).all()
    ends = np.cumsum(total[::-1])
    assert (total[::-1][300:] / ends[300:] < 0.02).all()
    assert h.edges.dtype == np.float32
    with pytest.raises(ValueError, match="at least 512"):
        score_histograms(scores, y, groups, 10, bins=100)


def test_no_positives_no_ap():
    h = score_histograms(np.arange(4.0), np.zeros(4, int), np.zeros(4, int), 1)
    assert np.isnan(histogram_average_precision(h.positives, h.negatives, h.tied)).all()


def test_counts_and_losses_by_group_equal_those_of_each_group():
    scores, y, groups = clustered(1, 2000, 300, 6)
    groups[groups == 4] = 3  # a group without cells
    predicted = scores > 1.2
    counts, losses = group_confusion(predicted, y, groups, 6), group_losses(scores, y, groups, 6)
    for group in range(6):
        rows = groups == group
        c = confusion(predicted[rows], y[rows])
        assert counts[group].tolist() == [c.tp, c.fp, c.fn, c.tn]
        if rows.any():
            p = 1 / (1 + np.exp(-scores[rows].astype(np.float64)))
            assert losses[group].sum() == pytest.approx(log_loss(y[rows], p, normalize=False), rel=1e-6)
            negative = y[rows] == 0
            assert losses[group, 0] == pytest.approx(-np.log(1 - p[negative]).sum())
    assert counts.sum() == 2000
    assert losses[4].tolist() == [0, 0]


def test_large_margins_do_not_overflow():
    losses = group_losses(np.array([1e4, -1e4], np.float32), np.array([0, 1]), np.zeros(2, int), 1)
    assert losses.tolist() == [[1e4, 1e4]]
