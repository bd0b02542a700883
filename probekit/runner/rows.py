"""Training rows and validation rows of one (backbone, layer, repeat): drawn once, shared by every problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit.api import POSITIVE, VOID, Rows
from probekit.evaluate.scores import average_precision
from probekit.features.rows import LazyRows, gather_rows
from probekit.features.store import Collection
from probekit.runner.dataset import Dataset
from probekit.sampling.rows import draw_rows, fold_weights
from probekit.sampling.splits import Fold


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a job: the union over concepts of what was drawn for each.

    Attributes:
        rows: raw features, (n, p).
        cut: each row's cut, (n,).
        group: each row's group, (n,).
        y: (concepts, n), 1 where the concept is.
        drawn: (concepts, n), whether the row was drawn for the concept.
    """

    rows: Rows
    cut: NDArray[np.int64]
    group: NDArray[np.int32]
    y: NDArray[np.int8]
    drawn: NDArray[np.bool_]

    def training(
        self, concept: int, groups: NDArray[np.int64], left_out: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Which rows were drawn for the concept from these groups, (n,).

        Args:
            left_out: cuts that a fold leaves out of them.
        """
        training: NDArray[np.bool_] = self.drawn[concept] & np.isin(self.group, groups)
        if left_out is not None:
            training &= ~np.isin(self.cut, left_out)
        return training

    def weights(
        self, concept: int, groups: NDArray[np.int64], left_out: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Class-balanced weights, zero outside :meth:`training`."""
        return fold_weights(self.y[concept], self.training(concept, groups, left_out))


@dataclass(frozen=True)
class ValidationRows:
    """All labelled native cells of one fold's validation, for one concept."""

    rows: Rows
    y: NDArray[np.int8]

    def average_precision(self, scores: NDArray[np.floating]) -> float:
        """AP of scores, one a row."""
        return average_precision(scores, self.y)


def native_labels(dataset: Dataset, collection: Collection) -> list[list[NDArray[np.int8]]]:
    """Labels on a layer's own grid: (concept, cut) -> int8 (rows * columns,)."""
    labels: list[list[NDArray[np.int8]]] = [[] for _ in dataset.concepts]
    for image, places in dataset.by_image():
        for concept, name in enumerate(dataset.concepts):
            mask = dataset.source.mask(image, name)
            for place in places:
                cut = dataset.cuts[place]
                labels[concept].append(cut.labels(mask, collection.grid(cut.key), dataset.thresholds).values.ravel())
    return labels


def draw_training_rows(
    dataset: Dataset,
    collection: Collection,
    labels: Sequence[Sequence[NDArray[np.int8]]],
    per_class: int,
    seed: int,
    key: Sequence[str | int],
) -> TrainingRows:
    """Draws up to ``per_class`` rows a class and concept over all groups, and reads their features once.

    Args:
        labels: (concept, cut), of the layer's own grid.
        key: backbone, layer, repeat: what the draw is seeded with beside ``seed`` and the concept's name.
    """
    names = [cut.name for cut in dataset.cuts]
    starts = np.concatenate(([0], np.cumsum([part.size for part in labels[0]], dtype=np.int64)))
    drawn_cells = []
    for concept, of_cuts in enumerate(labels):
        drawn_rows = draw_rows(names, of_cuts, per_class, seed, *key, dataset.concepts[concept])
        drawn_cells.append(starts[drawn_rows.image] + drawn_rows.cell)
    union = np.unique(np.concatenate(drawn_cells))
    cut = np.searchsorted(starts, union, side="right") - 1
    cell = union - starts[cut]
    y = np.stack([np.concatenate(of_cuts)[union] == POSITIVE for of_cuts in labels]).astype(np.int8)
    drawn = np.stack([np.isin(union, of) for of in drawn_cells])
    groups = dataset.cut_groups[cut]
    return TrainingRows(gather_rows(collection, [c.key for c in dataset.cuts], cut, cell), cut, groups, y, drawn)


def validation_rows(
    dataset: Dataset, collection: Collection, labels: Sequence[NDArray[np.int8]], fold: Fold
) -> ValidationRows:
    """The validation of one fold and concept.

    Args:
        labels: of the concept, by cut.
    """
    keys, cells, y = [], [], []
    for place in fold.cuts("validation", dataset.cut_groups).tolist():
        kept = np.flatnonzero(labels[place] != VOID)
        if kept.size:
            keys.append(dataset.cuts[place].key)
            cells.append(kept)
            y.append(labels[place][kept])
    return ValidationRows(LazyRows(collection, keys, cells), np.concatenate(y))
