"""Folds of groups, stratified by the positives of all concepts at once.

One split serves all concepts, backbones and layers, so that they share rows and are compared on the same test cells.
A group is never cut. Parts are balanced over: each concept's positive cells, the groups that hold any, all cells, all
groups. What random drawing would leave to chance (a part without a positive of a rare concept) is avoided wherever the
groups allow it, and reported by :func:`missing_classes` where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Issue, ProbekitError
from probekit.sampling.seeds import generator

_STARTS = 16
"""So many random starts are tried until no part lacks a class that it could have."""

_EMPTY = 1e3
"""The cost of a part without a class: more than any imbalance."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Which groups a fold trains on, chooses on and is tested on: sorted indices, disjoint, together all groups."""

    index: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def group_kfold(
    groups: Sequence[str],
    positives: NDArray[np.integer[Any]],
    negatives: NDArray[np.integer[Any]],
    *,
    folds: int,
    validation: float,
    seed: int,
    repeat: int = 0,
) -> tuple[Fold, ...]:
    """Splits groups into ``folds`` test parts; of each fold's other groups a share is set aside as inner validation.

    The result depends on the ids, not on their order.

    Args:
        groups: ids, all different.
        positives, negatives: cells of each class by group and concept, (n groups, n concepts).
        folds: at least 2.
        validation: share of each fold's training groups, in (0, 1).
        seed, repeat: each repeat is another split.

    Raises:
        ProbekitError: fewer groups than folds, or too few to train, to choose and to test.
    """
    order, counts = _canonical(groups, positives, negatives)
    if len(groups) < max(folds, 3):
        raise ProbekitError(
            f"split.folds: {folds} folds need at least {max(folds, 3)} groups, the images are in {len(groups)}. "
            "Fewer folds, or another group column"
        )
    parts = _partition(counts, [1 / folds] * folds, seed, f"folds {repeat}")
    return tuple(_fold(i, parts == i, order, counts, validation, seed, repeat) for i in range(folds))


def holdout(
    groups: Sequence[str],
    positives: NDArray[np.integer[Any]],
    negatives: NDArray[np.integer[Any]],
    *,
    test: float,
    validation: float,
    seed: int,
    repeat: int = 0,
) -> tuple[Fold]:
    """One fold: a share ``test`` of all groups is held out, of the others a share ``validation`` is inner validation.

    Arguments, order and errors as for :func:`group_kfold`.
    """
    order, counts = _canonical(groups, positives, negatives)
    if len(groups) < 3:
        raise ProbekitError(
            f"split: a hold-out needs at least 3 groups, the images are in {len(groups)}. Another group column"
        )
    parts = _partition(counts, [1 - test, test], seed, f"holdout {repeat}")
    return (_fold(0, parts == 1, order, counts, validation, seed, repeat),)


def missing_classes(
    folds: Sequence[Fold],
    positives: NDArray[np.integer[Any]],
    negatives: NDArray[np.integer[Any]],
    concepts: Sequence[str],
    *,
    where: str,
    groups: str = "groups",
) -> list[Issue]:
    """One issue for each concept that lacks a class in some part of some fold; empty where all is well.

    Args:
        folds: of one split.
        positives, negatives: (n groups, n concepts), in the order of the ids that the split was made of.
        concepts: names.
        where: what the user would open to mend it.
        groups: what the spec calls a group, plural.
    """
    issues = []
    for column, concept in enumerate(concepts):
        for word, counts in (("positive", positives), ("negative", negatives)):
            holds = counts[:, column] > 0
            lacking = [
                (fold, part)
                for fold in folds
                for part in ("train", "validation", "test")
                if not holds[getattr(fold, part)].any()
            ]
            if lacking:
                issues.append(Issue(where, _describe(lacking, len(folds), word, concept, int(holds.sum()), groups)))
    return issues


def _describe(
    lacking: Sequence[tuple[Fold, str]], n_folds: int, word: str, concept: str, holding: int, groups: str
) -> str:
    fold, part = lacking[0]
    part = {"train": "training"}.get(part, part)
    more = f" (and in {len(lacking) - 1} more parts)" if len(lacking) > 2 else ""
    more = " (and in another part)" if len(lacking) == 2 else more
    which = f"fold {fold.index + 1} of {n_folds}" if n_folds > 1 else "the split"
    held = {0: f"no {groups} hold any", 1: f"1 of the {groups} holds all of them"}.get(
        holding, f"{holding} {groups} hold all of them"
    )
    # The largest test part holds ceil(holding / folds) of them; two must remain, to train and to choose.
    fewer = [k for k in range(2, n_folds) if k <= holding and holding - -(-holding // k) >= 2]
    if fewer:
        remedy = f"Fewer folds (split.folds: {fewer[-1]}), or another group column"
    else:
        remedy = "Another group column, more images, or leave this concept out"
    return f"{which} has no {word} '{concept}' in {part}{more}: {held}. {remedy}"


def _canonical(
    groups: Sequence[str], positives: NDArray[np.integer[Any]], negatives: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices that sort the ids, and the counts in that order, (n groups, 2, n concepts)."""
    if len(set(groups)) != len(groups):
        raise ValueError("group ids must differ")
    order = np.array(sorted(range(len(groups)), key=lambda i: groups[i]), dtype=np.int64)
    return order, np.stack([positives, negatives], axis=1).astype(np.float64)[order]


def _fold(
    index: int,
    test: NDArray[np.bool_],
    order: NDArray[np.int64],
    counts: NDArray[np.float64],
    validation: float,
    seed: int,
    repeat: int,
) -> Fold:
    """Sets inner validation aside and translates sorted places to the caller's indices."""
    rest = np.flatnonzero(~test)
    inner = _partition(counts[rest], [1 - validation, validation], seed, f"validation {repeat} {index}")
    return Fold(
        index, np.sort(order[rest[inner == 0]]), np.sort(order[rest[inner == 1]]), np.sort(order[np.flatnonzero(test)])
    )


def _partition(counts: NDArray[np.float64], fractions: Sequence[float], seed: int, purpose: str) -> NDArray[np.int64]:
    """Assigns each group to a part, shape (n groups,), so that every part gets about its fraction of everything.

    Args:
        counts: cells, (n groups, 2, n concepts): positives and negatives.
        fractions: of the parts, summing to 1.
    """
    rng = generator(seed, "split", purpose)
    quantities, holds = _quantities(counts)
    best, best_cost = np.zeros(len(counts), dtype=np.int64), np.inf
    for _ in range(_STARTS):
        parts, cost = _improve(quantities, holds, np.asarray(fractions), rng)
        if cost < best_cost - 1e-12:
            best, best_cost = parts, cost
        if best_cost < _EMPTY:
            break
    return best


def _quantities(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is balanced, as shares of its total (n groups, quantities); and who holds each class (n groups, classes)."""
    n_groups, _, n_concepts = counts.shape
    holds = (counts > 0).astype(np.float64)
    balanced = [
        (counts[:, 0], 1 / max(n_concepts, 1)),  # positive cells of each concept
        (holds[:, 0], 1 / max(n_concepts, 1)),  # groups that hold any
        (counts.sum(axis=1).max(axis=1, keepdims=True, initial=0.0), 1.0),  # cells
        (np.ones((n_groups, 1)), 1.0),  # groups
    ]
    quantities = []
    for values, weight in balanced:
        total = values.sum(axis=0)
        quantities.append(np.sqrt(weight) * values / np.where(total > 0, total, 1.0))
    return np.concatenate(quantities, axis=1), holds.reshape(n_groups, -1)


def _improve(
    quantities: NDArray[np.float64],
    holds: NDArray[np.float64],
    fractions: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], float]:
    """One random start: the groups that matter most first, each to where it costs least, then moves that lower the cost
    until none does.

    The cost is chi-square-like, ``sum (share - fraction)^2 / fraction`` over parts and quantities, plus a large one for
    each class that a part lacks.
    """
    n_groups, n_parts = len(quantities), len(fractions)
    target = fractions[:, None] * quantities.sum(axis=0)
    have, held = np.zeros_like(target), np.zeros((n_parts, holds.shape[1]))
    counts = np.zeros(n_parts)
    parts = np.full(n_groups, -1, dtype=np.int64)

    def costs(group: int) -> NDArray[np.float64]:
        """What adding the group to each part changes, shape (parts,)."""
        add = quantities[group]
        change = ((2 * (have - target) + add) * add).sum(axis=1) / fractions
        cured = ((held == 0) & (holds[group] > 0)).sum(axis=1) + (counts == 0) * (holds.shape[1] + 1)
        result: NDArray[np.float64] = change - _EMPTY * cured
        return result

    def place(group: int, part: int, sign: int) -> None:
        have[part] += sign * quantities[group]
        held[part] += sign * holds[group]
        counts[part] += sign
        parts[group] = part if sign > 0 else -1

    # A random factor makes repeats differ; without it the order, and so nearly the split, would be always the same.
    weight = quantities.max(axis=1) * np.exp(rng.normal(0.0, 0.5, n_groups))
    for group in np.argsort(-weight, kind="stable"):
        cost = costs(int(group))
        ties = np.flatnonzero(cost <= cost.min() + 1e-12)
        place(int(group), int(rng.choice(ties)), 1)
    for _ in range(20):
        moved = False
        for group in rng.permutation(n_groups):
            before = int(parts[group])
            place(int(group), before, -1)
            cost = costs(int(group))
            after = int(cost.argmin())
            better = cost[after] < cost[before] - 1e-12
            place(int(group), after if better else before, 1)
            moved |= bool(better)
        if not moved:
            break
    imbalance = (((have - target) ** 2).sum(axis=1) / fractions).sum()
    empty = (held == 0).sum() + (counts == 0).sum() * (holds.shape[1] + 1)
    return parts, float(imbalance + _EMPTY * empty)
