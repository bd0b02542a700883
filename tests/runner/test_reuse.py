"""What is not done twice: features are extracted once, whatever is asked of them later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import probekit
from probekit.testing.fakes import TinyBackbone

Spec = Callable[..., Path]

DATA = "{{use: odd, with: {{groups: 6, images: 2, height: 64, width: 80, {}}}}}"
L1 = "{l1: {use: l1-path, with: {lambda_ratio: {points: 3, min: 0.1}}}}"
BASE = {"backbones": "{tiny: {use: tiny, layers: [stem, body]}}", "data": DATA.format("concept: disc"), "probes": L1}


@pytest.mark.parametrize(
    "change",
    [
        {"data": DATA.format("concept: null")},  # a concept more
        {"repeats": "2"},
        {"probes": L1[:-1] + ", c: {use: l1-path, with: {C: [0.1]}}}"},
        {"data": DATA.format("concept: disc, left_out: [g01, g02-1]")},
        {"limit": "8"},
        {"backbones": "{tiny: {use: tiny, layers: [body]}}"},
        {"backbones": "{other: {use: tiny, layers: [stem]}}"},
        {"evaluation": "{grid: 16}", "split": "{scheme: holdout, validation: 0.3, test: 0.3}"},
    ],
    ids=lambda change: " ".join(change),
)
def test_no_forward_pass_and_no_model_for_what_is_stored(experiment: Spec, change: dict[str, str]) -> None:
    probekit.run(experiment(**BASE), out="first")
    before = TinyBackbone.forwards, TinyBackbone.loads
    run = probekit.run(experiment(**{**BASE, **change}), out="second")
    assert (TinyBackbone.forwards, TinyBackbone.loads) == before
    assert len(run.points)


def test_only_what_is_missing_is_extracted(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.features.extract.measure", lambda *_: {})  # which passes an image too
    probekit.run(experiment(**{**BASE, "data": DATA.format("concept: disc, left_out: [g00-0, g03-1]")}), out="first")
    before = TinyBackbone.forwards, TinyBackbone.loads
    probekit.run(experiment(**BASE), out="second")
    assert (TinyBackbone.forwards, TinyBackbone.loads) == (before[0] + 2, before[1] + 1)


def test_repeats_draw_again_and_their_mean_has_no_number(experiment: Spec) -> None:
    run = probekit.run(experiment(**{**BASE, "repeats": "2"}))
    scores = run.points.merge(run.results, on="point_id")
    scores = scores[(scores["split"] == "test") & (scores["metric"] == "average_precision")]
    unit = ["backbone", "layer", "concept", "probe", "rung"]
    seen = scores[scores["repeat"].notna()].groupby(unit)["value"].agg(["mean", "nunique", "size"])
    means = scores[scores["repeat"].isna()].set_index(unit)["value"]
    assert (seen["size"] == 2).all()
    assert (seen["nunique"] == 2).any()  # other folds, other rows
    assert means.sort_index().tolist() == pytest.approx(seen["mean"].sort_index().tolist())
    ratios = run.points.groupby([*unit, run.points["repeat"].notna()])["lambda_ratio"].median().unstack()
    assert ratios[False].tolist() == pytest.approx(ratios[True].tolist())
    assert run.points["point_id"].is_unique
