"""Layers along depth: fronts against their definition, ties, layers in the order in which a pass reaches them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.compare.depth import best_layer, depth_order, pareto_front

few = st.one_of(st.none(), st.just(math.nan), st.integers(0, 4).map(float))  # few values: many ties
entries = st.lists(st.tuples(few, few), max_size=12)


def known(*values: float | None) -> bool:
    return all(value is not None and not math.isnan(value) for value in values)


def brute_force(points: list[tuple[float | None, float | None]]) -> list[bool]:
    """By the definition: nothing scores at least as high at no higher cost, and better in one of the two."""
    return [
        known(score, cost)
        and not any(
            known(s, c) and s >= score and c <= cost and (s > score or c < cost)  # type: ignore[operator]
            for s, c in points
        )
        for score, cost in points
    ]


@given(entries)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float | None, float | None]]) -> None:
    front = pareto_front([score for score, _ in points], [cost for _, cost in points])
    assert front.tolist() == brute_force(points)


@given(entries, st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_order_or_scale(points, random) -> None:
    front = pareto_front([s for s, _ in points], [c for _, c in points])
    order = list(range(len(points)))
    random.shuffle(order)
    shuffled = [points[i] for i in order]
    again = pareto_front([s for s, _ in shuffled], [None if c is None else math.exp(c) for _, c in shuffled])
    assert again.tolist() == front[order].tolist()


def test_of_one_cost_the_highest_and_of_one_score_the_cheapest_is_on_the_front() -> None:
    assert pareto_front([0.5, 0.6, 0.6, 0.6], [10, 10, 20, 10]).tolist() == [False, True, False, True]


def test_what_is_not_known_is_never_on_the_front_and_dominates_nothing() -> None:
    assert pareto_front([0.9, 0.5, math.nan], [None, 3, 1]).tolist() == [False, True, False]
    assert pareto_front([0.9, 0.8], [None, None]).tolist() == [False, False]
    assert pareto_front([], []).tolist() == []
    with pytest.raises(ValueError, match="2 scores, 1 costs"):
        pareto_front([0.1, 0.2], [1])


def test_layers_go_by_operations_and_keep_their_order_where_these_are_equal_or_not_known() -> None:
    assert depth_order([300, 100, 200]) == [2, 0, 1]
    assert depth_order([100, 300, 100, 100]) == [0, 3, 1, 2]
    assert depth_order([300, None, 200]) == [0, 1, 2]
    assert depth_order([None]) == [0]
    assert depth_order([]) == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=10))
def test_places_are_a_permutation_along_which_operations_ascend(operations: list[int]) -> None:
    places = depth_order(operations)
    assert sorted(places) == list(range(len(places)))
    assert (np.diff(np.array(operations)[np.argsort(places)]) >= 0).all()


def test_the_best_layer_is_the_earlier_of_equals() -> None:
    assert best_layer([0.2, 0.5, 0.5]) == 1
    assert best_layer([None, 0.1, math.nan]) == 1
    assert best_layer([None, math.nan]) is None
    assert best_layer([]) is None
