"""What a run leaves for comparisons elsewhere: its reference cells, and the features of some that other runs draw too.

Each cell gets a random number from its image's digest and its place; the smallest ``DRAWN`` of a run are kept. Two
runs with images in common therefore keep the same cells of these, up to the smaller of their bounds.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from probekit.features.store import Collection
from probekit.runner.dataset import Dataset
from probekit.runner.folder import write_atomically
from probekit.runner.scoring import ReferenceCells, resampler
from probekit.runner.tables import write_arrow
from probekit.sampling.seeds import generator

DRAWN = 50_000
"""Cells whose features are kept."""

THUMBNAIL = 256
"""Longest side of an image's thumbnail, in pixels."""


def write_shared_cells(
    folder: Path, dataset: Dataset, cells: ReferenceCells, collections: Mapping[tuple[str, str], Collection]
) -> None:
    """Writes ``cells.parquet``, ``sample/*.safetensors`` and ``sample/thumbnails/*.webp`` into a run's folder.

    Args:
        collections: (backbone, layer) -> its features.
    """
    drawn = draw_cells(dataset)
    _write_index(folder, dataset, cells, drawn)
    shutil.rmtree(folder / "sample", ignore_errors=True)  # what a kill left
    (folder / "sample" / "thumbnails").mkdir(parents=True)
    for number, ((backbone, layer), collection) in enumerate(collections.items()):
        header = {"about": json.dumps({"backbone": backbone, "layer": layer}, sort_keys=True)}
        content = save({"features": reference_features(dataset, collection, drawn)}, header)
        write_atomically(folder / "sample" / f"{number:02d}.safetensors", content)
    for number, (image, _) in enumerate(dataset.by_image()):
        picture = Image.fromarray(dataset.source.open(image))
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=80)
        write_atomically(folder / "sample" / "thumbnails" / f"{number:06d}.webp", buffer.getvalue())


def draw_cells(dataset: Dataset, count: int = DRAWN) -> NDArray[np.int64]:
    """Flat places of the drawn reference cells, ascending, at most ``count``."""
    priorities = np.concatenate(
        [
            generator(0, "shared cells", cut.key).random(cut.reference.rows * cut.reference.columns)
            for cut in dataset.cuts
        ]
    )
    if len(priorities) <= count:
        return np.arange(len(priorities))
    return np.sort(np.argpartition(priorities, count)[:count])


def reference_features(
    dataset: Dataset, collection: Collection, drawn: NDArray[np.int64], channels: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Features of cells, read on the reference grid as scores are.

    Args:
        drawn: flat places of the cells, ascending.
        channels: that are read; all unless given.

    Returns:
        (drawn, channels).
    """
    columns, width = (slice(None), collection.channels) if channels is None else (channels, len(channels))
    features = np.empty((len(drawn), width), dtype=np.float32)
    bounds = np.searchsorted(drawn, dataset.offsets)
    for place, cut in enumerate(dataset.cuts):
        start, stop = bounds[place], bounds[place + 1]
        if start == stop:
            continue
        values, grid = collection.read(cut.key)
        maps = np.ascontiguousarray(values[:, columns].T).reshape(-1, grid.rows, grid.columns)
        on_reference = resampler(dataset, collection, place)(maps).reshape(len(maps), -1)
        features[start:stop] = on_reference[:, drawn[start:stop] - dataset.offsets[place]].T
    return features


def _write_index(folder: Path, dataset: Dataset, cells: ReferenceCells, drawn: NDArray[np.int64]) -> None:
    """One row a reference cell, in the order of the score maps; ``sample`` is the row of its features, if drawn."""
    images = {image.id: number for number, (image, _) in enumerate(dataset.by_image())}
    sizes = np.diff(dataset.offsets)
    numbers = np.repeat([images[cut.image.id] for cut in dataset.cuts], sizes).astype(np.int32)
    rows, columns = [], []
    for cut in dataset.cuts:
        to_pixels, cell = cut.reference.to_pixels, cut.reference.to_pixels.step_x
        row = np.arange(cut.reference.rows, dtype=np.int32) + round(to_pixels.offset_y / cell)
        column = np.arange(cut.reference.columns, dtype=np.int32) + round(to_pixels.offset_x / cell)
        rows.append(np.repeat(row, len(column)))
        columns.append(np.tile(column, len(row)))
    sample = np.full(len(numbers), -1, dtype=np.int32)
    sample[drawn] = np.arange(len(drawn), dtype=np.int32)
    names = pa.array(list(images))
    groups = pa.array(dataset.groups)
    table = {
        "image": pa.DictionaryArray.from_arrays(numbers, names),
        "group": pa.DictionaryArray.from_arrays(cells.group, groups),
        "row": pa.array(np.concatenate(rows)),
        "column": pa.array(np.concatenate(columns)),
        "sample": pa.array(sample, mask=sample < 0),
    }
    for concept, name in enumerate(dataset.concepts):
        table[f"label {name}"] = pa.array(cells.labels[concept])
    write_arrow(folder / "cells.parquet", pa.table(table))
