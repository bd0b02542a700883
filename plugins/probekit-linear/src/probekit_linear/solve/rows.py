"""Raw rows wherever they lie: an array, a tensor, shards on disk, a GPU."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]] | torch.Tensor
Source = Matrix | Sequence[Matrix]

CHUNK = 2**19
"""Entries of a chunk: 4 MB as float64, near enough to the cache for two products in a row."""
BLOCKS = 32
"""How many pieces a pass over the rows is cut into at most, whatever the number of threads."""


class RowSource:
    """n rows of p channels in shards (or one), read in chunks; never copied whole.

    Args:
        source: (n, p) float16, float32 or float64, C-contiguous, in one piece or as a sequence of pieces by rows, each
            an array, a memory map or a tensor. Tensors on a GPU are worked on there.
        keep: the rows to use, ascending; all of them by default.
        channels: the channels to use, in the order to use them in; all of them by default.
        device: where to work; arrays are copied there unless it is the CPU. By default where the rows lie.

    Raises:
        TypeError: not floating point.
        ValueError: not two-dimensional, or pieces of different widths.
    """

    def __init__(
        self,
        source: Source,
        keep: NDArray[np.int64] | None = None,
        channels: NDArray[np.int64] | None = None,
        device: str | None = None,
    ) -> None:
        parts = list(source) if isinstance(source, (list, tuple)) else [source]
        if not parts:
            raise ValueError("there are no rows: the sequence of shards is empty")
        self._parts = [part.detach() if isinstance(part, torch.Tensor) else np.asanyarray(part) for part in parts]
        for part in self._parts:
            if part.ndim != 2:
                raise ValueError(f"rows must be two-dimensional (n, p), not of shape {tuple(part.shape)}")
            if part.shape[1] != self._parts[0].shape[1]:
                raise ValueError(f"shards differ in width: {part.shape[1]} and {self._parts[0].shape[1]} channels")
            kind = part.dtype in (torch.float16, torch.float32, torch.float64)
            if not (kind if isinstance(part, torch.Tensor) else part.dtype in (np.float16, np.float32, np.float64)):
                raise TypeError(f"rows must be float16, float32 or float64, not {part.dtype}")
        if device is not None and torch.device(device).type != "cpu":
            self._parts = [torch.as_tensor(part).to(device) for part in self._parts]
        if parts and not (sum(len(part) for part in self._parts) and self._parts[0].shape[1]):
            raise ValueError(f"there are no rows, or no channels: {tuple(self._parts[0].shape)}")
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in self._parts])])
        self._keep = keep
        first = self._parts[0]
        self.device = first.device if isinstance(first, torch.Tensor) else torch.device("cpu")
        self.n = int(self._starts[-1]) if keep is None else len(keep)
        self.p = int(first.shape[1]) if channels is None else len(channels)
        self._channels = channels
        self._columns = None if channels is None else torch.from_numpy(np.array(channels)).to(self.device)

    def only(self, keep: NDArray[np.int64]) -> RowSource:
        """The given ones of these rows, ascending; nothing is copied."""
        return RowSource(self._parts, keep if self._keep is None else self._keep[keep], self._channels)

    def columns(self, channels: NDArray[np.int64]) -> RowSource:
        """Some channels of these rows, in the given order; nothing is copied."""
        return RowSource(self._parts, self._keep, channels if self._channels is None else self._channels[channels])

    def copied(self, most: int) -> RowSource | None:
        """A copy in memory, where the rows lie; none if it would take more than so many bytes, or copy all there is."""
        dtype = _take(self._parts[0], np.zeros(1, dtype=np.int64)).dtype
        if (self._keep is None and self._channels is None) or self.n * self.p * dtype.itemsize > most:
            return None
        return RowSource(self.gather(np.arange(self.n), dtype=dtype))

    def blocks(self) -> list[slice]:
        """The rows cut into at most ``BLOCKS`` pieces, each of whole chunks."""
        step = self._step()
        chunks = -(-self.n // step)
        size = -(-chunks // BLOCKS) * step
        return [slice(start, min(start + size, self.n)) for start in range(0, self.n, size)]

    def chunks(self, block: slice, dtype: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
        """The rows of a block in order, some ``CHUNK`` entries at a time, on the rows' own device.

        A chunk is overwritten by the next one. Memory-mapped pages are given back once the block is read.
        """
        step = self._step()
        buffer: torch.Tensor | None = None
        for start in range(block.start, block.stop, step):
            stop = min(start + step, block.stop)
            raw = self._read(start, stop)
            if self._columns is not None:
                raw = raw.index_select(1, self._columns)
            if raw.dtype == dtype:
                yield slice(start, stop), raw
                continue
            if buffer is None:
                buffer = torch.empty((step, self.p), dtype=dtype, device=self.device)
            yield slice(start, stop), buffer[: stop - start].copy_(raw)
        self._release(block)

    def gather(
        self,
        index: NDArray[np.int64],
        channels: NDArray[np.int64] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """The given rows (ascending), with all channels or the given ones: (len(index), k)."""
        if self._keep is not None:
            index = self._keep[index]
        if self._channels is not None:
            channels = self._channels if channels is None else self._channels[channels]
        width = self._parts[0].shape[1] if channels is None else len(channels)
        out = torch.empty((len(index), width), dtype=dtype, device=self.device)
        bounds = np.searchsorted(index, self._starts)
        wanted = None if channels is None else torch.from_numpy(np.array(channels)).to(self.device)
        for i, part in enumerate(self._parts):
            low, high = int(bounds[i]), int(bounds[i + 1])
            for at in range(low, high, 4096):
                local = index[at : min(at + 4096, high)] - self._starts[i]
                rows = _take(part, local)
                out[at : at + len(local)].copy_(rows if wanted is None else rows.index_select(1, wanted))
            _release(part, 0, len(part))
        return out

    def _step(self) -> int:
        entries = CHUNK if self.device.type == "cpu" else 2**26
        return max(64, entries // self.p // 64 * 64)

    def _read(self, start: int, stop: int) -> torch.Tensor:
        if self._keep is not None:
            index = self._keep[start:stop]
            bounds = np.searchsorted(index, self._starts)
            pieces = [
                _take(self._parts[i], index[low:high] - self._starts[i])
                for i, (low, high) in enumerate(pairwise(bounds))
                if low < high
            ]
        else:
            first = int(np.searchsorted(self._starts, start, side="right")) - 1
            pieces = []
            while start < stop:
                end = min(stop, int(self._starts[first + 1]))
                local = slice(start - int(self._starts[first]), end - int(self._starts[first]))
                if local.start < local.stop:
                    part = self._parts[first]
                    pieces.append(part[local] if isinstance(part, torch.Tensor) else _tensor(part[local]))
                start, first = end, first + 1
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _release(self, block: slice) -> None:
        rows = (block.start, block.stop)
        if self._keep is not None:
            rows = (int(self._keep[block.start]), int(self._keep[block.stop - 1]) + 1)
        for i, part in enumerate(self._parts):
            low, high = max(rows[0], int(self._starts[i])), min(rows[1], int(self._starts[i + 1]))
            if low < high:
                _release(part, low - int(self._starts[i]), high - int(self._starts[i]))


def _take(part: Matrix, local: NDArray[np.int64]) -> torch.Tensor:
    if isinstance(part, torch.Tensor):
        return part.index_select(0, torch.from_numpy(local).to(part.device))
    if len(local) and local[-1] - local[0] + 1 == len(local):
        return _tensor(part[int(local[0]) : int(local[-1]) + 1])
    return torch.from_numpy(np.take(part, local, axis=0))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    array = np.ascontiguousarray(array)
    if min(array.strides, default=0) < 0:  # a single row backwards counts as contiguous
        array = array.copy()
    if array.flags.writeable:
        return torch.from_numpy(array)
    # from_numpy warns of arrays that may not be written to; nothing here writes to a chunk of the source
    return torch.from_dlpack(array)  # type: ignore[attr-defined]


def _release(part: Matrix, low: int, high: int) -> None:
    """Gives the pages of rows of a memory map back, so that a pass over a file does not fill the memory with it."""
    # what was changed in a private map (mode c) is nowhere else
    if not isinstance(part, np.memmap) or part.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    mapped = part._mmap  # type: ignore[attr-defined]
    base: Any = part
    while isinstance(base.base, np.ndarray):
        base = base.base
    offset = part.__array_interface__["data"][0] - base.__array_interface__["data"][0] + base.offset % mmap.PAGESIZE
    width = part.strides[0]
    start = -(-(offset + low * width) // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (offset + high * width) // mmap.PAGESIZE * mmap.PAGESIZE
    if start < stop:
        mapped.madvise(mmap.MADV_DONTNEED, start, stop - start)
