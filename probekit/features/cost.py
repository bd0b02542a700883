"""What it takes to come to a layer: operations, counted without weights, and seconds, measured with the network loaded.

Operations are those of convolutions, matrix products and attention, as torch counts them: two for each multiplication
with its addition (``torch.utils.flop_counter``). Biases, norms, activations, pooling and resizing are left out, so a
norm that was folded into its convolution changes nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from probekit.api import Backbone, Batch, Prepared
from probekit.features.shards import write_whole
from probekit.features.store import Collection

PASSES = 5
"""Timed, at most."""

BUDGET = 2.0
"""Seconds of timed passes a layer, after which no further one is begun."""

_FILE = "cost"  # no .json: those are manifest entries
_META = torch.device("meta")


@dataclass(frozen=True)
class Cost:
    """Of a forward pass of one image that ends at a layer.

    Attributes:
        flops: multiplications and additions; none where nothing runs that is counted (image statistics), or where
            it is not known.
        seconds: the median of a few passes; none where it was not measured.
    """

    flops: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Measured:
    """What was noted of a layer at one input size: operations, and seconds on what."""

    flops: int
    seconds: float
    device: str
    threads: int


def count_flops(backbone: Backbone, layers: Sequence[str], prepared: Prepared) -> dict[str, int]:
    """Multiplications and additions up to each layer, for one image of this size. Nothing is computed, no weight read.

    Args:
        backbone: an instance of its own: it is loaded on the meta device.
        layers: the taps.
        prepared: an image; its size alone matters.

    Raises:
        Exception: whatever an adapter raises that cannot run on the meta device.
    """
    backbone.load(layers, _META, torch.float32)
    return counted(backbone, layers, Batch(prepared.tensor[None].to(_META), [prepared.geometry]))


def measure(
    backbone: Backbone, layers: Sequence[str], prepared: Prepared, device: torch.device, dtype: torch.dtype
) -> dict[str, Measured]:
    """Counts and times passes of one image, each ended at its layer, with the threads that torch has now.

    The pass that is counted comes first and warms up.

    Args:
        backbone: loaded for ``layers``, on ``device``, in ``dtype``.
        layers: the taps.
        prepared: the image.
    """
    batch = Batch(prepared.tensor[None].to(device, dtype), [prepared.geometry])
    found = {}
    for layer in layers:
        (flops,) = counted(backbone, [layer], batch).values()
        taken: list[float] = []
        while not taken or (len(taken) < PASSES and sum(taken) < BUDGET):
            _finish(device)
            started = time.perf_counter()
            with torch.inference_mode():
                backbone.forward(batch, [layer])
            _finish(device)
            taken.append(time.perf_counter() - started)
        found[layer] = Measured(flops, median(taken), str(device), torch.get_num_threads())
    return found


def counted(backbone: Backbone, layers: Sequence[str], batch: Batch) -> dict[str, int]:
    """Multiplications and additions of a pass of a loaded backbone up to each layer: one pass a layer."""
    counts = {}
    # What a network makes on its way (grids of positions) must lie where its input does.
    made = _META if batch.tensor.is_meta else nullcontext()
    for layer in layers:
        with made, torch.inference_mode(), FlopCounterMode(display=False) as counter:
            backbone.forward(batch, [layer])
        counts[layer] = counter.get_total_flops()
    return counts


def _finish(device: torch.device) -> None:
    """Waits for what an accelerator was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def note_cost(collection: Collection, prepared: Prepared, measured: Measured) -> None:
    """Keeps the latest measurement of a collection at this input size. The caller holds the collection."""
    noted = {**_noted(collection), _size(prepared): asdict(measured)}
    write_whole(collection.folder / _FILE, json.dumps(noted).encode())


def read_cost(collection: Collection, prepared: Prepared) -> Measured | None:
    """The latest measurement at this input size, or none where nothing usable was noted."""
    try:
        noted = _noted(collection)[_size(prepared)]
        found = Measured(int(noted["flops"]), float(noted["seconds"]), str(noted["device"]), int(noted["threads"]))
    except (KeyError, TypeError, ValueError):
        return None
    return found if math.isfinite(found.seconds) else None


def _noted(collection: Collection) -> Mapping[str, Any]:
    try:
        noted = json.loads((collection.folder / _FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _size(prepared: Prepared) -> str:
    return "x".join(map(str, prepared.tensor.shape))
