"""The page of a run: every number is the tables' own, sentences say what is established and no more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from page_fakes import copied, edit, fill, write_rows

import probekit
from probekit.cli import main
from probekit.report.page import page_html, write_report
from probekit.report.page.methods import methods
from probekit.report.page.parts import Faint, Strong, Value
from probekit.report.page.reader import Reader
from probekit.report.page.sentences import answers
from probekit.report.pictures import detections
from probekit.runner.run import Run, load

_VOID = {"meta", "link", "img", "br", "input", "hr"}
_NAMES = ("backbone", "layer", "concept", "channel", "backbone-a", "layer-a", "backbone-b", "layer-b", "later")


class Page(HTMLParser):
    """Numbers with their source and the names of their row or card; cells of tables; ids, headings, labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[str, str, str, dict[str, str]]] = []
        self.bare: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.addresses: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._source: tuple[str, str] | None = None
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.addresses += [found[key] for key in ("src", "href", "xlink:href", "action") if key in found]
        if tag not in _VOID:
            self._open.append((tag, found))
        if tag == "data":
            self._source = found["value"], found["data-from"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            self.handle_starttag(tag, attrs)
            return
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open[-1][0] == tag, (self._open[-1][0], tag)
        self._open.pop()
        if tag == "data":
            self._source = None

    def handle_data(self, data: str) -> None:
        if self._source is not None:
            where = {key[5:]: value for _, found in self._open for key, value in found.items() if key[5:] in _NAMES}
            self.numbers.append((data, *self._source, where))
        elif any("n" in found.get("class", "").split() for tag, found in self._open if tag == "td"):
            self.bare += re.findall(r"[0-9.]*[0-9]", data.replace("at 50/50", ""))


@pytest.fixture(scope="module")
def filled(surveyed: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with rows in every table."""
    return fill(copied(surveyed, tmp_path_factory.mktemp("filled") / "run"))


@pytest.fixture(scope="module")
def text(filled: Run) -> str:
    return page_html([filled])


def true_value(run: Run, source: str) -> object:
    """What the run's files say at a place that a number names."""
    kind, _, place = source.partition(" ")
    if kind in ("run.json", "length"):
        value: Any = run.info
        for key in place.strip("/").split("/"):
            value = value[key.replace("~1", "/").replace("~0", "~")]
        return len(value) if kind == "length" else value
    if kind == "count":
        table, _, values = place.partition(" ")
        rows = run.table(table)
        for column, value in json.loads(values).items():
            rows = rows[rows[column] == value]
        return len(rows)
    if kind == "picture":
        (where, name), backbone_layer_concept = place.rsplit(" ", 1), place.rsplit(" ", 2)[0]
        found = detections(run, *backbone_layer_concept.split("|"))
        return next(getattr(one, name) for one in found if one.kind == where.rsplit(" ", 1)[1])
    row, column, *number = place.split(" ")
    value = run.table(kind)[column].iloc[int(row)]
    return value[int(number[0])] if number else len(value) if column == "substitutes" else value


def shown_as(text: str, value: float) -> bool:
    """Whether a text is the number, to the digits that it shows."""
    if text.startswith("< "):
        return value < float(text[2:])
    if " of " in text:
        share = [int(part) for part in text.split(" of ")]
        return math.isclose(share[0] / share[1], value, abs_tol=1e-9)
    if text.startswith(" and "):
        return True  # how many more: its full value is compared
    plain = text.replace(",", "")
    digits = len(plain.partition(".")[2])
    return abs(float(plain) - value) <= 0.5 * 10**-digits + 1e-9 or (
        plain.startswith("-") and digits == 0 and int(plain) == -value
    )


def test_every_number_is_the_tables_own(filled: Run, text: str) -> None:
    page = Page(text)
    assert len(page.numbers) > 300
    kinds = {source.partition(" ")[0] for _, _, source, _ in page.numbers}
    assert {"models", "k_tau", "results", "differences", "nulls", "depth", "matches", "count", "subspaces"} <= kinds
    assert {"complements", "interactions", "ablation", "profiles", "channels", "exemplars", "run.json"} <= kinds
    assert {"cross_label", "label_agreement"} <= kinds
    for shown, full, source, where in page.numbers:
        value = float(true_value(filled, source))  # type: ignore[arg-type]
        assert float(full) == value, source
        assert shown_as(shown, value), (shown, source, value)
        table, _, place = source.partition(" ")
        if re.match(r"[0-9]+ ", place):
            row = filled.table(table).iloc[int(place.split(" ")[0])]
            names = {name: said for name, said in where.items() if name.replace("-", "_") in row.index}
            assert all(str(row[name.replace("-", "_")]) == said for name, said in names.items()), (source, where)


def test_no_number_of_a_table_is_without_its_source(text: str) -> None:
    assert Page(text).bare == []


def test_the_tables_hold_every_model_and_every_pair(filled: Run, text: str) -> None:
    sources = {source for _, _, source, _ in Page(text).numbers}
    assert {f"models {row} score" for row in range(len(filled.models))} <= sources
    assert {f"differences {row} p_holm" for row in range(len(filled.differences))} <= sources
    for table, column in (("subspaces", "r2"), ("complements", "gain"), ("ablation", "difference")):
        assert {f"{table} {row} {column}" for row in range(len(filled.table(table)))} <= sources


def test_structure(text: str) -> None:
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert {address.partition(":")[0] for address in page.addresses if not address.startswith("#")} == {"data"}
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_the_same_tables_give_the_same_page_but_for_time(filled: Run, text: str, tmp_path: Path) -> None:
    folder = copied(filled, tmp_path / "other")
    assert page_html([load(folder)]) == text
    edit(folder, "timings", lambda row: {"seconds": row["seconds"] + 1.5})
    other = page_html([load(folder)])
    assert other != text
    time = re.compile(r'<section id="time".*?</section>', re.DOTALL)
    assert time.sub("", other) == time.sub("", text)


def test_size(text: str) -> None:
    assert len(text.encode()) < 3_000_000


def test_sections_without_data_are_left_out(surveyed: Run) -> None:
    page = Page(page_html([surveyed]))
    for name in ("interactions", "ablation", "matches"):
        assert (name in page.ids) == (len(surveyed.table(name)) > 0)
    assert "labels" in page.ids


def test_several_runs_on_a_page(filled: Run, surveyed: Run) -> None:
    page = Page(page_html([filled, surveyed]))
    assert len(page.ids) == len(set(page.ids))
    assert {"run1-labels", "run2-labels", "found"} <= set(page.ids)


def test_a_page_is_there_whole_or_not_at_all(surveyed: Run, tmp_path: Path) -> None:
    path = write_report(surveyed, tmp_path / "new" / "page.html")
    assert path.read_text("utf-8").endswith("</html>")
    assert [child.name for child in path.parent.iterdir()] == ["page.html"]


def test_the_commands(surveyed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, folder = tmp_path / "page.html", tmp_path / "figures"
    assert main(["report", str(surveyed.path), "--out", str(page)]) == 0
    assert f"Report   {page}" in capsys.readouterr().out
    assert page.is_file()
    assert main(["figures", str(surveyed.path), "--format", "svg", "--out", str(folder)]) == 0
    files = capsys.readouterr().out.split()
    assert sorted(files) == sorted(map(str, folder.iterdir()))
    assert len(files) > 2
    assert main(["report", str(tmp_path / "nothing")]) == 2


def test_a_notebook_shows_table_and_curve(surveyed: Run) -> None:
    run = probekit.load(surveyed.path)
    html = run._repr_html_()
    assert html is not None
    assert html.count("<table") == html.count("<svg") == len(run.info["concepts"])
    assert Page(html).bare == []
    assert load(surveyed.path)._repr_html_() is None


def plain(sentence: tuple[object, ...]) -> str:
    """A sentence as a reader sees it."""
    return "".join(
        part.text if isinstance(part, Value | Strong) else plain(part.parts) if isinstance(part, Faint) else str(part)
        for part in sentence
    )


Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def told(surveyed: Run, tmp_path: Path) -> Callable[..., str]:
    """What is said of discs once tables were changed: ``pair`` is the row of the two models' difference."""
    folder = copied(surveyed, tmp_path / "run")

    def tell(pair: dict[str, Any] | None = None, **changes: Change) -> str:
        if pair is not None:
            write_rows(folder, "differences", [PAIR | pair])
        for table, change in changes.items():
            edit(folder, table, change)
        return "\n".join(map(plain, answers(Reader(load(folder)), "disc")))

    return tell


PAIR = {
    **{"concept": "disc", "probe": "topk", "tau": 0.95},
    **{"backbone_a": "planted", "layer_a": "cells", "backbone_b": "tiny", "layer_b": "stem"},
    **{"difference": 0.021, "lo": -0.011, "hi": 0.054, "p": 0.1, "p_holm": 0.21, "smallest_difference": 0.05},
}
PASSED = {"nulls": "above", "not_above": [], "rank": 1}


def above(row: dict[str, Any]) -> dict[str, Any]:
    return {} if row["control"] else PASSED


def test_a_difference_that_is_not_established(told: Callable[..., str]) -> None:
    said = told({"established": False}, models=above)
    assert "is not established: .021 [-.011, .054] (p = .210" in said
    assert not re.search(r"^(?!That).* reads \S+ better than", said, re.MULTILINE)


def test_a_difference_that_is_established(told: Callable[..., str]) -> None:
    said = told({"established": True, "p_holm": 0.0004, "lo": 0.01, "k_differs": False}, models=above)
    assert re.search(
        r"^\S+ \S+ reads \S+ better than \S+ \S+: the difference of AP is .021 \[.010, .054\] \(p < .001", said, re.M
    )
    assert "That they need different numbers of channels is not established." in said
    assert said.index(" needs ") < said.index(" reads ")


def test_a_difference_that_was_not_tested(told: Callable[..., str]) -> None:
    nothing = {"lo": None, "hi": None, "p": None, "p_holm": None, "established": None, "reason": "5 groups are too few"}
    said = told(nothing, models=above)
    assert re.search(r"Whether \S+ \S+ reads \S+ better than \S+ \S+ was not tested: 5 groups are too few.", said)


def test_a_model_that_is_not_above_its_nulls(told: Callable[..., str]) -> None:
    said = told(
        models=lambda row: {} if row["control"] else {"nulls": "not above", "not_above": ["twin · l1"], "rank": None},
        nulls=lambda row: {"above": row["null"] != "twin · l1", "value": 0.25},
        k_tau=lambda row: {"k": None, "lo": None, "hi": None, "reason": "the full probe is not above twin · l1"},
    )
    assert "is not above twin · l1 (AP .250) on" in said
    assert "needs" not in said
    assert "how few channels suffice is not defined" in said


def test_too_few_groups(told: Callable[..., str]) -> None:
    reason = "4 groups are too few for an interval"
    said = told(models=lambda row: {"reason": reason, "lo": None, "hi": None, "nulls": "not tested", "rank": None})
    assert f"There are no intervals for disc: {reason}." in said
    assert "better than what it is held against was not tested" in said


def test_k_with_its_set(told: Callable[..., str]) -> None:
    said = told(
        models=lambda row: {**above(row), "channels": 512, "score": 0.192, "lo": 0.143, "hi": 0.251},
        k_tau=lambda _: {"k": 46, "lo": 31, "hi": 70, "open_below": False, "open_above": False},
    )
    assert "needs 46 of 512 channels [31, 70] for 95 % of its own score on disc (AP .192 [.143, .251])." in said
    assert "[<31, all]" in told(k_tau=lambda _: {"open_below": True, "open_above": True})


def test_circular_labels_are_said(told: Callable[..., str]) -> None:
    assert "its scores on them are circular" in told(models=lambda _: {"circular": True})
    assert "circular" not in told(models=lambda _: {"circular": False})


def test_methods_say_what_was_run(filled: Run, surveyed: Run) -> None:
    info, said = surveyed.info, "\n".join(methods(Reader(surveyed)))
    spec = info["spec"]
    assert f"seed {spec['seed']}" in said
    assert f"in {spec['split']['folds']} folds" in said
    assert f"{len(info['groups'])} groups" in said
    assert info["environment"]["probekit"] in said
    for name, version in info["environment"]["packages"].items():
        assert f"{name} {version}" in said
    assert f"{info['repeats']} draws" in said
    assert f"{spec['stability']['pairs']} pairs of complementary halves" in said
    assert "knockoffs" in said
    more = "\n".join(methods(Reader(filled)))
    assert "forward pass" in more
    assert "re-paired at random" in more


def test_methods_leave_out_what_was_not_run(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "plain")
    for table in ("stability", "codes", "nulls", "differences", "matches", "ablation", "interactions", "subspaces"):
        write_rows(folder, table, [])
    said = "\n".join(methods(Reader(load(folder))))
    for word in ("halves", "knockoffs", "online code", "permuted", "swap test", "re-paired", "forward pass", "CKA"):
        assert word not in said
    assert "held against no null" in said
