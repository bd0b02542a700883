"""Which channel of another model is nearest to each selected channel, and which of these are matches.

A channel is **matched** where its largest correlation or its rebuilding by a few channels is above chance, each at half
the level by Benjamini and Hochberg. The hypothesis is the same for both: that the channel has nothing to do with the
other model's channels beyond what the place in the image explains. Of the channels called matched, those of either test
that are false are at most level / 2 of that test's own calls in expectation, which are no more than all calls: false
ones are at most .05 of all matched channels in expectation, however the two tests depend on each other. (Each at the
full level would allow .1.) The rate is of all matched channels of the rows that are adjusted together, not of those of
one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from probekit.compare.cross_products import Floats
from probekit.compare.standing import LEVEL
from probekit.evaluate.paired import benjamini_hochberg

Kind = Literal["one-to-one", "one-to-many", "unmatched"]

Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest channels of b.

    Attributes:
        partner: correlates most in size, (S,); -1 of a channel that correlates with nothing.
        r: that correlation, (S,).
        mutual: no channel of a correlates more with the partner, (S,).
    """

    partner: NDArray[np.int64]
    r: Floats
    mutual: NDArray[np.bool_]


def nearest(correlation: Floats, selected: Ints) -> Nearest:
    """Partners among all channels of b.

    Args:
        correlation: of all channels of a with all of b, (p_a, p_b).
        selected: channels of a, (S,).
    """
    size = np.abs(correlation)
    partner = size[selected].argmax(axis=1)
    reached = size[selected, partner]
    mutual = (reached > 0) & (reached >= size[:, partner].max(axis=0))
    return Nearest(np.where(reached > 0, partner, -1), correlation[selected, partner], mutual)


def assign(correlation: Floats, selected_a: Ints, selected_b: Ints) -> tuple[NDArray[np.int64], Floats]:
    """Partners among b's selected channels, each used once: the largest sum of correlations in size (Kuhn 1955).

    Args:
        correlation: of all channels of a with all of b, (p_a, p_b).
        selected_a, selected_b: channels, (S,) and (T,).

    Returns:
        channel of b, or -1 where there are too few, and the correlation, NaN there; (S,) both.
    """
    among = correlation[np.ix_(selected_a, selected_b)]
    rows, columns = linear_sum_assignment(np.abs(among), maximize=True)
    assigned, r = np.full(len(selected_a), -1, dtype=np.int64), np.full(len(selected_a), np.nan)
    assigned[rows], r[rows] = np.asarray(selected_b)[columns], among[rows, columns]
    return assigned, r


@dataclass(frozen=True, eq=False)
class Decision:
    """What each channel is, (S,) all.

    Attributes:
        q, q_rebuilt: the p-values, adjusted (Benjamini and Hochberg); NaN where nothing was tested.
        kind: ``one-to-one``: mutual, and its correlation is above chance; ``one-to-many``: matched otherwise;
            ``unmatched``; none where nothing was tested.
    """

    q: Floats
    q_rebuilt: Floats
    kind: Sequence[Kind | None]


def decide(p: Floats, p_rebuilt: Floats, mutual: NDArray[np.bool_]) -> Decision:
    """Calls channels matched, so that at most ``LEVEL`` of them are expected to be so falsely.

    Args:
        p, p_rebuilt: of the largest correlation, and of the rebuilding; NaN where not tested, (S,).
        mutual: see ``Nearest``, (S,).
    """
    q, q_rebuilt = benjamini_hochberg(p), benjamini_hochberg(p_rebuilt)
    near, rebuilt = q <= LEVEL / 2, q_rebuilt <= LEVEL / 2
    kinds: list[Kind | None] = []
    for i in range(len(p)):
        if near[i] and mutual[i]:
            kinds.append("one-to-one")
        elif near[i] or rebuilt[i]:
            kinds.append("one-to-many")
        else:
            kinds.append(None if np.isnan(p[i]) and np.isnan(p_rebuilt[i]) else "unmatched")
    return Decision(q, q_rebuilt, kinds)
