"""What the comparisons of a run will take, before any forward pass: pairs of layers, bytes, ablation's passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from probekit.compare import chance
from probekit.compare.cross_products import streamed_bytes
from probekit.runner.comparisons import exemplars
from probekit.runner.comparisons.ablation import ablated_places
from probekit.runner.dataset import Dataset
from probekit.runner.predict import NetworkForecast
from probekit.runner.shared_cells import DRAWN
from probekit.sampling.splits import Fold
from probekit.spec.models import Experiment


@dataclass(frozen=True)
class ComparisonForecast:
    """All comparisons.

    Attributes:
        pairs: two layers of two models, either way round counted once.
        passes: network -> forward passes of its ablation, at most: layers that nothing follows from are left out.
        memory: bytes that are held at once, at most.
    """

    pairs: int
    passes: Mapping[str, int]
    memory: int


def forecast_comparisons(
    experiment: Experiment, dataset: Dataset, folds: Sequence[Fold], networks: Sequence[NetworkForecast]
) -> ComparisonForecast:
    """Predicts the comparisons of a run.

    Args:
        folds: of the first repeat.
        networks: of the run, controls among them.
    """
    models = [one for one in networks if not one.network.control]
    widths = [(one.network.name, layer.channels) for one in models for layer in one.layers.values()]
    pairs = [(a, b) for a, b in combinations(range(len(widths)), 2) if widths[a][0] != widths[b][0]]
    cells, draws = int(dataset.offsets[-1]), experiment.comparison.draws
    matching = 4 * min(DRAWN, cells) * sum(width for _, width in widths)  # the drawn cells, of all layers
    if pairs and draws:
        channels = [width for _, width in widths]
        matching += streamed_bytes(channels, pairs)
        widest = max(channels)
        matching += chance.BYTES + 40 * widest**2 + 64 * (1 + draws) * widest
    shown = min(exemplars.CHUNK_BYTES, 4 * cells * max((width for _, width in widths), default=0))
    passes = {}
    if experiment.ablation.draws:
        images = len(ablated_places(dataset, folds, experiment))
        for one in models:
            if (edited := len(one.layers) - 1) > 0:
                passes[one.network.name] = edited * images * len(dataset.concepts) * (1 + experiment.ablation.draws)
    return ComparisonForecast(len(pairs), passes, max(matching, shown))
