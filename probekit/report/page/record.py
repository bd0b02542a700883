"""What the reader must know of a run itself: labels, warnings, methods, where everything is from, what to cite."""

from __future__ import annotations

from typing import Any

import yaml

from probekit.report.cross_labels import reported_cross_label
from probekit.report.digits import whole
from probekit.report.page.methods import methods
from probekit.report.page.parts import Block, Cell, Code, Column, Folded, Lines, Row, Section, Sentence, Strong, Table
from probekit.report.page.reader import Reader
from probekit.report.page.tabled import CONCEPT, MODEL, Number, Words, tabulate, verdict
from probekit.report.table import uncertified

TIME = "time"
"""The section that differs between two runs of one spec."""


def labels(reader: Reader) -> Section:
    """How many cells of each concept there are, and how many are void."""
    info = reader.run.info
    columns = (
        Column("Concept", number=False),
        Column("Cells", help="labelled"),
        Column("Positive"),
        Column("Void", help="between the two shares"),
        Column("Unlabelled"),
        Column("Groups with it"),
        Column("Scored", help="valid in every model of the run"),
        Column("Scored positive"),
        Column("Made by", number=False),
    )
    keys = ("cells", "positives", "between", "unlabelled", "groups_with_positives", "scored_cells", "scored_positives")
    rows = []
    for concept in reader.concepts:
        counts = [reader.info("labels", concept, key) for key in keys]
        made = info["label_provenance"][concept]
        detail = ", ".join(filter(None, (made["family"], made["detail"])))
        cells = [Cell((Strong(concept),), key=concept), *(Cell((count,), key=float(count.full)) for count in counts)]
        rows.append(Row((*cells, Cell((made["made_by"],), (detail,) if detail else ())), {"concept": concept}))
    share = info["spec"]["labels"]
    grid, least, most = info["spec"]["evaluation"]["grid"], 100 * share["positive"], 100 * share["negative"]
    lead = (
        f"A cell of {grid} pixels is positive where at least {least:g} % of it is the concept, negative where at most "
        f"{most:g} % is, and void in between."
    )
    blocks: list[Block] = [Table("Cells by concept", columns, tuple(rows))]
    agreement = reader.table("label_agreement")
    if len(agreement):
        blocks.append(tabulate(reader, "label_agreement", agreement, "Where several sources labelled", _AGREEMENT))
    crossed = reported_cross_label(reader.table("cross_label"), reader.run)
    if len(crossed):
        caption = "Trained on one source's labels, scored on each: test AP on the cells that all of them labelled"
        blocks.append(tabulate(reader, "cross_label", crossed, caption, _CROSSED))
    if info["skipped"]:
        said = tuple((Strong(name), f" skipped: {why}") for name, why in info["skipped"].items())
        blocks.append(Lines(said))
    return Section("labels", "Labels", tuple(blocks), lead)


_AGREEMENT = (
    Words("Concept", lambda row: str(row["concept"]), strong=True),
    Words("Sources", lambda row: f"{row['one']}, {row['other']}"),
    Number("Cells", "cells", whole),
    Number("Both", "both", whole),
    Number("First only", "only_one", whole),
    Number("Second only", "only_other", whole),
    Number("IoU", "iou"),
    Number("Kappa", "kappa", help="Cohen's"),
)

_CROSSED = (
    MODEL,
    CONCEPT,
    Words("Trained on", lambda row: str(row["trained_on"])),
    Words("Scored on", lambda row: str(row["scored_on"])),
    Number("AP", "average_precision", lo="lo", hi="hi"),
    Words("Whose labels", lambda row: str(row["labels"]), help="the scoring ones: own are made by the model's family"),
    Words("Circular", verdict("circular", "circular", "no"), bad="circular"),
)


def warnings(reader: Reader) -> Section | None:
    """Every warning of the run."""
    told = [*reader.run.info["warnings"], *uncertified(reader.run)]
    if not told:
        return None
    return Section("warnings", "Warnings", (Lines(tuple((text,) for text in told)),))


def written(reader: Reader) -> Section:
    """The methods paragraph."""
    paragraphs = "\n\n".join(methods(reader))
    lead = "Made from the run's record, to be pasted into a paper; names are the run's own."
    return Section("methods", "Methods", (Code("prose", paragraphs),), lead)


def provenance(reader: Reader) -> Section:
    """Spec, digests, versions, seeds, hardware."""
    info = reader.run.info
    made = info["environment"]
    rows: list[tuple[str, str]] = [
        ("images and labels", info["data"]),
        ("reference cells", info["reference_cells"]),
        ("seed", f"{info['spec']['seed']}, {info['repeats']} {'draw' if info['repeats'] == 1 else 'draws'}"),
        ("probekit", made["probekit"]),
        ("Python", f"{made['python']}, {made['platform']}, {made['processors']} processors"),
        ("devices", ", ".join(made["devices"].values())),
        ("packages", ", ".join(f"{name} {version}" for name, version in made["packages"].items())),
        ("plugins", ", ".join(f"{name} {version}" for name, version in made["plugins"].items())),
        *((f"weights of {name}", digest) for name, digest in _digests(info)),
    ]
    spec = yaml.safe_dump(info["spec"], sort_keys=False, allow_unicode=True, width=100)
    blocks = (
        _plain("What it was made of", ("What", "Which"), rows, "code"),
        _plain("What was chosen on which part of the data", ("What", "On"), list(info["chosen_on"].items())),
        Code("The spec, all defaults filled", spec),
    )
    return Section("provenance", "Provenance", blocks)


def _plain(caption: str, titles: tuple[str, str], rows: list[tuple[str, str]], tone: str = "") -> Table:
    """A table of words."""
    columns = tuple(Column(title, number=False) for title in titles)
    return Table(
        caption, columns, tuple(Row((Cell((name,), key=name), Cell((text,), tone=tone))) for name, text in rows)
    )


def _digests(info: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, about["weights"]["digest"]) for name, about in info["backbones"].items() if not about["control"]]


def times(reader: Reader) -> Section | None:
    """How long each stage took, of the last process that worked on the run."""
    timings = reader.table("timings")
    if timings.empty:
        return None
    table = tabulate(reader, "timings", timings, "Seconds by stage, of the last process that worked on the run", _TIMES)
    return Section(TIME, "Time", (Folded("Seconds by stage", (table,)),), "Two runs of one spec differ here alone.")


_TIMES = (
    Words("Stage", lambda row: str(row["stage"]), strong=True),
    Words("What", lambda row: str(row["what"])),
    Number("Seconds", "seconds", lambda value: f"{value:,.1f}" if value >= 1 else f"{value:.3f}"),
)


def citation(reader: Reader) -> Section | None:
    """What is known of each model, for a reference list: no citation is invented."""
    said: list[Sentence] = []
    for name, about in reader.run.info["backbones"].items():
        if about["control"]:
            continue
        model = about["preprocessing"].get("model")
        weights = about["weights"]
        said.append(
            (
                Strong(name),
                f": {f'{model}, ' if model else ''}family {about['family']}, through the plugin {about['plugin']} "
                f"(adapter {about['adapter_version']}); weights {weights['kind']}, from {weights['source']}, "
                f"{weights['digest']}.",
            )
        )
    if not said:
        return None
    version = reader.run.info["environment"]["probekit"]
    said.append(
        (
            "Cite each model's own paper and the source of its weights, both of which its plugin's page names; and ",
            Strong("probekit"),
            f", version {version}.",
        )
    )
    return Section("cite", "How to cite the models", (Lines(tuple(said)),))
