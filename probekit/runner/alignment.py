"""The alignment probe on a sample of a run's images: one layer's features, every concept's labels shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, VOID
from probekit.evaluate.alignment import SHIFTS, Alignment, alignment
from probekit.features.store import Collection
from probekit.runner.dataset import Dataset
from probekit.sampling.seeds import generator
from probekit.sampling.splits import Fold, group_kfold

ROW_BYTES = 256 * 2**20
"""Features held for the probe: beyond it, cells that are negative at every shift are thinned."""

_FOLDS = 4


def sample_folds(sample: Dataset, seed: int) -> list[Fold]:
    """Folds of the sample's own groups; each group is scored once, by a probe that was trained on other groups.

    Raises:
        ProbekitError: too few groups.
    """
    present = np.unique([cut.group for cut in sample.cuts])
    counts = [sample.cells_by_group(value)[present] for value in (POSITIVE, NEGATIVE)]
    names = [sample.groups[group] for group in present]
    folds = group_kfold(names, counts[0], counts[1], folds=min(_FOLDS, len(present)), validation=0.2, seed=seed)
    return [Fold(f.index, present[f.train], present[f.validation], present[f.test]) for f in folds]


def probe_alignment(
    sample: Dataset, collection: Collection, name: str, seed: int, tests: int
) -> Mapping[str, Alignment | None]:
    """Probes one layer.

    Args:
        sample: a few images, all of them in the collection.
        collection: of the layer.
        name: of the backbone and layer, for the seed.
        tests: how many (layer, concept) are probed in all.

    Returns:
        concept -> what the probe says; none where a class is missing among the sample's training or scored groups.
    """
    folds = [(np.concatenate([fold.train, fold.validation]), fold.test) for fold in sample_folds(sample, seed)]
    shifted, cells = _shifted_labels(sample, collection)
    kept = _thinned(shifted, max(1, ROW_BYTES // (4 * collection.channels)), generator(seed, "alignment rows", name))
    cut, cell = cells[0, kept], cells[1, kept]
    rows = collection.gather([one.key for one in sample.cuts], cut, cell)
    groups = np.array([one.group for one in sample.cuts])[cut]
    return {
        concept: alignment(
            rows, shifted[i][..., kept], groups, folds, generator(seed, "alignment", name, concept), tests
        )
        for i, concept in enumerate(sample.concepts)
    }


def _shifted_labels(sample: Dataset, collection: Collection) -> tuple[list[NDArray[np.int8]], NDArray[np.int64]]:
    """Labels of every concept by (shift down, shift right) and cell, (5, 5, n); and (cut, cell) of each, (2, n).

    Only cells that lie inside the photograph at every shift: all shifts are scored on the same cells.
    """
    n = len(SHIFTS)
    labels: list[list[NDArray[np.int8]]] = [[] for _ in sample.concepts]
    cells: list[NDArray[np.int64]] = []
    for image, places in sample.by_image():
        masks = [sample.source.mask(image, concept) for concept in sample.concepts]
        for place in places:
            cut = sample.cuts[place]
            grid = collection.grid(cut.key)
            step = grid.to_pixels
            moved = [
                replace(grid, to_pixels=step.shifted(right * step.step_x, down * step.step_y))
                for down in SHIFTS
                for right in SHIFTS
            ]
            inside = np.flatnonzero(np.all([cut.tile.owns(one) for one in moved], axis=0))
            cells.append(np.stack([np.full(len(inside), place), inside]))
            for i, mask in enumerate(masks):
                found = [cut.labels(mask, one, sample.thresholds).values.ravel()[inside] for one in moved]
                labels[i].append(np.stack(found).reshape(n, n, -1))
    return [np.concatenate(of, axis=-1) for of in labels], np.concatenate(cells, axis=1)


def _thinned(labels: Sequence[NDArray[np.int8]], limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cells to keep, sorted: all that are positive or void somewhere, of the others a seeded draw."""
    telling = np.any([(of == POSITIVE).any(axis=(0, 1)) | (of == VOID).any(axis=(0, 1)) for of in labels], axis=0)
    plain = np.flatnonzero(~telling)
    room = max(limit - int(telling.sum()), min(len(plain), limit // 2))
    if len(plain) > room:
        plain = rng.choice(plain, room, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(telling), plain]))
