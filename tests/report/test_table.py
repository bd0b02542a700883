"""The table that a run ends with: what it says is what the tables hold, for runs of every shape."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import probekit
from probekit.report.compared import _matched
from probekit.report.comparison import compare_models, ranked_channels
from probekit.report.console import ConsoleProgress
from probekit.report.table import print_json, print_places, print_run
from probekit.runner.run import Run

Spec = Callable[..., Path]

L1 = "{l1: {use: l1-path, with: {lambda_ratio: {points: 3, min: 0.1}}}}"


def shown(run: Run, *, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, highlight=False, width=60, force_terminal=terminal)
    print_run(run, console)
    print_places(run, console)
    return out.getvalue()


def test_models_by_score_controls_apart(finished: Run) -> None:
    text = shown(finished)
    tables = re.split(r"\n(?=disc|square)", text)[1:]
    assert [table.split(" ", 1)[0] for table in tables] == ["disc", "square"]
    for table, comparison in zip(tables, compare_models(finished), strict=True):
        models, controls = table.partition("    controls\n")[::2]
        scores = [line.score for line in comparison.models]
        assert scores == sorted(scores, reverse=True)
        places = [models.index(f"{line.backbone} {line.layer}") for line in comparison.models]
        assert places == sorted(places)
        assert " random " not in models.partition("\n")[2].replace("random channels", "")
        for line in comparison.controls:
            assert line.backbone in controls
        assert f"natural prevalence {100 * prevalence(finished, comparison.concept):.1f} %" in table


def prevalence(run: Run, concept: str) -> float:
    points = run.points[run.points["concept"] == concept]
    results = run.results[(run.results["metric"] == "prevalence") & run.results["point_id"].isin(points["point_id"])]
    (value,) = set(results["value"])
    return float(value)


def test_the_figures_are_those_of_the_tables(finished: Run) -> None:
    results = finished.results.set_index(["point_id", "split", "sampling", "metric"])["value"]
    for comparison in compare_models(finished):
        for line in (*comparison.models, *comparison.controls):
            point = f"{line.backbone}|{line.layer}|{comparison.concept}|topk|0|observed|full"
            assert line.score == results[point, "test", "natural", "average_precision"]
            assert f"{line.score:.3f}".removeprefix("0") in shown(finished)
            ks = finished.k_tau[
                (finished.k_tau["backbone"] == line.backbone)
                & (finished.k_tau["layer"] == line.layer)
                & (finished.k_tau["concept"] == comparison.concept)
                & (finished.k_tau["probe"] == "topk")
            ].set_index("tau")["k"]
            assert {tau: at.k for tau, at in line.k.items() if at.k is not None} == ks.dropna().astype(int).to_dict()
            assert line.channels == finished.info["backbones"][line.backbone]["layers"][line.layer]["channels"]


def test_a_model_that_is_not_above_its_nulls_is_called_so(experiment: Spec) -> None:
    data = "{use: odd, with: {groups: 14, images: 1, height: 64, width: 80, concept: disc}}"
    run = probekit.run(experiment(data=data, controls="[pixels]"))
    (comparison,) = compare_models(run)
    (line,) = comparison.models
    assert (line.verdict, line.rank) == ("not above", None)  # brightness is all that a disc is
    assert re.search(
        r"planted cells is not shown to be above pixels · \S+ \(AP [.0-9]+; one-sided p [.0-9]+\)", shown(run)
    )


def test_intervals_sets_and_differences_are_shown_as_they_stand_in_the_tables(surveyed: Run) -> None:
    text = shown(surveyed)
    for row in surveyed.models.itertuples():
        if row.lo == row.lo:
            score, lo, hi = (f"{v:.3f}".removeprefix("0") for v in (row.score, row.lo, row.hi))
            assert f"{score} [{lo}, {hi}]" in text
    assert "AP [95 %]" in text
    assert "k@95 [set]" in text
    assert "Intervals speak for new groups like these (16 groups" in text


def test_few_groups_have_a_sentence_instead_of_intervals(finished: Run) -> None:
    text = shown(finished)
    assert "No intervals: too few groups with this concept: 6 scored, an interval needs 12." in text
    assert "[95 %]" not in text


def test_a_model_without_interval_is_named_where_others_have_one(surveyed: Run) -> None:
    changed = Run(surveyed.path, surveyed.info)
    models = surveyed.models.assign(reason=None, lo=0.1, hi=0.9)
    models.loc[models["backbone"] == "tiny random", ["lo", "hi"]] = float("nan")
    models.loc[models["backbone"] == "tiny random", "reason"] = "undefined"
    changed.__dict__["models"] = models
    text = shown(changed)
    assert "No interval for tiny random stem: undefined." in text
    assert "No intervals" not in text
    assert "AP [95 %]" in text


def test_matches_on_the_terminal_add_up() -> None:
    rows = pd.DataFrame(
        [
            {"kind": "one-to-one", "related": True, "r": -0.8, "r2": 0.7, "reason": None},
            {"kind": "one-to-many", "related": True, "r": 0.4, "r2": 0.5, "reason": None},
            {"kind": "unmatched", "related": True, "r": 0.2, "r2": 0.1, "reason": None},
            {"kind": None, "related": None, "r": None, "r2": None, "reason": "too few draws"},
            {"kind": None, "related": None, "r": None, "r2": None, "reason": "constant"},
        ]
    )
    assert _matched(rows) == (
        "5 channels: 1 one-to-one (median |r| .800), 1 one-to-many (median R² .500), 1 unmatched (1 of them related, "
        "by less than a quarter of the variance), 2 not tested: too few draws (1); constant (1)"
    )
    assert _matched(rows[4:]) == "1 channel: 1 not tested: constant"


def test_signed_channels(finished: Run) -> None:
    for concept, sign in (("disc", "towards"), ("square", "against")):
        ranked = ranked_channels(finished, concept, "planted", "cells")
        assert ranked is not None
        assert ranked.label == "k95"
        channel, weight, folds, _ = getattr(ranked, sign)[0]
        assert (channel, folds) == (2, 1.0)
        assert (weight > 0) == (sign == "towards")
    assert ranked_channels(finished, "disc", "planted", "nothing") is None


def test_figures_keep_their_columns(finished: Run) -> None:
    """One channel is no "1 channels"; a perfect score is no wider than others."""
    text = shown(finished)
    assert "planted cells, 1 channel for" in text
    perfect = Run(finished.path, finished.info)
    perfect.__dict__["models"] = finished.models.assign(score=1.0)
    rows = [line for line in shown(perfect).splitlines() if re.match(r"[ 0-9]+(planted|tiny|pixels)\b.* 1\.000 ", line)]
    assert len({row.index(" 1.000 ") for row in rows}) == 1
    assert len(rows) == 2 * 7


def test_json_is_complete(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    print_json(finished)
    found = json.loads(capsys.readouterr().out)
    assert [concept["concept"] for concept in found["concepts"]] == finished.info["concepts"]
    for concept in found["concepts"]:
        assert len(concept["models"]) == 7
        for model in concept["models"]:
            assert 0 <= model["average_precision"]["value"] <= 1
            assert [abs(c["coefficient"]) for c in model["ranked"]] == sorted(
                (abs(c["coefficient"]) for c in model["ranked"]), reverse=True
            )


@pytest.mark.parametrize(
    "shape",
    [
        {"probes": L1},
        {"probes": L1, "repeats": "2", "controls": "[pixels]"},
        {"repeats": "2", "data": "{use: odd, with: {groups: 6, images: 1, concept: disc}}"},
        {"split": "{scheme: holdout, validation: 0.3, test: 0.3}", "controls": "[twins]"},
        {"probes": "{mlp: {use: mlp, with: {hidden: [4], epochs: 2}}}"},
        {"backbones": "{random: {use: planted, with: {weights: random}}}"},
    ],
    ids=["no full probe", "repeats without it", "repeats", "hold-out", "mlp", "controls only"],
)
def test_runs_of_every_shape_can_be_shown(
    experiment: Spec, shape: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = probekit.run(experiment(**shape))
    text = shown(run)
    assert "nan" not in text.lower()
    assert "None" not in text
    assert text.count("natural prevalence") == len(run.info["concepts"])
    assert ("mean of 2 repeats" in text) == ("repeats" in shape)
    assert ("held out" in text) == ("split" in shape)
    assert "runs/fake/*.parquet" in text
    print_json(run)
    assert json.loads(capsys.readouterr().out)["name"] == "fake"


def test_a_narrow_window_breaks_no_line(finished: Run) -> None:
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown(finished, terminal=True)) == shown(finished)


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, width=200)) as progress:
        progress.start("Features", "a b", 3, "images")
        for _ in range(3):
            progress.advance(1)
        progress.finish("1.1 GB")
        progress.start("Features", "c", 2, "images")
        progress.finish("from the store")
        progress.say("[bold] is no markup")
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # a line a stage: no bar, no line an image
    assert "3/3 images" in lines[0]
    assert "1.1 GB" in lines[0]
    assert lines[1].rstrip().endswith("from the store")
    assert "image/s" not in lines[1]
    assert lines[2] == "[bold] is no markup"
    assert "\x1b" not in out.getvalue()


def test_a_bar_is_closed_when_the_run_fails() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with ConsoleProgress(console) as progress:  # as a run that raises leaves it
        progress.start("Probes", "l1", 10, "units")
        progress.advance(4, "here")
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l") >= 0  # the cursor is there again
