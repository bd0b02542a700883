"""What an extraction will take, before it begins: bytes in the store, bytes in memory. No forward pass, no weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probekit.api import Backbone, InputGeometry, Layer
from probekit.features.shards import SHARD_BYTES, SHARD_MAPS, StoredDtype
from probekit.features.writing import QUEUED

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_OPEN_BATCHES = 4  # of other shapes, waiting to be filled


@dataclass(frozen=True)
class Footprint:
    """Predicted bytes.

    Attributes:
        store: layer -> what its maps will take on disk.
        memory: what the extraction holds at once beside the network and its activations: photographs and prepared
            tensors ahead of the pass, maps on their way to disk. It does not depend on the number of images.
    """

    store: Mapping[str, int]
    memory: int


def map_shape(layer: Layer, geometry: InputGeometry) -> tuple[int, int]:
    """(rows, columns) of a layer's map of an input."""
    return math.ceil(geometry.input_height / layer.stride[0]), math.ceil(geometry.input_width / layer.stride[1])


def map_bytes(layer: Layer, geometry: InputGeometry, dtype: StoredDtype) -> int:
    """What one map takes in the store."""
    rows, columns = map_shape(layer, geometry)
    return rows * columns * layer.channels * _ITEM_BYTES[dtype]


def predict(
    backbone: Backbone,
    layers: Sequence[str],
    sizes: Iterable[tuple[int, int]],
    dtype: StoredDtype,
    batch_size: int = 1,
    workers: int = 2,
) -> Footprint:
    """Predicts an extraction of all ``layers`` for photographs (or tiles) of the given sizes.

    A black image of each distinct size goes through the backbone's ``prepare`` to learn its input's size; of more than
    32 sizes, 32 do and the others are scaled from the nearest of them by area.

    Args:
        backbone: not loaded.
        layers: the taps.
        sizes: (height, width) of what is missing from the store, one an image.
        dtype: as stored.
        batch_size, workers: of the extraction.
    """
    counts = Counter(sizes)
    if not counts:
        return Footprint(dict.fromkeys(layers, 0), 0)
    probed = {size: backbone.prepare(np.zeros((*size, 3), np.uint8)).geometry for size in _spread(list(counts), 32)}
    of_size = {
        layer: {size: map_bytes(backbone.layers[layer], geometry, dtype) for size, geometry in probed.items()}
        for layer in layers
    }
    store = {}
    for layer in layers:
        exact = sum(of_size[layer][size] * count for size, count in counts.items() if size in probed)
        scaled = sum(_scaled(size, of_size[layer]) * count for size, count in counts.items() if size not in probed)
        total, images = exact + scaled, counts.total()
        shards = max(math.ceil(total / SHARD_BYTES), math.ceil(images / SHARD_MAPS))
        store[layer] = total + shards * (32 << 10) + images * 512
    geometry = max(probed.values(), key=lambda geometry: geometry.input_height * geometry.input_width)
    prepared = 3 * 4 * geometry.input_height * geometry.input_width
    photograph = max(3 * height * width for height, width in counts)
    largest = [max(of_size[layer].values()) for layer in layers]
    ahead = (batch_size + workers) * (photograph + prepared) + (_OPEN_BATCHES + 2) * batch_size * prepared
    return Footprint(store, ahead + (QUEUED + 2) * max(largest) + 2 * batch_size * sum(largest))


def _spread(sizes: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """At most ``limit`` of the sizes, by area from the smallest to the largest."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    if len(ordered) <= limit:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (limit - 1))] for i in range(limit)]


def _scaled(size: tuple[int, int], known: Mapping[tuple[int, int], int]) -> int:
    area = size[0] * size[1]
    nearest = min(known, key=lambda other: abs(other[0] * other[1] - area))
    return math.ceil(known[nearest] * area / (nearest[0] * nearest[1]))
