"""``probekit check``: labels and geometry looked at before an hour is spent on them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probekit.api import POSITIVE, Affine, Grid, Issue, ProbekitError
from probekit.evaluate.alignment import SHIFTS, Alignment
from probekit.features.store import Store
from probekit.plan.networks import Network
from probekit.report.preview import Labelled, draw_preview, legend
from probekit.runner.alignment import probe_alignment
from probekit.runner.blocks import block_notes
from probekit.runner.dataset import Dataset, build_dataset
from probekit.runner.extraction import extract_network
from probekit.runner.folder import display, write_atomically
from probekit.runner.hardware import limited_threads
from probekit.runner.predict import forecast_network, held_collections, native_grids, require_room, would_download
from probekit.runner.prepare import Prepared, build_folds, prepare
from probekit.runner.progress import Progress
from probekit.runner.record import circular_labels
from probekit.runner.sample import sample_images
from probekit.sampling.splits import Fold
from probekit.spec.load import load_experiment
from probekit.spec.models import GroupKFold

PICTURES, PROBED = 12, 24
"""Images that are looked at, unless the user says how many."""

_OFFSET_PIXELS = 1536
"""The offset is measured in this much of a larger photograph, from its middle."""


def check(
    spec: Path,
    overrides: Sequence[str],
    preview: Path | None,
    alignment: bool,
    images: int | None,
    progress: Progress,
) -> int:
    """Validates a spec, counts its labels, measures where features lie; draws and probes if asked.

    Args:
        preview: the folder for pictures, or none.
        alignment: whether to probe with shifted labels.
        images: how many to look at; ``PICTURES`` and ``PROBED`` unless given.

    Returns:
        1 where features or labels seem to be misplaced, else 0.

    Raises:
        ProbekitError: all that is wrong with the spec or the files.
    """
    if images is not None and images < 1:
        raise ProbekitError(f"--images: must be at least 1, given {images}")
    resolved = load_experiment(spec, overrides)
    experiment = resolved.experiment
    with limited_threads(experiment.threads) as threads:
        prepared = prepare(resolved, threads)
        dataset = build_dataset(prepared.source, experiment, threads, progress)
        for line in label_lines(dataset):
            progress.say(line)
        folds = build_folds(resolved, dataset)
        for line in (
            *prepared.notes,
            *circular_labels(prepared),
            *block_notes(dataset, experiment, folds),
            *(f"{name} skipped: {why}" for name, why in dataset.skipped),
        ):
            progress.say(f"note: {line}")
        store = Store(resolved.store, experiment.store.budget)
        progress.say("")
        for line in _offset_lines(prepared, dataset, store):
            progress.say(line)
        if preview is not None:
            sample = sample_images(dataset, images or PICTURES, experiment.seed)
            draw_all(preview, prepared.networks, sample, progress)
        if alignment:
            return _probe(prepared, dataset, folds[0], images or PROBED, store, threads, progress)
    return 0


def label_lines(dataset: Dataset) -> list[str]:
    """What the labels hold, and what is left out of them and why."""
    images = len({cut.image.id for cut in dataset.cuts})
    lines = [f"{images} images in {len(dataset.groups)} groups"]
    heads = ("concept", "cells", "positive", "share", "groups", "void: in between", "void pixels", "outside")
    rows = []
    for concept, name in enumerate(dataset.concepts):
        count = dataset.count(concept)
        outside = sum(part.outside for part in dataset.labels[concept])
        share = f"{100 * count.positives / max(count.cells, 1):.2f} %"
        rows.append(
            (name, f"{count.cells:,}", f"{count.positives:,}", share, f"{count.groups_with_positives}",
             f"{count.between:,}", f"{count.unlabelled:,}", f"{outside:,}")
        )  # fmt: skip
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        cells = [
            f"{text:<{w}}" if i == 0 else f"{text:>{w}}" for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells))
    return lines


def _offset_lines(prepared: Prepared, dataset: Dataset, store: Store) -> list[str]:
    """Where each network's features lie: what a changed patch of one photograph moves, against where the patch was."""
    import torch

    from probekit.features.offset import measure_offset

    cut = dataset.cuts[0]
    pixels = _middle(dataset.source.open(cut.image), _OFFSET_PIXELS)
    lines = [f"Offset of the features from where their cells lie, nine impulses in {cut.image.id}"]
    measured = [n for n in prepared.networks if n.kind in ("model", "random")]
    names = [f"{network.name} {layer}" for network in measured for layer in network.layers]
    width = max(map(len, names), default=0)
    for network in measured:
        if would_download(network) and not held_collections(network, prepared.resolved.experiment, store):
            lines.append(f"  {network.name:<{width}}  left out: its pretrained weights would have to be fetched first")
            continue
        device, dtype = torch.device(network.device), getattr(torch, network.dtype)
        network.backbone.load(network.layers, device, dtype)
        offsets = measure_offset(network.backbone, network.layers, pixels, device, dtype)
        for layer, offset in offsets.items():
            x, y = offset.own
            title = f"  {f'{network.name} {layer}':<{width}}"
            if np.isnan(x) or np.isnan(y):
                lines.append(f"{title}  an impulse changed nothing here: not measured")
                continue
            far = max(abs(x) / offset.cell[0], abs(y) / offset.cell[1])
            remark = "  half a cell or more: see --alignment" if far >= 0.45 else ""
            lines.append(
                f"{title}  x {x:+.1f} px, y {y:+.1f} px of cells of {offset.cell[0]:g} px; "
                f"the worst impulse {offset.worst:.2f} cells{remark}"
            )
    others = len(prepared.networks) - len(measured)
    if others:
        lines.append(f"  {others} twins and controls are not measured")
    return lines


def _middle(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    y, x = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return np.ascontiguousarray(pixels[y : y + size, x : x + size])


def draw_all(folder: Path, networks: Sequence[Network], sample: Dataset, progress: Progress) -> None:
    """Writes a picture for each image and concept that it shows (one where it shows none), and ``index.html``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProbekitError([Issue(display(folder), f"cannot be made: {error.strerror}")]) from None
    shown = [network for network in networks if network.kind != "twin"]  # a twin has its original's grids
    grids = {n.name: native_grids(n, sample.cuts) for n in shown}
    by_image = list(sample.by_image())
    entries: list[tuple[str, str]] = []
    progress.start("Pictures", display(folder), len(by_image), "images")
    for number, (image, places) in enumerate(by_image):
        pixels = sample.source.open(image)
        masks = {concept: sample.source.mask(image, concept) for concept in sample.concepts}
        marked = [concept for concept in sample.concepts if masks[concept].any()] or list(sample.concepts[:1])
        for concept in marked:
            place = sample.concepts.index(concept)
            labelled = _labelled(sample, place, places, masks[concept], grids)
            title = f"{image.id} · {concept} · group {image.group} · {image.width} x {image.height} px"
            name = f"{number:03d}-{place:02d}-{_safe(image.id)}-{_safe(concept)}.png"
            draw_preview(title, pixels, masks[concept], labelled).save(folder / name, compress_level=3)
            entries.append((name, title))
        progress.advance(1)
    write_atomically(folder / "index.html", _index(entries).encode())
    progress.finish(f"see {display(folder / 'index.html')}")


def _labelled(
    sample: Dataset,
    concept: int,
    places: Sequence[int],
    mask: NDArray[np.uint8],
    grids: dict[str, dict[str, list[Grid]]],
) -> list[Labelled]:
    """The reference grid of an image (of its cut with most positive cells), then each native grid that differs."""
    of_concept = sample.labels[concept]
    place = max(places, key=lambda place: int((of_concept[place].values == POSITIVE).sum()))
    cut = sample.cuts[place]
    users: dict[Footprints, list[str]] = {_footprints(cut.reference): []}
    own_grids: dict[Footprints, Grid] = {}
    for network, layers in grids.items():
        for layer, of_cuts in layers.items():
            own_grids.setdefault(_footprints(of_cuts[place]), of_cuts[place])
            users.setdefault(_footprints(of_cuts[place]), []).append(f"{network} {layer}")
    cell = cut.reference.to_pixels.step_x
    same = users.pop(_footprints(cut.reference))
    own = f", which is also the own grid of {', '.join(same)}" if same else ""
    of_tile = f" of one of {len(places)} tiles" if len(places) > 1 else ""
    result = [Labelled(f"reference grid{of_tile}, {cell:g} px{own}", cut.reference, of_concept[place].values)]
    for footprints, names in users.items():
        step = footprints[0]
        size = f"{step.step_x:.4g}" if step.step_x == step.step_y else f"{step.step_x:.4g} x {step.step_y:.4g}"
        labels = cut.labels(mask, own_grids[footprints], sample.thresholds)
        result.append(Labelled(f"own grid of {', '.join(names)}, {size} px", own_grids[footprints], labels.values))
    return result


Footprints = tuple[Affine, int, int]


def _footprints(grid: Grid) -> Footprints:
    """What tells the valid cells of two grids apart; padding does not."""
    return grid.to_pixels, grid.valid_rows, grid.valid_columns


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:60]


def _index(entries: Sequence[tuple[str, str]]) -> str:
    """One page with all pictures; it names nothing outside its folder."""
    figures = "\n".join(
        f'<figure><a href="{html.escape(name)}"><img src="{html.escape(name)}" alt="{html.escape(title)}" '
        f'loading="lazy"></a><figcaption>{html.escape(title)}</figcaption></figure>'
        for name, title in entries
    )
    words = "; ".join(text for _, text in legend())
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Labels over photographs</title>\n'
        "<style>body{font:16px system-ui,sans-serif;margin:2em auto;max-width:1280px;padding:0 1em}"
        "figure{margin:2em 0}img{max-width:100%;height:auto}</style>\n"
        f"<h1>Labels over photographs</h1>\n<p>{html.escape(words)}.</p>\n{figures}\n</html>\n"
    )


def _probe(
    prepared: Prepared,
    dataset: Dataset,
    folds: Sequence[Fold],
    images: int,
    store: Store,
    threads: int,
    progress: Progress,
) -> int:
    """Probes every layer of every model with shifted labels; 1 where one fits better elsewhere."""
    experiment = prepared.resolved.experiment
    # A held-out test part is not looked at; with k folds each group is tested, and the probe is scored across groups.
    allowed = None if isinstance(experiment.split, GroupKFold) else {*folds[0].train, *folds[0].validation}
    sample = sample_images(dataset, images, experiment.seed, allowed)
    networks = [network for network in prepared.networks if network.kind in ("model", "random")]
    tests = sum(len(network.layers) for network in networks) * len(dataset.concepts)
    require_room(store, [forecast_network(network, sample, experiment, store) for network in networks])
    store.path.mkdir(parents=True, exist_ok=True)
    groups = len({cut.group for cut in sample.cuts})
    used = len({cut.image.id for cut in sample.cuts})
    warnings: list[str] = []
    for network in networks:
        extraction, _ = extract_network(network, sample, experiment, store, threads, progress)
        for layer, collection in extraction.collections.items():
            name = f"{network.name} {layer}"
            steps = collection.grid(sample.cuts[0].key).to_pixels
            for concept, found in probe_alignment(sample, collection, name, experiment.seed, tests).items():
                progress.say("")
                progress.say(f"{name} · {concept}: average precision between groups, {used} images, {groups} groups")
                if found is None:
                    progress.say("  not probed: a class is missing in some part of so few groups; more --images")
                    continue
                for line in alignment_lines(found, (steps.step_x, steps.step_y)):
                    progress.say(line)
                if found.misaligned:
                    warnings.append(f"{name} · {concept}: labels fit better {_where(found.best)}")
    progress.say("")
    for warning in warnings:
        progress.say(f"WARNING  {warning}")
    if warnings:
        progress.say(
            "Several concepts of one network: its padding, preprocessing or adapter. All networks: the masks. "
            "--preview DIR shows the masks"
        )
    else:
        progress.say("No shift fits better than none beyond noise")
    return 1 if warnings else 0


def alignment_lines(found: Alignment, cell: tuple[float, float]) -> list[str]:
    """A table of the shifts, and a verdict.

    Args:
        cell: size of a cell, (x, y) in pixels.
    """
    best = found.best
    lines = [f"  labels read, in cells{'':<6}" + "".join(f"{_word(s, 'left', 'right'):>13}" for s in SHIFTS)]
    for down, row in zip(SHIFTS, found.precision, strict=True):
        values = []
        for right, value in zip(SHIFTS, row, strict=True):
            mark = "*" if (right, down) == best else " "
            values.append(f"{value:>12.3f}{mark}".replace("0.", " .", 1))
        lines.append(f"  {_word(down, 'up', 'down'):<27}" + "".join(values))
    gain = f"{found.gain:+.3f} over none, at least {found.bound:+.3f}"
    if best == (0.0, 0.0):
        verdict = "best where they are"
    elif found.misaligned:
        pixels = f"{best[0] * cell[0]:+.0f} px in x, {best[1] * cell[1]:+.0f} px in y"
        verdict = f"WARNING: better {_where(best)} ({pixels}): {gain}"
    else:
        verdict = f"best {_where(best)}, within noise ({gain})"
    return [*lines, f"  {verdict}"]


def _word(shift: float, less: str, more: str) -> str:
    if shift == 0:
        return "0"
    return f"{'1/2' if abs(shift) == 0.5 else f'{abs(shift):g}'} {less if shift < 0 else more}"


def _where(best: tuple[float, float]) -> str:
    parts = [_word(best[0], "cell left", "cell right")] if best[0] else []
    parts += [_word(best[1], "cell up", "cell down")] if best[1] else []
    return " and ".join(parts) or "where they are"
