"""The models' channels set against each other, on a terminal: ``probekit compare``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from probekit.report.digits import chance, digits, signed_score, whole
from probekit.runner.comparisons.across import Across
from probekit.runner.run import Run

_PAIR = ["backbone_a", "layer_a", "backbone_b", "layer_b"]
_MARKS = (("chosen", "chosen"), ("front: cost", "front_cost"), ("front: k", "front_k"))


def print_compared(run: Run, console: Console) -> None:
    """What a run found of its models' channels."""
    names = ("matches", "subspaces", "complements", "depth", "interactions", "ablation")
    tables = {name: run.table(name) for name in names}
    said = False
    for concept in run.info["concepts"]:
        of = {name: table[table["concept"] == concept] for name, table in tables.items()}
        lines = [
            *_pairs(of["matches"], of["subspaces"], of["complements"]),
            *_depth(of["depth"]),
            *_interactions(of["interactions"]),
            *_ablation(of["ablation"]),
        ]
        _block(console, concept, lines)
        said |= bool(lines)
    if not said:
        _say(console, "nothing was compared: the run has one model, or its spec leaves comparisons out")


def print_across(found: Across, console: Console) -> None:
    """What several runs say of one another."""
    matches, subspaces, differences = (
        pd.DataFrame(rows) for rows in (found.matches, found.subspaces, found.differences)
    )
    concepts = dict.fromkeys(
        str(concept) for table in (differences, matches, subspaces) if len(table) for concept in table["concept"]
    )
    for concept in concepts:
        of = [table[table["concept"] == concept] if len(table) else table for table in (matches, subspaces)]
        own = differences[differences["concept"] == concept] if len(differences) else differences
        _block(console, concept, [*_differences(own), *_pairs(of[0], of[1], pd.DataFrame())])
    for note in found.notes:
        _say(console, note)


def _block(console: Console, concept: str, lines: Sequence[str]) -> None:
    if lines:
        _say(console, "")
        _say(console, concept, "bold")
        for line in lines:
            _say(console, f"  {line}" if line else "")


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), soft_wrap=True)


def _pairs(matches: pd.DataFrame, subspaces: pd.DataFrame, complements: pd.DataFrame) -> Iterator[str]:
    """A line a fact, for every ordered pair of layers."""
    keys = dict.fromkeys(
        tuple(row) for table in (matches, subspaces, complements) if len(table) for row in table[_PAIR].to_numpy()
    )
    for key in keys:
        a, b = f"{key[0]} {key[1]}", f"{key[2]} {key[3]}"
        parts = []
        for table, describe in ((matches, _matched), (subspaces, _rebuilt), (complements, _added)):
            if len(table):
                own = table[(table[_PAIR] == list(key)).all(axis=1)]
                parts += [describe(own)] if len(own) else []
        yield f"{a} in {b}"
        yield from (f"  {part}" for part in parts)


def _matched(rows: pd.DataFrame) -> str:
    known, unknown = rows[rows["kind"].notna()], rows[rows["kind"].isna()]
    reasons = unknown["reason"].dropna().value_counts(sort=False)
    several = len(reasons) > 1
    why = "; ".join(f"{reason} ({count})" if several else str(reason) for reason, count in reasons.items())
    untested = f"{len(unknown)} not tested{f': {why}' if why else ''}"
    all_of = "1 channel" if len(rows) == 1 else f"{len(rows)} channels"
    if known.empty:
        return f"{all_of}: {untested}"
    one, many = known[known["kind"] == "one-to-one"], known[known["kind"] == "one-to-many"]
    size = f" (median |r| {digits(float(one['r'].abs().median()))})" if len(one) else ""
    share = f" (median R² {digits(float(many['r2'].median()))})" if len(many) else ""
    rest = known[known["kind"] == "unmatched"]
    related = int(rest["related"].astype(bool).sum())
    weakly = f" ({related} of them related, by less than a quarter of the variance)" if related else ""
    parts = [f"{len(one)} one-to-one{size}", f"{len(many)} one-to-many{share}", f"{len(rest)} unmatched{weakly}"]
    return f"{all_of}: {', '.join([*parts, *([untested] if len(unknown) else [])])}"


def _rebuilt(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    return (
        f"R² {_number(row['r2'])}{_interval(row)} of {row['channels_a']} channels from {row['channels_b']}; "
        f"CKA {_number(row['cka'])}"
    )


def _added(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    if pd.isna(row["gain"]):
        return f"what the second adds: {row['reason']}"
    sure = _sure(row["established"])
    p = "" if pd.isna(row["p_holm"]) else f" (p {chance(row['p_holm'])}, {sure})"
    return f"the second adds {signed_score(row['gain'])}{_interval(row)} to AP {digits(row['alone'])}{p}"


def _differences(rows: pd.DataFrame) -> Iterator[str]:
    for row in rows.to_dict("records"):
        names = f"{row['backbone_a']} {row['layer_a']} over {row['backbone_b']} {row['layer_b']}"
        sure = _sure(row["established"])
        p = row["reason"] if row["p_holm"] is None else f"p {chance(row['p_holm'])}, {sure}"
        yield f"{names}: {signed_score(row['difference'])}{_interval(row)} AP ({p})"


def _depth(rows: pd.DataFrame) -> Iterator[str]:
    rows = rows[~rows["control"].astype(bool)]
    if len(rows) <= rows["backbone"].nunique():
        return
    yield ""
    yield "along depth"
    names = [f"{row.backbone} {row.layer}" for row in rows.itertuples()]
    width = max(map(len, names))
    for name, row in zip(names, rows.to_dict("records"), strict=True):
        cost = "" if pd.isna(row["megaflops"]) else f"  {whole(row['megaflops']):>7} MFLOP"
        k = "-" if pd.isna(row["k95"]) else f"{row['k95']:.0f}"
        marks = [word for word, column in _MARKS if row[column]]
        yield f"  {name:<{width}}  AP {digits(row['score'])}  k@95 {k:>5}{cost}  {', '.join(marks)}".rstrip()


def _interactions(rows: pd.DataFrame) -> Iterator[str]:
    together = rows[rows["channel_i"].isna()]
    if len(together):
        yield ""
        yield "products of channels"
    for row in together.to_dict("records"):
        if pd.isna(row["gain"]) or pd.isna(row["lo"]):
            what = str(row["reason"])
        else:
            sure = _sure(row["established"])
            p = "" if pd.isna(row["p_holm"]) else f"p {chance(row['p_holm'])}, "
            what = f"{signed_score(row['gain'])}{_interval(row)} AP, {p}{sure}"
        yield f"  {row['backbone']} {row['layer']}: {what}"


def _ablation(rows: pd.DataFrame) -> Iterator[str]:
    if len(rows):
        yield ""
        yield "ablation in the forward pass"
    for row in rows.to_dict("records"):
        name = f"{row['backbone']} {row['layer']} to {row['later']}"
        if pd.isna(row["difference"]):
            yield f"  {name}: {row['reason']}"
            continue
        sure = "carries it" if _true(row["circuit"]) else "not shown to carry it"
        sure = str(row["reason"]) if pd.isna(row["p_holm"]) else f"p {chance(row['p_holm'])}, {sure}"
        yield (
            f"  {name}: AP {digits(row['score'])}, {digits(row['ablated'])} without {row['channels']:.0f} channels, "
            f"{digits(row['random'])} without as many others; {signed_score(row['difference'])}{_interval(row)}: {sure}"
        )


def _number(value: Any) -> str:
    return "-" if pd.isna(value) else digits(float(value))


def _interval(row: Any) -> str:
    return "" if pd.isna(row["lo"]) else f" [{digits(row['lo'])}, {digits(row['hi'])}]"


def _true(value: Any) -> bool:
    return not pd.isna(value) and bool(value)


def _sure(established: Any) -> str:
    return "established" if _true(established) else "not established"
