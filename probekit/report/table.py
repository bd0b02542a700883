"""The end of a run on a terminal: one table a concept, the channels, the warnings, where things lie."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import pandas as pd
from rich.console import Console
from rich.text import Text

from probekit.evaluate.intervals import WIDE
from probekit.report.comparison import (
    Channel,
    Comparison,
    Difference,
    KTau,
    Model,
    Ranked,
    compare_models,
    named,
    ranked_channels,
)
from probekit.report.cross_labels import cross_label_lines
from probekit.report.digits import chance, digits, signed
from probekit.runner.folder import REPORT, display
from probekit.runner.run import Run

_WARNINGS = 8
_SHOWN_STABLE, _SHOWN_OTHERS = 12, 2
_SHOWN_SET = 0.95
"""The share of the full score whose k is shown with its set."""


def print_run(run: Run, console: Console) -> None:
    """Prints the comparison table of every concept, the channels of each model, and warnings."""
    folds = int(run.fits["fold"].max()) + 1
    for comparison in compare_models(run):
        _say(console, "")
        _say(console, _title(run, comparison), "bold")
        for line, style in _table(comparison):
            _say(console, line, style)
        for line in _remarks(run, comparison):
            _say(console, line)
        for model in comparison.models:
            ranked = ranked_channels(run, comparison.concept, model.backbone, model.layer)
            if ranked is not None:
                _say(console, "")
                for line in _channels(ranked, folds):
                    _say(console, line)
    for line in cross_label_lines(run):
        _say(console, line)
    _say(console, "")
    warnings = run.info["warnings"] + uncertified(run)
    if warnings:
        _say(console, f"{len(warnings)} warnings" if len(warnings) > 1 else "1 warning")
        for warning in warnings[:_WARNINGS]:
            _say(console, f"  {warning}")
        if len(warnings) > _WARNINGS:
            _say(console, f"  and {len(warnings) - _WARNINGS} more in {display(run.path)}/run.json")
        _say(console, "")


def print_places(run: Run, console: Console) -> None:
    """Prints where a run's page, tables and scorers lie."""
    if (run.path / REPORT).is_file():
        _say(console, f"Report   {display(run.path)}/{REPORT}")
    _say(console, f"Tables   {display(run.path)}/*.parquet")
    _say(console, f"Scorers  {display(run.path)}/scorers/")


def print_json(run: Run) -> None:
    """The comparison and the channels as JSON, for other programs."""
    concepts = []
    for comparison in compare_models(run):
        lines = []
        for model in (*comparison.models, *comparison.controls):
            ranked = ranked_channels(run, comparison.concept, model.backbone, model.layer, shown=10**6)
            lines.append(
                {
                    "backbone": model.backbone,
                    "layer": model.layer,
                    "channels": model.channels,
                    "control": model.control,
                    "rank": model.rank,
                    "average_precision": {"value": model.score, "lo": model.lo, "hi": model.hi},
                    "nulls": model.verdict,
                    "circular": model.circular,
                    "not_above": list(model.not_above),
                    "k": {f"{share:g}": asdict(k) for share, k in model.k.items()},
                    "undefined_because": list(model.reasons),
                    "ranked": None
                    if ranked is None
                    else [
                        {
                            "channel": entry.channel,
                            "coefficient": entry.coefficient,
                            "folds": entry.folds,
                            "substitutes": [other.channel for other in entry.substitutes],
                        }
                        for entry in sorted(ranked.towards + ranked.against, key=lambda entry: -abs(entry.coefficient))
                    ],
                }
            )
        differences = [asdict(difference) for difference in comparison.differences]
        concepts.append(
            {"concept": comparison.concept, "probe": comparison.probe, "models": lines, "differences": differences}
        )
    json.dump({"name": run.info["name"], "concepts": concepts, "warnings": run.info["warnings"]}, sys.stdout, indent=2)
    print()


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), soft_wrap=True)


def _title(run: Run, comparison: Comparison) -> str:
    labels = run.info["labels"][comparison.concept]
    share = 100 * labels["scored_positives"] / max(labels["scored_cells"], 1)
    cell = run.info["spec"]["evaluation"]["grid"]
    scheme = run.info["spec"]["split"]["scheme"]
    how = "out of fold" if scheme == "group-kfold" else "held out"
    repeats = f", mean of {run.info['repeats']} repeats" if run.info["repeats"] > 1 else ""
    return (
        f"{comparison.concept} · test: {len(run.info['images'])} images, {how}{repeats}, "
        f"natural prevalence {share:.1f} % · cells of {cell} px"
    )


def _table(comparison: Comparison) -> list[tuple[str, str]]:
    """Lines and their styles: models by rank, controls apart."""
    lines = [*comparison.models, *comparison.controls]
    taus = sorted({tau for line in lines for tau in line.k})
    probes = [probe for probe in dict.fromkeys(p for line in lines for p in line.chosen) if probe != comparison.probe]
    cells = [_cells(line, taus, probes) for line in lines]
    sure = comparison.reason is None
    head = ["", "", "channels", "AP [95 %]" if sure else "AP"]
    head += [f"k@{100 * tau:.0f} [set]" if tau == _SHOWN_SET and sure else f"k@{100 * tau:.0f}" for tau in taus]
    head += [*probes, "nulls" if any(line.verdict or line.circular for line in lines) else ""]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    rows = [(_joined(head, widths), "dim")]
    count = len(comparison.models)
    rows += [(_joined(row, widths), "") for row in cells[:count]]
    if comparison.controls:
        rows.append(("    controls", "dim"))
        rows += [(_joined(row, widths), "dim") for row in cells[count:]]
    return rows


def _joined(row: list[str], widths: list[int]) -> str:
    """A line of the table: the rank and numbers to the right, names and the verdict to the left."""
    places = [
        text.ljust(width) if i in (1, len(row) - 1) else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return (" " + places[0] + "  " + "  ".join(places[1:])).rstrip()


def _cells(line: Model, taus: list[float], probes: list[str]) -> list[str]:
    rank = "" if line.rank is None else str(line.rank)
    ks = [_k(line.k.get(tau), shown=tau == _SHOWN_SET) for tau in taus]
    others = [_beside(line, probe) for probe in probes]
    verdict = ", ".join(filter(None, [line.verdict, "circular" if line.circular else None]))
    return [rank, _name(line), str(line.channels), _score(line), *ks, *others, verdict]


def _name(line: Model) -> str:
    return named(line.backbone, line.layer, line.control)


def _score(line: Model) -> str:
    interval = "" if line.lo is None else f" [{digits(line.lo)}, {digits(line.hi)}]"
    return f"{digits(line.score)}{interval}"


def _k(at: KTau | None, shown: bool) -> str:
    """k, and its set where ``shown``: open ends say so."""
    if at is None or at.k is None:
        return "-"
    if not shown or at.lo is None:
        return str(at.k)
    low = f"<{at.lo}" if at.open_below else str(at.lo)
    return f"{at.k} [{low}, {'all' if at.open_above else at.hi}]"


def _beside(line: Model, probe: str) -> str:
    """Another probe's chosen point: its AP, and how many channels it uses where that is not all."""
    score, size = line.chosen.get(probe, (None, 0))
    return f"{digits(score)} ({size})" if 0 < size < line.channels else digits(score)


def _remarks(run: Run, comparison: Comparison) -> list[str]:
    """What the table cannot say: for whom it speaks, what is not established, and the recipe's balanced figures."""
    unit = "blocks of these images" if run.info["spec"]["split"].get("by") == "blocks" else "groups like these"
    about = f"{comparison.groups} groups, {comparison.positive_groups} of them with a positive"
    if comparison.reason is not None:
        lines = [f"  No intervals: {comparison.reason}."]
    else:
        wide = f"; with fewer than {WIDE} groups they are wide" if comparison.groups < WIDE else ""
        lines = [f"  Intervals speak for new {unit} ({about}){wide}."]
        lines += [
            f"  No interval for {_name(line)}: {line.reason}."
            for line in (*comparison.models, *comparison.controls)
            if line.reason is not None
        ]
    lines += [f"  {_told(difference)}" for difference in comparison.differences]
    for line in comparison.models:
        if line.verdict == "not above":
            beaten = ", ".join(
                f"{null.name} (AP {digits(null.value)}; one-sided p {digits(null.p)})"
                for null in line.nulls
                if null.decides and null.above is False
            )
            lines.append(
                f"  {_name(line)} is not shown to be above {beaten}: no rank, and how few channels suffice is not "
                "defined."
            )
    lines += [f"  {text}" for line in comparison.models for text in _chance(line)]
    lines += [
        f"  {_name(line)}: F1 {digits(line.f1)}; balanced to 50/50, as published recipes report it, "
        f"{digits(line.balanced_f1)}"
        for line in comparison.models
    ]
    return lines


def _told(difference: Difference) -> str:
    """A difference of two models in a sentence."""
    interval = "" if difference.lo is None else f" [{digits(difference.lo)}, {digits(difference.hi)}]"
    between = f"{difference.one} over {difference.other}: {digits(difference.value)}{interval}"
    if difference.established is None:
        return f"{between}, not tested."
    p = chance(difference.p) if difference.p is not None else digits(None)
    p = f"adjusted p {p}" if p.startswith("<") else f"adjusted p = {p}"
    word = "established" if difference.established else "not established"
    power = "" if difference.established else f"; so many groups would show {digits(difference.smallest)} with power .8"
    k = {None: "", True: " k@95 differs.", False: " That k@95 differs is not established."}[difference.k_differs]
    return f"{between}, {word} ({p}{power}).{k}"


def _chance(line: Model) -> list[str]:
    """What random channels and the control task score."""
    texts = []
    drawn = [null for null in line.nulls if null.name == "random-channels"]
    if drawn:
        shown = ", ".join(f"{null.rung}: {digits(null.value)} for {digits(null.score)}" for null in drawn)
        texts.append(f"{_name(line)}, random channels for the ranked ones: {shown}")
    texts += [
        f"{_name(line)}: selectivity {digits(null.score - null.value)} "
        f"(the control task, random labels of colours, is read at {digits(null.value)})"
        for null in line.nulls
        if null.name == "control-task" and null.value is not None and null.score is not None
    ]
    return texts


def _channels(ranked: Ranked, folds: int) -> list[str]:
    what = "for 95 % of the full score on validation" if ranked.label == "k95" else "that validation chose"
    channels = "1 channel" if ranked.size == 1 else f"{ranked.size} channels"
    lines = [f"{ranked.backbone} {ranked.layer}, {channels} {what}, by weight (folds that chose them)"]
    for word, entries in (("for", ranked.towards), ("against", ranked.against)):
        if entries:
            shown = " ".join(_channel(entry, folds) for entry in entries)
            lines.append(f"  {word:<8}{shown}")
    if ranked.stable is not None:
        named = ", ".join(map(str, ranked.stable[:_SHOWN_STABLE])) or "none"
        more = f" and {len(ranked.stable) - _SHOWN_STABLE} more" if len(ranked.stable) > _SHOWN_STABLE else ""
        bound = (
            "" if ranked.bound is None or not ranked.stable else f" (at most {ranked.bound:.1f} expected to be false)"
        )
        lines.append(f"  stable  {named}{more}{bound}")
    if ranked.bits:
        lines.append("  bits a label  " + ", ".join(f"{probe} {digits(bits)}" for probe, bits in ranked.bits.items()))
    if ranked.outer:
        scores = [f"{name} {digits(value)}" for name, value in ranked.outer.items()]
        lines.append("  left out one by one  " + ", ".join(scores))
    return lines


def _channel(entry: Channel, folds: int) -> str:
    """``402 +.44 (4/5, or 87)``: what may stand for it is named, minus where it is turned."""
    others = [("-" if other.r < 0 else "") + str(other.channel) for other in entry.substitutes]
    more = f" and {len(others) - _SHOWN_OTHERS} more" if len(others) > _SHOWN_OTHERS else ""
    named = f", or {', '.join(others[:_SHOWN_OTHERS])}{more}" if others else ""
    return f"{entry.channel:>5} {signed(entry.coefficient)} ({round(entry.folds * folds)}/{folds}{named})"


def uncertified(run: Run) -> list[str]:
    """One line a probe whose solver missed its own target somewhere."""
    fits = run.fits
    missed = fits[fits["certified"].eq(False)]
    lines = []
    probes = run.points.set_index("point_id")["probe"]
    for probe, group in missed.groupby(missed["point_id"].map(probes), sort=True, dropna=True):
        of = int((fits["point_id"].map(probes) == probe).sum())
        worst = group["gap"].max()
        gap = "" if pd.isna(worst) else f", the largest gap {worst:.0e}"
        lines.append(f"{probe}: {len(group)} of {of} fits did not reach their target{gap}")
    return lines
