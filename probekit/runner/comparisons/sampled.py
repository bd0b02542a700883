"""The drawn reference cells of a run, read from its folder: what comparisons are made of without a store."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from probekit.api import Issue, ProbekitError
from probekit.runner.folder import display

Layer = tuple[str, str]
"""(backbone, layer)."""


@dataclass(frozen=True, eq=False)
class SampledCells:
    """The drawn cells, in the order of the features.

    Attributes:
        images, groups: names.
        image, group: index of each cell's, (n,).
        row, column: on the image's reference grid, (n,).
        labels: concept -> 0 negative, 1 positive, 2 void, (n,).
    """

    images: Sequence[str]
    groups: Sequence[str]
    image: NDArray[np.int32]
    group: NDArray[np.int32]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    labels: Mapping[str, NDArray[np.int8]]


def read_cells(folder: Path) -> SampledCells:
    """The drawn cells of a run."""
    table = pq.read_table(folder / "cells.parquet")
    table = table.filter(pc.is_valid(table["sample"])).sort_by("sample").combine_chunks()
    names, numbers = {}, {}
    for column in ("image", "group"):
        encoded = table[column].combine_chunks()
        if not pa.types.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode()
        names[column] = encoded.dictionary.to_pylist()
        numbers[column] = encoded.indices.to_numpy().astype(np.int32)
    prefix = "label "
    labels = {
        column.removeprefix(prefix): table[column].to_numpy()
        for column in table.column_names
        if column.startswith(prefix)
    }
    return SampledCells(
        names["image"],
        names["group"],
        numbers["image"],
        numbers["group"],
        table["row"].to_numpy(),
        table["column"].to_numpy(),
        labels,
    )


def read_features(folder: Path, layers: Collection[Layer]) -> dict[Layer, NDArray[np.float32]]:
    """Raw features of some layers at the drawn cells, (cells, channels) each, in the order of the run.

    Raises:
        ProbekitError: the run's folder was copied without those of a layer.
    """
    found = {}
    for path in sorted((folder / "sample").glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            if (layer := (about["backbone"], about["layer"])) in layers:
                found[layer] = file.get_tensor("features")
    missing = [" ".join(layer) for layer in layers if layer not in found]
    if missing:
        what = f"holds no features of {', '.join(missing)}: channels are compared by them, copy the whole folder"
        raise ProbekitError([Issue(display(folder / "sample"), what)])
    return found
