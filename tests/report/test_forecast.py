from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from probekit.api import NEGATIVE, POSITIVE, ProbekitError
from probekit.features.speed import read_speed
from probekit.features.store import Store
from probekit.report.forecast import count_cells, print_plan
from probekit.runner.comparisons.predict import forecast_comparisons
from probekit.runner.dataset import build_dataset
from probekit.runner.execute import run
from probekit.runner.extraction import extract_network
from probekit.runner.predict import forecast
from probekit.runner.prepare import build_folds, prepare
from probekit.runner.rows import native_labels
from probekit.spec.load import load_experiment
from probekit.testing.fakes import TinyBackbone

NETWORKS = "{tiny: {use: tiny, layers: [stem, body]}, half: {use: tiny, dtype: bfloat16, layers: [body]}}"
ODD = "{use: discs, with: {groups: 5, images: 2, height: 90, width: 131}}"


def ready(path, told):
    resolved = load_experiment(path)
    prepared = prepare(resolved)
    return prepared, build_dataset(prepared.source, resolved.experiment, 1, told), Store(resolved.store)


def shown(path, told, *overrides):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    try:
        print_plan(path, overrides, console, told)
    finally:
        text = console.file.getvalue()
    return text


def test_cells_rows_and_bytes_are_those_that_an_extraction_gives(spec, told):
    prepared, dataset, store = ready(spec(backbones=NETWORKS, data=ODD), told)
    before = forecast(prepared, dataset, store)
    counts = count_cells(dataset, before, told)
    for network, foretold in zip(prepared.networks, before, strict=True):
        done, _ = extract_network(network, dataset, prepared.resolved.experiment, store, 1, told)
        for layer, collection in done.collections.items():
            of = foretold.layers[layer]
            assert of.grids == tuple(collection.grid(cut.key) for cut in dataset.cuts)
            item = 2 if network.dtype == "bfloat16" else 4
            assert of.new_bytes >= of.cells * of.channels * item
            assert collection.bytes <= of.new_bytes <= collection.bytes + 65536
            exact = native_labels(dataset, collection)
            for concept, labels in enumerate(exact):
                values = np.concatenate(labels)
                expected = int((values == NEGATIVE).sum()), int((values == POSITIVE).sum())
                assert counts[network.name, layer][concept] == expected


def test_what_the_store_holds_is_not_counted_as_new(spec, told):
    path = spec(backbones=NETWORKS, data=ODD)
    prepared, dataset, store = ready(path, told)
    some = prepared.networks[0]
    extract_network(some, dataset, prepared.resolved.experiment, store, 1, told)
    first, second = forecast(prepared, dataset, store)
    assert (first.passes, second.passes) == (0, 10)
    assert all(layer.new_bytes == 0 and layer.missing == 0 for layer in first.layers.values())
    larger = spec(backbones=NETWORKS, data=ODD.replace("groups: 5", "groups: 7"))
    prepared, dataset, store = ready(larger, told)
    assert forecast(prepared, dataset, store)[0].passes <= 14


def test_a_plan_extracts_and_writes_nothing_and_invents_no_time(spec, told, tmp_path):
    path = spec(backbones=NETWORKS, data=ODD)
    TinyBackbone.loads = 0
    text = shown(path, told)
    assert TinyBackbone.loads == 0
    assert [file.name for file in tmp_path.rglob("*")] == ["spec.yaml"]
    assert "features: not measured yet" in text
    assert "probes: not measured yet" in text
    assert re.search(r"^tiny +stem +8 +8,160 +new ", text, re.MULTILINE)
    assert "18 units in 3 jobs" in text


def test_time_is_foretold_from_what_an_extraction_took(spec, told):
    path = spec(data=ODD)
    prepared, dataset, store = ready(path, told)
    done, _ = extract_network(prepared.networks[0], dataset, prepared.resolved.experiment, store, 1, told)
    speed = read_speed(done.collections["body"])
    assert speed is not None
    assert (speed.passes, speed.device, speed.threads) == (10, "cpu", 1)
    assert speed.seconds > 0
    assert "in the store" in shown(path, told)
    more = shown(spec(data=ODD.replace("images: 2", "images: 4")), told)
    assert "features: not measured yet" not in more


def test_rows_stop_at_the_limit_a_class(spec, told):
    text = shown(spec(data=ODD, sampling="{per_class: 20}"), told)
    rows = [line.split() for line in text.splitlines() if re.match(r"tiny +body +(disc|square)", line)]
    assert [row[3] for row in rows] == ["40", "40"]


def test_ablation_is_counted_and_foretold_from_the_speed_of_the_network(spec, told):
    networks, ablation = "{tiny: {use: tiny, layers: [stem, body]}}", "{draws: 4, images: 3}"
    text = shown(spec(backbones=networks, data=ODD, ablation=ablation), told)
    assert re.search(r"30 more with channels set, at most: ablation", text)  # 3 images, 2 concepts, 1 layer, 1 + 4
    assert "ablation not measured yet; the rest not measured yet" in text
    prepared, dataset, store = ready(spec(backbones=networks, data=ODD, ablation=ablation), told)
    extract_network(prepared.networks[0], dataset, prepared.resolved.experiment, store, 1, told)
    assert re.search(
        r"comparisons: ablation (under )?\d+ s; the rest",
        shown(spec(backbones=networks, data=ODD, ablation=ablation), told),
    )


def test_comparisons_take_memory_by_their_channels(spec, told):
    def held(*layers):
        names = ", ".join(layers)
        path = spec(
            backbones=f"{{one: {{use: tiny, layers: [{names}]}}, two: {{use: tiny, layers: [{names}]}}}}", data=ODD
        )
        prepared, dataset, store = ready(path, told)
        resolved = prepared.resolved
        folds = build_folds(resolved, dataset)[0]
        return forecast_comparisons(resolved.experiment, dataset, folds, forecast(prepared, dataset, store))

    one, both = held("body"), held("stem", "body")
    assert (one.pairs, both.pairs) == (1, 4)
    assert one.memory < both.memory
    assert not both.passes


def test_plan_and_run_refuse_what_the_store_has_no_room_for(spec, told, tmp_path):
    path = spec(data=ODD, store="{budget: 100 kB}")
    with pytest.raises(ProbekitError, match="budget"):
        shown(path, told)
    TinyBackbone.loads = TinyBackbone.forwards = 0
    with pytest.raises(ProbekitError, match=r"raise store\.budget"):
        run(path)
    assert (TinyBackbone.loads, TinyBackbone.forwards) == (0, 0)
    assert not (tmp_path / ".probekit-store").exists()
