"""What the features of a run will take, before any forward pass: native grids, cells, bytes, what the store holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probekit.api import Grid, Issue, ParameterError, ProbekitError
from probekit.features.memory import map_shape, predict
from probekit.features.speed import Speed, read_speed
from probekit.features.store import Collection, CollectionKey, Store
from probekit.plan.networks import Network
from probekit.runner.dataset import Cut, Dataset
from probekit.runner.extraction import request_of
from probekit.runner.prepare import Prepared
from probekit.spec.models import Experiment


@dataclass(frozen=True)
class LayerForecast:
    """One layer of a network.

    Attributes:
        channels: width.
        grids: of every cut's map, in the dataset's order.
        held: maps that are in the store already.
        new_bytes, held_bytes: on disk; ``held_bytes`` is the whole collection's.
        speed: of an earlier extraction, or none.
    """

    channels: int
    grids: tuple[Grid, ...]
    held: int
    new_bytes: int
    held_bytes: int
    speed: Speed | None

    @property
    def missing(self) -> int:
        """Maps that are still to be made."""
        return len(self.grids) - self.held

    @property
    def cells(self) -> int:
        """Of all maps."""
        return sum(grid.rows * grid.columns for grid in self.grids)


@dataclass(frozen=True)
class NetworkForecast:
    """One network.

    Attributes:
        layers: by name.
        passes: forward passes to be made.
        memory: bytes held while extracting, beside the network and its activations.
        fetched: its weights lie on this machine, as far as can be told without asking for them.
    """

    network: Network
    layers: Mapping[str, LayerForecast]
    passes: int
    memory: int
    fetched: bool


def forecast(prepared: Prepared, dataset: Dataset, store: Store) -> tuple[NetworkForecast, ...]:
    """Predicts the extraction of every network of a run.

    Raises:
        ProbekitError: weights files that cannot be used, each at its place in the spec; images that are smaller than
            a cell of some layer.
    """
    resolved, issues, forecasts = prepared.resolved, [], []
    for network in prepared.networks:
        try:
            forecasts.append(forecast_network(network, dataset, resolved.experiment, store))
        except ParameterError as error:
            name = network.of or network.name
            use = resolved.backbones.get(name) or resolved.controls[name]
            issues.append(resolved.locate(use.section, error))
    issues += [issue for of in forecasts for issue in _too_small(of, dataset.cuts)]
    if issues:
        raise ProbekitError(issues)
    return tuple(forecasts)


def _too_small(forecast: NetworkForecast, cuts: Sequence[Cut]) -> Iterator[Issue]:
    """Layers none of whose cells shows nothing but the image: such an image could not be scored."""
    for layer, of in forecast.layers.items():
        images = dict.fromkeys(cut.image.id for cut, grid in zip(cuts, of.grids, strict=True) if not grid.valid.any())
        if images:
            first, *others = images
            more = f" (and {len(others)} more)" if others else ""
            what = f"no cell of it fits into image {first}{more}: a layer of smaller cells, or leave such images out"
            yield Issue(f"{forecast.network.name} {layer}", what)


def forecast_network(network: Network, dataset: Dataset, experiment: Experiment, store: Store) -> NetworkForecast:
    """Predicts a network's extraction. Weights are neither fetched nor loaded."""
    found = held_collections(network, experiment, store)
    grids = native_grids(network, dataset.cuts)
    keys = [cut.key for cut in dataset.cuts]
    missing: dict[tuple[str, ...], list[str]] = {}
    for layer in network.layers:
        collection = found.get(layer)
        lacking = tuple(keys if collection is None else collection.missing(keys))
        missing.setdefault(lacking, []).append(layer)
    sizes = {cut.key: (cut.tile.window.height, cut.tile.window.width) for cut in dataset.cuts}
    workers = experiment.threads or 2
    batch = request_of(network, experiment).batch
    new: dict[str, int] = {}
    passes: set[str] = set()
    memory = 0
    for lacking, layers in missing.items():
        print_of = predict(network.backbone, layers, [sizes[k] for k in lacking], network.dtype, batch, workers)
        new |= print_of.store
        memory = max(memory, print_of.memory)
        passes |= set(lacking)
    forecasts = {}
    for lacking, layers in missing.items():
        gone = set(lacking)
        for layer in layers:
            collection = found.get(layer)
            known = [
                grids[layer][place] if collection is None or key in gone else collection.grid(key)
                for place, key in enumerate(keys)
            ]
            forecasts[layer] = LayerForecast(
                network.taps[layer].channels,
                tuple(known),
                len(keys) - sum(key in gone for key in keys),
                new[layer],
                0 if collection is None else collection.bytes,
                None if collection is None else read_speed(collection),
            )
    return NetworkForecast(
        network,
        {layer: forecasts[layer] for layer in network.layers},
        len(passes),
        memory,
        not would_download(network) or bool(found),
    )


def would_download(network: Network) -> bool:
    """Asking for the weights may fetch them from somewhere."""
    return str(getattr(network.parameters, "weights", "")) == "pretrained"


def held_collections(network: Network, experiment: Experiment, store: Store) -> dict[str, Collection]:
    """Layer -> its collection in the store, for the layers that have one.

    Pretrained weights are not asked for, since that may fetch them: their digest is taken from what the store holds
    of the same network, layer and preprocessing (the one used last).
    """
    request = request_of(network, experiment)
    if not would_download(network):
        keys = request.keys(network.backbone.weights())
        return {layer: store.collection(key) for layer, key in keys.items() if store.collection(key).images}
    found: dict[str, Collection] = {}
    infos = sorted(store.list(), key=lambda info: (info.last_used, info.digest))
    for layer in network.layers:
        wanted = _unweighted(_key(request.adapter, request.version, network, layer, request.tile).as_json())
        for info in infos:
            if _unweighted(info.key) == wanted and str(info.about.get("weights", "")).startswith("pretrained"):
                found[layer] = store.collection(CollectionKey(**info.key))
    return found


def _key(adapter: str, version: str, network: Network, layer: str, tile: Mapping[str, int] | None) -> CollectionKey:
    return CollectionKey("", network.backbone.preprocessing, layer, network.dtype, adapter, version, tile)


def _unweighted(key: Mapping[str, object]) -> object:
    return json.loads(json.dumps({**key, "weights": ""}))


def native_grids(network: Network, cuts: Sequence[Cut]) -> dict[str, list[Grid]]:
    """Layer -> the grid that each cut's map will have, from the shapes of a black image of each size."""
    by_size: dict[tuple[int, int], dict[str, Grid]] = {}
    grids: dict[str, list[Grid]] = {layer: [] for layer in network.layers}
    for cut in cuts:
        size = cut.tile.window.height, cut.tile.window.width
        if size not in by_size:
            geometry = network.backbone.prepare(np.zeros((*size, 3), np.uint8)).geometry
            by_size[size] = {layer: geometry.grid(*map_shape(tap, geometry)) for layer, tap in network.taps.items()}
        for layer, grid in by_size[size].items():
            grids[layer].append(cut.tile.place(grid))
    return grids


def require_room(store: Store, forecasts: Iterable[NetworkForecast]) -> None:
    """Refuses a run whose new features would pass the store's budget.

    Raises:
        ProbekitError: with the figures and what would help.
    """
    layers = [layer for forecast in forecasts for layer in forecast.layers.values()]
    store.require_room(sum(layer.new_bytes for layer in layers))
