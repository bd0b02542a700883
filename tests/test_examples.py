"""Every example runs, with ``--set`` for what lies elsewhere, what cannot be downloaded, and fewer numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import probekit
from probekit.runner.run import Run

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

QUICK = (
    "split.folds=2",
    "sampling.per_class=400",
    "probes.l1.with.lambda_ratio={points: 3, min: 0.1}",
    "probes.topk.with.widths=4",
    "probes.topk.with.k=[5, all]",
    "probes.mlp.with.epochs=2",
)
"""Fewer numbers, the same path through the code."""

SMALL_SAM = "{model: vit_b, weights: random, embed_dim: 32, depth: 9, num_heads: 2, global_attn_indexes: [4]}"


def check(run: Run, models: set[str], controls: set[str]) -> None:
    backbones = run.info["backbones"]
    assert {name for name, about in backbones.items() if not about["control"]} == models
    assert {name for name, about in backbones.items() if about["control"]} == controls
    points = run.points
    assert set(points["backbone"]) == models | controls
    assert set(points["probe"]) == {"l1", "topk", "mlp"}
    assert run.results["value"].notna().any()
    refits = run.k_tau[run.k_tau["probe"] == "topk"]
    assert len(refits) == 3 * len(run.info["concepts"]) * sum(len(about["layers"]) for about in backbones.values())


def test_quickstart(tmp_path: Path) -> None:
    run = probekit.run(
        EXAMPLES / "quickstart.yaml",
        [*QUICK, "data.with={flights: 6, scenes: 1, size: 384}", f"store.path={tmp_path / 'store'}"],
        out=tmp_path / "run",
    )
    models = {"mobilenet-v1", "mobilenet-v2"}
    check(run, models, {f"{name} random" for name in models} | {"pixels"})


@pytest.mark.shared
def test_road_damage(tmp_path: Path, shared: Path) -> None:
    run = probekit.run(
        EXAMPLES / "road-damage.yaml",
        [*QUICK, f"data.with.root={shared / 'data' / 'road-damage'}", "limit=8", f"store.path={tmp_path / 'store'}"],
        out=tmp_path / "run",
    )
    models = {"mobilenet-v1", "mobilenet-v2"}
    check(run, models, {f"{name} random" for name in models} | {"pixels", "position", "random-conv"})


@pytest.mark.shared
def test_sam_vs_faster_rcnn(tmp_path: Path, shared: Path) -> None:
    run = probekit.run(
        EXAMPLES / "sam-vs-faster-rcnn.yaml",
        [
            *QUICK,
            f"data.with.root={shared / 'data' / 'road-damage'}",
            "limit=8",
            "labels={positive: 0.1, negative: 0.02}",  # on the coarse grid of layer4 few cells are a quarter crack
            f"store.path={tmp_path / 'store'}",
            f"backbones.sam.with={SMALL_SAM}",
            "backbones.faster-rcnn.with={model: fasterrcnn_resnet50_fpn, weights: random}",
        ],
        out=tmp_path / "run",
    )
    models = {"mobilenet-v1", "mobilenet-v2"}
    # Random weights make a network a control: it is probed and never ranked.
    check(run, models, {f"{name} random" for name in models} | {"sam", "faster-rcnn", "pixels", "position"})
