"""The page itself: sections in order, rendered by templates, written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from probekit.api import Issue, ProbekitError
from probekit.report.figures import PALETTE, drawings, svg
from probekit.report.page import across, record
from probekit.report.page.channels import channels
from probekit.report.page.found import detected
from probekit.report.page.overview import comparison, pairs
from probekit.report.page.parts import Figure, Section, Sentence, Table
from probekit.report.page.reader import Reader
from probekit.report.page.sentences import answers
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
    about: str
    answers: tuple[Answer, ...]
    sections: tuple[Section, ...]


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
    told = [_told(run, f"run{number}-" if len(runs) > 1 else "") for number, run in enumerate(runs, 1)]
    style, script = asset("page.css"), asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
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
            script=Markup(script),
            palette=PALETTE,
        )
    )


def _told(run: Run, anchor: str) -> Told:
    reader = Reader(run)
    said = tuple(
        Answer(concept, tuple(answers(reader, concept)), comparison(reader, concept)) for concept in reader.concepts
    )
    info = run.info
    about = (
        f"{len(info['images'])} images, {len(info['groups'])} groups; "
        f"{sum(not one['control'] for one in info['backbones'].values())} models, "
        f"{sum(one['control'] for one in info['backbones'].values())} controls"
    )
    return Told(anchor, info["name"], about, said, tuple(_sections(reader, anchor)))


def _sections(reader: Reader, anchor: str) -> Iterator[Section]:
    """In the order of the page; those without data are left out."""
    figures: dict[str, list[Figure]] = {}
    for drawing in drawings(reader.run):
        named = replace(drawing, name=f"{anchor}{drawing.name}")
        figures.setdefault(drawing.section, []).append(Figure(drawing.name, drawing.title, Markup(svg(named))))

    figures.setdefault("precision-recall", []).extend(figures.pop("calibration", []))

    def of(name: str) -> tuple[Figure, ...]:
        return tuple(figures.get(name, ()))

    def drawn(name: str, title: str, lead: str) -> Section | None:
        return Section(name, title, of(name), lead) if of(name) else None

    found = (
        drawn("curves", "Score against the number of channels", _CURVES),
        pairs(reader),
        across.depth(reader, of("depth")),
        drawn("precision-recall", "Precision, recall, calibration", _CALIBRATION),
        channels(reader),
        across.matches(reader, of("matches")),
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
    yield from (section for section in found if section is not None)


_CURVES = (
    "Test AP of the probe refitted on its k best channels, with 95 % bands; hollow marks are as many channels drawn at "
    "random. Below: how few suffice for 95 % of the model's own score, with the set of widths that are not excluded."
)
_CALIBRATION = (
    "Out of sample, at natural prevalence. Calibration is what probabilities are worth: before, with the intercept "
    "moved to the prevalence, and after temperature and offset were fitted on validation."
)
