"""What several label sources say of each other's probes, on a terminal: a block a concept that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from probekit.api import FULL
from probekit.report.digits import digits
from probekit.runner.run import Run


def cross_label_lines(run: Run) -> list[str]:
    """For each shared concept: how far the sources agree, then every network, trained on each source's labels (rows),
    scored on each (columns), by the reported probe on all channels where there is one, else as validation chose.

    Empty where the run has one label source, or its sources share no concept.
    """
    lines: list[str] = []
    for concept, of in reported_cross_label(run.table("cross_label"), run).groupby("concept", sort=False):
        agreement = run.table("label_agreement")
        lines += ["", *_block(str(concept), of, agreement[agreement["concept"] == concept])]
    return lines


def reported_cross_label(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    """The rows of ``cross_label`` that are shown: the reported probe, on all channels where it has such a rung."""
    table = table[table["probe"] == run.info["reported_probe"]]
    return table[table["rung"] == (FULL if (table["rung"] == FULL).any() else "chosen")]


def _block(concept: str, of: pd.DataFrame, agreement: pd.DataFrame) -> list[str]:
    sources = list(dict.fromkeys(of["scored_on"]))
    first = of.iloc[0]
    lines = [
        f"{concept} · trained on one source's labels, scored on each · AP on the {first['cells']:,} cells that all of "
        f"{', '.join(sources)} labelled, {first['groups']} groups"
    ]
    lines += [
        f"  {row['one']} and {row['other']}: positive for both {row['both']:,}, for one alone {row['only_one']:,} and "
        f"{row['only_other']:,} cells; IoU {digits(row['iou'])}, kappa {digits(row['kappa'])}"
        for row in agreement.to_dict("records")
    ]
    rows = [("", "trained on", *sources)]
    for (backbone, layer, trained_on), entries in of.groupby(["backbone", "layer", "trained_on"], sort=False):
        by_source = entries.set_index("scored_on")
        rows.append((f"{backbone} {layer}", str(trained_on), *(_entry(by_source.loc[name]) for name in sources)))
    lines += _columns(rows)
    reasons = dict.fromkeys(reason for reason in of["reason"] if isinstance(reason, str))
    return [*lines, *(f"  no interval: {reason}" for reason in reasons)]


def _entry(row: Any) -> str:
    """A score, its interval, and whose labels it is on where that matters."""
    interval = "" if pd.isna(row["lo"]) else f" ({digits(row['lo'])}-{digits(row['hi'])})"
    notes = [word for word, holds in (("own", row["labels"] == "own"), ("circular", row["circular"])) if holds]
    return f"{digits(row['average_precision'])}{interval}{' ' if notes else ''}{', '.join(notes)}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        ("  " + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))).rstrip() for row in rows
    ]
