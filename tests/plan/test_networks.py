"""Networks and jobs of a spec: twins and controls in their places, layers verified, names that are told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.api import ProbekitError
from probekit.plan.networks import build_networks
from probekit.plan.units import Job, build_jobs
from probekit.spec.load import load_experiment

Spec = Callable[..., Path]


def test_models_first_then_twins_then_controls(experiment: Spec) -> None:
    spec = experiment(
        backbones="{b: {use: tiny, layers: [head, stem]}, a: {use: planted}, r: {use: tiny, with: {weights: random}}}",
        controls="[pixels, twins, position]",
    )
    networks = build_networks(load_experiment(spec))
    assert [(n.name, n.kind, n.of) for n in networks] == [
        ("b", "model", None),
        ("a", "model", None),
        ("r", "random", None),
        ("b random", "twin", "b"),
        ("a random", "twin", "a"),
        ("pixels", "control", None),
        ("position", "control", None),
    ]
    by_name = {n.name: n for n in networks}
    assert [n.name for n in networks if not n.control] == ["b", "a"]
    assert by_name["b random"].layers == by_name["b"].layers == ("head", "stem")  # the spec's order
    assert by_name["b random"].backbone.weights().kind == "random"
    jobs = build_jobs(networks, repeats=2)
    assert [(j.backbone, j.layer) for j in jobs[:3]] == [("b", "head"), ("b", "stem"), ("a", "cells")]
    assert [j.repeat for j in jobs] == sorted(j.repeat for j in jobs)
    assert len(jobs) == 2 * (2 + 1 + 1 + 2 + 1 + 1 + 1)


def test_controls_see_the_cells_that_are_scored(experiment: Spec) -> None:
    for grid in (8, 24):
        spec = experiment(controls="[pixels]", evaluation=f"{{grid: {grid}}}")
        *_, pixels = build_networks(load_experiment(spec))
        assert [tap.stride for tap in pixels.taps.values()] == [(grid, grid)]


def test_all_wrong_layers_at_once_with_the_nearest(experiment: Spec) -> None:
    spec = experiment(backbones="{a: {use: tiny, layers: [stem, haed]}, b: {use: planted, layers: [x]}}")
    with pytest.raises(ProbekitError) as caught:
        build_networks(load_experiment(spec))
    first, second = caught.value.issues
    assert first.where.startswith("spec.yaml:")
    assert "backbones.a.layers[1]" in str(first)
    assert "did you mean 'head'" in first.what
    assert "(there are: cells)" in second.what


def test_no_entry_may_have_a_twins_name(experiment: Spec) -> None:
    networks = build_networks(load_experiment(experiment(controls="[twins]")))
    assert len({network.name for network in networks}) == len(networks)


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=120), st.text(min_size=1, max_size=120), st.integers(0, 3)),
        unique=True,
        min_size=2,
        max_size=6,
    )
)
def test_jobs_have_names_that_are_safe_and_their_own(keys: list[tuple[str, str, int]]) -> None:
    keys = [key for key in keys if "|" not in key[0] + key[1]]
    names = [Job(*key).name for key in keys]
    assert len(set(names)) == len(keys)
    for name in names:
        assert "/" not in name
        assert "\0" not in name
        assert len(name) <= 100


def test_units_are_the_product(experiment: Spec) -> None:
    units = list(Job("a", "b", 1).units(["x", "y"], ["p", "q"], 3))
    assert len(set(units)) == len(units) == 2 * 2 * 3
    assert {unit.repeat for unit in units} == {1}
