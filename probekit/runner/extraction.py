"""Features of a run's networks: each network's missing images through it once, into the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probekit.api import Issue, ProbekitError, WeightsInfo
from probekit.features.extract import Extraction, Item, Request, extract
from probekit.features.speed import note_speed
from probekit.features.store import Store
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


def extract_network(
    network: Network, dataset: Dataset, experiment: Experiment, store: Store, threads: int, progress: Progress
) -> tuple[Extraction, WeightsInfo]:
    """Makes the store hold every cut at every layer of a network.

    Raises:
        ProbekitError: NaN or infinity in features, no memory left, a photograph that could be decoded a minute ago.
    """
    opener: Callable[..., NDArray[np.uint8]] = dataset.source.open
    items = [
        Item(cut.key, cut.image.id, partial(opener, cut.image), None if _whole(cut.key) else cut.tile)
        for cut in dataset.cuts
    ]
    progress.start("Features", f"{network.name} {', '.join(network.layers)}", len(items), "images")
    shown = 0

    def advance(done: int, _total: int, _seconds: float) -> None:
        nonlocal shown
        progress.advance(done - shown)
        shown = done

    extraction = extract(
        request_of(network, experiment, max(1, threads)), items, store, on_progress=advance, on_wait=progress.say
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


def _whole(key: str) -> bool:
    return "@" not in key
