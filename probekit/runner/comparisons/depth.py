"""Rows of ``depth``: every tapped layer with its score, its channels and its cost; and the seconds, for ``timings``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probekit.api import FULL
from probekit.compare.depth import best_layer, depth_order, pareto_front
from probekit.features.cost import Cost
from probekit.runner.statistics.book import Row
from probekit.runner.statistics.k_tau import CLAIM

Costs = Mapping[tuple[str, str], Cost]
"""(backbone, layer) -> cost; the layers of each backbone in the order of depth that its adapter declares."""


def depth_rows(
    record: Mapping[str, Any],
    models: Sequence[Row],
    k_tau: Sequence[Row],
    results: Sequence[Row],
    points: Sequence[Row],
    costs: Costs,
) -> Iterator[Row]:
    """Rows of ``depth``, by concept, backbone and place.

    Args:
        record: what ``run.json`` says.
        models, k_tau, results, points: rows of these tables, means over repeats among them.
        costs: of every layer of the record.
    """
    places = _places(costs)
    k95 = {_line(row): row["k"] for row in k_tau if row["tau"] == CLAIM}
    validation = _validation(record, results, points)
    for concept in record["concepts"]:
        rows: list[Row] = []
        for backbone in record["backbones"]:
            layers = [row for row in models if (row["backbone"], row["concept"]) == (backbone, concept)]
            layers.sort(key=lambda row: places[row["backbone"], row["layer"]])
            scores = [validation.get(_line(row)) for row in layers]
            chosen = best_layer(scores)
            for number, (row, score) in enumerate(zip(layers, scores, strict=True)):
                flops = costs[backbone, row["layer"]].flops
                rows.append(
                    {
                        **{name: row[name] for name in ("backbone", "layer", "concept", "probe", "control")},
                        "place": places[backbone, row["layer"]],
                        **{name: row[name] for name in ("channels", "score", "lo", "hi", "rank")},
                        "k95": k95.get(_line(row)),
                        "validation": score,
                        "chosen": number == chosen,
                        "megaflops": None if flops is None else flops / 1e6,
                    }
                )
        for column, cost in (("front_cost", "megaflops"), ("front_k", "k95")):
            ranked = [row["score"] if row["rank"] is not None else None for row in rows]
            for row, front in zip(rows, pareto_front(ranked, [row[cost] for row in rows]), strict=True):
                row[column] = bool(front)
        for row in rows:
            del row["rank"]
            yield row


def cost_timings(costs: Costs) -> Iterator[Row]:
    """Rows of ``timings``: seconds of a forward pass up to each layer, null where they were not measured."""
    for (backbone, layer), cost in costs.items():
        yield {"stage": "cost", "what": f"{backbone} {layer}", "seconds": cost.seconds}


def _places(costs: Costs) -> dict[tuple[str, str], int]:
    places: dict[tuple[str, str], int] = {}
    for backbone in dict.fromkeys(backbone for backbone, _ in costs):
        keys = [key for key in costs if key[0] == backbone]
        places.update(zip(keys, depth_order([costs[key].flops for key in keys]), strict=True))
    return places


def _line(row: Row) -> tuple[str, ...]:
    return row["backbone"], row["layer"], row["concept"], row["probe"]


def _validation(
    record: Mapping[str, Any], results: Sequence[Row], points: Sequence[Row]
) -> dict[tuple[str, ...], float | None]:
    """Validation AP of each full point (of ``chosen`` where there is none), the mean over repeats."""
    values = {
        row["point_id"]: row["value"]
        for row in results
        if (row["split"], row["metric"]) == ("validation", "average_precision")
    }
    found: dict[str, dict[tuple[str, ...], float | None]] = {"chosen": {}, FULL: {}}
    for row in points:
        if row["rung"] in found and (row["repeat"] is None or record["repeats"] == 1):
            found[row["rung"]][_line(row)] = values.get(row["point_id"])
    return {**found["chosen"], **found[FULL]}
