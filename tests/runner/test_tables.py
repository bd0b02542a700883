"""The tables of a run: the documented columns, keys that lead somewhere, numbers that agree with one another."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

import probekit
from probekit.evaluate.groups import histogram_average_precision
from probekit.evaluate.scores import average_precision, roc_auc
from probekit.runner.run import Run
from probekit.runner.schemas import SCHEMAS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "results.md"


def documented(table: str) -> list[str]:
    """The columns that the page describes, in its order."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    (text,) = [part for part in section if part.startswith(f"{table}\n")]
    cells = re.findall(r"^\| (`[^|]*`) \|", text, flags=re.M)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("table", SCHEMAS)
def test_columns_are_those_of_the_page(finished: Run, table: str) -> None:
    assert documented(table) == SCHEMAS[table].names
    assert pq.read_schema(finished.path / f"{table}.parquet").equals(SCHEMAS[table])


def test_the_page_names_every_file(finished: Run) -> None:
    named = PAGE.read_text().partition("\n## ")[0]
    for path in finished.path.iterdir():
        assert path.name == ".lock" or f"`{path.name}" in named, path.name


def test_keys_lead_somewhere(finished: Run) -> None:
    points, fits = finished.points, finished.fits
    assert points["point_id"].is_unique
    assert fits["fit_id"].is_unique
    ids = set(points["point_id"])
    assert set(finished.results["point_id"]) == set(finished.table("groups")["point_id"]) == ids
    assert set(finished.table("replicates")["point_id"]) == ids
    assert set(fits["point_id"]) == ids
    assert set(finished.table("histograms")["point_id"]) <= ids
    assert set(finished.channels["fit_id"]) == set(fits.loc[fits["fold"] == -1, "fit_id"])
    sizes = finished.channels.groupby("fit_id").size()
    finals = fits[fits["fold"] == -1].set_index("fit_id")["n_channels"]
    assert sizes.sort_index().tolist() == finals.sort_index().tolist()
    unit = ["backbone", "layer", "concept", "probe", "repeat", "condition"]
    assert not finished.results.duplicated(["point_id", "split", "sampling", "metric"]).any()
    assert not finished.k_tau.duplicated([*unit, "tau"]).any()
    assert fits[fits["fold"] >= 0].groupby(["point_id"]).size().eq(3).all()  # a fit a fold


def test_one_fit_a_fold_is_chosen(finished: Run) -> None:
    fits = finished.fits.merge(finished.points, on="point_id")
    fits = fits[fits["fold"] >= 0]
    for _, path in fits.groupby(["backbone", "layer", "concept", "probe", "fold"]):
        assert path["chosen"].sum() == 1
        assert path.loc[path["chosen"], "validation_ap"].item() == path["validation_ap"].max()


def test_sums_by_group_are_the_pooled_scores(finished: Run) -> None:
    sums = finished.table("groups").groupby("point_id")[["tp", "fp", "fn", "tn"]].sum()
    test = finished.results[(finished.results["split"] == "test") & (finished.results["sampling"] == "natural")]
    scores = test.pivot_table(index="point_id", columns="metric", values="value", dropna=False).loc[sums.index]
    expected = pd.DataFrame(
        {
            "precision": sums.tp / (sums.tp + sums.fp),
            "recall": sums.tp / (sums.tp + sums.fn),
            "f1": 2 * sums.tp / (2 * sums.tp + sums.fp + sums.fn),
            "iou": sums.tp / (sums.tp + sums.fp + sums.fn),
            "prevalence": (sums.tp + sums.fn) / sums.sum(axis=1),
        }
    )
    for metric, values in expected.items():
        np.testing.assert_allclose(scores[metric], values, rtol=1e-12, err_msg=str(metric))


def test_histograms_give_the_average_precision(finished: Run) -> None:
    groups = finished.table("groups")
    exact = scores_of(finished, "average_precision")
    for row in finished.table("histograms").itertuples():
        own = groups[groups["point_id"] == row.point_id]
        positives, negatives = np.stack(own["positives"]).sum(axis=0), np.stack(own["negatives"]).sum(axis=0)
        assert positives.sum() == (own["tp"] + own["fn"]).sum()
        assert negatives.sum() == (own["fp"] + own["tn"]).sum()
        assert abs(histogram_average_precision(positives, negatives, row.tied) - exact[row.point_id]) < 4e-5
    reported = set(finished.table("histograms")["point_id"])
    assert groups["positives"].notna().eq(groups["point_id"].isin(reported)).all()


def test_the_bootstrap_stands_beside_the_intervals_where_it_is_asked_for(finished: Run, surveyed: Run) -> None:
    assert finished.results["bootstrap_lo"].isna().all()
    rows = surveyed.results.merge(surveyed.points, on="point_id")
    given = rows[rows["bootstrap_lo"].notna()]
    assert set(given["metric"]) == {"average_precision", "f1"}
    assert set(given["rung"]) == {"chosen", "full"}
    assert given["repeat"].isna().all()  # two repeats: their means are what is reported
    assert (given["sampling"] == "natural").all()
    assert (given["bootstrap_lo"] < given["bootstrap_hi"]).all()
    within = given["value"].between(given["bootstrap_lo"], given["bootstrap_hi"])
    assert within.mean() > 0.9
    ratio = (given["bootstrap_hi"] - given["bootstrap_lo"]) / (given["hi"] - given["lo"])
    assert 0.3 < ratio.median() < 1.5


def scores_of(run: Run, metric: str) -> pd.Series:
    results = run.results
    return results[
        (results["split"] == "test") & (results["sampling"] == "natural") & (results["metric"] == metric)
    ].set_index("point_id")["value"]


def test_score_maps_give_the_same_scores_cell_by_cell(finished: Run) -> None:
    """The last word: margins of every reference cell and the labels of these cells."""
    cells = finished.table("cells")
    for metric, score in (("average_precision", average_precision), ("roc_auc", roc_auc)):
        expected, seen = scores_of(finished, metric), 0
        for path in (finished.path / "scores").iterdir():
            with safe_open(path, "numpy") as file:
                names, margins = json.loads(file.metadata()["points"]), file.get_tensor("margins")
            assert margins.shape == (len(names), len(cells))
            for name, row in zip(names, margins, strict=True):
                labels = cells[f"label {name.split('|')[2]}"].to_numpy()
                known = labels != 2
                assert not np.isnan(row[known]).any()
                assert score(row[known], labels[known]) == pytest.approx(expected[name], abs=1e-12)
                seen += 1
        assert seen >= 7 * 2 * 3


def test_a_run_opens_without_plugins(finished: Run, child: Callable[..., subprocess.Popen[str]]) -> None:
    text = (
        "import importlib.metadata, sys\n"
        "importlib.metadata.entry_points = lambda **_: ()\n"
        "import probekit\n"
        "run = probekit.load(sys.argv[1])\n"
        "print(len(run.points), len(run.results), len(run.channels))\n"
        "from probekit.cli import main\n"
        "assert main(['show', sys.argv[1]]) == 0\n"
        "assert main(['show', sys.argv[1], '--json']) == 0\n"
        "loaded = [name for name in sys.modules if name.startswith(('probekit_', 'run_fakes', 'torch.'))]\n"
        "assert not loaded, loaded\n"
    )
    process = child("-c", text, str(finished.path))
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert output.startswith(f"{len(finished.points)} {len(finished.results)} {len(finished.channels)}\n")


def test_frames(finished: Run) -> None:
    run = probekit.load(finished.path)
    for frame in (run.points, run.results, run.fits, run.channels, run.k_tau):
        assert isinstance(frame, pd.DataFrame)
        assert len(frame)
    assert run.points is run.points
    with pytest.raises(probekit.api.ProbekitError, match="the run has ablation, cells"):
        run.table("nothing")
