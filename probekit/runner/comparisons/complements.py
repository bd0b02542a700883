"""Rows of ``complements``: what one model's selected channels add to another's.

A probe on a's channels is held against one on a's and b's, both fitted on the same cells of the reference grid (the
models' own grids differ) and scored where neither was fitted or chosen. A linear scorer commutes with resampling: a
joint score map is the sum of a's part and b's part, each read from its own grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import FULL, POSITIVE, VOID, Fit, ProbekitError, Problem, Scorer
from probekit.compare.standing import differences
from probekit.evaluate.choose import best_fit
from probekit.evaluate.intervals import Replicates
from probekit.evaluate.paired import ranked_pair, swap_test
from probekit.evaluate.pooling import margin_scale
from probekit.evaluate.scorer import evaluate_scorers
from probekit.evaluate.scores import average_precision
from probekit.features.rows import MemoryRows
from probekit.features.store import Collection
from probekit.runner.analyses.nulls import ranked
from probekit.runner.dataset import Dataset
from probekit.runner.job import ProbeEntry, Progress, refuse_test
from probekit.runner.replicates import precision_replicates
from probekit.runner.scoring import ReferenceCells, score_maps
from probekit.runner.shared_cells import reference_features
from probekit.sampling.rows import draw_rows, fold_weights, training_moments
from probekit.sampling.seeds import derive_seed, generator
from probekit.sampling.splits import Fold

Row = dict[str, Any]

Layer = tuple[str, str]
"""(backbone, layer)."""

Selected = Mapping[tuple[str, int], NDArray[np.int64]]
"""(concept, fold) -> the channels that the fold selected."""


@dataclass(frozen=True)
class Common:
    """What all pairs have in common.

    Attributes:
        cells: that are scored.
        folds: of the first repeat.
        entry: the probe that tables report; it has a rung ``full``.
        per_class: cells of each class that are drawn for training, at most.
        seed: of the run.
    """

    dataset: Dataset
    cells: ReferenceCells
    folds: Sequence[Fold]
    entry: ProbeEntry
    per_class: int
    seed: int


def complement_rows(
    common: Common, collections: Mapping[Layer, Collection], selected: Mapping[Layer, Selected], advance: Progress
) -> Iterator[Row]:
    """Every ordered pair of layers of two backbones, by concept.

    Holds the selected channels of two layers at the drawn cells, and one score of all cells a layer and a pair.

    Args:
        collections: of the layers that are compared (no controls).
        selected: of each of them.
        advance: told what is being done.
    """
    if len({backbone for backbone, _ in collections}) < 2:
        return
    for concept, name in enumerate(common.dataset.concepts):
        question = _Question(common, concept)
        alone: dict[Layer, _Answer] = {}
        joint: dict[tuple[Layer, Layer], _Answer] = {}
        for place, (a, collection) in enumerate(collections.items()):
            advance(0, f"{name} · {' '.join(a)}")
            one = question.side(a, collection, selected[a])
            alone[a] = question.ask([one])
            for b in [later for later in list(collections)[place + 1 :] if later[0] != a[0]]:
                advance(0, f"{name} · {' '.join(a)} and {' '.join(b)}")
                other = question.side(b, collections[b], selected[b])
                joint[a, b] = joint[b, a] = question.ask([one, other])
        pairs = [pair for pair in permutations(collections, 2) if pair in joint]
        yield from _rows(question, pairs, selected, alone, joint)


def _rows(
    question: _Question,
    pairs: Sequence[tuple[Layer, Layer]],
    selected: Mapping[Layer, Selected],
    alone: Mapping[Layer, _Answer],
    joint: Mapping[tuple[Layer, Layer], _Answer],
) -> Iterator[Row]:
    """The rows of a concept: the p-values of its pairs are adjusted together."""
    common = question.common
    positives = np.bincount(question.group[question.y == 1], minlength=question.n_groups)
    scores: list[Replicates] = []
    p: dict[tuple[int, int], float] = {}
    places: dict[tuple[Layer, Layer], int] = {}
    for pair in pairs:
        one, both = alone[pair[0]], joint[pair]
        if one.reason is None and both.reason is None:
            places[pair] = len(p)
            p[len(scores), len(scores) + 1] = question.swap(both, one)
            scores += [both.score, one.score]
    found = differences(scores, p, positives)
    for a, b in pairs:
        width_a, width_b = (
            float(np.median([len(selected[layer][question.name, fold.index]) for fold in common.folds]))
            for layer in (a, b)
        )
        row = {
            **dict(zip(("backbone_a", "layer_a", "backbone_b", "layer_b"), (*a, *b), strict=True)),
            "concept": question.name,
            "probe": common.entry.name,
            "channels_a": width_a,
            "channels_b": width_b,
            "reason": alone[a].reason or joint[a, b].reason,
        }
        if (a, b) in places:
            of = found[places[a, b]]
            row |= {
                "alone": alone[a].score.value,
                "joint": joint[a, b].score.value,
                "gain": of.difference.value,
                "lo": of.difference.lo,
                "hi": of.difference.hi,
                "p": of.p,
                "p_holm": of.p_holm,
                "established": of.established and of.difference.value > 0 if of.p is not None else None,
                "reason": of.difference.reason,
            }
        yield row


@dataclass(frozen=True, eq=False)
class _Side:
    """One layer: where its maps are, what each fold selected, and these channels at the drawn cells."""

    layer: Layer
    collection: Collection
    selected: Mapping[int, NDArray[np.int64]]
    channels: NDArray[np.int64]
    features: NDArray[np.float32]

    def columns(self, fold: Fold) -> NDArray[np.float32]:
        """The channels that a fold selected, (drawn, k)."""
        return self.features[:, np.searchsorted(self.channels, self.selected[fold.index])]


@dataclass(frozen=True, eq=False)
class _Answer:
    """Standardised test margins (cells,) with their score, or why there are none."""

    margins: NDArray[np.float32]
    score: Replicates
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class _Question:
    """One concept: the cells that are tested, and those that probes are fitted on, the same for all layers."""

    common: Common
    concept: int

    @property
    def name(self) -> str:
        """Of the concept."""
        return self.common.dataset.concepts[self.concept]

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """Of all reference cells."""
        return np.asarray(self.common.cells.labels[self.concept])

    @cached_property
    def tested(self) -> NDArray[np.int64]:
        """Groups that a fold tests."""
        return np.unique(np.concatenate([fold.test for fold in self.common.folds]))

    @property
    def n_groups(self) -> int:
        """That are tested."""
        return len(self.tested)

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """The cells that are tested: not void, in such a group."""
        return np.flatnonzero((self.labels != VOID) & np.isin(self.common.cells.group, self.tested))

    @cached_property
    def y(self) -> NDArray[np.int8]:
        """Of the tested cells."""
        return np.asarray(self.labels[self.kept] == POSITIVE, dtype=np.int8)

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Of the tested cells, numbered among the tested groups."""
        return np.searchsorted(self.tested, self.common.cells.group[self.kept])

    @cached_property
    def drawn(self) -> NDArray[np.int64]:
        """Flat places of the cells that probes are fitted on, ascending."""
        dataset = self.common.dataset
        by_cut = np.split(self.labels, dataset.offsets[1:-1])
        names = [cut.name for cut in dataset.cuts]
        rows = draw_rows(names, by_cut, self.common.per_class, self.common.seed, "complements", self.name)
        return dataset.offsets[rows.image] + rows.cell

    def side(self, layer: Layer, collection: Collection, selected: Selected) -> _Side:
        """Reads what the folds selected of a layer, at the drawn cells."""
        by_fold = {fold.index: np.asarray(selected[self.name, fold.index]) for fold in self.common.folds}
        channels = np.unique(np.concatenate(list(by_fold.values())))
        features = reference_features(self.common.dataset, collection, self.drawn, channels)
        return _Side(layer, collection, by_fold, channels, features)

    def ask(self, sides: Sequence[_Side]) -> _Answer:
        """One probe on the channels of all sides in every fold, scored on the folds' test groups."""
        margins = np.full(len(self.labels), np.nan, dtype=np.float32)
        try:
            for fold in self.common.folds:
                self._fold(sides, fold, margins)
        except ProbekitError as error:
            return _Answer(margins, Replicates(np.nan, np.zeros(0)), str(error))
        margins = margins[self.kept]
        return _Answer(margins, precision_replicates(margins, self.y, self.group, self.n_groups))

    def swap(self, one: _Answer, other: _Answer) -> float:
        """The p-value of equal average precision."""
        pair = ranked_pair(one.margins, other.margins, self.y, self.group, self.n_groups)
        return swap_test([pair], generator(self.common.seed, "swap test", "complements", self.name))

    def _fold(self, sides: Sequence[_Side], fold: Fold, margins: NDArray[np.float32]) -> None:
        """Fits, chooses and scores in one fold; fills the margins of its test cells.

        Raises:
            ProbekitError: why it cannot be done.
        """
        dataset = self.common.dataset
        for side in sides:
            if not len(side.selected[fold.index]):
                raise ProbekitError(f"fold {fold.index + 1} selected no channel of {' '.join(side.layer)}")
        cut = np.searchsorted(dataset.offsets, self.drawn, side="right") - 1
        training = np.isin(cut, fold.cuts("train", dataset.cut_groups))
        rows = MemoryRows(np.concatenate([side.columns(fold)[training] for side in sides], axis=1))
        y = (self.labels[self.drawn[training]] == POSITIVE).astype(np.int8)
        fits = self._fits(rows, y, fold)
        scorers = [fit.scorer for fit in fits]

        validation = fold.cuts("validation", dataset.cut_groups)
        refuse_test(fold, dataset.cut_groups[validation])
        scores, positive = [], []
        for cells, maps in self._maps(sides, fold, scorers, validation):
            judged = self.labels[cells] != VOID
            scores.append(maps[:, judged])
            positive.append(self.labels[cells][judged] == POSITIVE)
        truth = np.concatenate(positive)
        precisions = np.array([average_precision(row, truth) for row in np.concatenate(scores, axis=1)])
        best = scorers[best_fit(precisions, [len(fit.support) for fit in fits], [fit.ridge for fit in fits])]

        scale = margin_scale(evaluate_scorers([best], rows.numpy()), y)
        for cells, maps in self._maps(sides, fold, [best], fold.cuts("test", dataset.cut_groups)):
            margins[cells] = scale.apply(maps)[0]

    def _fits(self, rows: MemoryRows, y: NDArray[np.int8], fold: Fold) -> list[Fit]:
        """The family's full probe on these rows: a fit a candidate ridge."""
        everything = np.ones((1, len(y)), dtype=bool)
        (mean,), (scale,) = training_moments(rows.chunks(), everything, rows.shape[1])
        seed = derive_seed(self.common.seed, "complements", self.name, fold.index)
        problem = Problem(y, fold_weights(y, everything[0]), mean, scale, seed, rungs=(FULL,))
        (path,) = self.common.entry.probe.fit(rows, [problem], [ranked(np.arange(rows.shape[1]))])
        fits = [fit for fit in path.fits if fit.rung == FULL]
        if any(fit.scorer.kind != "linear" for fit in fits):
            raise ProbekitError(f"the full probe of '{self.common.entry.name}' is not linear: its margins are no sum")
        return fits

    def _maps(
        self, sides: Sequence[_Side], fold: Fold, scorers: Sequence[Scorer], cuts: NDArray[np.int64]
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Score maps as :func:`score_maps` gives them, of scorers on the sides' channels one after the other."""
        parts = []
        start = 0
        for side in sides:
            channels = side.selected[fold.index]
            own = [_part(scorer, start, channels) for scorer in scorers]
            parts.append(score_maps(self.common.dataset, side.collection, own, cuts.tolist()))
            start += len(channels)
        for maps in zip(*parts, strict=True):
            yield maps[0][0], np.sum([values for _, values in maps], axis=0)


def _part(scorer: Scorer, start: int, channels: NDArray[np.int64]) -> Scorer:
    """What a linear scorer makes of the columns from ``start`` on, which are these channels of a layer; the first part
    has the bias."""
    own = (scorer.channels >= start) & (scorer.channels < start + len(channels))
    bias = scorer.arrays["bias"] if start == 0 else np.zeros(())
    return Scorer(
        "linear", channels[scorer.channels[own] - start], {"weight": scorer.arrays["weight"][own], "bias": bias}
    )
