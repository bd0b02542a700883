"""Layers along depth: in which order a pass reaches them, which one validation chooses, which are worth the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def depth_order(operations: Sequence[int | None]) -> list[int]:
    """Each layer's place along a network's depth, from 0.

    A pass that ends later has done all that one does that ends earlier, so operations ascend along the depth. Layers
    with as many, and all layers where those of any are not known, keep the order in which they are given.

    Args:
        operations: up to each layer, in the order in which the network's adapter declares them.
    """
    known = [count for count in operations if count is not None]
    keys = known if len(known) == len(operations) else [0] * len(operations)
    places = [0] * len(keys)
    for place, layer in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        places[layer] = place
    return places


def best_layer(validation: Sequence[float | None]) -> int | None:
    """The layer with the highest score on validation, of equals the earlier; none where no layer has a score.

    Args:
        validation: of each layer, in the order of depth.
    """
    known = [i for i, score in enumerate(validation) if score is not None and not math.isnan(score)]
    return max(known, key=lambda i: (validation[i], -i), default=None)


def pareto_front(score: Sequence[float | None], cost: Sequence[float | None]) -> NDArray[np.bool_]:
    """Which entries no other one dominates, (n,).

    An entry dominates another if it scores at least as high at no higher cost, and is better in one of the two. So
    entries that are equal in both are on the front together or not at all; of those of one cost only the highest score
    is, and of those of one score only the lowest cost. An entry without score or cost (none, NaN) is never on the front
    and dominates nothing.

    Args:
        score: the higher the better.
        cost: the lower the better.

    Raises:
        ValueError: they differ in length.
    """
    if len(score) != len(cost):
        raise ValueError(f"{len(score)} scores, {len(cost)} costs")
    scores, costs = (np.array([np.nan if x is None else x for x in of], dtype=np.float64) for of in (score, cost))
    front = np.zeros(len(scores), dtype=bool)
    best, known = -np.inf, ~(np.isnan(scores) | np.isnan(costs))
    for value in np.unique(costs[known]):
        here = known & (costs == value)
        highest = scores[here].max()
        if highest > best:
            front |= here & (scores == highest)
            best = highest
    return front
