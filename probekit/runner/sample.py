"""A few images of a run, spread over groups and concepts, for a first look."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from probekit.api import POSITIVE
from probekit.runner.dataset import Dataset
from probekit.sampling.limit import choose_images


def sample_images(dataset: Dataset, limit: int, seed: int, groups: Collection[int] | None = None) -> Dataset:
    """The same dataset with at most ``limit`` images, favouring groups with positives of every concept.

    Args:
        groups: those to draw from; all unless given.
    """
    images = [
        (image, places)
        for image, places in dataset.by_image()
        if groups is None or all(dataset.cuts[place].group in groups for place in places)
    ]
    positives = np.array(
        [
            [sum(int((of[place].values == POSITIVE).sum()) for place in places) for of in dataset.labels]
            for _, places in images
        ]
    )
    chosen = choose_images(
        [image.id for image, _ in images],
        [image.group for image, _ in images],
        positives.reshape(len(images), len(dataset.concepts)),
        limit=limit,
        seed=seed,
    )
    kept = [place for i in chosen for place in images[i][1]]
    return replace(
        dataset,
        cuts=tuple(dataset.cuts[place] for place in kept),
        labels=tuple(tuple(of[place] for place in kept) for of in dataset.labels),
    )
