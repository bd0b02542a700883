"""Folds' margins on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.evaluate import average_precision, margin_scale


def test_training_negatives_become_standard():
    rng = np.random.default_rng(0)
    y = (rng.random(500) < 0.3).astype(np.int8)
    margins = (rng.normal(size=(3, 500)) * [[1], [20], [0.1]] + [[0], [-7], [3]] + 5 * y).astype(np.float32)
    pooled = margin_scale(margins, y).apply(margins)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled[:, y == 0].mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(pooled[:, y == 0].std(axis=1), 1, rtol=1e-5)


def test_scale_and_offset_of_a_folds_margins_are_of_no_effect():
    rng = np.random.default_rng(1)
    y = np.array([0] * 40 + [1] * 10, np.int8)
    margins = rng.normal(size=(1, 50)) + y
    other = margins * 12.5 - 3
    np.testing.assert_allclose(
        margin_scale(margins, y).apply(margins), margin_scale(other, y).apply(other), rtol=1e-9, atol=1e-12
    )


def test_a_fit_without_channels_scores_all_cells_equal():
    margins = np.full((1, 7), 0.1)
    y = np.array([0, 0, 0, 1, 1, 0, 0], np.int8)
    assert margins[:, :3].mean() != 0.1  # equal numbers, and yet their mean rounds
    pooled = margin_scale(margins[:, :3], y[:3]).apply(margins)
    assert (pooled == 0).all()
    assert average_precision(pooled[0], y) == pytest.approx(2 / 7)


def test_maps_keep_their_shape_and_negatives_are_needed():
    scale = margin_scale(np.array([[0.0, 2.0], [1.0, 5.0]]), np.zeros(2, np.int8))
    assert scale.apply(np.zeros((2, 3, 4))).shape == (2, 3, 4)
    assert scale.apply(np.zeros((2, 1)))[:, 0].tolist() == [-1.0, -1.5]
    with pytest.raises(ValueError, match="no training negative"):
        margin_scale(np.zeros((1, 2)), np.ones(2, np.int8))
