"""Which channel of another model is nearest to each selected channel, and which of these are matches.

A channel is **related** where its largest correlation or its rebuilding by a few channels is above chance, each at half
the level by Benjamini and Hochberg. The hypothesis is the same for both: that the channel has nothing to do with the
other model's channels beyond what the place in the image explains. Of the channels called related, those of either test
that are false are at most level / 2 of that test's own calls in expectation, which are no more than all calls: false
ones are at most .05 of all related channels in expectation, however the two tests depend on each other. (Each at the
full level would allow .1.) The rate is of all related channels of the rows that are adjusted together.

With many groups a correlation of .1 is above chance, and nobody would call two such channels the same. A channel is
**matched** where it is related and ``LEAST`` of its variance is explained.
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

LEAST = 0.25
"""The share of a channel's variance that a match explains (a correlation of .5)."""

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
        related: either is at most ``LEVEL / 2``.
        kind: ``one-to-one``: mutual, its correlation above chance and its square at least ``LEAST``; ``one-to-many``:
            related otherwise, by that much or by as much of it as a few channels rebuild; ``unmatched``; none where
            nothing was tested.
    """

    q: Floats
    q_rebuilt: Floats
    related: NDArray[np.bool_]
    kind: Sequence[Kind | None]


def decide(p: Floats, p_rebuilt: Floats, mutual: NDArray[np.bool_], r: Floats, r2: Floats) -> Decision:
    """Calls channels related, so that at most ``LEVEL`` of them are expected to be so falsely, and matched where the
    relation is strong.

    Args:
        p, p_rebuilt: of the largest correlation, and of the rebuilding; NaN where not tested, (S,).
        mutual: see ``Nearest``, (S,).
        r, r2: that correlation, and the share that is rebuilt, (S,).
    """
    q, q_rebuilt = benjamini_hochberg(p), benjamini_hochberg(p_rebuilt)
    near, rebuilt = q <= LEVEL / 2, q_rebuilt <= LEVEL / 2
    alike = r**2 >= LEAST
    one, many = near & mutual & alike, (near | rebuilt) & (alike | (r2 >= LEAST))
    untested = np.isnan(p) & np.isnan(p_rebuilt)
    kinds: list[Kind | None] = [
        None if nothing else "one-to-one" if single else "one-to-many" if several else "unmatched"
        for nothing, single, several in zip(untested, one, many, strict=True)
    ]
    return Decision(q, q_rebuilt, near | rebuilt, kinds)
