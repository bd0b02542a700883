"""The page itself: sections in order, rendered by templates, written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from probekit.api import Issue, ProbekitError
from probekit.report.figures import PALETTE, drawings, svg
from probekit.report.page import across, record
from probekit.report.page.channels import channels
from probekit.report.page.found import detected
from probekit.report.page.overview import comparison, pairs
from probekit.report.page.parts import Figure, Part, Section, Sentence, Table, Value
from probekit.report.page.reader import Reader
from probekit.report.page.room import drawn_pairs, shortened
from probekit.report.page.sentences import answers, warned
from probekit.report.page.templating import asset, environment
from probekit.runner.folder import REPORT, display, write_atomically
from probekit.runner.run import Run


@dataclass(frozen=True)
class Answer:
    """What the first screen says of a concept."""

    concept: str
    sentences: tuple[Sentence, ...]
    table: Table


@dataclass(frozen=True)
class Told:
    """A run as the page tells it; ``anchor`` begins the names of its sections."""

    anchor: str
    name: str
    about: Sentence
    answers: tuple[Answer, ...]
    sections: tuple[Section, ...]


class _Once(Run):
    """A run whose tables are read once: text, figures and pictures are made of the same ones."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        super().__init__(path, info)
        self._tables: dict[str, pd.DataFrame] = {}

    def table(self, name: str) -> pd.DataFrame:
        if name not in self._tables:
            self._tables[name] = super().table(name)
        return self._tables[name]


def write_report(runs: Run | Sequence[Run], path: Path | None = None) -> Path:
    """Writes the page of one or several runs, whole or not at all.

    Args:
        runs: finished runs, at least one.
        path: of the page; ``report.html`` in the folder of the first run unless given.

    Returns:
        Where it was written.

    Raises:
        ProbekitError: it cannot be written there.
    """
    runs = [runs] if isinstance(runs, Run) else runs
    path = runs[0].path / REPORT if path is None else path
    content = page_html(runs).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise ProbekitError([Issue(display(path), f"cannot be written: {error.strerror}")]) from None
    return path


def page_html(runs: Sequence[Run]) -> str:
    """The page of one or several runs, as text: the same for the same tables, the section ``time`` apart."""
    told = [
        _told(_Once(run.path, run.info), f"run{number}-" if len(runs) > 1 else "", name)
        for number, (run, name) in enumerate(zip(runs, _names(runs), strict=True), 1)
    ]
    style, early, script = asset("page.css"), asset("early.js"), asset("page.js")
    digests = " ".join(f"'sha256-{_digest(text)}'" for text in (early, script))
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {digests}; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        environment()
        .get_template("page.html")
        .render(
            title=", ".join(run.name for run in told),
            runs=told,
            policy=Markup(policy),
            style=Markup(style),
            early=Markup(early),
            script=Markup(script),
            palette=PALETTE,
        )
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _told(run: Run, anchor: str, name: str) -> Told:
    reader = Reader(run)
    said = tuple(
        Answer(concept, tuple(answers(reader, concept, anchor)), comparison(reader, concept))
        for concept in reader.concepts
    )
    return Told(anchor, name, (*_about(reader), *warned(reader, anchor)), said, tuple(_sections(reader, anchor)))


def _about(reader: Reader) -> Sentence:
    """How much the run is made of."""
    controls = [bool(one["control"]) for one in reader.run.info["backbones"].values()]

    def backbones(control: bool) -> Value:
        number = str(controls.count(control))
        return Value(number, number, f"count run.json/backbones {json.dumps({'control': control})}")

    counted = (
        ("image", reader.length("images")),
        ("group", reader.length("groups")),
        ("model", backbones(False)),
        ("control", backbones(True)),
    )
    said: list[Part] = []
    for what, number in counted:
        said += [", " if said else "", number, f" {what}" if number.full == "1" else f" {what}s"]
    return tuple(said)


def _names(runs: Sequence[Run]) -> list[str]:
    """Of the runs: with their folders where names repeat."""
    names = [str(run.info["name"]) for run in runs]
    return [
        f"{name} ({display(run.path)})" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _sections(reader: Reader, anchor: str) -> Iterator[Section]:
    """In the order of the page; those without data are left out."""
    figures: dict[str, list[Figure]] = {}
    drawn, held = drawn_pairs(reader)
    for drawing in drawings(reader.run, matched=drawn):
        named = replace(drawing, name=f"{anchor}{drawing.name}")
        figures.setdefault(drawing.section, []).append(Figure(drawing.name, drawing.title, Markup(svg(named))))

    figures.setdefault("precision-recall", []).extend(figures.pop("calibration", []))

    def of(name: str) -> tuple[Figure, ...]:
        return tuple(figures.get(name, ()))

    def section(name: str, title: str, lead: str) -> Section | None:
        return Section(name, title, of(name), lead) if of(name) else None

    found = (
        section("curves", "Score against the number of channels", _CURVES),
        pairs(reader),
        across.depth(reader, of("depth")),
        section("precision-recall", "Precision, recall, calibration", _CALIBRATION),
        channels(reader),
        _with_drawn(across.matches(reader, of("matches")), len(drawn), held),
        across.interactions(reader),
        across.ablation(reader),
        detected(reader),
        record.labels(reader),
        record.warnings(reader),
        record.written(reader),
        record.provenance(reader),
        record.citation(reader),
        record.times(reader),
    )
    yield from (shortened(section) for section in found if section is not None)


def _with_drawn(section: Section | None, drawn: int, held: int) -> Section | None:
    """The section of matches, with how many of its pairs of layers are drawn where not all are."""
    if section is None or drawn == held:
        return section
    said = f" {drawn} of {held} pairs of layers are drawn, each model's chosen layer; the tables have all."
    return replace(section, lead=section.lead + said)


_CURVES = (
    "Test AP of the probe refitted on its k best channels, with 95 % bands; hollow marks are as many channels drawn at "
    "random. Below: how few suffice for 95 % of the model's own score, with the set of widths that are not excluded."
)
_CALIBRATION = (
    "Out of sample, at natural prevalence. Calibration is what probabilities are worth: before, with the intercept "
    "moved to the prevalence, and after temperature and offset were fitted on validation."
)
