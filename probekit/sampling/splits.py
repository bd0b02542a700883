"""Folds of groups, stratified by the positives of all concepts at once.

One split serves all concepts, backbones and layers, so that they share rows and are compared on the same test cells.
A group is never cut. Parts are balanced over: each concept's positive cells, the groups that hold any, all cells, all
groups. What random drawing would leave to chance (a part without a positive of a rare concept) is avoided wherever the
groups allow it, and reported by :func:`missing_classes` where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probekit.api import Issue, ProbekitError
from probekit.sampling.seeds import generator

_STARTS = 16
"""So many random starts are tried until no part lacks a class that it could have."""

_EMPTY = 1e3
"""The cost of a part without a class: more than any imbalance."""


Part = Literal["train", "validation", "test"]

_PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Fold:
    """Which groups a fold trains on, chooses on and is tested on: sorted indices, disjoint, together all groups.

    Attributes:
        left_out: of the run's cuts (images and tiles), those that are in no part though their group is in training or
            in validation: sorted indices (see :func:`probekit.sampling.blocks.leave_out`).
    """

    index: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def cuts(self, part: Part, groups: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The cuts of a part, sorted indices.

        Args:
            part: which.
            groups: the group of every cut of the run.
        """
        of_groups = np.flatnonzero(np.isin(groups, getattr(self, part)))
        return of_groups[~np.isin(of_groups, self.left_out)]


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


def has_both(
    fold: Fold,
    positives: NDArray[np.integer[Any]],
    negatives: NDArray[np.integer[Any]],
    *,
    cuts: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.bool_]:
    """Of which concepts both classes are in every part of a fold, (n concepts,). Arguments as for
    :func:`missing_classes`."""
    both = np.ones(positives.shape[1], dtype=bool)
    for part in _PARTS:
        rows = getattr(fold, part) if cuts is None else fold.cuts(part, cuts)
        both &= (positives[rows] > 0).any(axis=0) & (negatives[rows] > 0).any(axis=0)
    return both


@dataclass(frozen=True, eq=False)
class OuterFolds:
    """Folds that each test one outer group on a model of all others.

    Attributes:
        names: the outer group that each fold tests.
        folds: in the order of ``names``, sorted.
        scored: whether a concept can be scored in a fold: both classes are in each of its parts, (folds, concepts).
        skipped: why an outer group has no fold, a sentence each.
    """

    names: tuple[str, ...]
    folds: tuple[Fold, ...]
    scored: NDArray[np.bool_]
    skipped: tuple[str, ...]


def leave_one_outer_out(
    groups: Sequence[str],
    outer: Sequence[str],
    positives: NDArray[np.integer[Any]],
    negatives: NDArray[np.integer[Any]],
    *,
    validation: float,
    seed: int,
    repeat: int = 0,
) -> OuterFolds:
    """A fold for each outer group: its groups are the test, of all others a share is inner validation.

    An outer group that no concept can be scored on has no fold. Which groups are validation depends on the name of the
    outer group that is left out, not on what other outer groups there are to leave out, nor on any order.

    Args:
        groups, outer: ids, all different, and the outer group of each.
        positives, negatives, validation, seed, repeat: as for :func:`group_kfold`.

    Raises:
        ProbekitError: fewer than two outer groups.
    """
    order, counts = _canonical(groups, positives, negatives)
    names = np.array([outer[i] for i in order])
    values = sorted(set(outer))
    if len(values) < 2:
        raise ProbekitError(f"one outer group ({', '.join(values)}) cannot be left out: nothing would be left")
    folds: list[Fold] = []
    scored, tested, skipped = [], [], []
    for value in values:
        test, n_others = names == value, int((names != value).sum())
        if n_others < 2:
            skipped.append(f"{value} was not left out: all others are one group, too few to train and to choose")
            continue
        fold = _fold(len(folds), test, order, counts, validation, seed, repeat, f"outer {repeat} {value}")
        both = has_both(fold, positives, negatives)
        if not both.any():
            skipped.append(f"{value} was not left out: no concept has both classes in it and in all others")
            continue
        folds.append(fold)
        scored.append(both)
        tested.append(value)
    result = np.array(scored, dtype=bool).reshape(len(folds), positives.shape[1])
    return OuterFolds(tuple(tested), tuple(folds), result, tuple(skipped))


def missing_classes(
    folds: Sequence[Fold],
    positives: NDArray[np.integer[Any]],
    negatives: NDArray[np.integer[Any]],
    concepts: Sequence[str],
    *,
    where: str,
    groups: str = "groups",
    cuts: NDArray[np.integer[Any]] | None = None,
) -> list[Issue]:
    """One issue for each concept that lacks a class in some part of some fold; empty where all is well.

    Args:
        folds: of one split.
        positives, negatives: (n groups, n concepts), in the order of the ids that the split was made of; with
            ``cuts``, (n cuts, n concepts).
        concepts: names.
        where: what the user would open to mend it.
        groups: what the spec calls a group, plural.
        cuts: the group of every cut of the run: needed to see what a fold leaves out.
    """
    of_rows = np.arange(len(positives)) if cuts is None else cuts
    rows = [
        (fold, part, getattr(fold, part) if cuts is None else fold.cuts(part, cuts))
        for fold in folds
        for part in _PARTS
    ]
    issues = []
    for column, concept in enumerate(concepts):
        for word, counts in (("positive", positives), ("negative", negatives)):
            holds = counts[:, column] > 0
            lacking = [(fold, part) for fold, part, of in rows if not holds[of].any()]
            if lacking:
                holding = np.unique(of_rows[holds])
                issues.append(Issue(where, _describe(lacking, len(folds), word, concept, holding, groups)))
    return issues


def _describe(
    lacking: Sequence[tuple[Fold, str]],
    n_folds: int,
    word: str,
    concept: str,
    holders: NDArray[np.integer[Any]],
    groups: str,
) -> str:
    fold, part = lacking[0]
    near = [(fold, part) for fold, part in lacking if np.isin(holders, getattr(fold, part)).any()]
    holding = len(holders)
    part = {"train": "training"}.get(part, part)
    more = f" (and in {len(lacking) - 1} more parts)" if len(lacking) > 2 else ""
    more = " (and in another part)" if len(lacking) == 2 else more
    which = f"fold {fold.index + 1} of {n_folds}" if n_folds > 1 else "the split"
    held = {0: f"no {groups} hold any", 1: f"1 of the {groups} holds all of them"}.get(
        holding, f"{holding} {groups} hold all of them"
    )
    if len(near) == len(lacking):
        return (
            f"{which} has no {word} '{concept}' in {part}{more} that does not lie too near to another part, or in an "
            "image whose group another part holds: a smaller split.buffer, larger blocks, or fewer folds"
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
    purpose: str | None = None,
) -> Fold:
    """Sets inner validation aside and translates sorted places to the caller's indices."""
    rest = np.flatnonzero(~test)
    inner = _partition(counts[rest], [1 - validation, validation], seed, purpose or f"validation {repeat} {index}")
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
