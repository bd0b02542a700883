"""A run's models set against one another, channel by channel: the tables that need the store or the jobs' own fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probekit.api import FULL
from probekit.compare.chance import Pairing
from probekit.compare.cross_products import Floats, LayerProducts
from probekit.compare.repairing import repair
from probekit.features.store import Collection
from probekit.runner.clock import Clock
from probekit.runner.comparisons.ablation import ablation_rows
from probekit.runner.comparisons.complements import Common, complement_rows
from probekit.runner.comparisons.exemplars import write_exemplars
from probekit.runner.comparisons.matches import SampledLayer, Selection, match_rows
from probekit.runner.comparisons.sampled import SampledCells, read_cells, read_features
from probekit.runner.comparisons.subspaces import subspace_rows
from probekit.runner.dataset import Dataset
from probekit.runner.fold_fits import read_fold_fits
from probekit.runner.prepare import Prepared
from probekit.runner.progress import Progress
from probekit.runner.records import OBSERVED
from probekit.runner.scoring import ReferenceCells, resampler
from probekit.runner.tables import write_table
from probekit.sampling.seeds import generator
from probekit.sampling.splits import Fold

Layer = tuple[str, str]
"""(backbone, layer)."""

Finals = Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]]
"""(backbone, layer, concept) -> rows of ``channels`` of its final fit."""


def write_comparisons(
    folder: Path,
    prepared: Prepared,
    dataset: Dataset,
    cells: ReferenceCells,
    collections: Mapping[Layer, Collection],
    folds: Sequence[Fold],
    threads: int,
    clock: Clock,
    progress: Progress,
) -> None:
    """Writes ``matches``, ``subspaces``, ``complements``, ``profiles``, ``exemplars`` with their pictures, and
    ``ablation``.

    Args:
        folder: of the run; its jobs are done and still there, and so are the shared cells.
        cells: that are scored.
        collections: of the models' layers; no controls.
        folds: of the first repeat.
    """
    experiment = prepared.resolved.experiment
    wanted = experiment.comparison
    parts = {
        (job.backbone, job.layer): folder / "jobs" / job.name
        for job in prepared.jobs
        if job.repeat == 0 and (job.backbone, job.layer) in collections
    }
    finals = final_channels(parts, dataset.concepts)
    progress.start("Channels", "matches, subspaces, complements, exemplars", 4, "steps")
    sampled = read_cells(folder)
    features = read_features(folder, collections)
    with clock.measured("comparison", "matches"):
        sides = [
            SampledLayer(*layer, values, _selections(layer, finals, dataset.concepts))
            for layer, values in features.items()
        ]
        matches = _matches(sides, sampled, wanted.draws, experiment.seed, dataset, collections)
        write_table(folder, "matches", matches)
    progress.advance(1, "matches")
    with clock.measured("comparison", "subspaces"):
        labels = np.stack([sampled.labels[concept] for concept in dataset.concepts])
        cut = ReferenceCells(labels, sampled.group)
        write_table(
            folder,
            "subspaces",
            subspace_rows(features, finals, cut, dataset.concepts, sampled.groups, experiment.seed),
        )
    progress.advance(1, "subspaces")
    del features, sides
    with clock.measured("comparison", "complements"):
        complements: list[dict[str, Any]] = []
        fits = {layer: read_fold_fits(part) for layer, part in parts.items()}
        reported = {probe for probe, _ in fits.values()}
        entry = next((entry for entry in prepared.probes if entry.name in reported), None)
        if wanted.complements and entry is not None and _has_full(parts.values(), entry.name):
            common = Common(dataset, cells, folds, entry, experiment.sampling.per_class, experiment.seed)
            chosen = {layer: {key: fit.selected for key, fit in of.items()} for layer, (_, of) in fits.items()}
            complements = list(complement_rows(common, collections, chosen, progress.advance))
        write_table(folder, "complements", complements)
    progress.advance(1, "complements")
    with clock.measured("comparison", "exemplars"):
        profiles, exemplars = write_exemplars(folder, dataset, cells, collections, finals, wanted.exemplars, threads)
        write_table(folder, "profiles", profiles)
        write_table(folder, "exemplars", exemplars)
    progress.advance(1, "exemplars")
    progress.finish()
    with clock.measured("comparison", "ablation"):
        ablated = ablation_rows(prepared, folder, dataset, cells, collections, folds, threads, progress)
        write_table(folder, "ablation", ablated)


def final_channels(parts: Mapping[Layer, Path], concepts: Sequence[str]) -> Finals:
    """The channels of every layer's final fit ``k95``, or ``chosen`` where there is none, of the reported probe."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for (backbone, layer), part in parts.items():
        probe, _ = read_fold_fits(part)
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in pq.read_table(part / "channels.parquet").to_pylist():
            rows.setdefault(row["fit_id"], []).append(row)
        for concept in concepts:
            names = (
                "|".join((backbone, layer, concept, probe, "0", OBSERVED, label, "final"))
                for label in ("k95", "chosen")
            )
            found[backbone, layer, concept] = next((rows[name] for name in names if name in rows), [])
    return found


def _selections(layer: Layer, finals: Finals, concepts: Sequence[str]) -> dict[str, Selection]:
    return {
        concept: Selection([row["channel"] for row in rows], [row["coefficient"] for row in rows])
        for concept in concepts
        if (rows := finals[*layer, concept])
    }


def _matches(
    sides: Sequence[SampledLayer],
    sampled: SampledCells,
    draws: int,
    seed: int,
    dataset: Dataset,
    collections: Mapping[Layer, Collection],
) -> list[dict[str, Any]]:
    """Every ordered pair of layers of two models: correlations over all cells, tested on those that were drawn."""
    if not draws or len({side.backbone for side in sides}) < 2:
        return []
    rng = generator(seed, "re-pairing")
    paired = repair(sampled.image, sampled.group, sampled.row, sampled.column, rng=rng, draws=draws)
    r = correlations(dataset, collections)
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for b, other in enumerate(sides):
        pairing = Pairing(other.features, paired)  # most of what it costs, for all layers that are held against it
        for a, one in enumerate(sides):
            if one.backbone != other.backbone:
                pair = (one.backbone, one.layer), (other.backbone, other.layer)
                found[a, b] = match_rows(one, other, pairing, r[pair] if pair in r else r[pair[::-1]].T)
    return [row for pair in sorted(found) for row in found[pair]]


def correlations(dataset: Dataset, collections: Mapping[Layer, Collection]) -> dict[tuple[Layer, Layer], Floats]:
    """Of all channels of every two layers of different models, over the reference cells that all layers see: image by
    image, each read once. Memory: an image's features in all layers, twice, and ``streamed_bytes``."""
    layers = list(collections)
    pairs = [(a, b) for a, b in combinations(range(len(layers)), 2) if layers[a][0] != layers[b][0]]
    widths = [collection.channels for collection in collections.values()]
    products = LayerProducts(widths, pairs, [" ".join(layer) for layer in layers])
    for place, cut in enumerate(dataset.cuts):
        seen: list[NDArray[np.float32]] = []
        inside = np.ones(int(dataset.offsets[place + 1] - dataset.offsets[place]), dtype=bool)
        for collection in collections.values():
            values, grid = collection.read(cut.key)
            on_reference = resampler(dataset, collection, place)
            maps = np.ascontiguousarray(values.T).reshape(-1, grid.rows, grid.columns)
            seen.append(on_reference(maps).reshape(len(maps), -1).T.astype(np.float32, copy=False))
            inside &= on_reference.valid.ravel()
        products.add([of[inside] for of in seen])
    return {(layers[a], layers[b]): r for (a, b), r in products.finish().items()}


def _has_full(parts: Iterable[Path], probe: str) -> bool:
    """Whether the probe has a rung of all channels."""
    return any(
        row["probe"] == probe and row["rung"] == FULL
        for part in parts
        for row in pq.read_table(part / "points.parquet", columns=["probe", "rung"]).to_pylist()
    )
