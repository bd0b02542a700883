"""The methods paragraph says what the run did, in the words of its own settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_fakes import copied, edit, fill

from probekit.report.page.methods import methods
from probekit.report.page.reader import Reader
from probekit.runner.run import Run, load


@pytest.fixture
def said(surveyed: Run, tmp_path: Path) -> Callable[..., str]:
    """The paragraphs once ``run.json``'s spec and tables were changed."""

    def tell(split: dict[str, Any] | None = None, filled: bool = False, **changes: Any) -> str:
        folder = copied(surveyed, tmp_path / "run")
        info = json.loads((folder / "run.json").read_text())
        info["spec"]["split"].update(split or {})
        (folder / "run.json").write_text(json.dumps(info))
        if filled:
            fill(folder)
        for table, values in changes.items():
            edit(folder, table, values if callable(values) else lambda _, values=values: values)
        return "\n".join(methods(Reader(load(folder))))

    return tell


def test_folds_of_groups(said: Callable[..., str], surveyed: Run) -> None:
    text = said()
    split = surveyed.info["spec"]["split"]
    assert (
        f"Each group was tested once, in {split['folds']} folds of whole groups; of each fold's training groups" in text
    )
    assert "of each class and concept, drawn once over all groups" in text
    assert "of which each fold uses its training part" in text
    assert "pixels between" not in text


def test_folds_of_blocks(said: Callable[..., str]) -> None:
    text = said({"by": "blocks", "size": 512, "buffer": 64})
    assert "Each block was tested once, in" in text
    assert "folds of whole blocks; of each fold's training blocks" in text
    assert "at most 512 pixels a side, with at least 64 pixels between" in text
    assert "imagess" not in text


@pytest.mark.parametrize(("by", "unit"), [("groups", "groups"), ("blocks", "blocks")])
def test_a_hold_out_has_no_folds(said: Callable[..., str], by: str, unit: str) -> None:
    text = said({"scheme": "holdout", "test": 0.3, "validation": 0.2, "by": by, "size": 512, "buffer": 64})
    assert f"Whole {unit} were held out: 30 % for test, 20 % for all choices" in text
    assert "of which the training part is used" in text
    assert "pooled" not in text
    assert " fold" not in text.split("The probes were")[0].partition("held out")[2]


def test_sets_of_widths_only_where_there_are_some(said: Callable[..., str]) -> None:
    assert "the set of widths" in said(k_tau={"k": 4, "lo": 2, "hi": 9})


def test_no_sets_of_widths(said: Callable[..., str]) -> None:
    text = said(k_tau={"k": 4, "lo": None, "hi": None})
    assert "the smallest width whose refitted probe" in text
    assert "the set of widths" not in text


@pytest.mark.parametrize(("assumption", "words"), [("none", "takes nothing to be true"), ("r-concave", "r-concave")])
def test_stability_names_its_assumption(said: Callable[..., str], assumption: str, words: str) -> None:
    text = said(stability={"assumption": assumption})
    assert words in text.partition("complementary halves")[2].partition(". ")[0]


def test_a_model_whose_nulls_were_tested(said: Callable[..., str]) -> None:
    text = said(nulls=lambda row: {"p": 0.01, "above": True} if row["decides"] else {})
    assert "a model that was tested and not shown to be above one of them has no rank" in text
    assert "ranked only where" not in text
    assert "could" not in text.partition("has no rank.")[2].partition("Random channels")[0]


def test_a_model_whose_nulls_were_not_tested(said: Callable[..., str]) -> None:
    text = said(nulls={"p": None, "above": None})
    assert "none of them could be tested, which counts neither for a model nor against it" in text
    assert "has no rank" not in text


def test_matches_say_what_chance_is(said: Callable[..., str], surveyed: Run) -> None:
    text = said(filled=True)
    assert "with the trend over the image taken out, each group in its own contrast" in text
    assert f"{surveyed.info['spec']['comparison']['draws']:,} random re-pairings of whole groups" in text
    assert ".025 for each of the two tests" in text
