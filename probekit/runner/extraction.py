"""Features of a run's networks: each network's missing images through it once, into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probekit.api import Issue, Prepared, ProbekitError, WeightsInfo
from probekit.features.cost import Cost, count_flops, read_cost
from probekit.features.extract import Extraction, Item, Request, extract
from probekit.features.speed import note_speed
from probekit.features.store import Collection, Store
from probekit.plan.networks import Network
from probekit.runner.dataset import Dataset
from probekit.runner.progress import Progress
from probekit.spec.models import Experiment


def request_of(network: Network, experiment: Experiment, workers: int = 2) -> Request:
    """What is asked of the extraction for one network."""
    return Request(
        name=network.name,
        backbone=network.backbone,
        layers=network.layers,
        adapter=network.plugin.qualified,
        version=network.plugin.descriptor.version,
        device=network.device,
        dtype=network.dtype,
        batch_size=network.batch_size,
        tile={"size": experiment.tile.size, "overlap": experiment.tile.overlap} if experiment.tile else None,
        workers=workers,
    )


def items_of(dataset: Dataset, places: Iterable[int]) -> list[Item]:
    """What is passed through a network for some cuts of a dataset."""
    opener: Callable[..., NDArray[np.uint8]] = dataset.source.open
    cuts = [dataset.cuts[place] for place in places]
    return [
        Item(cut.key, cut.image.id, partial(opener, cut.image), None if _whole(cut.key) else cut.tile) for cut in cuts
    ]


def extract_network(
    network: Network, dataset: Dataset, experiment: Experiment, store: Store, threads: int, progress: Progress
) -> tuple[Extraction, WeightsInfo]:
    """Makes the store hold every cut at every layer of a network.

    Raises:
        ProbekitError: NaN or infinity in features, no memory left, a photograph that could be decoded a minute ago.
    """
    items = items_of(dataset, range(len(dataset.cuts)))
    progress.start("Features", f"{network.name} {', '.join(network.layers)}", len(items), "images")
    shown = 0

    def advance(done: int, _total: int, _seconds: float) -> None:
        nonlocal shown
        progress.advance(done - shown)
        shown = done

    extraction = extract(
        request_of(network, experiment, max(1, threads)),
        items,
        store,
        on_progress=advance,
        on_wait=progress.say,
        measured=stand_in(network, dataset),
    )
    if extraction.unreadable:
        raise ProbekitError(
            [Issue(name, f"cannot be decoded any more: {why}") for name, why in extraction.unreadable.items()]
        )
    if extraction.computed:
        for collection in extraction.collections.values():
            note_speed(collection, extraction.seconds, extraction.computed, network.device, threads)
    size = sum(collection.bytes for collection in extraction.collections.values())
    held = f"{size / 1e9:.2f} GB"
    if extraction.computed == 0:
        progress.advance(len(items))
        progress.finish("from the store")
    elif extraction.computed < len(items):
        progress.finish(f"{len(items) - extraction.computed} from the store   {held}")
    else:
        progress.finish(held)
    return extraction, network.backbone.weights()


def stand_in(network: Network, dataset: Dataset) -> Prepared:
    """Noise of the size of the run's first image (its first tile), prepared: costs depend on nothing else of it."""
    window = dataset.cuts[0].tile.window
    noise = np.random.default_rng(0).integers(0, 256, (window.height, window.width, 3), np.uint8)
    return network.backbone.prepare(noise)


def layer_costs(
    networks: Iterable[Network],
    dataset: Dataset,
    experiment: Experiment,
    collections: Mapping[tuple[str, str], Collection],
    threads: int,
) -> dict[tuple[str, str], Cost]:
    """What it takes to come to every layer, for the run's first image: (backbone, layer) -> cost.

    Operations are counted on the meta device, so they do not depend on what the store held; of an adapter that cannot
    do so they are what was noted when its features were extracted. Seconds were measured then, and count where the
    device and the threads were those of this run.

    Args:
        collections: (backbone, layer) -> its features.
        threads: of this run.

    Returns:
        the layers of each network in the order of depth that its adapter declares.
    """
    costs = {}
    for network in networks:
        prepared = stand_in(network, dataset)
        flops: Mapping[str, int] = {}
        with suppress(Exception):  # whatever an adapter raises means that it cannot
            another = network.plugin.load()(network.parameters, seed=experiment.seed)
            flops = count_flops(another, network.layers, prepared)
        declared = {layer: place for place, layer in enumerate(network.backbone.layers)}
        for layer in sorted(network.layers, key=lambda layer: declared.get(layer, len(declared))):
            noted = read_cost(collections[network.name, layer], prepared)
            counted = flops.get(layer, noted.flops if noted else 0)
            here = noted is not None and (noted.device, noted.threads) == (network.device, threads)
            costs[network.name, layer] = Cost(counted or None, noted.seconds if noted and here else None)
    return costs


def _whole(key: str) -> bool:
    return "@" not in key
