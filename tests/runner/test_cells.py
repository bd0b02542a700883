"""The cells that are scored: the same for all models, each once, however images are cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import probekit
from probekit.runner.run import Run

Spec = Callable[..., Path]

ODD_SIZE = "{use: odd, with: {groups: 6, images: 2, height: 70, width: 91, concept: disc}}"
PLAIN = "{planted: {use: planted}}"
CROPPED = "{planted: {use: planted}, cropped: {use: planted, with: {crop: true, stride: 16}}}"


def sums(run: Run) -> pd.DataFrame:
    """Scored cells and positives of each point."""
    groups = run.table("groups").groupby("point_id")[["tp", "fp", "fn", "tn"]].sum()
    return pd.DataFrame({"cells": groups.sum(axis=1), "positives": groups["tp"] + groups["fn"]})


def test_all_models_are_scored_on_the_same_cells(finished: Run) -> None:
    points = finished.points.set_index("point_id")
    counted = sums(finished).join(points["concept"])
    for concept, of in counted.groupby("concept"):
        labels = finished.info["labels"][concept]
        assert set(of["cells"]) == {labels["scored_cells"]}
        assert set(of["positives"]) == {labels["scored_positives"]}


def test_a_model_that_sees_less_narrows_the_cells_of_all(experiment: Spec) -> None:
    whole = probekit.run(experiment(data=ODD_SIZE, backbones=PLAIN), out="whole")
    narrowed = probekit.run(experiment(data=ODD_SIZE, backbones=CROPPED), out="narrowed")
    labels, fewer = whole.info["labels"]["disc"], narrowed.info["labels"]["disc"]
    assert labels["cells"] == fewer["cells"]
    assert fewer["scored_cells"] < labels["scored_cells"]
    assert whole.info["reference_cells"] != narrowed.info["reference_cells"]
    assert set(sums(narrowed)["cells"]) == {fewer["scored_cells"]}
    # 70 by 91 pixels: the cropped network sees 64 by 80, so 8 by 10 cells of 8 pixels.
    seen = narrowed.table("cells")
    seen = seen[seen["label disc"] != 2]
    assert seen["row"].max() < 8
    assert seen["column"].max() < 10
    assert (whole.table("cells")["label disc"][whole.table("cells")["column"] == 10] != 2).any()
    again = probekit.run(experiment(data=ODD_SIZE, backbones=CROPPED, seed="1"), out="again")
    assert again.info["reference_cells"] != narrowed.info["reference_cells"]  # other pictures, other labels


def margins(run: Run) -> dict[tuple[str, int, int], Mapping[str, float]]:
    """Pooled margins of the full probe by image, row and column."""
    cells = run.table("cells")
    (path,) = (run.path / "scores").iterdir()
    values = load_file(path)["margins"][-1]
    keys = list(zip(cells["image"], cells["row"], cells["column"], strict=True))
    assert len(set(keys)) == len(keys)  # no cell twice
    return dict(zip(keys, values.tolist(), strict=True))


def test_tiles_of_a_local_network_change_no_score(experiment: Spec) -> None:
    data = "{use: odd, with: {groups: 6, images: 1, height: 104, width: 152, concept: disc}}"
    settings = {"data": data, "sampling": "{per_class: 100000}"}
    whole = margins(probekit.run(experiment(**settings), out="whole"))
    tiled_run = probekit.run(experiment(**settings, tile="{size: 64, overlap: 32}"), out="tiled")
    tiled = margins(tiled_run)
    assert tiled.keys() == whole.keys()
    assert len(whole) == 6 * 13 * 19
    keys = sorted(whole)
    np.testing.assert_allclose([tiled[k] for k in keys], [whole[k] for k in keys], atol=2e-3)
    assert len(tiled_run.info["images"]) == 6


def test_a_limit_takes_so_many_images(experiment: Spec) -> None:
    run = probekit.run(experiment(limit="7"))
    assert len(run.info["images"]) == 7
    assert len(set(run.table("cells")["image"])) == 7
    assert len(run.info["groups"]) == 6  # spread over groups


def test_a_hold_out_tests_some_groups_once(experiment: Spec) -> None:
    run = probekit.run(experiment(split="{scheme: holdout, validation: 0.3, test: 0.4}"))
    assert sorted(run.fits["fold"].unique()) == [-1, 0]
    groups = run.table("groups")
    of_one = groups[groups["point_id"] == groups["point_id"].iloc[0]]
    tested = of_one[of_one[["tp", "fp", "fn", "tn"]].sum(axis=1) > 0]
    assert 1 <= len(tested) <= 3
    test = run.results[run.results["split"] == "test"]
    assert set(test["n_groups"]) == {len(tested)}
    assert test["value"].notna().any()


@pytest.mark.parametrize("grid", [5, 8, 24])
def test_any_reference_grid(experiment: Spec, grid: int) -> None:
    run = probekit.run(experiment(evaluation=f"{{grid: {grid}}}", labels="{positive: 0.2, negative: 0.05}"))
    assert len(run.table("cells")) == 12 * -(-64 // grid) * -(-80 // grid)
    full = run.points.loc[(run.points["concept"] == "disc") & (run.points["rung"] == "full"), "point_id"].item()
    test = run.results[(run.results["point_id"] == full) & (run.results["split"] == "test")]
    assert test.loc[test["metric"] == "average_precision", "value"].item() > 0.7
