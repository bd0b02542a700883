"""Where models stand: against their nulls, against one another, and who may be ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.evaluate.intervals import Interval, Replicates, too_few
from probekit.evaluate.paired import difference_interval, holm, one_sided_p, smallest_difference, tie_groups

LEVEL = 0.05
"""Of every test."""


@dataclass(frozen=True)
class NullTest:
    """A model's full probe against one of its nulls.

    Attributes:
        name: of the null.
        value: the null's score.
        difference: the model's score less the null's.
        p: one-sided, of a difference that is not above 0; none where it could not be tested.
        above: p is at most .05; none where it could not be tested.
    """

    name: str
    value: float
    difference: Interval
    p: float | None
    above: bool | None


def against_null(name: str, score: Replicates, null: Replicates, positives: NDArray[np.number[Any]]) -> NullTest:
    """Tests a score against a null's on the same groups.

    Args:
        positives: positive cells of each group, (G,).
    """
    difference = score - null
    interval = difference_interval(difference.value, difference.deleted, positives)
    p = one_sided_p(difference.value, difference.deleted, positives)
    if np.isnan(p):
        return NullTest(name, null.value, interval, None, None)
    return NullTest(name, null.value, interval, p, p <= LEVEL)


def above_all(tests: Sequence[NullTest]) -> bool | None:
    """Whether a model is above its nulls: above each of them (an intersection-union test needs no correction).

    Returns:
        none where no null was run, or none could be tested and nothing speaks against the model.
    """
    if any(test.above is False for test in tests):
        return False
    if not tests or any(test.above is None for test in tests):
        return None
    return True


@dataclass(frozen=True)
class Difference:
    """Two models on the same groups.

    Attributes:
        one, other: places in the list of models.
        difference: score of the one less that of the other.
        p, p_holm: of the swap test, and adjusted for the pairs of the table.
        smallest: the difference that so many groups would show with power .8.
        established: the adjusted p is at most .05.
    """

    one: int
    other: int
    difference: Interval
    p: float | None
    p_holm: float | None
    smallest: float | None
    established: bool


def differences(
    scores: Sequence[Replicates], p: Mapping[tuple[int, int], float], positives: NDArray[np.number[Any]]
) -> list[Difference]:
    """All pairs of models, the earlier one first.

    Args:
        scores: of the models, best first.
        p: of the swap test of each pair, (i, j) with i < j.
        positives: positive cells of each group, (G,).
    """
    testable = too_few(positives) is None
    found = []
    for (i, j), value in p.items():
        gap = scores[i] - scores[j]
        interval = difference_interval(gap.value, gap.deleted, positives)
        known = None if np.isnan(value) or not testable else value
        smallest = smallest_difference(gap.deleted, positives) if testable else None
        found.append(Difference(i, j, interval, known, None, smallest, False))
    adjusted = holm([np.nan if d.p is None else d.p for d in found])
    return [
        replace(d, p_holm=None if np.isnan(q) else float(q), established=bool(q <= LEVEL))
        for d, q in zip(found, adjusted, strict=True)
    ]


def ranks(count: int, found: Sequence[Difference]) -> list[int]:
    """The rank of each model, best first; models whose difference is not established share one."""
    apart = np.zeros((count, count), dtype=bool)
    for d in found:
        apart[d.one, d.other] = apart[d.other, d.one] = d.established
    return tie_groups(apart)
