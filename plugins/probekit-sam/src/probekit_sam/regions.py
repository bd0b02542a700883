"""Masks as run lengths with their properties: measured once, kept in one safetensors file an image."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from probekit.api import Issue, ProbekitError

_PROPERTIES = ("area", "perimeter", "stability", "predicted_iou")


@dataclass(frozen=True)
class Region:
    """One mask of the generator.

    Attributes:
        counts: run lengths down the columns, beginning with the pixels outside (0 where the first is inside).
        area: in pixels.
        perimeter: in pixels, by :func:`perimeter`.
        stability, predicted_iou: the generator's own scores.
    """

    counts: NDArray[np.int64]
    area: float
    perimeter: float
    stability: float
    predicted_iou: float

    @property
    def roundness(self) -> float:
        """``4 pi area / perimeter^2``."""
        return 4 * math.pi * self.area / self.perimeter**2 if self.perimeter else 0.0

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width), true inside."""
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(width, height).T


def perimeter(mask: NDArray[np.bool_]) -> float:
    """Length of a mask's outline, holes included, in pixels, by Crofton's formula in four directions.

    It counts how often parallel lines cross the outline: down, across, and along both diagonals (these lines lie
    1/sqrt(2) apart). Exact on average over directions: within 4 % for a disc of radius 10, 1 % for one of 60; a square
    that stands on its side comes out 5 % short.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    m = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    straight = int(np.count_nonzero(m[1:] != m[:-1]) + np.count_nonzero(m[:, 1:] != m[:, :-1]))
    diagonal = int(np.count_nonzero(m[1:, 1:] != m[:-1, :-1]) + np.count_nonzero(m[1:, :-1] != m[:-1, 1:]))
    return math.pi / 8 * (straight + diagonal / math.sqrt(2))


def write_regions(path: Path, regions: Sequence[Region]) -> None:
    """Writes one image's masks under a temporary name and renames."""
    tensors: dict[str, NDArray[Any]] = {
        "counts": np.concatenate([np.empty(0, np.int64), *(region.counts for region in regions)]).astype(np.uint32),
        "runs": np.array([len(region.counts) for region in regions], dtype=np.int64),
        **{name: np.array([getattr(region, name) for region in regions], np.float64) for name in _PROPERTIES},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(save(tensors))
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_regions(path: Path, height: int, width: int) -> list[Region]:
    """Reads one image's masks.

    Raises:
        ProbekitError: the file is damaged.
    """
    try:
        tensors = load_file(path)
        ends = np.cumsum(tensors["runs"])
        counts = np.split(tensors["counts"].astype(np.int64), ends)[: len(ends)]
        properties = zip(*(tensors[name].tolist() for name in _PROPERTIES), strict=True)
        regions = [Region(runs, *values) for runs, values in zip(counts, properties, strict=True)]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ProbekitError([Issue(str(path), f"is damaged ({error}): delete it, and it is made anew")]) from error
    if any(region.counts.sum() != height * width for region in regions):
        raise ProbekitError([Issue(str(path), "is damaged (runs do not add up): delete it, and it is made anew")])
    return regions
