"""The training rows: one seeded draw of cells for all folds, the folds' weights on it, and the columns' moments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, ProbekitError
from probekit.sampling.seeds import generator


@dataclass(frozen=True, eq=False)
class DrawnRows:
    """Cells drawn for training, sorted by image, then by cell.

    Attributes:
        image: index of each row's image, (n,) int64.
        cell: index of each row's cell, row-major in its image's native grid, (n,) int64.
        y: 1 where the concept is, else 0, (n,) int8.
    """

    image: NDArray[np.int64]
    cell: NDArray[np.int64]
    y: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.image)


def draw_rows(
    ids: Sequence[str], labels: Sequence[NDArray[np.int8]], per_class: int, seed: int, *key: str | int
) -> DrawnRows:
    """Draws up to ``per_class`` cells of each class from all images, uniformly without replacement.

    Every cell gets a random number and the smallest win: a draw of fewer rows is part of a draw of more. The draw
    depends on the images' ids, not on their order.

    Args:
        ids: of the images, all different.
        labels: for each image its native cells, any shape, of ``NEGATIVE``, ``POSITIVE``, ``VOID``.
        per_class: how many at most.
        seed: of the run.
        key: what the draw is for: backbone, layer, concept, repeat.
    """
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    images, cells, values = [], [], []
    for value in (NEGATIVE, POSITIVE):
        image, cell = _smallest(order, labels, value, per_class, generator(seed, "rows", *key, value))
        images.append(image)
        cells.append(cell)
        values.append(np.full(len(image), value == POSITIVE, dtype=np.int8))
    image, cell, y = np.concatenate(images), np.concatenate(cells), np.concatenate(values)
    rank = np.lexsort((cell, image))
    return DrawnRows(image[rank], cell[rank], y[rank])


def _smallest(
    order: Sequence[int], labels: Sequence[NDArray[np.int8]], value: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ``count`` cells of one class with the smallest random numbers; memory stays near ``count`` cells."""
    kept: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []
    held, bound = 0, np.inf
    empty = np.empty(0, dtype=np.int64)

    def prune() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        keys, image, cell = (np.concatenate(column) for column in zip(*kept, strict=True))
        if len(keys) > count:
            best = np.argpartition(keys, count)[:count]
            keys, image, cell = keys[best], image[best], cell[best]
        return keys, image, cell

    for i in order:
        cell = np.flatnonzero(labels[i].reshape(-1) == value)
        keys = rng.random(len(cell))
        small = keys < bound
        kept.append((keys[small], np.full(int(small.sum()), i, dtype=np.int64), cell[small].astype(np.int64)))
        held += len(kept[-1][0])
        if held > 4 * count + 65536:
            kept = [prune()]
            held, bound = len(kept[0][0]), float(kept[0][0].max(initial=0.0))
    if not kept:
        return empty, empty
    _, image, cell = prune()
    return image, cell


def fold_weights(y: NDArray[np.int8], training: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of one fold's rows: zero outside its training part; within it both classes weigh the same, and the
    weights sum to the number of training rows.

    Args:
        y: 1 where the concept is, else 0, (n,).
        training: which rows the fold trains on, (n,).

    Raises:
        ProbekitError: a class has no training row.
    """
    weights = np.zeros(len(y))
    n = int(training.sum())
    for value, word in ((0, "negative"), (1, "positive")):
        rows = training & (y == value)
        count = int(rows.sum())
        if count == 0:
            raise ProbekitError(f"no {word} cell among {n} training rows")
        weights[rows] = n / (2 * count)
    return weights


def training_moments(
    chunks: Iterable[tuple[slice, NDArray[np.floating[Any]]]], training: NDArray[np.bool_], channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and scale of each channel over the training rows of each fold, in one pass over the rows.

    Rows count as drawn, not balanced. Rows with the same membership in all folds are summed together, about their own
    mean (Chan, Golub and LeVeque's pairwise update), so that a constant channel is found to be exactly constant.

    Args:
        chunks: the rows in order, as :meth:`probekit.api.Rows.chunks` gives them.
        training: which rows each fold trains on, (folds, n).
        channels: p.

    Returns:
        mean (folds, p) and scale (folds, p), float64; scale is the population deviation, and 1 where a channel is
        constant: where it deviates by less than the rounding of float32 values of its size.
    """
    n_folds = len(training)
    patterns, pattern_of = np.unique(training, axis=1, return_inverse=True)
    pattern_of = pattern_of.reshape(-1)
    count = np.zeros(patterns.shape[1])
    mean, squares = np.zeros((2, patterns.shape[1], channels))
    for place, values in chunks:
        here = pattern_of[place]
        for j in np.unique(here):
            if not patterns[:, j].any():
                continue
            part = values[here == j].astype(np.float64)
            center = part.mean(axis=0)
            part -= center
            count[j], mean[j], squares[j] = _merge(
                count[j], mean[j], squares[j], len(part), center, np.einsum("ij,ij->j", part, part)
            )
    means, scales = np.zeros((n_folds, channels)), np.ones((n_folds, channels))
    for fold in range(n_folds):
        n, center, total = 0.0, np.zeros(channels), np.zeros(channels)
        for j in np.flatnonzero(patterns[fold]):
            n, center, total = _merge(n, center, total, count[j], mean[j], squares[j])
        deviation = np.sqrt(total / max(n, 1.0))
        varies = deviation > 4 * np.finfo(np.float32).eps * np.abs(center)
        means[fold] = center
        scales[fold][varies] = deviation[varies]
    return means, scales


def _merge(
    n: float,
    mean: NDArray[np.float64],
    squares: NDArray[np.float64],
    other_n: float,
    other_mean: NDArray[np.float64],
    other_squares: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Count, mean and sum of squared deviations of two sets of rows together."""
    total = n + other_n
    if total == 0:
        return n, mean, squares
    delta = other_mean - mean
    return total, mean + delta * (other_n / total), squares + other_squares + delta**2 * (n * other_n / total)
