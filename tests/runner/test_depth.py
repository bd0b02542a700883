"""Costs of a run's layers, whatever the store held, and the rows of ``depth`` that are made with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from probekit.features.cost import Cost
from probekit.features.store import Store
from probekit.plan.networks import Network
from probekit.runner.comparisons.depth import cost_timings, depth_rows
from probekit.runner.dataset import Dataset, build_dataset
from probekit.runner.extraction import extract_network, layer_costs
from probekit.runner.hardware import limited_threads
from probekit.runner.prepare import Prepared, prepare
from probekit.runner.progress import Silent
from probekit.runner.schemas import SCHEMAS
from probekit.spec.load import load_experiment
from probekit.testing.fakes import TinyBackbone

Spec = Callable[..., Path]
UP_TO = {"stem": 16 * 20 * 8 * 48 * 2, "body": 8 * 10 * 16 * 32 * 2, "head": 8 * 10 * 16 * 16 * 9 * 2}
"""Of 64 x 80 pixels: operations of each of the tiny network's convolutions."""


@pytest.fixture
def ready(experiment: Spec) -> tuple[Prepared, Dataset, Store]:
    spec = experiment(backbones="{tiny: {use: tiny, layers: [head, stem]}}", controls="[twins, pixels]")
    prepared = prepare(load_experiment(spec, ()))
    return prepared, build_dataset(prepared.source, prepared.resolved.experiment, 1, Silent()), Store(Path("store"))


def costs_of(
    ready: tuple[Prepared, Dataset, Store], networks: tuple[Network, ...], threads: int
) -> dict[tuple[str, str], Cost]:
    prepared, dataset, store = ready
    experiment, collections = prepared.resolved.experiment, {}
    for network in networks:
        found, _ = extract_network(network, dataset, experiment, store, threads, Silent())
        collections |= {(network.name, layer): of for layer, of in found.collections.items()}
    return layer_costs(networks, dataset, experiment, collections, threads)


def test_operations_are_counted_and_seconds_measured_where_the_network_was_loaded(ready) -> None:
    networks = ready[0].networks
    with limited_threads(1):
        costs = costs_of(ready, networks, 1)
        loads, forwards = TinyBackbone.loads, TinyBackbone.forwards
        assert costs_of(ready, networks, 1) == costs  # all in the store: nothing is loaded, nothing measured again
        assert (TinyBackbone.loads, TinyBackbone.forwards) == (loads, forwards)
    # By depth, not as the spec has them; a twin takes what its network takes; no network, no operations.
    assert list(costs) == [("tiny", "stem"), ("tiny", "head"), ("tiny random", "stem"), ("tiny random", "head"),
                           ("pixels", "cells")]  # fmt: skip
    flops = {key: cost.flops for key, cost in costs.items()}
    assert flops["tiny", "stem"] == flops["tiny random", "stem"] == UP_TO["stem"]
    assert flops["tiny", "head"] == flops["tiny random", "head"] == sum(UP_TO.values())
    assert flops["pixels", "cells"] is None
    assert all(cost.seconds is not None and cost.seconds > 0 for cost in costs.values())
    rows = list(cost_timings(costs))
    assert rows[1] == {"stage": "cost", "what": "tiny head", "seconds": costs["tiny", "head"].seconds}


def test_seconds_of_other_threads_or_of_no_measurement_are_null_and_operations_are_there(ready, monkeypatch) -> None:
    networks = ready[0].networks
    with monkeypatch.context() as patch, limited_threads(1):
        patch.setattr("probekit.features.extract.measure", lambda *_: {})  # as a store was filled before
        costs = costs_of(ready, networks, 1)
    assert all(cost.seconds is None for cost in costs.values())
    assert costs["tiny", "head"].flops == sum(UP_TO.values())
    other = costs_of((*ready[:2], Store(Path("other"))), networks, 77)  # torch has other threads than the run says
    assert all(cost.seconds is None for cost in other.values())
    assert {key: cost.flops for key, cost in other.items()} == {key: cost.flops for key, cost in costs.items()}


def test_an_adapter_that_cannot_do_without_weights_is_counted_in_its_real_pass(ready, monkeypatch) -> None:
    load = TinyBackbone.load

    def weights_or_nothing(self, layers, device, dtype) -> None:
        if device.type == "meta":
            raise NotImplementedError
        load(self, layers, device, dtype)

    monkeypatch.setattr(TinyBackbone, "load", weights_or_nothing)
    costs = costs_of(ready, ready[0].networks[:1], 1)
    assert costs["tiny", "head"].flops == sum(UP_TO.values())
    assert costs_of(ready, ready[0].networks[:1], 1)["tiny", "head"].flops == sum(UP_TO.values())
    elsewhere = replace(ready[0].networks[0], layers=("body",))
    monkeypatch.setattr("probekit.features.extract.measure", lambda *_: {})
    assert costs_of(ready, (elsewhere,), 1) == {("tiny", "body"): Cost()}


RECORD = {
    "concepts": ["crack", "pothole"],
    "repeats": 1,
    "backbones": {name: {"control": name == "pixels", "layers": {}} for name in ("one", "two", "pixels")},
}
COSTS = {
    ("one", "late"): Cost(9_000_000),
    ("one", "early"): Cost(2_000_000, 0.5),
    ("two", "only"): Cost(4_000_000),
    ("pixels", "cells"): Cost(None),
}


def model(backbone: str, layer: str, score: float, rank: int | None = 1, concept: str = "crack") -> dict:
    line = {"backbone": backbone, "layer": layer, "concept": concept, "probe": "l1", "control": backbone == "pixels"}
    return {**line, "channels": 8, "score": score, "lo": score - 0.1, "hi": score + 0.1, "rank": rank}


def tables(models: list[dict], k: dict[str, int | None], validation: dict[str, float | None], repeats: int = 1) -> dict:
    """Tables as a run has them, with rows that are not to be read: other shares, probes, rungs, parts and repeats."""
    k_tau, results, points = [], [], []
    for row in models:
        line = {name: row[name] for name in ("backbone", "layer", "concept")}
        for probe in ("l1", "other"):
            for tau in (0.9, 0.95, 0.99):
                of = k.get(row["layer"]) if (probe, tau) == ("l1", 0.95) else 1
                k_tau.append({**line, "probe": probe, "tau": tau, "k": of})
            for rung in ("3", "chosen", "full"):
                for repeat in (*range(repeats), *([None] if repeats > 1 else [])):
                    point = "|".join(map(str, (*line.values(), probe, repeat, rung)))
                    points.append({**line, "probe": probe, "rung": rung, "repeat": repeat, "point_id": point})
                    read = (probe, rung, repeat) == ("l1", "full", None if repeats > 1 else 0)
                    for split in ("test", "validation"):
                        value = validation.get(row["layer"]) if read and split == "validation" else 0.99
                        results.append({"point_id": point, "split": split, "sampling": "natural",
                                        "metric": "average_precision", "value": value})  # fmt: skip
    return {"models": models, "k_tau": k_tau, "results": results, "points": points}


@pytest.mark.parametrize("repeats", [1, 3])
def test_rows_stand_by_depth_with_fronts_over_all_ranked_models(repeats: int) -> None:
    models = [model("one", "late", 0.6), model("two", "only", 0.5), model("one", "early", 0.5),
              model("pixels", "cells", 0.9, None)]  # fmt: skip
    of = tables(models, {"early": None, "late": 7, "only": 3, "cells": 1}, {"late": 0.4, "early": 0.4}, repeats)
    rows = list(depth_rows({**RECORD, "repeats": repeats}, **of, costs=COSTS))
    assert set(rows[0]) == set(SCHEMAS["depth"].names)
    names = ("layer", "place", "k95", "validation", "chosen", "megaflops", "front_cost", "front_k")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("early", 0, None, 0.4, True, 2.0, True, False),  # as good on validation as the later: the earlier is chosen
        ("late", 1, 7, 0.4, False, 9.0, True, True),
        ("only", 0, 3, None, False, 4.0, False, True),
        ("cells", 0, 1, None, False, None, False, False),  # a control: neither on a front nor in the way of one
    ]
    assert [row["score"] for row in rows] == [0.5, 0.6, 0.5, 0.9]


def test_a_model_that_is_not_above_its_nulls_is_left_out_of_fronts() -> None:
    models = [model("one", "late", 0.6, None), model("two", "only", 0.5)]
    rows = list(depth_rows(RECORD, **tables(models, {"late": 1, "only": 3}, {}), costs=COSTS))
    assert [(row["front_cost"], row["front_k"]) for row in rows] == [(False, False), (True, True)]


def test_concepts_are_apart() -> None:
    models = [model("one", "late", 0.6), model("one", "early", 0.7), model("one", "late", 0.4, 1, "pothole")]
    rows = list(depth_rows(RECORD, **tables(models, {"early": 3, "late": 5}, {"late": 0.2, "early": 0.1}), costs=COSTS))
    assert [(row["concept"], row["layer"], row["chosen"], row["front_cost"]) for row in rows] == [
        ("crack", "early", False, True),
        ("crack", "late", True, False),
        ("pothole", "late", True, True),
    ]


def test_where_there_is_no_full_probe_the_chosen_point_is_read() -> None:
    of = tables([model("two", "only", 0.5)], {}, {})
    of["points"] = [row for row in of["points"] if row["rung"] != "full"]
    (row,) = depth_rows(RECORD, **of, costs=COSTS)
    assert row["validation"] == 0.99
    assert row["chosen"]


def test_nothing_gives_nothing() -> None:
    assert list(depth_rows(RECORD, [], [], [], [], COSTS)) == []
