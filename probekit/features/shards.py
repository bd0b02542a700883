"""One shard: a few dense feature maps in an immutable safetensors file, and the small JSON file that lists it.

A shard is written under a temporary name, synced and renamed; then its manifest entry (``NAME.json``: the file's size
and checksum, and for each map its place in the file and its grid) is written the same way. A shard without an entry
does not exist. Nothing is preallocated: a map is in the file or the file is not listed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probekit.api import Affine, Grid, ProbekitError

StoredDtype = Literal["float32", "float16", "bfloat16"]

SHARD_BYTES = 64 << 20
"""A shard is sealed once it holds this much."""

SHARD_MAPS = 64
"""A shard is sealed once it holds so many maps, so that a kill never costs more."""

_HEADER_BYTES = 32 << 10  # written last, into space left for it: a map streams to disk as it arrives
_SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_NUMPY: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),  # NumPy has no bfloat16: its bits, the upper half of a float32
}


def to_float32(stored: NDArray[Any], dtype: StoredDtype) -> NDArray[np.float32]:
    """Stored values as float32, exactly."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32, copy=False)


@dataclass(frozen=True)
class MapEntry:
    """One map of a shard: its bytes start at ``offset`` in the file."""

    offset: int
    grid: Grid

    @property
    def cells(self) -> int:
        """Rows of the stored matrix."""
        return self.grid.rows * self.grid.columns


@dataclass(frozen=True)
class Shard:
    """A manifest entry.

    Attributes:
        file: the safetensors file.
        size: its length in bytes.
        checksum: CRC-32 of the whole file, header last. It tells a damaged file, not a forged one.
        maps: image key -> its place.
    """

    file: Path
    size: int
    checksum: int
    channels: int
    dtype: StoredDtype
    maps: Mapping[str, MapEntry]

    @property
    def entry(self) -> Path:
        """The manifest entry's file."""
        return self.file.with_suffix(".json")

    def damage(self) -> str | None:
        """What is wrong with the file, by reading all of it; none where nothing is."""
        try:
            size = self.file.stat().st_size
            if size != self.size:
                return f"has {size} bytes of {self.size}"
            return None if _checksum(self.file) == self.checksum else "does not match its checksum"
        except FileNotFoundError:
            return "is missing"

    def require_sound(self) -> None:
        """Raises one line that says what to do where the file is damaged."""
        damage = self.damage()
        if damage:
            raise ProbekitError(
                f"{self.file.parent.name}/{self.file.name} {damage}: `probekit store prune` drops damaged shards, "
                "the next run makes them again"
            )

    def read(self, key: str) -> NDArray[np.float32]:
        """Values of one map, (cells, channels), in memory of their own."""
        place, dtype = self.maps[key], _NUMPY[self.dtype]
        count = place.cells * self.channels
        with self.file.open("rb") as file:
            file.seek(place.offset)
            stored = np.fromfile(file, dtype, count)
        if stored.size != count:
            self.require_sound()
        return to_float32(stored.reshape(place.cells, self.channels), self.dtype)

    def open_map(self, key: str, mapped: NDArray[np.uint8]) -> NDArray[Any]:
        """One map as stored, (cells, channels), as a view of the mapped file."""
        place, dtype = self.maps[key], _NUMPY[self.dtype]
        size = place.cells * self.channels * dtype.itemsize
        return mapped[place.offset : place.offset + size].view(dtype).reshape(place.cells, self.channels)


def read_entry(path: Path) -> Shard:
    """Reads a manifest entry."""
    raw = json.loads(path.read_text("utf-8"))
    maps = {
        key: MapEntry(m["offset"], Grid(**{**m["grid"], "to_pixels": Affine(**m["grid"]["to_pixels"])}))
        for key, m in raw["maps"].items()
    }
    file = path.with_suffix(".safetensors")
    return Shard(file, raw["size"], raw["checksum"], raw["channels"], raw["dtype"], maps)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a small file so that it is there completely or not at all, also after a power cut."""
    temporary = temporary_name(path.parent)
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def temporary_name(folder: Path) -> Path:
    """A name of its own for a file that is not finished; what a killed process leaves is swept by ``store prune``."""
    return folder / f".{os.getpid()}-{secrets.token_hex(8)}.tmp"


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ShardWriter:
    """Writes one shard, map by map; memory does not grow with the shard."""

    def __init__(self, folder: Path, channels: int, dtype: StoredDtype) -> None:
        """Args:
        folder: where the shard will lie; it exists.
        channels: of every map.
        dtype: as stored.
        """
        self._folder, self._channels, self._dtype = folder, channels, dtype
        self._temporary = temporary_name(folder)
        self._file = self._temporary.open("xb")
        self._file.write(bytes(_HEADER_BYTES))
        self._checksum = 0
        self._end = _HEADER_BYTES
        self._maps: dict[str, MapEntry] = {}

    @property
    def full(self) -> bool:
        """It is time to seal."""
        return (
            self._end >= SHARD_BYTES
            or len(self._maps) >= SHARD_MAPS
            or len(self._header()) > _HEADER_BYTES // 2  # another key may be as long as all of these
        )

    def add(self, key: str, stored: NDArray[Any], grid: Grid) -> None:
        """Appends a map: ``stored`` (cells, channels), C-contiguous, in the shard's stored type."""
        if stored.shape != (grid.rows * grid.columns, self._channels) or stored.dtype != _NUMPY[self._dtype]:
            raise ValueError(f"{key}: {stored.shape} {stored.dtype} is no map of {grid} with {self._channels} channels")
        raw = stored.data.cast("B")
        self._file.write(raw)
        self._checksum = zlib.crc32(raw, self._checksum)
        self._maps[key] = MapEntry(self._end, grid)
        self._end += raw.nbytes

    def seal(self) -> Shard:
        """Finishes the file, gives it its name, then lists it."""
        header = self._header()
        block = (_HEADER_BYTES - 8).to_bytes(8, "little") + header.ljust(_HEADER_BYTES - 8)
        self._checksum = zlib.crc32(block, self._checksum)
        self._file.seek(0)
        self._file.write(block)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        name = hashlib.sha256("\n".join(self._maps).encode()).hexdigest()[:32]
        file = self._folder / f"{name}.safetensors"
        self._temporary.replace(file)
        sync_folder(self._folder)
        shard = Shard(file, self._end, self._checksum, self._channels, self._dtype, self._maps)
        entry = asdict(shard)
        del entry["file"]
        write_whole(shard.entry, json.dumps(entry, indent=1).encode())
        return shard

    def discard(self) -> None:
        """Drops what was written."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _header(self) -> bytes:
        size = self._channels * _NUMPY[self._dtype].itemsize
        tensors = {
            key: {
                "dtype": _SAFETENSORS[self._dtype],
                "shape": [place.cells, self._channels],
                "data_offsets": [place.offset - _HEADER_BYTES, place.offset - _HEADER_BYTES + place.cells * size],
            }
            for key, place in self._maps.items()
        }
        return json.dumps(tensors, separators=(",", ":")).encode()


def _checksum(path: Path) -> int:
    """Of the maps, then of the header, which is known last."""
    checksum, buffer = 0, bytearray(1 << 20)
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        while count := file.readinto(buffer):
            checksum = zlib.crc32(memoryview(buffer)[:count], checksum)
    return zlib.crc32(header, checksum)
