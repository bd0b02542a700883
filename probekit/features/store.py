"""The store: dense feature maps on disk, extracted once, shared by runs.

A *collection* holds the maps of everything with one key; images are added to it. On disk::

    STORE/KEY/collection.json         for people: what the key says, and where it came from
    STORE/KEY/lock                    who is extracting into it
    STORE/KEY/SHARD.safetensors       maps, cell-major: one tensor (cells, channels) an image key
    STORE/KEY/SHARD.json              its manifest entry (see ``shards``)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Keys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Grid, ProbekitError
from probekit.features.locks import locked, try_locked
from probekit.features.shards import Shard, StoredDtype, read_entry, temporary_name, to_float32, write_whole


@dataclass(frozen=True)
class CollectionKey:
    """All that a layer's features depend on, besides the image: images with the same key lie together.

    Attributes:
        weights: the digest (see :class:`probekit.api.WeightsInfo`); for random weights it holds the seed.
        preprocessing: the backbone's own account of it.
        layer: the tap.
        dtype: what the network ran in, and what is stored.
        adapter: distribution/name of the plugin.
        version: the adapter's.
        tile: how large images are cut (JSON values), or none.
    """

    weights: str
    preprocessing: Mapping[str, Any]
    layer: str
    dtype: StoredDtype
    adapter: str
    version: str
    tile: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        """sha256 over canonical JSON, in hex."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """What the digest is made of."""
        tile = None if self.tile is None else dict(self.tile)
        return {**vars(self), "preprocessing": dict(self.preprocessing), "tile": tile}


@dataclass(frozen=True)
class CollectionInfo:
    """One line of ``probekit store list``.

    Attributes:
        about: what was written into ``collection.json`` for people (backbone, weights).
        images: how many maps; a tile counts as one.
        last_used: when a run last opened it.
    """

    digest: str
    key: Mapping[str, Any]
    about: Mapping[str, Any]
    channels: int
    images: int
    bytes: int
    made: datetime
    last_used: datetime


@dataclass(frozen=True)
class Pruned:
    """What ``prune`` removed, and which collections it left alone because a process is extracting into them."""

    collections: Sequence[str]
    damaged: Sequence[str]
    leftovers: int
    bytes: int
    busy: Sequence[str]


class Collection:
    """The feature maps of one key. Safe to read from several threads, and while another process adds to it.

    Images are named by an image key: the image's digest, for a tile followed by ``@x,y,width,height``.
    """

    def __init__(self, folder: Path, key: CollectionKey) -> None:
        self.folder, self.key = folder, key
        self._shards: dict[str, Shard] = {}
        self._index: dict[str, Shard] = {}
        self._sound: set[str] = set()
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Reads manifest entries that are new, and forgets those that are gone."""
        with self._lock:
            entries = {path.stem: path for path in sorted(self.folder.glob("*.json")) if path.stem != "collection"}
            self._shards = {name: self._shards.get(name) or read_entry(path) for name, path in entries.items()}
            self._sound &= self._shards.keys()
            self._index = {key: shard for shard in self._shards.values() for key in shard.maps}

    @property
    def channels(self) -> int:
        """Width of the layer."""
        if not self._shards:
            raise ProbekitError(f"no features of {self.key.layer} in {self.folder.name} of the store: run it again")
        return next(iter(self._shards.values())).channels

    @property
    def bytes(self) -> int:
        """What the listed shards take on disk."""
        return sum(shard.size for shard in self._shards.values())

    def touch(self) -> None:
        """Notes that a run uses it."""
        if self.folder.exists():
            (self.folder / "lock").touch()

    @property
    def images(self) -> Keys[str]:
        """The image keys that are there."""
        return self._index.keys()

    def missing(self, images: Iterable[str]) -> list[str]:
        """Which of the image keys are not there, in order, each once."""
        self.refresh()
        return [key for key in dict.fromkeys(images) if key not in self._index]

    def grid(self, image: str) -> Grid:
        """Where the cells of an image's map lie, in the photograph's pixels (for a tile too). Reads no features."""
        return self._shard(image).maps[image].grid

    def read(self, image: str) -> tuple[NDArray[np.float32], Grid]:
        """One map: values (rows * columns, channels) by rows of cells, and its grid.

        Raises:
            ProbekitError: the shard is damaged (the whole of it is checked when it is first read), or was removed.
        """
        shard = self._verified(image)
        return shard.read(image), shard.maps[image].grid

    def gather(
        self, images: Sequence[str], image: NDArray[np.integer[Any]], cell: NDArray[np.integer[Any]]
    ) -> NDArray[np.float32]:
        """Single cells of many maps, each map opened once.

        Args:
            images: image keys.
            image: for each row its place in ``images``, shape (n,).
            cell: for each row the cell, ``row * columns + column``, shape (n,).

        Returns:
            (n, channels), C-contiguous, rows in the order asked for.
        """
        rows = np.empty((len(image), self.channels), dtype=np.float32)
        order = np.argsort(image, kind="stable")
        places, starts = np.unique(image[order], return_index=True)
        by_shard: dict[str, list[tuple[str, NDArray[np.intp]]]] = {}
        ends = [*starts, len(order)][1:]
        for place, start, end in zip(places, starts, ends, strict=True):
            by_shard.setdefault(self._shard(images[place]).file.stem, []).append((images[place], order[start:end]))
        for wanted_maps in by_shard.values():
            shard = self._verified(wanted_maps[0][0])
            mapped = np.memmap(shard.file, np.uint8, "r")  # dropped after each shard: resident memory stays bounded
            for key, wanted in wanted_maps:
                rows[wanted] = to_float32(shard.open_map(key, mapped)[cell[wanted]], shard.dtype)
        return rows

    def _shard(self, image: str) -> Shard:
        if image not in self._index:
            self.refresh()
        if image not in self._index:
            raise ProbekitError(f"{self.folder.name} of the store holds no features of {image}: run it again")
        return self._index[image]

    def _verified(self, image: str) -> Shard:
        shard = self._shard(image)
        if shard.file.stem not in self._sound:
            shard.require_sound()
            self._sound.add(shard.file.stem)
        return shard


class Store:
    """A folder of collections.

    Args:
        path: made when something is first written.
        budget: bytes that it may take; none for no limit.
    """

    def __init__(self, path: Path, budget: int | None = None) -> None:
        self.path, self.budget = path, budget

    def collection(self, key: CollectionKey) -> Collection:
        """The collection of a key; it may be empty."""
        return Collection(self.path / key.digest, key)

    @property
    def bytes(self) -> int:
        """What all files of the store take."""
        return _size(self.path)

    def require_room(self, needed: int) -> None:
        """Refuses, with the figures and what would help, where ``needed`` more bytes would pass the budget.

        Raises:
            ProbekitError: in one line.
        """
        if self.budget is None or needed == 0:
            return
        held = self.bytes
        if held + needed > self.budget:
            raise ProbekitError(
                f"the store would take {_readable(held + needed)} ({_readable(held)} held, {_readable(needed)} new), "
                f"its budget is {_readable(self.budget)}: raise store.budget, or `probekit store prune`, or use fewer "
                "images (limit), fewer layers or dtype: bfloat16"
            )

    @contextmanager
    def extracting(
        self, keys: Iterable[CollectionKey], about: Mapping[str, Any], on_wait: Callable[[str], None] | None = None
    ) -> Iterator[dict[str, Collection]]:
        """Holds the collections of ``keys`` for adding to them; a second process waits here, then finds them filled.

        Args:
            about: for people, into each ``collection.json``.
            on_wait: told once a collection who holds it, where there is a wait.

        Yields:
            layer -> its collection.
        """
        with ExitStack() as stack:
            collections = {}
            for key in sorted(keys, key=lambda key: key.digest):  # all processes in one order: no deadlock
                folder = self.path / key.digest
                while True:
                    folder.mkdir(parents=True, exist_ok=True)
                    try:
                        stack.enter_context(locked(folder / "lock", on_wait))
                        break
                    except FileNotFoundError:  # pruned in between
                        continue
                if not (folder / "collection.json").exists():
                    description = {
                        "key": key.as_json(),
                        "about": {**about, "made": datetime.now().isoformat(timespec="seconds")},
                    }
                    write_whole(folder / "collection.json", json.dumps(description, indent=2).encode())
                collections[key.layer] = Collection(folder, key)
            yield collections

    def list(self) -> Sequence[CollectionInfo]:
        """What is there, by backbone and layer."""
        infos = []
        for folder in self._folders():
            description = json.loads((folder / "collection.json").read_text("utf-8"))
            shards = [read_entry(path) for path in folder.glob("*.json") if path.stem != "collection"]
            infos.append(
                CollectionInfo(
                    digest=folder.name,
                    key=description["key"],
                    about=description["about"],
                    channels=shards[0].channels if shards else 0,
                    images=sum(len(shard.maps) for shard in shards),
                    bytes=_size(folder),
                    made=datetime.fromisoformat(description["about"]["made"]),
                    last_used=datetime.fromtimestamp((folder / "lock").stat().st_mtime),
                )
            )
        return sorted(infos, key=lambda info: (str(info.about.get("backbone")), str(info.key["layer"]), info.digest))

    def prune(self, unused: Iterable[str] = ()) -> Pruned:
        """Removes whole collections, damaged shards (all are read), and what killed processes left.

        Args:
            unused: digests of the collections to remove; the others are only mended.
        """
        unused, before = set(unused), self.bytes
        removed, damaged, busy, leftovers = [], [], [], 0
        for folder in self._folders():
            used = (folder / "lock").stat()
            with try_locked(folder / "lock") as free:
                if not free:
                    busy.append(folder.name)
                elif folder.name in unused:
                    folder.rename(doomed := temporary_name(self.path))  # at once: nobody finds half a collection
                    shutil.rmtree(doomed)
                    removed.append(folder.name)
                else:
                    os.utime(folder / "lock", ns=(used.st_atime_ns, used.st_mtime_ns))  # mending is no use of it
                    bad, stray = _mend(folder)
                    damaged += bad
                    leftovers += stray
        for doomed in self.path.glob(".*.tmp"):
            shutil.rmtree(doomed)
        return Pruned(removed, damaged, leftovers, before - self.bytes, busy)

    def _folders(self) -> Sequence[Path]:
        return sorted(path.parent for path in self.path.glob("[!.]*/collection.json"))


def _mend(folder: Path) -> tuple[list[str], int]:
    """Drops damaged shards (entry first, so that none is listed without its file) and files that nothing lists."""
    damaged, listed = [], set()
    for path in [path for path in folder.glob("*.json") if path.stem != "collection"]:
        shard = read_entry(path)
        if shard.damage():
            path.unlink()
            damaged.append(f"{folder.name}/{shard.file.name}")
        else:
            listed.add(shard.file)
    stray = [path for path in folder.glob("*.safetensors") if path not in listed] + list(folder.glob(".*.tmp"))
    for path in stray:
        path.unlink()
    return damaged, len(stray) - sum((folder.parent / name) in stray for name in damaged)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # renamed by a process that is extracting
            continue
    return total


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
