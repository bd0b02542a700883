"""Rows, labels and their statistics for sparse_path.py: made once from a seed, in chunks, read in chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

Floats = NDArray[np.float64]
CHUNK = 8192  # rows that are made, and read, at a time
FOLDS = 5
PILOT = 2**31  # the number of the chunk on which labels are calibrated; none of the data


@dataclass(frozen=True)
class Problem:
    """A concept, on all rows or on the rows outside one fold."""

    concept: int = 0
    fold: int | None = None
    balanced: bool = True

    @property
    def group(self) -> int:
        """Which row of the means and scales is its own: 0 for all rows, 1 + fold."""
        return 0 if self.fold is None else 1 + self.fold


class Data:
    """A folder made by :func:`generate`. Nothing of the features is kept in memory unless asked for."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self.folder, self.rows, self.channels = folder, int(meta["rows"]), int(meta["channels"])
        self.shards = [folder / name for name in meta["shards"]]
        self.labels: NDArray[np.uint8] = np.load(folder / "labels.npy")
        self.fold: NDArray[np.uint8] = np.load(folder / "fold.npy")
        self.mean: Floats = np.load(folder / "mean.npy")
        self.scale: Floats = np.load(folder / "scale.npy")

    def mapped(self) -> list[Any]:
        return [np.load(path, mmap_mode="r") for path in self.shards]

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and rows of each chunk, read, not mapped: pages of a map would count as resident memory."""
        start = 0
        for path, shard in zip(self.shards, self.mapped(), strict=True):
            for first in range(0, len(shard), CHUNK):
                rows = min(CHUNK, len(shard) - first)
                offset = shard.offset + 4 * first * self.channels
                flat = np.fromfile(path, np.float32, rows * self.channels, offset=offset)
                yield start, flat.reshape(rows, self.channels)
                start += rows

    def loaded(self) -> NDArray[np.float32]:
        x = np.empty((self.rows, self.channels), np.float32)
        for start, chunk in self.chunks():
            x[start : start + len(chunk)] = chunk
        return x

    def used(self, problem: Problem) -> NDArray[np.bool_]:
        return np.ones(self.rows, bool) if problem.fold is None else self.fold != problem.fold

    def weights(self, problem: Problem) -> Floats:
        """(n,): each class of the rows in use sums to half their number; zero elsewhere."""
        used, y = self.used(problem), self.labels[problem.concept] > 0
        if not problem.balanced:
            return used.astype(np.float64)
        half, positive = used.sum() / 2, (used & y).sum()
        return np.asarray(used * np.where(y, half / positive, half / (used.sum() - positive)))

    def standardised(self, problem: Problem, order: str) -> NDArray[np.float32]:
        """The copy that peers need, of the rows in use: float32, C or Fortran order."""
        used = self.used(problem)
        z = np.empty((int(used.sum()), self.channels), np.float32, order=order)  # type: ignore[call-overload]
        first = 0
        for start, chunk in self.chunks():
            kept = chunk[used[start : start + len(chunk)]]
            z[first : first + len(kept)] = (kept - self.mean[problem.group]) / self.scale[problem.group]
            first += len(kept)
        return np.asarray(z)


def features(rows: int, channels: int, seed: int) -> Callable[[int], NDArray[np.float32]]:
    """What makes a chunk from its number: ReLU of factors plus noise, each channel at its own scale and offset."""
    random = np.random.default_rng([seed])
    factors = 32
    loadings = (random.standard_normal((factors, channels)) / np.sqrt(factors)).astype(np.float32)
    threshold = random.uniform(-0.5, 1.0, channels).astype(np.float32)
    scale = np.exp(random.standard_normal(channels)).astype(np.float32)
    offset = (3 * scale * random.standard_normal(channels)).astype(np.float32)

    def chunk(number: int) -> NDArray[np.float32]:
        own = np.random.default_rng([seed, number])
        x = own.standard_normal((rows, factors), np.float32) @ loadings
        x += 0.8 * own.standard_normal((rows, channels), np.float32)
        x += threshold
        np.maximum(x, 0, out=x)
        return np.asarray(x * scale + offset)

    return chunk


def concepts(pilot: NDArray[np.float32], count: int, seed: int) -> tuple[Floats, Floats]:
    """Planted coefficients on raw features (count, p) and intercepts (count,); 5-10 % of the rows are positive."""
    random = np.random.default_rng([seed, PILOT + 1])
    mean, scale = pilot.mean(0, dtype=np.float64), pilot.std(0, dtype=np.float64)
    w, b = np.zeros((count, pilot.shape[1])), np.zeros(count)
    for i in range(count):
        support = random.choice(len(mean), min(20, len(mean) // 2), replace=False)
        w[i, support] = random.choice([-1, 1], len(support)) * random.uniform(0.5, 1.5, len(support)) / scale[support]
        scores = pilot @ w[i] - mean @ w[i]
        w[i] *= 2 / scores.std()
        scores *= 2 / scores.std()
        share = random.uniform(0.05, 0.10)
        b[i] = brentq(lambda c, f, target: expit(f + c).mean() - target, -50, 50, args=(scores, share)) - mean @ w[i]
    return w, b


def generate(folder: Path, rows: int, channels: int, count: int, seed: int, shards: int) -> Data:
    """Write ``rows`` x ``channels`` features in so many files, the labels of ``count`` concepts, folds, statistics."""
    make = features(CHUNK, channels, seed)
    w, b = concepts(make(PILOT), count, seed)
    labels = np.empty((count, rows), np.uint8)
    fold = np.random.default_rng([seed, PILOT + 2]).permutation(rows).astype(np.int64) % FOLDS
    edges = np.linspace(0, rows, shards + 1).astype(int)
    names = [f"x_{i:03d}.npy" for i in range(shards)]
    files: list[Any] = [
        np.lib.format.open_memmap(folder / name, "w+", np.float32, (int(stop - start), channels))
        for name, start, stop in zip(names, edges[:-1], edges[1:], strict=True)
    ]
    sums, squares, centre = np.zeros((FOLDS, channels)), np.zeros((FOLDS, channels)), None
    for number, start in enumerate(range(0, rows, CHUNK)):
        x = make(number)[: rows - start]
        stop = start + len(x)
        for file, low, high in zip(files, edges[:-1], edges[1:], strict=True):
            if low < stop and start < high:
                begin, end = max(start, low), min(stop, high)
                file[begin - low : end - low] = x[begin - start : end - start]
        wide = x.astype(np.float64)
        chance = np.random.default_rng([seed, number, 1]).random((count, CHUNK))[:, : len(x)]
        labels[:, start:stop] = chance < expit(w @ wide.T + b[:, None])
        centre = wide.mean(0) if centre is None else centre  # sums about it lose nothing to offsets
        wide -= centre
        member = np.eye(FOLDS)[fold[start:stop]].T
        sums += member @ wide
        squares += member @ wide**2
    assert centre is not None
    sizes = np.bincount(fold, minlength=FOLDS).astype(np.float64)
    kept = np.vstack([np.ones(FOLDS), 1 - np.eye(FOLDS)])  # all rows, then all but each fold
    total = (kept @ sizes)[:, None]
    mean = kept @ sums / total
    scale = np.sqrt(np.maximum(kept @ squares / total - mean**2, 0))
    for file in files:
        file.flush()
    np.save(folder / "labels.npy", labels)
    np.save(folder / "fold.npy", fold.astype(np.uint8))
    np.save(folder / "mean.npy", mean + centre)
    np.save(folder / "scale.npy", np.where(scale > 0, scale, 1.0))
    (folder / "meta.json").write_text(json.dumps({"rows": rows, "channels": channels, "shards": names}))
    return Data(folder)
