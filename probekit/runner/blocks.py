"""Splits by blocks in a run: the buffer between the parts of its folds, and what is said and recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE
from probekit.runner.dataset import Dataset
from probekit.sampling.blocks import Layout, leave_out
from probekit.sampling.splits import Fold, OuterFolds, has_both, leave_one_outer_out
from probekit.spec.models import Experiment


def layout_of(dataset: Dataset) -> Layout:
    """Where the cuts of a run lie."""
    origins, images = ([getattr(cut.image, key) for cut in dataset.cuts] for key in ("group", "id"))
    windows, cores = (
        np.array([(r.x, r.y, r.right, r.bottom) for r in of], dtype=np.int64).reshape(-1, 4)
        for of in ([cut.tile.window for cut in dataset.cuts], [cut.tile.core for cut in dataset.cuts])
    )
    return Layout(dataset.cut_groups.astype(np.int64), _numbers(origins), _numbers(images), windows, cores)


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].reshape(-1).astype(np.int64)


def with_buffer(folds: Sequence[Fold], dataset: Dataset, experiment: Experiment) -> tuple[Fold, ...]:
    """The folds, by blocks with what lies within ``split.buffer`` of another part left out; by groups as they are."""
    if experiment.split.buffer is None:
        return tuple(folds)
    layout = layout_of(dataset)
    return tuple(leave_out(fold, layout, experiment.split.buffer) for fold in folds)


def build_outer_folds(experiment: Experiment, dataset: Dataset, repeat: int = 0) -> OuterFolds | None:
    """A fold for each outer group that can be scored on a model of all others, with the spec's buffer; none where the
    label source names fewer than two outer groups, or does not say of every group in which it is.

    The folds' numbers start at 0, as those of the spec's own folds do.
    """
    outer = [name for name in dataset.outer if name is not None]
    if len(outer) < len(dataset.groups) or len(set(outer)) < 2:
        return None
    split, counts = experiment.split, (dataset.cells_by_group(POSITIVE), dataset.cells_by_group(NEGATIVE))
    found = leave_one_outer_out(
        dataset.groups, outer, *counts, validation=split.validation, seed=experiment.seed, repeat=repeat
    )
    by_cut = dataset.cells_by_cut(POSITIVE), dataset.cells_by_cut(NEGATIVE)
    folds: list[Fold] = []
    names, scored, skipped = [], [], list(found.skipped)
    for name, fold in zip(found.names, with_buffer(found.folds, dataset, experiment), strict=True):
        both = has_both(fold, *by_cut, cuts=dataset.cut_groups)
        if both.any():
            names.append(name)
            folds.append(replace(fold, index=len(folds)))
            scored.append(both)
        else:
            skipped.append(f"{name} was not left out: no concept has both classes beyond the buffer")
    flags = np.array(scored, dtype=bool).reshape(len(folds), len(dataset.concepts))
    return OuterFolds(tuple(names), tuple(folds), flags, tuple(skipped))


def left_out_rows(dataset: Dataset, folds: Sequence[Sequence[Fold]]) -> list[dict[str, int]]:
    """How many cuts each fold of each repeat has, and how many its buffer leaves out: for the run's record.

    Args:
        folds: by repeat.
    """
    rows = []
    for repeat, of_repeat in enumerate(folds):
        for fold in of_repeat:
            row = {"repeat": repeat, "fold": fold.index}
            for part in ("train", "validation"):
                of_part = np.flatnonzero(np.isin(dataset.cut_groups, getattr(fold, part)))
                row[part] = len(of_part)
                row[f"{part}_left_out"] = int(np.isin(of_part, fold.left_out).sum())
            rows.append(row)
    return rows


def block_notes(dataset: Dataset, experiment: Experiment, folds: Sequence[Sequence[Fold]]) -> list[str]:
    """What a split by blocks means for the results, a sentence each; nothing by groups.

    Args:
        folds: by repeat.
    """
    size = experiment.split.size
    if size is None:
        return []
    divided = {cut.image.id for cut in dataset.cuts if dataset.groups[cut.group] != cut.image.group}
    if not divided:
        return [f"split by blocks: no image is larger than {size:,} px, none was divided"]
    blocks = len({cut.group for cut in dataset.cuts if cut.image.id in divided})
    images = len({cut.image.id for cut in dataset.cuts})
    rows = left_out_rows(dataset, folds)
    trained, lost = (sum(row[key] for row in rows) for key in ("train", "train_left_out"))
    share = 100 * lost / max(trained, 1)
    notes = [
        f"split by blocks: {len(divided)} of {images} images are {blocks} blocks; an interval speaks for new stretches "
        "of these images, not for new images",
        f"split by blocks: the buffer of {experiment.split.buffer:,} px leaves out {share:.0f} % of the folds' "
        "training tiles",
    ]
    if 2 * lost > trained:
        notes[-1] += ": most of them; larger blocks would leave out fewer"
    return notes
