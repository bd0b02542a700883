"""A task that a probe can learn from colours alone and that means nothing (Hewitt and Liang, 2019).

Hewitt and Liang give every word type a random label; what a probe scores on it is what it can memorise. An image has no
types, so cells are grouped by their colours: a probe that does as well here as on the concept shows how much it can
learn, not what the features hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from probekit.sampling.seeds import generator

CLUSTERS = 64
SAMPLE = 50_000
"""So many cells, at most, the clusters are found on."""

_UNIT = 256
"""Statistics are kept as whole numbers of 1/256 grey levels: 12 bytes a cell."""
_ITERATIONS = 50
_ORDERS = 16
_CHUNK = 16_384


def colour_statistics(pixels: NDArray[np.uint8], cell: int) -> NDArray[np.uint16]:
    """Mean and deviation of red, green and blue within every reference cell of an image.

    A cell that reaches beyond the image is described by its part inside. Sums are whole numbers: equal pixels give
    equal statistics, wherever they lie.

    Args:
        pixels: (height, width, 3).
        cell: side of a reference cell, in pixels.

    Returns:
        (rows, columns, 6): three means, three deviations, in 1/256 grey levels.
    """
    height, width = pixels.shape[:2]
    starts = np.arange(0, width, cell)
    widths = np.diff(np.append(starts, width))
    statistics = np.empty((-(-height // cell), len(starts), 6), dtype=np.uint16)
    for row, values in enumerate(statistics):
        strip = pixels[row * cell : (row + 1) * cell]
        n = (len(strip) * widths)[:, None].astype(np.float64)
        sums = np.add.reduceat(strip.sum(axis=0, dtype=np.int64), starts, axis=0)
        squares = np.square(strip, dtype=np.uint32).sum(axis=0, dtype=np.int64)
        mean = sums / n
        variance = np.add.reduceat(squares, starts, axis=0) / n - mean**2
        values[:, :3] = np.rint(_UNIT * mean)
        values[:, 3:] = np.rint(_UNIT * np.sqrt(np.maximum(variance, 0.0)))
    return statistics


def cluster_cells(
    statistics: Sequence[NDArray[np.uint16]], seed: int, clusters: int = CLUSTERS, sample: int = SAMPLE
) -> list[NDArray[np.uint8]]:
    """Clusters cells by standardised statistics: k-means on a seeded sample, then every cell to its nearest centre.

    Cells of equal statistics are in one cluster. There are fewer clusters than asked for where there are fewer distinct
    cells in the sample.

    Args:
        statistics: by image, in the order of the ids, each (rows, columns, 6).
        seed: of the run.
        clusters: at most 256.
        sample: cells to find the centres on, at most.

    Returns:
        by image, (rows, columns): each cell's cluster.
    """
    if not 1 <= clusters <= 256:
        raise ValueError(f"{clusters} clusters: from 1 to 256")
    rng = generator(seed, "control task", "clusters")
    ends = np.cumsum([one.size // one.shape[-1] for one in statistics])
    drawn = np.arange(ends[-1])
    if len(drawn) > sample:
        drawn = np.sort(rng.choice(ends[-1], sample, replace=False))
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    cells = np.concatenate(
        [_flat(one)[part - (end - len(_flat(one)))] for one, part, end in zip(statistics, parts, ends, strict=True)]
    ).astype(np.float64)
    mean, deviation = cells.mean(axis=0), cells.std(axis=0)
    # Less than a unit is rounding.
    deviation[deviation < 1.0] = 1.0
    centres = _centres((cells - mean) / deviation, clusters, rng)
    return [_nearest((one - mean) / deviation, centres) for one in statistics]


def draw_positive_clusters(
    cells: NDArray[np.integer], prevalence: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draws the clusters that are called positive: in a random order each that brings their share nearer to the
    prevalence. Of a few such orders the one that ends nearest is taken; it does not favour small clusters, as filling
    up what is missing would. At least one cluster that holds cells is positive, and never all of them.

    Args:
        cells: of each cluster, (clusters,). An empty cluster is never drawn.
        prevalence: the share to come near.
        rng: of the concept.

    Raises:
        ValueError: fewer than two clusters hold cells.
    """
    shares = cells / max(int(cells.sum()), 1)
    filled = np.flatnonzero(cells > 0)
    if len(filled) < 2:
        raise ValueError("fewer than two clusters hold cells: no two classes can be made of them")
    best, best_off = np.zeros(len(cells), dtype=np.bool_), np.inf
    for _ in range(_ORDERS):
        positive, share = np.zeros(len(cells), dtype=np.bool_), 0.0
        for cluster in rng.permutation(filled)[:-1]:
            if abs(share + shares[cluster] - prevalence) < abs(share - prevalence):
                positive[cluster] = True
                share += shares[cluster]
        if not positive.any():  # each is too large
            positive[filled[np.abs(shares[filled] - prevalence).argmin()]] = True
            share = float(shares[positive].sum())
        if abs(share - prevalence) < best_off - 1e-12:
            best, best_off = positive, abs(share - prevalence)
    return best


def _flat(statistics: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return statistics.reshape(-1, statistics.shape[-1])


def _centres(cells: NDArray[np.float64], clusters: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii, 2007): a good partition, not the best."""
    first = cells[int(rng.integers(len(cells)))]
    chosen, distance = [first], _squared(cells, first[None])[:, 0]
    while len(chosen) < clusters and distance.max() > 0.0:
        # Drawn by squared distance to the nearest centre: one that is a centre already has none.
        cumulative = np.cumsum(distance)
        at = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        chosen.append(cells[min(at, int(np.flatnonzero(distance)[-1]))])
        distance = np.minimum(distance, _squared(cells, chosen[-1][None])[:, 0])
    centres = np.stack(chosen)
    before: NDArray[np.uint8] | None = None
    for _ in range(_ITERATIONS):
        nearest = _nearest(cells, centres)
        if before is not None and np.array_equal(nearest, before):
            break
        before = nearest
        counts = np.bincount(nearest, minlength=len(centres))
        held = counts > 0  # a centre that lost all its cells stays where it is
        for column, values in enumerate(cells.T):
            sums = np.bincount(nearest, weights=values, minlength=len(centres))
            centres[held, column] = sums[held] / counts[held]
    return centres


def _nearest(cells: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The nearest centre of each cell, (..., columns) -> (...)."""
    flat = cells.reshape(-1, cells.shape[-1])
    nearest = np.empty(len(flat), dtype=np.uint8)
    for start in range(0, len(flat), _CHUNK):
        part = slice(start, start + _CHUNK)
        nearest[part] = _squared(flat[part], centres).argmin(axis=1)
    return nearest.reshape(cells.shape[:-1])


def _squared(cells: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    # Not by a matrix product: its rounding may differ with the number of threads.
    distances: NDArray[np.float64] = cdist(cells, centres, "sqeuclidean")
    return distances
