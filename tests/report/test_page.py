"""The page of a run: every number is the tables' own, sentences say what is established and no more."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from grown import grow
from page_fakes import copied, edit, fill, write_rows

import probekit
from probekit.cli import main
from probekit.report.page import page_html, write_report
from probekit.report.page.channels import channels
from probekit.report.page.methods import methods
from probekit.report.page.overview import comparison
from probekit.report.page.parts import Cards, Faint, Link, Strong, Value
from probekit.report.page.reader import Reader
from probekit.report.page.room import CARDS, MATCHES, PHOTOGRAPHS, Room
from probekit.report.page.sentences import answers, warned
from probekit.report.pictures import detections
from probekit.report.table import uncertified
from probekit.runner.run import Run, load

_VOID = {"meta", "link", "img", "br", "input", "hr"}
_WORDS = re.compile(r"95 %|at 50/50|k@[0-9]+|power \.8")
"""Numbers that are no result."""
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
        elif self._is_sourced():
            self.bare += re.findall(r"(?<![\w.-])[0-9.,]*[0-9](?![\w.-])", re.sub(_WORDS, "", data))

    def _is_sourced(self) -> bool:
        """Whether each number here must have a source: cells of numbers, sentences, cards, what a run is made of."""
        classes = {(tag, each) for tag, found in self._open for each in found.get("class", "").split()}
        if ("div", "cite") in classes:
            return False  # versions
        if ("article", "card") in classes and any(tag in ("b", "h3", "h4", "h5") for tag, _ in self._open):
            return False  # names
        return bool({("td", "n"), ("ul", "said"), ("article", "card"), ("p", "about")} & classes)


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
        rows = pd.DataFrame(list(run.info["backbones"].values())) if table == "run.json/backbones" else run.table(table)
        for column, value in json.loads(values).items():
            rows = rows[rows[column].isna() if value is None else rows[column] == value]
        return len(rows)
    if kind == "warnings":
        return len(run.info["warnings"]) + len(uncertified(run))
    if kind == "picture":
        (where, name), backbone_layer_concept = place.rsplit(" ", 1), place.rsplit(" ", 2)[0]
        found = detections(run, *backbone_layer_concept.split("|"))
        return next(getattr(one, name) for one in found if one.kind == where.rsplit(" ", 1)[1])
    row, column, *number = place.split(" ")
    value = run.table(kind)[column].iloc[int(row)]
    return value[int(number[0])] if number else len(value) if column in ("substitutes", "stable") else value


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


def test_a_page_of_many_models_stays_small_and_says_what_it_leaves_out(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "many")
    grow(folder, [f"vision-{number}" for number in range(6)], ["crack", "rust", "crater"], ("planted", "disc"))
    many = page_html([fill(folder)])
    assert len(many.encode()) < 3_000_000
    photographs = re.search(r'<section id="detections".*?</section>', many, re.DOTALL)
    assert photographs is not None
    assert 0 < photographs[0].count("<img ") <= PHOTOGRAPHS.pieces
    assert "So that the page stays small, 1 of 3 photographs" in photographs[0]
    matches = re.search(r'<section id="matches".*?</section>', many, re.DOTALL)
    assert matches is not None
    assert matches[0].count("<svg ") == MATCHES.pieces
    assert f"{MATCHES.pieces} of 140 pairs of layers are drawn" in matches[0]
    cards = many.count('<article class="card"')
    assert 0 < cards <= CARDS.pieces


@pytest.mark.parametrize("units", [1, 4, 7, 40, 500])
def test_rooms_are_not_overfilled(units: int) -> None:
    shares = Room(600, 12).allot(units, 6)
    assert len(shares) == units
    assert sum(shares) <= 50
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == max(1, min(6, 50 // units))


@pytest.mark.parametrize("folder", ["pictures", "sample"])
def test_a_folder_without_photographs_has_a_page_that_says_so(filled: Run, tmp_path: Path, folder: str) -> None:
    run = copied(filled, tmp_path / "run")
    shutil.rmtree(run / folder)
    text = page_html([load(run)])
    assert ("folder (pictures/) are left out" in text) == (folder == "pictures")
    shutil.rmtree(run / "pictures", ignore_errors=True)
    shutil.rmtree(run / "sample", ignore_errors=True)
    assert "folder has no photographs (sample/thumbnails)." in page_html([load(run)])


def test_runs_of_one_name_are_told_apart(surveyed: Run, tmp_path: Path) -> None:
    other = load(copied(surveyed, tmp_path / "again"))
    assert "again)</h2>" in page_html([surveyed, other])


def test_what_columns_say_is_there_without_a_pointer(text: str) -> None:
    assert "<th" in text
    assert not re.search(r"<th[^>]* title=", text)
    assert "<dd>average precision on test, at natural prevalence, with its 95 % interval</dd>" in text


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
    capsys.readouterr()
    assert main(["figures", str(surveyed.path), "--format", "svg", "--out", str(page / "in a file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


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
        part.text
        if isinstance(part, Value | Strong)
        else plain(part.parts)
        if isinstance(part, Faint | Link)
        else str(part)
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
    assert "is not established: .021 [-.011, .054] (adjusted p = .210, " in said
    assert "so many groups would show .050 with power .8" in said
    assert not re.search(r"^(?!That).* reads \S+ better than", said, re.MULTILINE)


def test_a_difference_that_is_established(told: Callable[..., str]) -> None:
    said = told({"established": True, "p_holm": 0.0004, "lo": 0.01, "k_differs": False}, models=above)
    assert re.search(
        r"^\S+ \S+ reads \S+ better than \S+ \S+: the difference of AP is .021 \[.010, .054\] \(adjusted p < .001",
        said,
        re.M,
    )
    assert "That they need different numbers of channels is not established." in said
    assert said.index(" needs ") < said.index(" reads ")


def test_a_difference_that_was_not_tested(told: Callable[..., str]) -> None:
    nothing = {"lo": None, "hi": None, "p": None, "p_holm": None, "established": None, "reason": "5 groups are too few"}
    said = told(nothing, models=above)
    assert re.search(r"Whether \S+ \S+ reads \S+ better than \S+ \S+ was not tested: 5 groups are too few.", said)


def not_above(row: dict[str, Any]) -> dict[str, Any]:
    return {} if row["control"] else {"nulls": "not above", "not_above": ["twin · l1"], "rank": None}


def test_a_model_that_is_not_shown_to_be_above_its_nulls(told: Callable[..., str]) -> None:
    said = told(
        models=not_above,
        nulls=lambda row: {"above": row["null"] != "twin · l1", "value": 0.25, "p": 0.1803},
        k_tau=lambda row: {"k": None, "lo": None, "hi": None, "reason": "the full probe is not above twin · l1"},
        matches=lambda row: {},
    )
    assert "is not shown to be above twin · l1 (AP .250; one-sided p .180) on" in said
    assert "is not above" not in said
    assert "needs" not in said
    assert "The final fit" not in said
    assert "how few channels suffice is not defined" in said
    assert said.count("control · probe") == 1
    assert "a twin is the same network with random weights" in said


def test_names_of_nulls_are_explained_where_they_are_first_met(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "run")
    for unexplained in ("disc", "square"):
        edit(folder, "models", lambda row: {} if row["control"] else {**PASSED, "nulls": "above"})
        edit(folder, "models", lambda row, at=unexplained: not_above(row) if row["concept"] != at else {})  # type: ignore[misc]
        edit(folder, "nulls", lambda row: {"above": False})
        said = {
            concept: "\n".join(map(plain, answers(Reader(load(folder)), concept))) for concept in ("disc", "square")
        }
        assert [concept for concept, text in said.items() if "control · probe" in text] == [
            concept for concept in said if concept != unexplained
        ]


def test_what_was_not_tested_is_no_reason_against_a_model(finished: Run) -> None:
    """As a run of few groups leaves it: nothing is edited."""
    models = finished.models[~finished.models["control"] & (finished.models["concept"] == "disc")]
    assert set(models["nulls"]) == {"not tested"}
    assert models["rank"].notna().all()
    said = "\n".join(map(plain, answers(Reader(finished), "disc")))
    reason = "too few groups with this concept: 6 scored, an interval needs 12"
    assert f"There are no intervals for disc: {reason}." in said
    assert re.search(
        rf"Whether planted cells \(AP [.0-9]+\) is above .*pixels · topk.* on disc was not tested \(.*{reason}.*\): "
        "its rank is with that reservation.",
        said,
    )
    assert "no rank" not in said


def test_a_model_that_was_held_against_nothing(told: Callable[..., str]) -> None:
    said = told(
        models=lambda row: {} if row["control"] else {"nulls": "not tested", "rank": 1},
        nulls=lambda row: {"decides": False},
    )
    assert re.search(r"was held against no control and no permuted labels on disc: its rank is with that", said)


def test_an_undefined_number_of_channels_is_said(told: Callable[..., str]) -> None:
    why = "no width reaches .95 of the full score"
    said = told(models=above, k_tau=lambda row: {"k": None, "lo": None, "hi": None, "reason": why})
    assert re.search(
        rf"^planted cells reads disc with AP \S+ .*; how few channels suffice is not defined: {why}.$", said, re.M
    )
    assert re.search(r"not defined: the run has no curve", told(k_tau=lambda row: {"concept": "square"}))


def test_intervals_that_single_models_lack(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "run")
    none = {"lo": None, "hi": None}
    edit(folder, "models", lambda row: {"reason": None, "lo": 0.1, "hi": 0.9})
    edit(folder, "models", lambda row: {**none, "reason": "undefined here"} if row["backbone"] == "tiny" else {})
    edit(folder, "models", lambda row: {**none, "reason": "a control's"} if row["backbone"] == "tiny random" else {})
    reader = Reader(load(folder))
    said = "\n".join(map(plain, answers(reader, "disc")))
    assert "There is no interval for tiny stem on disc: undefined here." in said
    assert "no intervals" not in said
    note = comparison(reader, "disc").note
    assert "Intervals speak for new groups" in note
    assert "No interval for tiny stem: undefined here." in note
    assert "No interval for tiny random stem: a control's." in note


def test_a_concept_without_a_score(told: Callable[..., str]) -> None:
    nothing = {"score": None, "lo": None, "hi": None, "rank": None, "reason": "no positive"}
    said = told(models=lambda row: nothing | {"nulls": None if row["control"] else "not tested"})
    assert "planted cells has no score on disc: no positive." in said
    assert "AP -" not in said
    assert "was not tested" not in said


def match(channel: int, kind: str | None, related: bool | None, reason: str | None = None) -> dict[str, Any]:
    pair = {key: PAIR[key] for key in ("concept", "backbone_a", "layer_a", "backbone_b", "layer_b")}
    return {**pair, "channel": channel, "kind": kind, "related": related, "reason": reason}


@pytest.fixture
def sharing(surveyed: Run, tmp_path: Path) -> Callable[..., str]:
    """What is said of discs where planted's channels match so; ``tiny`` is what its nulls say."""
    folder = copied(surveyed, tmp_path / "run")

    def tell(*rows: dict[str, Any], tiny: str = "above") -> str:
        write_rows(folder, "matches", list(rows))
        edit(folder, "models", above)
        edit(folder, "models", lambda row: {"nulls": tiny} if row["backbone"] == "tiny" else {})
        return "\n".join(map(plain, answers(Reader(load(folder)), "disc")))

    return tell


def test_shared_channels_add_up(sharing: Callable[..., str]) -> None:
    kinds = [("one-to-one", True)] * 2 + [("one-to-many", True)] + [("unmatched", True)] * 3 + [("unmatched", False)]
    undecided = [(None, None, "too few draws")] * 2 + [(None, None, "constant")]
    said = sharing(*(match(i, *row) for i, row in enumerate([*kinds, *undecided])))  # type: ignore[arg-type]
    assert (
        "The final fit of planted cells on disc keeps 10 channels for 95 % of the full score on validation: 2 match a "
        "channel of tiny stem one to one, 1 is explained by a channel that is nearer to another, or by a few together, "
        "4 are unmatched (3 of them related, by less than a quarter of the variance), 3 were not tested: too few draws "
        "(2 channels); constant (1 channel)."
    ) in said
    assert "shares" not in said


def test_one_shared_channel_has_no_plural(sharing: Callable[..., str]) -> None:
    said = sharing(match(2, "one-to-one", True))
    assert "keeps 1 channel for 95 %" in said
    assert "1 matches a channel of tiny stem one to one, 0 are explained" in said
    assert "related" not in said
    assert "not tested" not in said.partition("The final fit")[2].partition("\n")[0]


def test_no_match_was_tested(sharing: Callable[..., str]) -> None:
    few = "too few groups to re-pair"
    said = sharing(match(2, None, None, few), match(3, None, None, few))
    assert f"Which channels of planted cells on disc tiny stem has too was not tested: {few}." in said
    assert "not shown" not in sharing(match(2, "unmatched", True))
    assert "The final fit" not in sharing(match(2, "unmatched", True), tiny="not above")


def test_of_many_models_only_the_pairs_of_the_best_are_spoken_of(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "run")
    (model,) = (
        row for row in surveyed.models.to_dict("records") if (row["backbone"], row["concept"]) == ("planted", "disc")
    )
    names = [f"net{i}" for i in range(5)]
    rows = [
        {**model, **PASSED, "lo": None, "hi": None, "reason": None, "backbone": n, "score": 0.9 - i / 10}
        for i, n in enumerate(names)
    ]
    write_rows(folder, "models", rows)
    ends = [
        {"backbone_a": a, "layer_a": "cells", "backbone_b": b, "layer_b": "cells"}
        for a in names
        for b in names
        if a != b
    ]
    found = [{**PAIR, **pair, "established": False} for pair in ends if pair["backbone_a"] < pair["backbone_b"]]
    write_rows(folder, "differences", found)
    write_rows(folder, "matches", [{**match(2, "one-to-one", True), **pair} for pair in ends])
    sentences = answers(Reader(load(folder)), "disc", "run2-")
    said = list(map(plain, sentences))
    for of in ("better than", "one to one"):
        spoken = [sentence for sentence in said if of in sentence]
        assert len(spoken) == 4
        assert all("net0 cells" in sentence for sentence in spoken)
    assert "Below: all 10 pairs of models and what every two models share." in "\n".join(said)
    links = [part.to for sentence in sentences for part in sentence if isinstance(part, Link)]
    assert links == ["run2-pairs", "run2-matches"]


def test_the_first_screen_counts_the_warnings(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "run")
    edit(folder, "fits", lambda row: {"certified": True})
    for told, shown in (([], ""), (["beware"], "; 1 warning"), (["beware", "of this"], "; 2 warnings")):
        info = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**info, "warnings": told}))
        sentence = warned(Reader(load(folder)), "run1-")
        assert plain(sentence) == shown
        assert [part.to for part in sentence if isinstance(part, Link)] == ["run1-warnings"] * bool(told)
    page = page_html([load(folder)])
    assert re.search(r'<p class="about">[^\n]*<a href="#warnings"><data value="2" data-from="warnings">2</data>', page)


def test_cards_begin_with_stability_codes_and_outer_groups(filled: Run) -> None:
    section = channels(Reader(filled))
    assert section is not None
    lead = plain(next(block for block in section.blocks if isinstance(block, Cards)).lead)
    assert re.match(r"1 channel for 95 % of the full score on validation. ", lead)
    assert re.search(r"[0-9]+ (is|are) stable: halves of the groups select it again and again", lead)
    assert re.search(r"An online code of the labels compresses them by [0-9.]+ \(l1\), [0-9.]+ \(topk\)", lead)
    assert re.search(r"Left out one by one, fitted on all others, AP: \S+ [.0-9]+", lead)


def test_cards_where_stability_was_not_to_be_told(filled: Run, tmp_path: Path) -> None:
    folder = copied(filled, tmp_path / "run")
    edit(folder, "stability", lambda row: {"stable": None, "bound": None, "reason": "too few"})
    section = channels(Reader(load(folder)))
    assert section is not None
    leads = [plain(block.lead) for block in section.blocks if isinstance(block, Cards)]
    assert leads
    assert not any("stable" in lead for lead in leads)


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
    assert "random re-pairings" in more


def test_methods_leave_out_what_was_not_run(surveyed: Run, tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "plain")
    compared = ("differences", "matches", "subspaces", "complements", "interactions", "ablation")
    for table in ("stability", "codes", "nulls", *compared):
        write_rows(folder, table, [])
    said = "\n".join(methods(Reader(load(folder))))
    for word in ("halves", "knockoffs", "online code", "permuted", "swap test", "re-paired", "forward pass", "CKA"):
        assert word not in said
    assert "held against no null" in said
