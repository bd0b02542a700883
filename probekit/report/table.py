"""The end of a run on a terminal: one table a concept, the channels, the warnings, where things lie."""

from __future__ import annotations

import json
import sys

import pandas as pd
from rich.console import Console
from rich.text import Text

from probekit.report.comparison import Comparison, Model, Ranked, compare_models, ranked_channels
from probekit.runner.folder import display
from probekit.runner.run import Run

_WARNINGS = 8


def print_run(run: Run, console: Console) -> None:
    """Prints the comparison table of every concept, the channels of each model, warnings and paths."""
    folds = int(run.fits["fold"].max()) + 1
    for comparison in compare_models(run):
        _say(console, "")
        _say(console, _title(run, comparison), "bold")
        for line, style in _table(comparison):
            _say(console, line, style)
        for line in _remarks(comparison):
            _say(console, line)
        for model in comparison.models:
            ranked = ranked_channels(run, comparison.concept, model.backbone, model.layer)
            if ranked is not None:
                _say(console, "")
                for line in _channels(ranked, folds):
                    _say(console, line)
    _say(console, "")
    warnings = run.info["warnings"] + _uncertified(run)
    if warnings:
        _say(console, f"{len(warnings)} warnings" if len(warnings) > 1 else "1 warning")
        for warning in warnings[:_WARNINGS]:
            _say(console, f"  {warning}")
        if len(warnings) > _WARNINGS:
            _say(console, f"  and {len(warnings) - _WARNINGS} more in {display(run.path)}/run.json")
        _say(console, "")
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
                    "average_precision": model.score,
                    "above_pixels": model.beats_pixels,
                    "k": {f"{share:g}": k for share, k in model.k.items()},
                    "undefined_because": list(model.reasons),
                    "ranked": None
                    if ranked is None
                    else [
                        {"channel": channel, "coefficient": coefficient, "folds": folds}
                        for channel, coefficient, folds in sorted(
                            ranked.towards + ranked.against, key=lambda entry: -abs(entry[1])
                        )
                    ],
                }
            )
        concepts.append({"concept": comparison.concept, "probe": comparison.probe, "models": lines})
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
    """Lines and their styles: models by score, controls apart."""
    lines = [*comparison.models, *comparison.controls]
    taus = sorted({tau for line in lines for tau in line.k})
    probes = [probe for probe in dict.fromkeys(p for line in lines for p in line.chosen) if probe != comparison.probe]
    width = max([len(_name(line)) for line in lines] + [12])
    head = f"  {'':<{width}}  channels    AP" + "".join(f"  k@{100 * tau:.0f}" for tau in taus)
    head += "".join(f"  {probe:>10}" for probe in probes)
    pixels = any(line.beats_pixels is not None for line in lines)
    rows = [(head + ("   image statistics" if pixels else ""), "dim")]
    rows += [("  " + _cells(line, width, taus, probes), "") for line in comparison.models]
    if comparison.controls:
        rows.append(("  controls", "dim"))
        rows += [("  " + _cells(line, width, taus, probes), "dim") for line in comparison.controls]
    return rows


def _name(line: Model) -> str:
    return line.backbone if line.control and line.layer in ("cells", "map") else f"{line.backbone} {line.layer}"


def _cells(line: Model, width: int, taus: list[float], probes: list[str]) -> str:
    ks = "".join(f"{'-' if line.k.get(tau) is None else line.k[tau]:>6}" for tau in taus)
    others = "".join(f"  {_beside(line, probe):>10}" for probe in probes)
    note = {None: "", True: "   above", False: "   not above"}[line.beats_pixels]
    return f"{_name(line):<{width}}  {line.channels:>8}  {_digits(line.score):>4}{ks}{others}{note}".rstrip()


def _digits(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}".removeprefix("0")[:4]


def _signed(weight: float) -> str:
    text = f"{weight:+.2f}"
    return text[0] + text[1:].removeprefix("0")


def _beside(line: Model, probe: str) -> str:
    """Another probe's chosen point: its AP, and how many channels it uses where that is not all."""
    score, size = line.chosen.get(probe, (None, 0))
    return f"{_digits(score)} ({size})" if 0 < size < line.channels else f"{_digits(score)}      "


def _remarks(comparison: Comparison) -> list[str]:
    """What the table cannot say: the recipe's balanced figures beside the natural ones, and what is undefined."""
    lines = [
        f"  {_name(line)}: F1 {_digits(line.f1)}; balanced to 50/50, as published recipes report it, "
        f"{_digits(line.balanced_f1)}"
        for line in comparison.models
    ]
    return lines + _undefined(comparison)


def _undefined(comparison: Comparison) -> list[str]:
    beaten = [line for line in comparison.models if line.beats_pixels is False]
    return [
        f"  {_name(line)} does not beat image statistics: how few of its channels suffice is not defined."
        for line in beaten
    ]


def _channels(ranked: Ranked, folds: int) -> list[str]:
    what = "for 95 % of the full score on validation" if ranked.label == "k95" else "that validation chose"
    channels = "1 channel" if ranked.size == 1 else f"{ranked.size} channels"
    lines = [f"{ranked.backbone} {ranked.layer}, {channels} {what}, by weight (folds that chose them)"]
    for word, entries in (("for", ranked.towards), ("against", ranked.against)):
        if entries:
            shown = " ".join(f"{c:>5} {_signed(w)} ({round(f * folds)}/{folds})" for c, w, f in entries)
            lines.append(f"  {word:<8}{shown}")
    return lines


def _uncertified(run: Run) -> list[str]:
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
