"""Score maps of many scorers over the images of a fold, on the reference grid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, VOID, ProbekitError, Scorer, map_in_threads
from probekit.evaluate.scorer import evaluate_scorers
from probekit.features.store import Collection
from probekit.geometry.reference import Resampler
from probekit.runner.dataset import Dataset
from probekit.sampling.splits import Fold, missing_classes
from probekit.spec.resolved import Resolved

_HELD_BYTES = 64 * 2**20
"""Scores of several cuts that are held before they are handed on; one cut alone may take more."""


@dataclass(frozen=True)
class ReferenceCells:
    """The cells on which all models of a run are scored.

    Attributes:
        labels: (concepts, cells) int8, void where a model of the run has no valid cell.
        group: (cells,).
    """

    labels: NDArray[np.int8]
    group: NDArray[np.int32]

    @property
    def digest(self) -> str:
        """Of the labels of all cells: two models are compared on the same ones."""
        return f"sha256:{hashlib.sha256(self.labels.tobytes()).hexdigest()}"


def common_cells(dataset: Dataset, collections: Iterable[Collection]) -> ReferenceCells:
    """The reference cells whose points are valid in every model, with their labels."""
    labels = np.stack([dataset.flat_labels(concept) for concept in range(len(dataset.concepts))])
    for collection in collections:
        for place in range(len(dataset.cuts)):
            valid = resampler(dataset, collection, place).valid.ravel()
            start, stop = dataset.offsets[place], dataset.offsets[place + 1]
            labels[:, start:stop][:, ~valid] = VOID
    return ReferenceCells(labels, dataset.cell_groups)


def require_classes(
    resolved: Resolved, dataset: Dataset, cells: ReferenceCells, folds: Sequence[Sequence[Fold]]
) -> None:
    """Refuses a run whose common cells lack a class in some part of some fold (the folds were made of all cells).

    Raises:
        ProbekitError: for every concept that lacks one.
    """

    cut = np.repeat(np.arange(len(dataset.cuts)), np.diff(dataset.offsets))

    def count(label: int) -> NDArray[np.int64]:
        n_cuts = len(dataset.cuts)
        return np.stack([np.bincount(cut[of == label], minlength=n_cuts) for of in cells.labels], axis=1)

    where = f"{resolved.at(('split',), '').where}: on the cells that all models see,"
    issues = [
        issue
        for of_repeat in folds
        for issue in missing_classes(
            of_repeat, count(POSITIVE), count(NEGATIVE), dataset.concepts, where=where, cuts=dataset.cut_groups
        )
    ]
    if issues:
        raise ProbekitError(dict.fromkeys(issues))


def resampler(dataset: Dataset, collection: Collection, place: int) -> Resampler:
    """From a layer's own grid to the reference grid, for one cut."""
    cut = dataset.cuts[place]
    return Resampler(collection.grid(cut.key), cut.reference, cut.image.height, cut.image.width)


def score_maps(
    dataset: Dataset, collection: Collection, scorers: Sequence[Scorer], places: Iterable[int], threads: int = 1
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Scores of every reference cell of the given cuts.

    Args:
        threads: how many cuts are scored at a time.

    Yields:
        For each cut the place of its cells in the flat order, and the margins (scorers, cells), float32.
    """

    def score(place: int) -> tuple[slice, NDArray[np.float32]]:
        values, grid = collection.read(dataset.cuts[place].key)
        margins = evaluate_scorers(scorers, values).reshape(len(scorers), grid.rows, grid.columns)
        maps = resampler(dataset, collection, place)(margins)
        cells = slice(int(dataset.offsets[place]), int(dataset.offsets[place + 1]))
        return cells, maps.reshape(len(scorers), -1).astype(np.float32, copy=False)

    places = list(places)
    largest = max((int(dataset.offsets[place + 1] - dataset.offsets[place]) for place in places), default=1)
    size = max(1, _HELD_BYTES // (4 * len(scorers) * largest))
    for start in range(0, len(places), size):
        yield from map_in_threads(score, places[start : start + size], threads)
