"""``probekit plan``: what a run would do and take. Nothing is extracted, fetched or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from probekit.api import NEGATIVE, POSITIVE, Grid
from probekit.features.speed import Speed
from probekit.features.store import Store
from probekit.report.storage import size_text
from probekit.runner.assess import CHUNK_BYTES
from probekit.runner.blocks import block_notes
from probekit.runner.comparisons.predict import ComparisonForecast, forecast_comparisons
from probekit.runner.dataset import Dataset, build_dataset
from probekit.runner.folder import display, read_state
from probekit.runner.hardware import limited_threads
from probekit.runner.predict import LayerForecast, NetworkForecast, forecast, require_room
from probekit.runner.prepare import Prepared, build_folds, prepare
from probekit.runner.progress import Progress
from probekit.runner.record import circular_labels, concept_line, headline
from probekit.runner.run import Run
from probekit.sampling.splits import Fold
from probekit.spec.load import load_experiment

Counts = Mapping[tuple[str, str], Sequence[tuple[int, int]]]
"""(backbone, layer) -> for each concept (negative, positive) cells on the layer's own grid."""

_ROWS = ("probes", "split", "sampling", "limit", "data")  # keys of the spec: whoever shares them fits the same problems
_BYTES_A_SCORE = 9  # two margins and a decision (see ``probekit.runner.assess``)


@dataclass(frozen=True)
class Memory:
    """Bytes that a run holds at once, at most.

    Attributes:
        rows: the training rows of the widest job.
        scores: of the cells that are scored at once.
        extraction: photographs, tensors and maps on their way, beside a network and its activations.
    """

    rows: int
    scores: int
    extraction: int


def print_plan(spec: Path, overrides: Sequence[str], console: Console, progress: Progress) -> None:
    """Prints the plan of an experiment.

    Raises:
        ProbekitError: what a run would refuse too, the store's budget included.
    """
    resolved = load_experiment(spec, overrides)
    experiment = resolved.experiment
    with limited_threads(experiment.threads) as threads:
        prepared = prepare(resolved, threads)
        dataset = build_dataset(prepared.source, experiment, threads, progress)
        folds = build_folds(resolved, dataset)
        store = Store(resolved.store, experiment.store.budget)
        networks = forecast(prepared, dataset, store)
        counts = count_cells(dataset, networks, progress)
        compared = forecast_comparisons(experiment, dataset, folds[0], networks)

    def say(line: str = "", style: str = "") -> None:
        console.print(Text(line, style=style), soft_wrap=True)

    units = len(prepared.jobs) * len(dataset.concepts) * len(prepared.probes) * len(folds[0])
    say(headline(prepared, dataset, units), "bold")
    for concept, name in enumerate(dataset.concepts):
        say(concept_line(name, dataset, concept))
    for line in (
        *prepared.notes,
        *circular_labels(prepared),
        *block_notes(dataset, experiment, folds),
        *(f"{i} skipped: {why}" for i, why in dataset.skipped),
    ):
        say(f"note: {line}")
    for block in (
        _features(networks),
        _rows(dataset, networks, counts, experiment.sampling.per_class),
        _probes(prepared, folds, networks),
    ):
        say()
        for line in block:
            say(line)
    say()
    for line in _totals(prepared, dataset, folds[0], networks, counts, compared, store):
        say(line)
    require_room(store, networks)


def count_cells(dataset: Dataset, networks: Sequence[NetworkForecast], progress: Progress) -> Counts:
    """Labels every native grid, as a run will: exact where the grids are as predicted."""
    grids = {(f.network.name, layer): one.grids for f in networks for layer, one in f.layers.items()}
    counts = {key: [[0, 0] for _ in dataset.concepts] for key in grids}
    progress.start("Native grids", "labels of each layer's own cells", len(dataset.cuts), "images")
    for image, places in dataset.by_image():
        for concept, name in enumerate(dataset.concepts):
            mask = None
            for place in places:
                cut = dataset.cuts[place]
                found: dict[Grid, tuple[int, int]] = {}
                for key, of_cuts in grids.items():
                    grid = of_cuts[place]
                    if grid not in found:
                        if grid == cut.reference:
                            labels = dataset.labels[concept][place]
                        else:
                            mask = dataset.source.mask(image, name) if mask is None else mask
                            labels = cut.labels(mask, grid, dataset.thresholds)
                        values = labels.values
                        found[grid] = int((values == NEGATIVE).sum()), int((values == POSITIVE).sum())
                    for value, count in zip((NEGATIVE, POSITIVE), found[grid], strict=True):
                        counts[key][concept][value] += count
        progress.advance(len(places))
    progress.finish()
    return {key: [(one[0], one[1]) for one in of] for key, of in counts.items()}


def _features(networks: Sequence[NetworkForecast]) -> list[str]:
    rows = []
    for one in networks:
        for layer, of in one.layers.items():
            new = size_text(of.new_bytes) if of.missing else "-"
            state = "in the store" if not of.missing else f"{of.held} held, {of.missing} new" if of.held else "new"
            rows.append((one.network.name, layer, str(of.channels), f"{of.cells:,}", state, new, _extraction(one, of)))
    heads = ("features", "layer", "channels", "cells", "images", "new bytes", "time")
    return _columns(heads, rows, right=(2, 3, 5, 6))


def _extraction(forecast: NetworkForecast, layer: LayerForecast) -> str:
    if not layer.missing:
        return "none"
    seconds = _seconds(forecast)
    if seconds is not None:
        return _time(seconds)
    return "not measured yet"


def _seconds(forecast: NetworkForecast) -> float | None:
    """Of a network's extraction, from what was measured on its device."""
    if not forecast.passes:
        return 0.0
    each = _pass_seconds(forecast)
    return None if each is None else each * forecast.passes


def _pass_seconds(forecast: NetworkForecast) -> float | None:
    """Of a forward pass, as measured on the network's device by an earlier extraction."""
    speeds: list[Speed] = [
        layer.speed
        for layer in forecast.layers.values()
        if layer.speed is not None and layer.speed.device == forecast.network.device
    ]
    return max((speed.seconds for speed in speeds), default=None)


def _rows(dataset: Dataset, networks: Sequence[NetworkForecast], counts: Counts, per_class: int) -> list[str]:
    rows = []
    for one in networks:
        for layer in one.layers:
            for concept, (negative, positive) in zip(dataset.concepts, counts[one.network.name, layer], strict=True):
                drawn = min(negative, per_class) + min(positive, per_class)
                rows.append((one.network.name, layer, concept, f"{drawn:,}", f"{positive:,}", f"{negative:,}"))
    heads = ("rows", "layer", "concept", "drawn", "positive cells", "negative cells")
    return _columns(heads, rows, right=(3, 4, 5))


def _probes(prepared: Prepared, folds: Sequence[Sequence[Fold]], networks: Sequence[NetworkForecast]) -> list[str]:
    rows = []
    earlier = _earlier(prepared)
    problems = len(folds[0]) * len(prepared.source.concepts)
    channels = {(f.network.name, layer): of.channels for f in networks for layer, of in f.layers.items()}
    for job in prepared.jobs:
        plans = [entry.probe.plan(channels[job.backbone, job.layer]) for entry in prepared.probes]
        fits = problems * sum(plan.fits for plan in plans)
        seconds = earlier.get(f"{job.backbone} {job.layer} {job.repeat}")
        units = problems * len(prepared.probes)
        shown = "not measured yet" if seconds is None else _time(seconds)
        rows.append((job.backbone, job.layer, str(job.repeat), str(units), f"{fits:,}", shown))
    return _columns(("jobs", "layer", "repeat", "units", "fits", "time"), rows, right=(2, 3, 4, 5))


def _earlier(prepared: Prepared, stage: str = "probes", alike: Sequence[str] = ()) -> dict[str, float]:
    """Seconds of each part of a stage in a finished run of the same name, rows and probes, where there is one.

    Args:
        alike: keys of the spec that must be the same too.
    """
    name = prepared.resolved.experiment.name
    folder = Path("runs") / name
    state = read_state(folder) if folder.is_dir() else None
    if not state or not state.get("complete"):
        return {}
    now = prepared.resolved.canonical(folder)
    if any(state["spec"].get(key) != now.get(key) for key in (*_ROWS, *alike)):
        return {}
    timings = Run(folder, state).table("timings")
    timings = timings[timings["stage"] == stage]
    return dict(zip(timings["what"], timings["seconds"], strict=True))


def memory(
    prepared: Prepared,
    dataset: Dataset,
    folds: Sequence[Fold],
    networks: Sequence[NetworkForecast],
    counts: Counts,
) -> Memory:
    """Predicts what a run holds at once: upper bounds, since concepts share rows and points share passes."""
    per_class = prepared.resolved.experiment.sampling.per_class
    cells_by_group = dataset.cells_by_group(NEGATIVE) + dataset.cells_by_group(POSITIVE)
    rows = scores = 0
    for one in networks:
        for layer, of in one.layers.items():
            cells = counts[one.network.name, layer]
            drawn = sum(min(negative, per_class) + min(positive, per_class) for negative, positive in cells)
            rows = max(rows, 4 * of.channels * min(drawn, of.cells))
            fits = max(entry.probe.plan(of.channels).fits for entry in prepared.probes)
            validation = max(int(cells_by_group[fold.validation].max(axis=1).sum()) for fold in folds)
            scores = max(scores, 2 * 4 * fits * validation)  # by image, then together
    points = sum(
        max(entry.probe.plan(of.channels).rungs + 1 for one in networks for of in one.layers.values())
        for entry in prepared.probes
    ) * len(dataset.concepts)
    a_point = _BYTES_A_SCORE * int(dataset.offsets[-1])
    test = max(min(CHUNK_BYTES, points * a_point), a_point)
    return Memory(rows, max(scores, test), max(one.memory for one in networks))


def _totals(
    prepared: Prepared,
    dataset: Dataset,
    folds: Sequence[Fold],
    networks: Sequence[NetworkForecast],
    counts: Counts,
    compared: ComparisonForecast,
    store: Store,
) -> list[str]:
    layers = [layer for one in networks for layer in one.layers.values()]
    new, total = sum(layer.new_bytes for layer in layers), store.bytes
    budget = "" if store.budget is None else f" (budget {size_text(store.budget)})"
    passes = sum(one.passes for one in networks)
    held = sum(layer.held for layer in layers)
    if new:
        text = f"{size_text(new)} new, {size_text(total)} there, {size_text(new + total)} in the end{budget}"
    else:
        text = f"nothing new, {size_text(total)} there{budget}"
    lines = [f"store    {display(store.path)}: {text}"]
    have = f", {held} of {sum(len(layer.grids) for layer in layers)} maps are in the store" if held else ""
    lines.append(f"passes   {passes} through {sum(one.passes > 0 for one in networks)} networks{have}")
    if compared.passes:
        lines.append(f"         {sum(compared.passes.values()):,} more with channels set, at most: ablation")
    of = memory(prepared, dataset, folds, networks, counts)
    lines.append(
        f"memory   at most: rows {size_text(of.rows)}, scores {size_text(of.scores)}, "
        f"images and maps on their way {size_text(of.extraction)}, "
        f"comparisons {size_text(compared.memory)}; networks come on top"
    )
    seconds = [_seconds(one) for one in networks]
    known = [one for one in seconds if one is not None]
    jobs = _earlier(prepared)
    of_jobs = [jobs.get(f"{job.backbone} {job.layer} {job.repeat}") for job in prepared.jobs]
    fitted = [one for one in of_jobs if one is not None]
    lines.append(f"time     features: {_together(known, len(seconds), 'networks')}")
    lines.append(f"         probes: {_together(fitted, len(of_jobs), 'jobs')}")
    lines.append(f"         comparisons: {_comparison_time(prepared, networks, compared)}")
    unseen = [one.network.name for one in networks if not one.fetched]
    if unseen:
        lines.append(f"weights  pretrained, fetched by the run where this machine has none: {', '.join(unseen)}")
    return lines


def _comparison_time(prepared: Prepared, networks: Sequence[NetworkForecast], compared: ComparisonForecast) -> str:
    """Of an earlier run that compared the same; else ablation's passes at the network's speed, where it is known."""
    earlier = _earlier(prepared, "comparison", ("backbones", "labels", "evaluation", "comparison", "ablation"))
    if earlier:
        return _time(sum(earlier.values()))
    if not compared.passes:
        return "not measured yet"
    each = [(count, _pass_seconds(one)) for one in networks if (count := compared.passes.get(one.network.name))]
    known = [count * seconds for count, seconds in each if seconds is not None]
    return f"ablation {_together(known, len(each), 'networks')}; the rest not measured yet"


def _together(known: Sequence[float], total: int, what: str) -> str:
    if not known:
        return "not measured yet"
    text = _time(sum(known))
    return text if len(known) == total else f"{text} for {len(known)} of {total} {what}, the others not measured yet"


def _time(seconds: float) -> str:
    if seconds < 0.5:
        return "none" if seconds == 0 else "under 1 s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        cells = [
            f"{text:>{size}}" if i in right else f"{text:<{size}}"
            for i, (text, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
