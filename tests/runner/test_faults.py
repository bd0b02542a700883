"""What is wrong with what the user gave is one line each: before any forward pass where it can be known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import probekit
from probekit.api import ProbekitError
from probekit.testing.fakes import TinyBackbone

Spec = Callable[..., Path]

SIZE = "groups: 6, images: 2, height: 64, width: 80"
TOPK = "topk: {{use: l2-subsets, with: {{rank_by: l1, k: {}, widths: 3, ridges: [0.1]}}}}"
L1 = "l1: {use: l1-path, with: {lambda_ratio: {points: 3, min: 0.1}}}"


def lines(spec: Path, *overrides: str) -> list[str]:
    """The errors of a run that must fail; none may look like a bug."""
    with pytest.raises(ProbekitError) as caught:
        probekit.run(spec, overrides)
    found = str(caught.value).splitlines()
    assert len(found) == max(len(caught.value.issues), 1)
    return found


def test_undecodable_photographs_are_skipped_counted_and_listed(experiment: Spec) -> None:
    run = probekit.run(experiment(data=f"{{use: odd, with: {{{SIZE}, broken: [g01-0, g04-1]}}}}"))
    assert run.info["skipped"] == {"g01-0": "no photograph", "g04-1": "no photograph"}
    assert len(run.info["images"]) == 10
    assert [w for w in run.info["warnings"] if "skipped" in w] == [
        "g01-0 skipped: no photograph",
        "g04-1 skipped: no photograph",
    ]
    assert set(run.table("cells")["image"]) == set(run.info["images"])


def test_under_strict_they_stop_the_run(experiment: Spec) -> None:
    found = lines(experiment(data=f"{{use: odd, with: {{{SIZE}, broken: [g01-0, g04-1]}}}}"), "strict=true")
    assert [line.split()[0] for line in found] == ["g01-0", "g04-1"]


def test_no_photograph_decodes(experiment: Spec) -> None:
    names = [f"g{group:02d}" for group in range(6)]
    (line,) = lines(experiment(data=f"{{use: odd, with: {{{SIZE}, broken: {names}}}}}"))
    assert "none of 12 photographs can be decoded" in line


def test_nan_names_image_and_layer(experiment: Spec) -> None:
    spec = experiment(
        data=f"{{use: odd, with: {{{SIZE}, white: [g03-1]}}}}",
        backbones="{planted: {use: planted, with: {nan_on_white: true}}}",
    )
    (line,) = lines(spec)
    assert "planted gives NaN or infinity on image g03-1 at layer cells" in line
    assert "channel 3" in line


def test_a_class_that_is_empty_in_a_fold_stops_before_any_forward_pass(experiment: Spec) -> None:
    before = TinyBackbone.loads
    data = f"{{use: odd, with: {{{SIZE}, empty: [g00, g01, g02, g03, g04]}}}}"
    found = lines(experiment(data=data, backbones="{tiny: {use: tiny}}"))
    assert TinyBackbone.loads == before
    assert not Path(".probekit-store").exists()
    assert len(found) == 2
    for line, concept in zip(found, ("disc", "square"), strict=True):
        assert f"has no positive '{concept}' in" in line
        assert "1 of the groups holds all of them" in line
        assert "spec.yaml:" in line
    (line,) = lines(experiment(), "split.folds=9")
    assert "9 folds need at least 9 groups" in line


def test_a_class_that_only_the_common_cells_lack(experiment: Spec) -> None:
    """A network that sees the top left corner only leaves some fold without a disc."""
    spec = experiment(backbones="{corner: {use: planted, with: {crop: true, stride: 40}}}", evaluation="{grid: 8}")
    found = lines(spec, "data.with.radius=6", "data.with.images=1")
    assert all("on the cells that all models see" in line and "fold" in line for line in found)
    assert any("'disc'" in line for line in found)


def test_a_layer_too_coarse_for_the_concept_is_named(experiment: Spec) -> None:
    spec = experiment(backbones="{coarse: {use: planted, with: {stride: 32}}}", evaluation="{grid: 4}")
    found = lines(spec, "data.with.radius=4")
    assert all(line.startswith("coarse cells") and "positive" in line for line in found)
    assert any("'disc' in validation on this layer's grid" in line for line in found)


def test_an_image_smaller_than_a_cell_is_named_before_any_forward_pass(experiment: Spec) -> None:
    (line,) = lines(experiment(backbones="{huge: {use: planted, with: {stride: 200}}, planted: {use: planted}}"))
    assert line.startswith("huge cells")
    assert "fits into image g00-0 (and 11 more)" in line
    assert not Path(".probekit-store").exists()


def test_no_image_at_all(experiment: Spec) -> None:
    (line,) = lines(experiment(), "data.with.left_out=[g00, g01, g02, g03, g04, g05]")
    assert "holds no image" in line


def test_tiles_that_overlap_too_much(experiment: Spec) -> None:
    (line,) = lines(experiment(tile="{size: 32, overlap: 28}"))
    assert "tile.overlap" in line
    assert "spec.yaml:" in line
    assert "at most 24" in line


def test_a_device_that_is_not_there_is_one_error(experiment: Spec) -> None:
    both = "{planted: {use: planted}, tiny: {use: tiny}}"
    (line,) = lines(experiment(backbones=both), "device=cuda:99")
    assert line.startswith("--set device=cuda:99")
    (line,) = lines(experiment(backbones="{planted: {use: planted, device: cuda:99}}"))
    assert line.startswith("spec.yaml:")


def test_too_few_rows_drawn_are_named(experiment: Spec) -> None:
    found = lines(experiment(), "sampling.per_class=1")
    assert all(line.startswith("planted cells") and "raise sampling.per_class (1)" in line for line in found)


def test_k_above_every_width_is_an_error_above_one_it_is_noted(experiment: Spec) -> None:
    both = "{planted: {use: planted}, tiny: {use: tiny, layers: [body]}}"
    found = lines(experiment(backbones=both, probes=f"{{{L1}, {TOPK.format('[2, 17, 40]')}}}"))
    assert len(found) == 2
    assert "probes.topk.with.k[1]: k = 17: above every layer's width, the widest has 16 channels" in found[0]
    assert "spec.yaml:" in found[1]
    assert "k = 40" in found[1]
    run = probekit.run(experiment(backbones=both, probes=f"{{{L1}, {TOPK.format('[2, 6, 10, all]')}}}"))
    assert [w for w in run.info["warnings"] if "dropped" in w] == [
        "topk: k = 10 dropped for planted cells, which has 6 channels"
    ]
    points = run.points[(run.points["probe"] == "topk") & (run.points["concept"] == "disc")]
    rungs = points.groupby("backbone")["rung"].agg(set)
    assert {"2", "full", "chosen"} <= rungs["planted"]
    assert "10" not in rungs["planted"]
    assert {"2", "6", "10"} <= rungs["tiny"]


def test_default_k_above_every_width_are_no_error(experiment: Spec) -> None:
    run = probekit.run(experiment(probes=f"{{{L1}, topk: {{use: l2-subsets, with: {{rank_by: l1, widths: 2}}}}}}"))
    assert any("k = 100" in warning and "dropped" in warning for warning in run.info["warnings"])


def test_circular_labels_warn(experiment: Spec) -> None:
    spec = experiment(
        data=f"{{use: odd, with: {{{SIZE}, model: planted}}}}",
        backbones="{planted: {use: planted}, other: {use: planted, with: {kind: other}}}",
        controls="[twins]",
        allow_circular="true",
    )
    warnings = probekit.run(spec).info["warnings"]
    circular = [warning for warning in warnings if "circular" in warning]
    assert len(circular) == 1
    assert circular[0].startswith("planted: its labels were made by a model of its own family (planted)")


def test_concepts_of_like_names_are_kept_apart(experiment: Spec) -> None:
    """Files named by concepts and probes that differ in one odd character only."""
    probes = f"{{a.b: {L1.partition(':')[2]}, a_b: {{use: l1-path, with: {{C: [0.1]}}}}}}"
    run = probekit.run(experiment(probes=probes))
    (job,) = (run.path / "scorers").iterdir()
    assert len(list(job.iterdir())) == 2 * 2


def test_missing_weights_are_found_before_any_work(experiment: Spec) -> None:
    (line,) = lines(experiment(backbones="{planted: {use: planted, with: {weights: none.bin}}}"))
    assert "spec.yaml:" in line
    assert "backbones.planted.with.weights" in line
    assert not Path(".probekit-store").exists()


def test_a_store_that_is_full_says_so(experiment: Spec) -> None:
    (line,) = lines(experiment(), "store.budget=1000")
    assert "store.budget" in line
