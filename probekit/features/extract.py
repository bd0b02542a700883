"""Extraction: photographs through a frozen network into the store, each once, all layers in one pass.

Three stages run at once, joined by bounded queues, so that memory does not grow with the number of images: threads
decode and prepare ahead, the caller's thread runs the network, one thread writes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.api import Backbone, Batch, FeatureMap, Issue, Prepared, ProbekitError, UnreadableImageError, WeightsInfo
from probekit.features.cost import measure, note_cost
from probekit.features.shards import StoredDtype
from probekit.features.store import Collection, CollectionKey, Store
from probekit.features.writing import FinishedMap, Writer
from probekit.geometry.tiles import Tile

DEFAULT_BATCH = {"cpu": 1, "cuda": 8}
"""By the type of device. One on the CPU: a short batch, which is filled up there, then costs nothing."""

Progress = Callable[[int, int, float], None]
"""Told (images done, images to do, seconds since the first)."""


@dataclass(frozen=True)
class Item:
    """One forward pass to be made: a photograph, or a tile of it.

    Attributes:
        key: what it is called in the store (see :class:`probekit.features.store.Collection`).
        image: the photograph's id, for messages.
        open: decodes the whole photograph, (height, width, 3) RGB; called from a thread, once for neighbouring tiles.
        tile: the window to pass through the network; none for the whole.
    """

    key: str
    image: str
    open: Callable[[], NDArray[np.uint8]]
    tile: Tile | None = None

    @property
    def source(self) -> str:
        """What tiles of one photograph share."""
        return self.key.partition("@")[0]


@dataclass(frozen=True)
class Request:
    """What to extract, and how.

    Attributes:
        name: the spec's name for the backbone, for messages.
        backbone: not loaded yet.
        layers: the taps.
        adapter, version: of the plugin: ``distribution/name`` and its descriptor's version.
        device: ``cpu``, ``cuda:0``.
        dtype: what the network runs in and the store holds.
        batch_size: none for the device's default.
        tile: how large images are cut (JSON values; part of the key), or none.
        workers: threads that decode and prepare.
    """

    name: str
    backbone: Backbone
    layers: Sequence[str]
    adapter: str
    version: str
    device: str = "cpu"
    dtype: StoredDtype = "float32"
    batch_size: int | None = None
    tile: Mapping[str, int] | None = None
    workers: int = 2

    def keys(self, weights: WeightsInfo) -> dict[str, CollectionKey]:
        """layer -> the key of its collection."""
        return {
            layer: CollectionKey(
                weights.digest, self.backbone.preprocessing, layer, self.dtype, self.adapter, self.version, self.tile
            )
            for layer in self.layers
        }

    @property
    def batch(self) -> int:
        """Images in one forward pass."""
        return self.batch_size or DEFAULT_BATCH.get(torch.device(self.device).type, 1)


@dataclass(frozen=True)
class Extraction:
    """What came of it.

    Attributes:
        collections: layer -> where its features are.
        computed: forward passes made (images or tiles); 0 where all was in the store, and no model was loaded.
        unreadable: image id -> why it could not be decoded; nothing is stored of these.
        seconds: the extraction took, loading the model apart.
    """

    collections: Mapping[str, Collection]
    computed: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def extract(
    request: Request,
    items: Iterable[Item],
    store: Store,
    on_progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
    measured: Prepared | None = None,
) -> Extraction:
    """Makes the store hold every item at every layer; computes what is missing, and loads the model only for that.

    Whatever ends it early (a kill, Ctrl-C, an error): what was sealed stays and the next call goes on from there.

    Args:
        request: the backbone and its settings.
        items: tiles of one photograph next to each other.
        store: where features go.
        on_progress: told after each batch.
        on_wait: told who is extracting the same, where this call has to wait for them.
        measured: an image by which the costs of layers are noted, where the model is loaded (see ``cost``).

    Raises:
        ProbekitError: NaN or infinity in features, no memory left on the device.
    """
    items = list(items)
    weights = request.backbone.weights()
    keys = request.keys(weights)
    collections = {layer: store.collection(key) for layer, key in keys.items()}
    _require_widths(request, collections)
    if not _missing(items, collections):
        for collection in collections.values():
            collection.touch()
        return Extraction(collections, 0)
    about = {"backbone": request.name, "weights": f"{weights.kind}: {weights.source}"}
    with store.extracting(keys.values(), about, on_wait) as collections:
        missing = _missing(items, collections)  # another process may have been here while we waited
        if not missing:
            return Extraction(collections, 0)
        lacking = {layer for layers in missing.values() for layer in layers}
        needed = [layer for layer in request.layers if layer in lacking]
        device, dtype = torch.device(request.device), getattr(torch, request.dtype)
        with memory_errors(request, None):
            request.backbone.load(needed, device, dtype)
        if measured is not None:
            with memory_errors(request, measured):
                costs = measure(request.backbone, needed, measured, device, dtype)
            for layer, cost in costs.items():
                note_cost(collections[layer], measured, cost)
        started = time.perf_counter()
        done, unreadable = _compute(request, items, missing, collections, on_progress)
        for collection in collections.values():
            collection.refresh()
        return Extraction(collections, done, unreadable, time.perf_counter() - started)


def _require_widths(request: Request, collections: Mapping[str, Collection]) -> None:
    """Refuses features that the same adapter made when its layer had another width: its version was not raised."""
    for layer, collection in collections.items():
        wanted = request.backbone.layers[layer].channels
        if collection.images and collection.channels != wanted:
            raise ProbekitError(
                f"the store holds {layer} of {request.name} with {collection.channels} channels, the plugin "
                f"{request.adapter} now gives {wanted} under the same version ({request.version}): raise the version "
                f"in its descriptor, or remove {collection.folder}"
            )


def _missing(items: Sequence[Item], collections: Mapping[str, Collection]) -> dict[str, tuple[str, ...]]:
    """Image key -> the layers that it lacks, for those that lack any."""
    keys = [item.key for item in items]
    lacking = {layer: set(collection.missing(keys)) for layer, collection in collections.items()}
    layers = {key: tuple(layer for layer in collections if key in lacking[layer]) for key in keys}
    return {key: missing for key, missing in layers.items() if missing}


def _compute(
    request: Request,
    items: Sequence[Item],
    missing: Mapping[str, tuple[str, ...]],
    collections: Mapping[str, Collection],
    on_progress: Progress | None,
) -> tuple[int, dict[str, str]]:
    """Runs the three stages; returns the number of passes and the unreadable images."""
    unreadable: dict[str, str] = {}
    started, done = time.perf_counter(), 0
    todo = [item for key, item in {item.key: item for item in items}.items() if key in missing]
    channels = {layer: request.backbone.layers[layer].channels for layer in collections}
    with Writer(request.name, collections, channels, request.dtype) as writer, torch.inference_mode():
        for batch in _batches(prepared_items(request, todo, unreadable), request.batch, missing):
            with memory_errors(request, batch[0].prepared):
                maps = forward(request, [one.prepared for one in batch], missing[batch[0].item.key])
            for one, of_layers in zip(batch, maps, strict=True):
                for layer, (values, fmap) in of_layers.items():
                    grid = one.item.tile.place(fmap.grid) if one.item.tile else fmap.grid
                    writer.put(FinishedMap(layer, one.item.key, one.item.image, values, grid))
            done += len(batch)
            if on_progress:
                on_progress(done, len(todo), time.perf_counter() - started)
    return done, unreadable


@dataclass(frozen=True)
class Ready:
    """An item, decoded and prepared."""

    item: Item
    prepared: Prepared


class _Photograph:
    """Decoded once for all its tiles, and forgotten with the last of them."""

    def __init__(self, item: Item) -> None:
        self._open, self._lock = item.open, Lock()
        self._pixels: NDArray[np.uint8] | None = None

    def prepare(self, item: Item, backbone: Backbone) -> Prepared:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._open()
        return backbone.prepare(self._pixels[item.tile.window.slices] if item.tile else self._pixels)


def prepared_items(request: Request, items: Sequence[Item], unreadable: dict[str, str]) -> Iterator[Ready]:
    """Decodes and prepares ahead, a bounded number of items, in order.

    Args:
        unreadable: image id -> why it could not be decoded, added to; such items are left out.
    """
    ahead = request.batch + request.workers
    pending: deque[tuple[Item, Future[Prepared]]] = deque()
    source, photograph = None, None
    pool = ThreadPoolExecutor(request.workers, thread_name_prefix="prepare")
    try:
        for item in [*items, *[None] * ahead]:
            if item is not None:
                if photograph is None or item.source != source:
                    source, photograph = item.source, _Photograph(item)
                pending.append((item, pool.submit(photograph.prepare, item, request.backbone)))
                if len(pending) <= ahead:
                    continue
            if pending:
                first, future = pending.popleft()
                try:
                    yield Ready(first, future.result())
                except UnreadableImageError as error:
                    unreadable[first.image] = str(error)
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(ready: Iterable[Ready], size: int, missing: Mapping[str, tuple[str, ...]]) -> Iterator[list[Ready]]:
    """Groups items that can share a pass: one tensor shape, the same layers missing. Holds at most four batches."""
    open_batches: dict[tuple[object, ...], list[Ready]] = {}
    for one in ready:
        kind = (tuple(one.prepared.tensor.shape), missing[one.item.key])
        open_batches.setdefault(kind, []).append(one)
        if len(open_batches[kind]) == size:
            yield open_batches.pop(kind)
        elif sum(map(len, open_batches.values())) > 4 * size:
            yield open_batches.pop(max(open_batches, key=lambda kind: len(open_batches[kind])))
    yield from open_batches.values()


def forward(
    request: Request, batch: Sequence[Prepared], layers: Sequence[str]
) -> list[dict[str, tuple[torch.Tensor, FeatureMap]]]:
    """One pass: for each image and layer the values on the CPU, (rows, columns, channels), and the map they are of."""
    device, dtype = torch.device(request.device), getattr(torch, request.dtype)
    prepared = list(batch)
    if device.type == "cpu":
        # Kernels choose their way by the shape of a batch, so an image's last bits would depend on what else is
        # missing from the store: a short batch is filled up.
        prepared += [prepared[-1]] * (request.batch - len(prepared))
    stacked = torch.stack([one.tensor for one in prepared]).to(device, dtype)
    outputs = request.backbone.forward(Batch(stacked, [one.geometry for one in prepared]), layers)
    result = []
    for maps in outputs[: len(batch)]:
        of_layers = {}
        for layer in layers:
            values = maps[layer].values.to(dtype).permute(1, 2, 0)
            # On an accelerator the turn to cell-major is cheap; on the CPU the writing thread does it.
            of_layers[layer] = (values if device.type == "cpu" else values.contiguous().cpu(), maps[layer])
        result.append(of_layers)
    return result


class memory_errors:  # noqa: N801
    """Turns "out of memory" into one line that says which setting to change."""

    def __init__(self, request: Request, prepared: Prepared | None) -> None:
        self._request, self._prepared = request, prepared

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        if not (isinstance(error, torch.OutOfMemoryError) or on_cpu):
            return
        request, where = self._request, torch.device(self._request.device).type
        if self._prepared is None:
            raise ProbekitError([Issue(where, f"out of memory while loading {request.name}: device: cpu")]) from error
        shape = "x".join(map(str, self._prepared.tensor.shape[1:]))
        advice = (
            f"set backbones.{request.name}.batch_size: {request.batch // 2}"
            if request.batch > 1
            else "batch_size cannot be smaller: set tile, a smaller image_size, dtype: bfloat16 or another device"
        )
        text = f"out of memory at batch_size {request.batch} ({request.name}, {shape}): {advice}"
        raise ProbekitError([Issue(where, text)]) from error
