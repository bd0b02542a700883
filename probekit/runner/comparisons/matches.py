"""The table ``matches``: each selected channel of one layer, held against all channels of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.compare.chance import Pairing
from probekit.compare.cross_products import Floats, Singles, correlations
from probekit.compare.matching import MATCHED, assign, decide, least_draws, nearest


@dataclass(frozen=True, eq=False)
class Selection:
    """The channels that a concept's final fit selects in a layer, and their standardised coefficients, (S,) both."""

    channels: Sequence[int]
    coefficients: Sequence[float]


@dataclass(frozen=True, eq=False)
class SampledLayer:
    """A layer and its features of the sample's cells, (n, p)."""

    backbone: str
    layer: str
    features: Singles
    selected: Mapping[str, Selection]


def match_rows(
    one: SampledLayer, other: SampledLayer, pairing: Pairing, correlation: Floats | None = None
) -> list[dict[str, Any]]:
    """Rows of ``matches`` for the ordered pair of two layers, every concept that both have a selection for.

    A channel is tested once, whichever concepts select it; p-values are adjusted by concept.

    Args:
        pairing: of the features of ``other``.
        correlation: of all channels of ``one`` with all of ``other``, over more cells than the sample where there are,
            (p_one, p_other); of the sample unless given.
    """
    if correlation is None:
        correlation = correlations(one.features, other.features)
    concepts = [concept for concept in one.selected if concept in other.selected]
    tested = np.unique(np.array([c for concept in concepts for c in one.selected[concept].channels], dtype=np.int64))
    chance = pairing.test(one.features[:, tested])
    near = nearest(correlation, tested)
    partial = np.where(near.partner >= 0, chance.partial[np.arange(len(tested)), near.partner], np.nan)
    draws = pairing.repairing.draws
    rows: list[dict[str, Any]] = []
    for concept in concepts:
        selection = one.selected[concept]
        channels = np.asarray(selection.channels, dtype=np.int64)
        at = np.searchsorted(tested, channels)
        assigned, r_assigned = assign(
            correlation, channels, np.asarray(other.selected[concept].channels, dtype=np.int64)
        )
        tests = chance.p[at], chance.p_rebuilt[at], near.mutual[at], partial[at], chance.r2[at]
        decision = decide(*tests, least_p=1 / (1 + draws))
        alike = int(decision.undecided.sum()) + sum(kind in MATCHED for kind in decision.kind)
        for i, (channel, place) in enumerate(zip(channels, at, strict=True)):
            varies = near.partner[place] >= 0
            reason = pairing.repairing.reason
            if reason is None and np.isnan(chance.p[place]):
                reason = "the channel correlates with nothing: one side is constant"
            elif decision.undecided[i]:
                enough = least_draws(len(channels), alike)
                reason = (
                    f"{draws} draws cannot tell so few matches among {len(channels)}: comparison.draws {enough} can"
                )
            rows.append(
                {
                    "backbone_a": one.backbone,
                    "layer_a": one.layer,
                    "backbone_b": other.backbone,
                    "layer_b": other.layer,
                    "concept": concept,
                    "channel": int(channel),
                    "coefficient": float(selection.coefficients[i]),
                    "kind": decision.kind[i],
                    "related": None if np.isnan(decision.q[i]) else bool(decision.related[i]),
                    "partner": int(near.partner[place]) if varies else None,
                    "r": float(near.r[place]) if varies else None,
                    "r_partial": _number(partial, place),
                    "p": _number(chance.p, place),
                    "q": _number(decision.q, i),
                    "mutual": bool(near.mutual[place]),
                    "assigned": int(assigned[i]) if assigned[i] >= 0 else None,
                    "r_assigned": _number(r_assigned, i),
                    "rebuilt_by": [int(c) for c in chance.rebuilt_by[place]] if varies else [],
                    "r2": _number(chance.r2, place),
                    "p_rebuilt": _number(chance.p_rebuilt, place),
                    "q_match": _number(decision.q_match, i),
                    "reason": reason,
                }
            )
    return rows


def _number(values: NDArray[np.float64], place: int | np.int64) -> float | None:
    value = float(values[place])
    return None if np.isnan(value) else value
