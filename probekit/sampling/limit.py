"""Which images to keep where a spec limits their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.sampling.seeds import hash_keys


def choose_images(
    ids: Sequence[str],
    groups: Sequence[str],
    positives: NDArray[np.integer[Any]],
    *,
    limit: int,
    seed: int,
) -> NDArray[np.int64]:
    """Chooses images that keep as many groups with a positive of every concept as possible, then spreads over groups.

    First, image by image, the one that adds most: a concept's positive in a group that had none yet, the concepts with
    the fewest such groups counting most. When every group has one of each concept that it can have, the rest is taken
    in turn from all groups. So groups with positives are favoured: prevalence is that of the images kept, not of all.

    The choice depends on the ids, not on their order.

    Args:
        ids: of the images, all different.
        groups: of each image.
        positives: cells (or pixels) by image and concept, (n images, n concepts).
        limit: how many to keep.
        seed: of the run.

    Returns:
        sorted indices, at most ``limit`` of them.
    """
    n = len(ids)
    if limit >= n:
        return np.arange(n, dtype=np.int64)
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    image_key = hash_keys(seed, "limit", ids)
    group_key = hash_keys(seed, "limit groups", groups)
    holds = np.asarray(positives) > 0
    chosen = np.zeros(n, dtype=bool)
    taken = np.zeros(int(group.max(initial=-1)) + 1, dtype=np.int64)
    missing = np.zeros((len(taken), holds.shape[1]), dtype=bool)  # could be covered, and is not yet
    np.logical_or.at(missing, group, holds)
    covered = np.zeros(holds.shape[1], dtype=np.int64)
    while int(chosen.sum()) < limit and missing.any():
        gain = (holds & missing[group]) @ (1.0 / (1.0 + covered))
        gain[chosen] = 0.0
        best = _first(gain, taken[group], group_key, image_key)
        new = holds[best] & missing[group[best]]
        covered += new
        missing[group[best]] &= ~new
        chosen[best] = True
        taken[group[best]] += 1
    rest = np.flatnonzero(~chosen)
    rest = rest[np.lexsort((image_key[rest], group[rest]))]
    first = np.searchsorted(group[rest], group[rest], side="left")
    turn = taken[group[rest]] + np.arange(len(rest)) - first
    in_turn = rest[np.lexsort((image_key[rest], group_key[rest], turn))]
    chosen[in_turn[: limit - int(chosen.sum())]] = True
    return np.flatnonzero(chosen).astype(np.int64)


def _first(
    gain: NDArray[np.float64], taken: NDArray[np.int64], group_key: NDArray[np.uint64], image_key: NDArray[np.uint64]
) -> int:
    """The image of most gain; of those, from the group with the fewest taken; then by the seeded keys."""
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return int(best[np.lexsort((image_key[best], group_key[best], taken[best]))[0]])
