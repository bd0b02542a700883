"""Choices by validation: best first, ties to the sparser, then to the larger ridge."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.evaluate import best_fit, best_of_rungs, smallest_reaching


def test_the_best_is_chosen_and_ties_go_to_the_sparser_then_the_larger_ridge():
    assert best_fit(np.array([0.1, 0.5, 0.4]), [1, 2, 3]) == 1
    assert best_fit(np.array([0.5, 0.5, 0.5]), [9, 2, 3]) == 1
    assert best_fit(np.array([0.5, 0.5, 0.5]), [2, 2, 3], [0.1, 1.0, 10.0]) == 1
    assert best_fit(np.array([0.5, 0.5]), [2, 2], [None, 0.1]) == 1
    assert best_fit(np.array([0.5, 0.5]), [2, 2], [0.1, 0.1]) == 0
    assert best_fit(np.array([np.nan, 0.2]), [1, 2]) == 1


def test_nothing_to_choose_by_is_a_bug():
    with pytest.raises(ValueError, match="no fit"):
        best_fit(np.array([np.nan]), [1])
    with pytest.raises(ValueError, match="no fit"):
        best_fit(np.array([]), [])


def test_each_rung_keeps_its_best_candidate():
    rungs = [5, 5, "full", 10, "full"]
    ap = np.array([0.2, 0.3, 0.4, 0.35, 0.4])
    kept = best_of_rungs(rungs, ap, [5, 5, 64, 10, 64], [1.0, 0.1, 0.1, 1.0, 2.0])
    assert kept == {5: 1, "full": 4, 10: 3}
    assert list(kept) == [5, "full", 10]


def test_the_smallest_width_that_reaches_a_share():
    k, ap = [1, 2, 4, 8], np.array([0.1, 0.38, 0.37, 0.41])
    assert smallest_reaching(k, ap, 0.4, 0.95) == 2
    assert smallest_reaching(k[::-1], ap[::-1], 0.4, 0.95) == 2
    assert smallest_reaching(k, ap, 0.4, 0.99) == 8
    assert smallest_reaching(k, ap, 0.5, 0.9) is None
