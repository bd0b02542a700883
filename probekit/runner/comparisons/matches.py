"""The table ``matches``: each selected channel of one layer, held against all channels of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.compare.chance import against_chance
from probekit.compare.cross_products import Floats, Singles, correlations
from probekit.compare.matching import assign, decide, nearest
from probekit.compare.repairing import Repairing


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
    one: SampledLayer, other: SampledLayer, repairing: Repairing, correlation: Floats | None = None
) -> list[dict[str, Any]]:
    """Rows of ``matches`` for the ordered pair of two layers, every concept that both have a selection for.

    A channel is tested once, whichever concepts select it; p-values are adjusted by concept.

    Args:
        repairing: of the sample's cells.
        correlation: of all channels of ``one`` with all of ``other``, over more cells than the sample where there are,
            (p_one, p_other); of the sample unless given.
    """
    if correlation is None:
        correlation = correlations(one.features, other.features)
    concepts = [concept for concept in one.selected if concept in other.selected]
    tested = np.unique(np.array([c for concept in concepts for c in one.selected[concept].channels], dtype=np.int64))
    chance = against_chance(one.features[:, tested], other.features, repairing)
    near = nearest(correlation, tested)
    rows: list[dict[str, Any]] = []
    for concept in concepts:
        selection = one.selected[concept]
        channels = np.asarray(selection.channels, dtype=np.int64)
        at = np.searchsorted(tested, channels)
        assigned, r_assigned = assign(
            correlation, channels, np.asarray(other.selected[concept].channels, dtype=np.int64)
        )
        decision = decide(chance.p[at], chance.p_rebuilt[at], near.mutual[at], near.r[at], chance.r2[at])
        for i, (channel, place) in enumerate(zip(channels, at, strict=True)):
            varies = near.partner[place] >= 0
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
                    "related": None if decision.kind[i] is None else bool(decision.related[i]),
                    "partner": int(near.partner[place]) if varies else None,
                    "r": float(near.r[place]) if varies else None,
                    "p": _number(chance.p, place),
                    "q": _number(decision.q, i),
                    "mutual": bool(near.mutual[place]),
                    "assigned": int(assigned[i]) if assigned[i] >= 0 else None,
                    "r_assigned": _number(r_assigned, i),
                    "rebuilt_by": [int(c) for c in chance.rebuilt_by[place]] if varies else [],
                    "r2": _number(chance.r2, place),
                    "p_rebuilt": _number(chance.p_rebuilt, place),
                    "q_rebuilt": _number(decision.q_rebuilt, i),
                    "reason": repairing.reason
                    if varies
                    else "the channel correlates with nothing: one side is constant",
                }
            )
    return rows


def _number(values: NDArray[np.float64], place: int | np.int64) -> float | None:
    value = float(values[place])
    return None if np.isnan(value) else value
