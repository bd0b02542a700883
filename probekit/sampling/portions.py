"""Groups in portions that double: what an online code learns from before each next one.

A group is never cut: the cells of one group resemble each other, and a code that had seen half of them would get the
other half for less than a new group costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probekit.sampling.seeds import generator

HALVINGS = 4
"""The first portion is 1/16 of the groups. What a smaller one would save is little, since hardly anything is known by
then, and every portion is one more fit, which on few rows takes many solvers as long as on all."""

LEAST_GROUPS = 3
"""Fewer groups than that are no first portion."""


def portion_order(groups: Sequence[str], holds: NDArray[np.bool_], seed: int, *key: str | int) -> NDArray[np.int64]:
    """A random order of the groups in which those that hold a positive are spread evenly, one of them first.

    It depends on the order in which the ids sort, not on the order in which they are given: renamed alike, groups keep
    their places.

    Args:
        groups: ids, all different.
        holds: which hold a positive, (n groups,).
        seed: of the run.
        key: what the order is for: repeat, concept. Models that are compared must share it.

    Returns:
        indices into ``groups``, (n groups,).
    """
    if len(set(groups)) != len(groups):
        raise ValueError("group ids must differ")
    by_id = np.array(sorted(range(len(groups)), key=lambda i: groups[i]), dtype=np.int64)
    rng = generator(seed, "portions", *key)
    place = np.empty(len(groups))
    for stratum, shift in ((by_id[holds[by_id]], 0.0), (by_id[~holds[by_id]], 0.5)):
        place[stratum] = (rng.permutation(len(stratum)) + shift) / max(len(stratum), 1)
    # Of equal places the group with a positive comes first; there are two at most.
    return by_id[np.lexsort((~holds[by_id], place[by_id]))]


def cut_portions(order: NDArray[np.int64], classes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Cuts ordered groups where 1/16, 1/8, 1/4, 1/2 of them lie before.

    The first portion has at least ``LEAST_GROUPS`` groups and rows of both classes, if need be more of the groups; of
    the cuts those remain that lie behind it. With few groups, or a class that comes late, there may be one portion
    only: nothing is left to be coded.

    Args:
        order: of the groups, (n groups,).
        classes: whether each group has a negative, and a positive row, (n groups, 2).

    Returns:
        each group's portion, from 0, (n groups,).

    Raises:
        ValueError: a class that no group has.
    """
    n = len(order)
    seen = np.cumsum(classes[order], axis=0).min(axis=1) > 0
    if not seen[-1]:
        raise ValueError("no group has a row of one of the classes")
    first = min(max(LEAST_GROUPS, -(-n // 2**HALVINGS), int(np.argmax(seen)) + 1), n)
    ends = [first, *(end for i in range(HALVINGS - 1, -1, -1) if (end := -(-n // 2**i)) > first)]
    portion = np.empty(n, dtype=np.int64)
    portion[order] = np.searchsorted(np.unique(ends), np.arange(n), side="right")
    return portion
