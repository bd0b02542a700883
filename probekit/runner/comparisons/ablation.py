"""Ablation: the selected channels of a layer set to their mean in the network's forward pass, and what the probes of
later layers lose by it, against as many other channels of like variance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probekit.api import POSITIVE, VOID, Issue, ProbekitError
from probekit.api import Prepared as PreparedImage
from probekit.compare.ablation import Moments, like_channels, lost, overlap
from probekit.evaluate.scorer import evaluate_scorers
from probekit.evaluate.scores import average_precision
from probekit.features.edited import Variant, edited_maps, opened_network, reach, require_same
from probekit.features.extract import Request, prepared_items
from probekit.features.store import Collection
from probekit.geometry.reference import Resampler
from probekit.plan.networks import Network
from probekit.plan.units import Job
from probekit.runner.comparisons.adjusted import adjusted
from probekit.runner.dataset import Dataset
from probekit.runner.extraction import items_of, request_of, stand_in
from probekit.runner.fold_fits import FoldFit, read_fold_fits
from probekit.runner.prepare import Prepared
from probekit.runner.progress import Progress
from probekit.runner.replicates import precision_replicates
from probekit.runner.sample import sample_images
from probekit.runner.scoring import ReferenceCells, resampler
from probekit.runner.tables import write_table
from probekit.sampling.seeds import generator
from probekit.sampling.splits import Fold
from probekit.spec.models import Experiment

Row = dict[str, Any]
_Pair = tuple[str, str, int]
"""A layer, a later one, and a concept's number."""


def ablation_rows(
    prepared: Prepared,
    folder: Path,
    dataset: Dataset,
    cells: ReferenceCells,
    collections: Mapping[tuple[str, str], Collection],
    folds: Sequence[Fold],
    threads: int,
    progress: Progress,
) -> Iterator[Row]:
    """The rows of ``ablation``: every model, and each two of its layers of which one feeds the other. Nothing where
    the spec asks for no draws. A network that was finished before a run was stopped is not run again. A concept's
    p-values are adjusted over all its rows.

    Args:
        folder: of the run; its jobs are done and still there.
        cells: that are scored.
        collections: (backbone, layer) -> its features.
        folds: of the first repeat.

    Raises:
        ProbekitError: an adapter whose layers cannot be edited, features that the network does not give any more, no
            memory left.
    """
    experiment = prepared.resolved.experiment
    if not experiment.ablation.draws:
        return
    places = ablated_places(dataset, folds, experiment)
    rows: list[Row] = []
    for number, network in enumerate(prepared.networks):
        if network.control or len(network.layers) < 2:
            continue
        part = folder / "jobs" / f"ablation-{number}"
        if not (part / "ablation.parquet").exists():
            part.mkdir(exist_ok=True)
            ablated = _Network(network, experiment, folder, dataset, cells, collections, folds, places, threads)
            write_table(part, "ablation", ablated.rows(progress))
        rows += pq.read_table(part / "ablation.parquet").to_pylist()
    yield from adjusted(rows, "p", "circuit", "lo")


def require_editable(prepared: Prepared, dataset: Dataset, threads: int) -> None:
    """Refuses adapters whose layers cannot be ablated, where that is asked for: before hours are spent on probes.

    Raises:
        ProbekitError: the first of them, and the layer.
    """
    experiment = prepared.resolved.experiment
    if not experiment.ablation.draws:
        return
    nothing = Variant(np.zeros(0, dtype=np.int64), np.zeros(0))
    for network in prepared.networks:
        layers = _in_order(network)
        if not network.control and len(layers) > 1:
            request = request_of(network, experiment, threads)
            with opened_network(request, layers):
                for layer in layers[:-1]:
                    list(edited_maps(request, stand_in(network, dataset), layer, [nothing], ()))


def ablated_places(dataset: Dataset, folds: Sequence[Fold], experiment: Experiment) -> list[int]:
    """The cuts that are run: those of the test groups, of ``ablation.images`` of their images where that is set."""
    places = sorted(int(place) for fold in folds for place in fold.cuts("test", dataset.cut_groups))
    limit = experiment.ablation.images
    if limit is None:
        return places
    tested = replace(
        dataset,
        cuts=tuple(dataset.cuts[place] for place in places),
        labels=tuple(tuple(of[place] for place in places) for of in dataset.labels),
    )
    kept = {cut.name for cut in sample_images(tested, limit, experiment.seed).cuts}
    return [place for place in places if dataset.cuts[place].name in kept]


@dataclass(frozen=True, eq=False)
class _Edits:
    """What is done to one layer for one concept: by fold the selected channels and then each random set, with what
    they are set to; none where a fold has too few other channels. ``shared``: by how much random sets overlap."""

    sizes: tuple[int, ...]
    shared: float
    by_fold: Mapping[int, tuple[Variant, ...]] | None


def _in_order(network: Network) -> list[str]:
    """A network's layers in the order that its adapter declares."""
    declared = list(network.backbone.layers)
    return sorted(network.layers, key=lambda name: declared.index(name) if name in declared else len(declared))


class _Network:
    """One network's ablation; see :func:`ablation_rows` for the arguments."""

    def __init__(
        self,
        network: Network,
        experiment: Experiment,
        folder: Path,
        dataset: Dataset,
        cells: ReferenceCells,
        collections: Mapping[tuple[str, str], Collection],
        folds: Sequence[Fold],
        places: Sequence[int],
        threads: int,
    ) -> None:
        self.network, self.experiment, self.folder = network, experiment, folder
        self.dataset, self.cells, self.folds, self.places = dataset, cells, folds, places
        self.layers = _in_order(network)
        self.collections = {layer: collections[network.name, layer] for layer in self.layers}
        self.request: Request = request_of(network, experiment, threads)
        found = {layer: read_fold_fits(folder / "jobs" / Job(network.name, layer, 0).name) for layer in self.layers}
        self.probe = next(iter(found.values()))[0]
        self.fits: Mapping[str, Mapping[tuple[str, int], FoldFit]] = {layer: fits for layer, (_, fits) in found.items()}
        self.fold_of = {int(group): fold.index for fold in folds for group in fold.test}
        self.kept = [
            np.concatenate([self._kept(concept, place) for place in places]) for concept in range(len(dataset.concepts))
        ]

    def rows(self, progress: Progress) -> list[Row]:
        """A row for each layer, later layer and concept."""
        with opened_network(self.request, self.layers), TemporaryFile(dir=self.folder) as file:
            moments = {layer: self._moments(layer) for layer in self.layers[:-1]}
            later = self._reach(moments)
            edits = {
                (layer, concept): self._edits(layer, concept, moments[layer])
                for layer, concept in product(later, range(len(self.dataset.concepts)))
            }
            pairs = [(a, b, c) for (a, c) in edits for b in later[a]]
            # On the disk: every pass leaves a margin a cell.
            draws = self.experiment.ablation.draws
            sizes = [(1 + draws) * len(self.kept[c]) for _, _, c in pairs]
            flat = np.memmap(file, np.float32, "w+", shape=(max(sum(sizes), 1),))
            margins = {
                pair: flat[end - size : end].reshape(1 + draws, -1)
                for pair, size, end in zip(pairs, sizes, np.cumsum(sizes), strict=True)
            }
            untouched = {(b, c): np.empty(len(self.kept[c]), np.float32) for _, b, c in pairs}
            self._run(later, edits, margins, untouched, progress)
            return [self._row(pair, edits[pair[0], pair[2]], untouched[pair[1:]], margins[pair]) for pair in pairs]

    def _kept(self, concept: int, place: int) -> NDArray[np.int64]:
        """The scored cells of a cut, flat over all reference cells."""
        start, stop = self.dataset.offsets[place : place + 2]
        kept: NDArray[np.int64] = start + np.flatnonzero(self.cells.labels[concept, start:stop] != VOID)
        return kept

    def _moments(self, layer: str) -> Moments:
        """Of the channels over each fold's training groups: all cells of the layer's own grid, as often as they are."""
        collection = self.collections[layer]
        training = [set(fold.cuts("train", self.dataset.cut_groups).tolist()) for fold in self.folds]
        moments = Moments(len(self.folds), collection.channels)
        for place, cut in enumerate(self.dataset.cuts):
            parts = [i for i, of in enumerate(training) if place in of]
            if parts:
                values, grid = collection.read(cut.key)
                moments.add(values[cut.tile.owns(grid).ravel()], parts)
        return moments

    def _reach(self, moments: Mapping[str, Moments]) -> dict[str, list[str]]:
        """The layers that change where all channels of another are set to other values, by one pass of the first image
        each; those that nothing follows from are left out. An untouched pass must give what the store holds."""
        ((place, first),) = self._prepared(self.places[:1])
        key = self.dataset.cuts[place].key
        stored = {layer: collection.read(key)[0] for layer, collection in self.collections.items()}
        untouched = require_same(self.request, first, stored)
        found = {}
        for at, layer in enumerate(self.layers[:-1]):
            values = moments[layer].mean[0] + np.sqrt(moments[layer].variance[0]) + 1.0
            later = reach(self.request, first, layer, values, self.layers[at + 1 :], untouched)
            if later:
                found[layer] = later
        return found

    def _prepared(self, places: Sequence[int]) -> Iterator[tuple[int, PreparedImage]]:
        """Cuts with their images, decoded ahead."""
        unreadable: dict[str, str] = {}
        ready = prepared_items(self.request, items_of(self.dataset, places), unreadable)
        for place in places:
            one = next(ready, None)
            if one is None or unreadable:
                raise ProbekitError(
                    [Issue(name, f"cannot be decoded any more: {why}") for name, why in unreadable.items()]
                )
            yield place, one.prepared

    def _edits(self, layer: str, concept: int, moments: Moments) -> _Edits:
        name, draws = self.dataset.concepts[concept], self.experiment.ablation.draws
        by_fold: dict[int, tuple[Variant, ...]] = {}
        supports = [self.fits[layer][name, fold.index].selected for fold in self.folds]
        shared = []
        for fold, selected, mean, variance in zip(self.folds, supports, moments.mean, moments.variance, strict=True):
            rng = generator(self.experiment.seed, "ablation", self.network.name, layer, name)  # one for all folds
            others = like_channels(selected, variance, draws, rng)
            if others is not None:
                by_fold[fold.index] = tuple(Variant(of, mean[of]) for of in (selected, *others))
                shared.append(overlap(others))
        sizes = tuple(map(len, supports))
        enough = len(by_fold) == len(self.folds) and any(sizes)
        return _Edits(sizes, float(np.mean(shared or [0.0])), by_fold if enough else None)

    def _run(
        self,
        later: Mapping[str, Sequence[str]],
        edits: Mapping[tuple[str, int], _Edits],
        margins: Mapping[_Pair, NDArray[np.float32]],
        untouched: Mapping[tuple[str, int], NDArray[np.float32]],
        progress: Progress,
    ) -> None:
        """All passes: fills ``margins``, (1 + draws, kept cells), and ``untouched``, (kept cells,)."""
        per_image = (1 + self.experiment.ablation.draws) * sum(of.by_fold is not None for of in edits.values())
        total = per_image * len(self.places)
        progress.start("Ablation", f"{self.network.name} {', '.join(later)}", total, "passes")
        done = dict.fromkeys(range(len(self.dataset.concepts)), 0)
        for place, image in self._prepared(self.places):
            fold = self.fold_of[self.dataset.cuts[place].group]
            cells = {c: self._kept(c, place) - self.dataset.offsets[place] for c in done}
            span = {c: slice(start, start + len(cells[c])) for c, start in done.items()}
            to_reference = {b: resampler(self.dataset, self.collections[b], place) for b, _ in untouched}
            for layer, concept in untouched:
                values, _ = self.collections[layer].read(self.dataset.cuts[place].key)
                found = self._margins(values, layer, concept, fold, to_reference[layer])
                untouched[layer, concept][span[concept]] = found[cells[concept]]
            for layer, following in later.items():
                wanted = [
                    (concept, number, variant)
                    for (of, concept), edit in edits.items()
                    if of == layer and edit.by_fold is not None
                    for number, variant in enumerate(edit.by_fold[fold])
                ]
                passes = edited_maps(self.request, image, layer, [variant for *_, variant in wanted], following)
                for (concept, number, _), maps in zip(wanted, passes, strict=True):
                    for other, values in maps.items():
                        found = self._margins(values, other, concept, fold, to_reference[other])
                        margins[layer, other, concept][number, span[concept]] = found[cells[concept]]
                    progress.advance(1)
            done = {c: span[c].stop for c in done}
        progress.finish()

    def _margins(
        self, values: NDArray[np.float32], layer: str, concept: int, fold: int, to_reference: Resampler
    ) -> NDArray[np.float32]:
        """Standardised margins of a cut's reference cells by the fold's scorer, (cells,); ``values`` (cells, channels)
        of the layer's own grid."""
        fit = self.fits[layer][self.dataset.concepts[concept], fold]
        native = evaluate_scorers([fit.scorer], values).reshape(1, to_reference.native.rows, -1)
        margins: NDArray[np.float32] = fit.scale.apply(to_reference(native).reshape(1, -1))[0].astype(np.float32)
        return margins

    def _row(self, pair: _Pair, edits: _Edits, untouched: NDArray[np.float32], margins: NDArray[np.float32]) -> Row:
        layer, later, concept = pair
        kept = self.kept[concept]
        y = (self.cells.labels[concept, kept] == POSITIVE).astype(np.int8)
        groups, group = np.unique(self.cells.group[kept], return_inverse=True)
        draws = self.experiment.ablation.draws
        row: Row = {
            "backbone": self.network.name,
            "layer": layer,
            "later": later,
            "concept": self.dataset.concepts[concept],
            "probe": self.probe,
            "channels": float(np.median(edits.sizes)),
            "draws": draws,
            "images": len({self.dataset.cuts[place].image.id for place in self.places}),
            "groups": len(groups),
        }
        if not y.any():
            return {**row, "reason": "the images that were run show nothing of it"}
        score = float(average_precision(untouched, y))
        if edits.by_fold is None:
            most = max(edits.sizes)
            few = f"a fold selects {most} channels: others are too few to hold them against"
            return {**row, "score": score, "reason": few if most else "no fold selects a channel"}
        replicates = [precision_replicates(np.asarray(of), y, group, len(groups)) for of in margins]
        positives = np.bincount(group[y == 1], minlength=len(groups))
        return row | vars(lost(score, replicates[0], replicates[1:], positives, edits.shared))
