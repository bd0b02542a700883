"""Forward passes whose channels are set to other values at one layer, and what later layers make of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.api import Prepared, ProbekitError
from probekit.api.taps import Edit, editing
from probekit.features.extract import Request, forward, memory_errors

TOLERANCE = {"float32": 1e-2, "bfloat16": 1e-1, "float16": 1e-1}
"""By dtype, the relative difference (root mean square) between a pass and the store that is still rounding: another
device may have made the features."""

ROUNDING = 1e-5
"""A relative difference between two passes of one network that says nothing: some kernels add in any order."""

Maps = Mapping[str, NDArray[np.float32]]
"""Layer -> its features, (cells, channels)."""


@dataclass(frozen=True, eq=False)
class Variant:
    """Channels, (k,), and what they are set to, (k,)."""

    channels: NDArray[np.int64]
    values: NDArray[np.float64]


@contextmanager
def opened_network(request: Request, layers: Sequence[str]) -> Iterator[None]:
    """Loads the network for passes without gradients."""
    with memory_errors(request, None):
        request.backbone.load(layers, torch.device(request.device), getattr(torch, request.dtype))
    with torch.inference_mode():
        yield


def edited_maps(
    request: Request, image: Prepared, layer: str, variants: Sequence[Variant], later: Sequence[str]
) -> Iterator[Maps]:
    """Passes of one image, each with other channels set at a layer; as many at once as the request's batch holds.

    Args:
        layer: whose channels are set.
        later: the layers that are wanted; a pass ends at the last of them.

    Yields:
        for each variant what the later layers hold.

    Raises:
        ProbekitError: the adapter's layer cannot be edited, or no memory is left.
    """
    for start in range(0, len(variants), request.batch):
        some = variants[start : start + request.batch]
        edit = Edit(layer, [one.channels for one in some], [one.values for one in some])
        with editing(edit, request.adapter):
            maps = _pass(request, [image] * len(some), [layer, *later], later)
        yield from maps  # not within: who takes them may run passes of their own


def require_same(request: Request, image: Prepared, stored: Maps) -> Maps:
    """An untouched pass of one image.

    Args:
        stored: what the store holds of it.

    Raises:
        ProbekitError: the network gives something else now.
    """
    (found,) = _pass(request, [image], list(stored), list(stored))
    for layer, held in stored.items():
        error = _difference(found[layer], held)
        if not error <= TOLERANCE[request.dtype]:
            raise ProbekitError(
                f"{request.name} gives other features of {layer} than the store holds (they differ by {error:.1%}): "
                f"raise the version in the plugin's descriptor ({request.adapter}), or prune the store"
            )
    return found


def reach(
    request: Request, image: Prepared, layer: str, values: NDArray[np.float64], later: Sequence[str], untouched: Maps
) -> list[str]:
    """Which of some layers change where all channels of a layer are set to ``values``: those that the pass goes on to.

    Args:
        untouched: what the layers hold of the image without that.
    """
    everything = Variant(np.arange(len(values)), values)
    (changed,) = edited_maps(request, image, layer, [everything], later)
    return [name for name in later if not _difference(changed[name], untouched[name]) <= ROUNDING]


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The root mean square of a difference, relative to the second."""
    return float(np.linalg.norm(one - other)) / max(float(np.linalg.norm(other)), 1e-30)


def _pass(request: Request, batch: Sequence[Prepared], layers: Sequence[str], wanted: Sequence[str]) -> list[Maps]:
    with memory_errors(request, batch[0]):
        outputs = forward(request, batch, layers)
    return [{layer: _flat(of[layer][0]) for layer in wanted} for of in outputs]


def _flat(values: Any) -> NDArray[np.float32]:
    """(cells, channels) of a map by rows, columns and channels."""
    array: NDArray[np.float32] = values.float().reshape(-1, values.shape[-1]).numpy()
    return array
