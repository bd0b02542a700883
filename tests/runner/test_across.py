"""Finished runs compared from their folders: a run and its copy agree in everything, others are refused or named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from probekit.api import ProbekitError
from probekit.cli import main
from probekit.runner.comparisons.across import compare_runs, write_across
from probekit.runner.run import Run, load
from probekit.runner.schemas import SCHEMAS


@pytest.fixture
def twin_run(surveyed: Run, tmp_path: Path) -> Run:
    """A copy of a finished run, to be changed at will."""
    shutil.copytree(surveyed.path, tmp_path / "copy")
    return load(tmp_path / "copy")


def edited(run: Run, **values: object) -> Run:
    """The run with other values in ``run.json``."""
    (run.path / "run.json").write_text(json.dumps({**run.info, **values}))
    return load(run.path)


def test_a_run_and_its_copy_share_everything(surveyed: Run, twin_run: Run) -> None:
    found = compare_runs([surveyed, twin_run], draws=99)
    assert found.notes == []
    same = [row for row in found.differences if row["layer_a"] == row["layer_b"]]
    assert {row["concept"] for row in same} == {"disc", "square"}
    for row in same:
        assert row["backbone_a"] == f"copy/{row['backbone_b'].partition('/')[2]}"
        assert row["difference"] == 0
        assert row["established"] is False
    scores = surveyed.models.set_index(["backbone", "layer", "concept"])["score"]
    apart = [row for row in found.differences if row["layer_a"] != row["layer_b"]]
    assert apart
    for row in apart:
        one, other = (
            scores[row[f"backbone_{side}"].partition("/")[2], row[f"layer_{side}"], row["concept"]] for side in "ab"
        )
        assert row["difference"] == pytest.approx(one - other, abs=1e-12)
    matches = [row for row in found.matches if row["layer_a"] == row["layer_b"]]
    assert matches
    for row in matches:
        assert abs(row["r"]) == pytest.approx(1, abs=1e-5)
        assert row["kind"] == "one-to-one"
    for row in found.subspaces:
        if row["layer_a"] == row["layer_b"]:
            assert row["r2"] > 0.98


def test_the_tables_are_those_of_a_run(surveyed: Run, twin_run: Run, tmp_path: Path) -> None:
    found = compare_runs([surveyed, twin_run], draws=19)
    write_across(found, tmp_path / "out")
    for name in ("matches", "subspaces", "differences"):
        table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert table.schema.equals(SCHEMAS[name])
        assert len(table) == len(getattr(found, name)) > 0


def test_what_differs_is_said(surveyed: Run, finished: Run, twin_run: Run) -> None:
    with pytest.raises(ProbekitError, match="their images differ: 16 and 12, of which 6 are in both"):
        compare_runs([surveyed, finished])
    spec = {**twin_run.info["spec"], "evaluation": {**twin_run.info["spec"]["evaluation"], "grid": 16}}
    with pytest.raises(ProbekitError, match="cells of 8 px and of 16 px"):
        compare_runs([surveyed, edited(twin_run, spec=spec)])
    spec["evaluation"]["grid"] = 8
    with pytest.raises(ProbekitError, match="same names, and differ"):
        compare_runs([surveyed, edited(twin_run, spec=spec, images_digest="sha256:0")])
    with pytest.raises(ProbekitError, match="a second run named"):
        compare_runs([surveyed, surveyed])


def test_labels_that_differ_are_not_compared(surveyed: Run, twin_run: Run) -> None:
    table = pq.read_table(twin_run.path / "cells.parquet")
    labels = table["label disc"].to_numpy().copy()
    turned = np.flatnonzero(labels == 0)[:7]
    labels[turned] = 1
    place = table.column_names.index("label disc")
    pq.write_table(table.set_column(place, "label disc", pa.array(labels)), twin_run.path / "cells.parquet")
    found = compare_runs([surveyed, twin_run], draws=0)
    assert {row["concept"] for row in found.differences} == {"square"}
    (note,) = found.notes
    assert note.startswith(f"disc: {surveyed.path.name} and copy label 7 of ")
    assert found.matches == []


def test_runs_of_other_repeats_and_probes_are_compared_and_said(surveyed: Run, twin_run: Run) -> None:
    both = compare_runs([surveyed, twin_run], draws=0)
    for path in sorted((twin_run.path / "scores").glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            if json.loads(file.metadata()["points"])[0].split("|")[4] == "0":
                path.unlink()
    found = compare_runs([surveyed, twin_run], draws=0)
    name = surveyed.path.name
    assert found.notes == [
        f"{concept}: scores are means over repeats, 1 in copy and 2 in {name}; p is of the 1 that both have"
        for concept in twin_run.info["concepts"]
    ]
    same = [row for row in found.differences if row["layer_a"] == row["layer_b"]]
    assert {row["p"] for row in same} == {1.0}  # of the second repeat, which is the same in both
    assert any(row["difference"] != 0 for row in same)
    assert len(found.differences) == len(both.differences)
    (other,) = {probe for probe in surveyed.info["spec"]["probes"] if probe != surveyed.info["reported_probe"]}
    found = compare_runs([surveyed, edited(twin_run, reported_probe=other)], draws=0)
    assert found.notes[0] == (
        f"{name} reports the probe {surveyed.info['reported_probe']}, copy {other}: what differs may be the probes; "
        "differences name that of backbone_a"
    )
    for row in found.differences:
        assert row["probe"] == (other if row["backbone_a"].startswith("copy/") else surveyed.info["reported_probe"])


def test_on_a_terminal(surveyed: Run, twin_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(surveyed.path)]) == 0
    of_one = capsys.readouterr().out
    assert "planted cells in tiny stem" in of_one
    assert main(["compare", str(surveyed.path), str(twin_run.path), "--draws", "99"]) == 0
    of_two = capsys.readouterr().out
    assert "one-to-one (median |r| 1.000)" in of_two
    assert "not established" in of_two
    assert main(["compare", str(surveyed.path), "--out", "x"]) == 2
    assert "--out is for several runs" in capsys.readouterr().err


def test_a_folder_that_was_copied_in_part_is_named(surveyed: Run, twin_run: Run) -> None:
    matches = twin_run.path / "matches.parquet"
    matches.write_bytes(matches.read_bytes()[:100])
    with pytest.raises(ProbekitError, match=r"matches\.parquet.*is damaged"):
        twin_run.table("matches")
    shutil.rmtree(twin_run.path / "sample")
    with pytest.raises(ProbekitError, match=r"sample.*holds no features of planted cells"):
        compare_runs([surveyed, twin_run], draws=99)
