"""Rows of ``subspaces``: what the selected channels of one layer hold of another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import VOID
from probekit.compare.cka import unbiased_cka
from probekit.compare.subspaces import explained_variance, group_folds, standardised
from probekit.runner.scoring import ReferenceCells

Row = dict[str, Any]

Layer = tuple[str, str]
"""(backbone, layer)."""


def subspace_rows(
    features: Mapping[Layer, NDArray[np.float32]],
    selected: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]],
    cells: ReferenceCells,
    concepts: Sequence[str],
    groups: Sequence[str],
    seed: int,
) -> Iterator[Row]:
    """Every ordered pair of layers of two backbones, by concept, on the cells that are not void for it.

    Holds the selected channels of all layers for one concept at a time.

    Args:
        features: of the layers that are compared, on the same reference cells, (cells, channels) each.
        selected: (backbone, layer, concept) -> rows of ``channels`` of its final fit.
        cells: labels (concepts, cells) and group (cells,) of these cells.
        concepts: names, in the order of ``cells.labels``.
        groups: names.
        seed: of the run.
    """
    fold_of = group_folds(groups, seed)
    for concept, labels in zip(concepts, cells.labels, strict=True):
        kept = np.flatnonzero(labels != VOID)
        group = cells.group[kept]
        chosen = {
            layer: values[
                np.ix_(kept, np.array([row["channel"] for row in selected.get((*layer, concept), ())], dtype=int))
            ]
            for layer, values in features.items()
        }
        alike: dict[frozenset[Layer], float] = {}
        for a, b in permutations(features, 2):
            if a[0] == b[0]:
                continue
            pair = frozenset((a, b))
            if pair not in alike:
                alike[pair] = unbiased_cka(standardised(chosen[a]), standardised(chosen[b]))
            found = explained_variance(chosen[a], chosen[b], group, fold_of)
            words = "channel of a does" if found.constant == 1 else "channels of a do"
            constant = f"{found.constant} {words} not vary" if found.constant else None
            yield {
                **dict(zip(("backbone_a", "layer_a", "backbone_b", "layer_b"), (*a, *b), strict=True)),
                "concept": concept,
                "channels_a": chosen[a].shape[1],
                "channels_b": chosen[b].shape[1],
                "r2": _number(found.r2.value),
                "lo": found.r2.lo,
                "hi": found.r2.hi,
                "cka": _number(alike[pair]),
                "cells": len(kept),
                "groups": len(np.unique(group)),
                "reason": "; ".join(part for part in (constant, found.r2.reason) if part) or None,
            }


def _number(value: float) -> float | None:
    """NaN is null: a number that is not defined."""
    return None if np.isnan(value) else float(value)
