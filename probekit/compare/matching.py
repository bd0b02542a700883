"""Which channel of another model is nearest to each selected channel, and which of these are matches.

A channel is **related** where it has more to do with one of the other model's channels than chance has it, whatever the
place in the image explains (Benjamini and Hochberg at ``LEVEL``). With many groups a correlation of .1 is above chance,
and nobody would call two such channels the same. A channel is **matched** where ``LEAST`` of what the place leaves of
its variance is explained, by its partner or by a few channels together, and that is above chance.

Each way of matching is tested at half the level. A channel that is explained by less than ``LEAST`` counts with p = 1
there: that makes p no smaller than it was, so that Benjamini and Hochberg's adjustment holds of the matches themselves.
Of the channels that are matched, those of either way that are false are at most level / 2 of that way's own in
expectation, which are no more than all matches: false ones are at most .05 of all matches in expectation, however the
two ways depend on each other. The rate is of all matches of the rows that are adjusted together.

Of n draws the smallest p is 1 / (1 + n): a few matches among many channels cannot be told from chance by too few draws.
Such channels are **undecided**, never unmatched.
"""

from __future__ import annotations

import math
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

MATCHED: tuple[Kind, ...] = ("one-to-one", "one-to-many")

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


def least_draws(channels: int, matches: int) -> int:
    """Draws with which so many matches among so many channels can be told from chance."""
    return math.ceil(2 * channels / (LEVEL * matches)) - 1


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
        q: the p-values of being related, adjusted (Benjamini and Hochberg); NaN where nothing was tested.
        related: q is at most ``LEVEL``.
        q_match: twice the smaller of the two adjusted p-values of being matched, at most 1: where matches are called
            up to this one, the share of them that is false in expectation. NaN where nothing was tested.
        kind: ``one-to-one``: matched with a mutual partner; ``one-to-many``: matched otherwise; ``unmatched``; none
            where nothing was tested, and where it is undecided.
        undecided: explained by enough, and no draw was as large, but there are too few draws to be sure.
    """

    q: Floats
    related: NDArray[np.bool_]
    q_match: Floats
    kind: Sequence[Kind | None]
    undecided: NDArray[np.bool_]


def decide(
    p: Floats, p_rebuilt: Floats, mutual: NDArray[np.bool_], r: Floats, r2: Floats, least_p: float = 0.0
) -> Decision:
    """Calls channels related and matched, so that at most ``LEVEL`` of each are expected to be so falsely.

    Args:
        p, p_rebuilt: of being related, and of the rebuilding; NaN where not tested, (S,).
        mutual: see ``Nearest``, (S,).
        r, r2: correlation with the partner and the share that is rebuilt, without what the place explains, (S,).
        least_p: the smallest that the draws allow.
    """
    near, rebuilt = (np.where(np.isnan(of) | (size >= LEAST), of, 1.0) for of, size in ((p, r**2), (p_rebuilt, r2)))
    q_near, q_rebuilt = benjamini_hochberg(near), benjamini_hochberg(rebuilt)
    q, q_match = benjamini_hochberg(p), np.minimum(2 * np.fmin(q_near, q_rebuilt), 1.0)
    one, matched = (q_near <= LEVEL / 2) & mutual, q_match <= LEVEL
    undecided = ~matched & (np.fmin(near, rebuilt) <= least_p)
    unknown = np.isnan(q_match) | undecided
    kinds: list[Kind | None] = [
        None if nothing else "one-to-one" if single else "one-to-many" if several else "unmatched"
        for nothing, single, several in zip(unknown, one, matched, strict=True)
    ]
    return Decision(q, q <= LEVEL, q_match, kinds, undecided)
