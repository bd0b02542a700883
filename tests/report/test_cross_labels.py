"""Several label sources side by side on a terminal."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

from probekit.report.cross_labels import cross_label_lines


def row(backbone: str, trained_on: str, scored_on: str, **values: object) -> dict[str, object]:
    return {
        "backbone": backbone, "layer": "neck", "concept": "pothole", "probe": "topk", "rung": "full",
        "trained_on": trained_on, "scored_on": scored_on, "labels": "people" if scored_on == "people" else "own",
        "circular": "sam" in (trained_on, scored_on), "average_precision": 0.4567, "lo": 0.3, "hi": 0.61,
        "reason": None, "cells": 12345, "positives": 600, "groups": 61, "positive_groups": 30, **values,
    }  # fmt: skip


def run(rows: list[dict[str, object]]) -> SimpleNamespace:
    agreement = {
        "concept": "pothole", "one": "people", "other": "sam", "cells": 13000, "both": 1400, "only_one": 210,
        "only_other": 1805, "iou": 0.41, "kappa": -0.05,
    }  # fmt: skip
    columns = list(row("", "", ""))
    tables = {"cross_label": pd.DataFrame(rows, columns=columns), "label_agreement": pd.DataFrame([agreement])}
    return SimpleNamespace(info={"reported_probe": "topk"}, table=tables.__getitem__)


PAIRS = [("people", "people"), ("people", "sam"), ("sam", "people"), ("sam", "sam")]


def test_rows_are_what_was_trained_on_and_columns_what_is_scored_on() -> None:
    rows = [row("sam", *pair, average_precision=0.1 * (i + 1)) for i, pair in enumerate(PAIRS)]
    others = [row("sam", *pair, rung="chosen", average_precision=0.9) for pair in PAIRS]
    others += [row("sam", *pair, probe="mlp", average_precision=0.9) for pair in PAIRS]
    lines = cross_label_lines(run([*rows, *others]))
    assert lines[1].startswith("pothole · trained on one source's labels")
    assert "the 12,345 cells that all of people, sam labelled, 61 groups" in lines[1]
    assert "both 1,400, for one alone 210 and 1,805 cells; IoU .410, kappa -.050" in lines[2]
    assert lines[3].split() == ["trained", "on", "people", "sam"]
    assert lines[4].split() == [
        "sam",
        "neck",
        "people",
        ".100",
        "(.300-.610)",
        ".200",
        "(.300-.610)",
        "own,",
        "circular",
    ]
    assert lines[5].split()[2:5] == ["sam", ".300", "(.300-.610)"]
    assert "circular" in lines[5].split()[5]
    assert len(lines) == 6


def test_what_cannot_be_said_is_not_said() -> None:
    why = "too few groups with this concept: 7 scored, an interval needs 12"
    values = {"lo": None, "hi": None, "average_precision": None, "reason": why, "rung": "chosen"}
    lines = cross_label_lines(run([row("sam", *pair, **values) for pair in PAIRS]))
    assert lines[4].split()[2:4] == ["people", "-"]
    assert lines[-1] == f"  no interval: {why}"
    assert sum(why in line for line in lines) == 1


def test_one_source_has_no_block() -> None:
    assert cross_label_lines(run([])) == []
