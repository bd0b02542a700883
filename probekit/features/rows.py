"""Rows of features for the probes: sampled ones in memory, all cells of many images read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probekit.features.store import Collection

if TYPE_CHECKING:
    import torch


class MemoryRows:
    """Rows that are in memory: (n, p) float32; an implementation of :class:`probekit.api.Rows`."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self._values = np.ascontiguousarray(values, dtype=np.float32)
        self._tensors: dict[str, torch.Tensor] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """(n rows, p channels)."""
        return self._values.shape[0], self._values.shape[1]

    def numpy(self) -> NDArray[np.float32]:
        """All rows, C-contiguous, read-only, not copied."""
        view = self._values.view()
        view.flags.writeable = False
        return view

    def torch(self, device: str) -> torch.Tensor:
        """All rows on a device; kept there for the next call. On the CPU it shares their memory."""
        import torch

        if device not in self._tensors:
            values = self._values if self._values.flags.writeable else self._values.copy()
            self._tensors[device] = torch.from_numpy(values).to(device)
        return self._tensors[device]

    def chunks(self, rows: int = 65536) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows in order, at most ``rows`` at a time, each with its place."""
        values = self.numpy()
        for start in range(0, len(values), rows):
            place = slice(start, min(start + rows, len(values)))
            yield place, values[place]


class LazyRows:
    """Cells of many stored maps, read when they are asked for; an implementation of :class:`probekit.api.Rows`.

    Args:
        collection: where the maps are.
        images: image keys, in the rows' order.
        cells: for each image the cells wanted, in order.
    """

    def __init__(
        self, collection: Collection, images: Sequence[str], cells: Sequence[NDArray[np.integer[Any]]]
    ) -> None:
        self._collection, self._images = collection, tuple(images)
        self._cell = np.concatenate([np.asarray(part, dtype=np.int64) for part in cells] or [np.empty(0, np.int64)])
        self._image = np.repeat(np.arange(len(cells)), [len(part) for part in cells])

    @property
    def shape(self) -> tuple[int, int]:
        """(n rows, p channels)."""
        return len(self._cell), self._collection.channels

    def numpy(self) -> NDArray[np.float32]:
        """All rows in memory, (n, p), read-only. Nothing is kept."""
        values = self._collection.gather(self._images, self._image, self._cell)
        values.flags.writeable = False
        return values

    def torch(self, device: str) -> torch.Tensor:
        """All rows on a device. Nothing is kept."""
        import torch

        return torch.from_numpy(self._collection.gather(self._images, self._image, self._cell)).to(device)

    def chunks(self, rows: int = 65536) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows in order, at most ``rows`` at a time, each with its place. One chunk is held at once."""
        for start in range(0, len(self._cell), rows):
            place = slice(start, min(start + rows, len(self._cell)))
            values = self._collection.gather(self._images, self._image[place], self._cell[place])
            values.flags.writeable = False
            yield place, values


def gather_rows(
    collection: Collection,
    images: Sequence[str],
    image: NDArray[np.integer[Any]],
    cell: NDArray[np.integer[Any]],
) -> MemoryRows:
    """Reads sampled cells into memory once.

    Args:
        images: image keys.
        image: for each row its place in ``images``, shape (n,).
        cell: for each row the cell, ``row * columns + column``, shape (n,).
    """
    return MemoryRows(collection.gather(images, image, cell))
