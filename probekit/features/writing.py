"""The last stage of an extraction: one thread that turns finished maps into shards."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.api import Grid, ProbekitError
from probekit.features.shards import ShardWriter, StoredDtype
from probekit.features.store import Collection

QUEUED = 8
"""Maps that may wait to be written."""


@dataclass(frozen=True)
class FinishedMap:
    """One map on its way to disk: ``values`` (rows, columns, channels) on the CPU, in the stored type, any strides."""

    layer: str
    key: str
    image: str
    values: torch.Tensor
    grid: Grid


class Writer:
    """Checks and writes maps behind the caller's back; leaving the context seals what was written.

    Args:
        name: the backbone's, for messages.
        collections: layer -> where its maps go; the caller holds their locks.
        channels: layer -> its width.
        dtype: as stored.
    """

    def __init__(
        self, name: str, collections: Mapping[str, Collection], channels: Mapping[str, int], dtype: StoredDtype
    ) -> None:
        self._name, self._collections, self._channels, self._dtype = name, collections, channels, dtype
        self._queue: Queue[FinishedMap | None] = Queue(QUEUED)
        self._shards: dict[str, ShardWriter] = {}
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="write features", daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            self._fail(self._error)

    def put(self, finished: FinishedMap) -> None:
        """Hands a map over; waits where too many are queued. Raises what went wrong in the thread."""
        if self._error is not None:
            self._fail(self._error)
        self._queue.put(finished)

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise ProbekitError(
                "no space left on the store's disk: `probekit store prune`, or set store.path"
            ) from error
        raise error

    def _run(self) -> None:
        with torch.inference_mode():
            while (finished := self._queue.get()) is not None:
                if self._error is None:  # after an error the queue is only emptied, so that nobody waits for ever
                    try:
                        self._write(finished)
                    except BaseException as error:
                        self._error = error
            try:
                for shard in self._shards.values():
                    shard.seal()
            except BaseException as error:
                self._error = self._error or error
                for shard in self._shards.values():
                    shard.discard()

    def _write(self, finished: FinishedMap) -> None:
        rows, columns, channels = finished.values.shape
        self._require_finite(finished)
        shard = self._shards.get(finished.layer)
        if shard is None:
            folder = self._collections[finished.layer].folder
            shard = self._shards[finished.layer] = ShardWriter(folder, self._channels[finished.layer], self._dtype)
        cells = finished.values.contiguous().reshape(rows * columns, channels)
        try:
            shard.add(finished.key, _as_stored(cells), finished.grid)
        except BaseException:
            self._shards.pop(finished.layer).discard()  # it may end with half a map
            raise
        if shard.full:
            self._shards.pop(finished.layer).seal()

    def _require_finite(self, finished: FinishedMap) -> None:
        values = finished.values
        # One cheap pass: a sum is NaN or infinite where a value is; a sum that overflows by itself is looked into.
        if torch.isfinite(values.sum(dtype=torch.float32)):
            return
        bad = ~torch.isfinite(values)
        if bool(bad.any()):
            channel = int(bad.any(dim=0).any(dim=0).nonzero()[0])
            advice = "; float16 overflows at 65504: dtype: bfloat16 or float32" if self._dtype == "float16" else ""
            raise ProbekitError(
                f"{self._name} gives NaN or infinity on image {finished.image} at layer {finished.layer} "
                f"({int(bad.sum())} values, the first in channel {channel}){advice}"
            )


def _as_stored(cells: torch.Tensor) -> NDArray[Any]:
    if cells.dtype == torch.bfloat16:
        bits: NDArray[Any] = cells.view(torch.int16).numpy().view(np.uint16)
        return bits
    array: NDArray[Any] = cells.numpy()
    return array
