"""What one model's channels add to another's, where it is planted: two cues, one in each model; a copy; noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from probekit.api import FULL, Fit, Grid, ImageRef, LabelSource, Path, Problem, Scorer
from probekit.evaluate.choose import best_fit
from probekit.evaluate.paired import holm
from probekit.evaluate.pooling import margin_scale
from probekit.evaluate.scorer import evaluate_scorers
from probekit.evaluate.scores import average_precision
from probekit.features.rows import MemoryRows
from probekit.features.store import Collection
from probekit.geometry.reference import reference_grid
from probekit.plugins import load_plugins
from probekit.runner.analyses.nulls import ranked
from probekit.runner.comparisons.complements import Common, Layer, complement_rows
from probekit.runner.dataset import Dataset, cuts_of
from probekit.runner.job import ProbeEntry
from probekit.runner.scoring import ReferenceCells
from probekit.runner.shared_cells import reference_features
from probekit.sampling.rows import fold_weights, training_moments
from probekit.sampling.splits import group_kfold, holdout

HEIGHT, WIDTH, CELL = 80, 112, 8
ROWS, COLUMNS = HEIGHT // CELL, WIDTH // CELL
GROUPS = 18
A, B, COPY, OTHER = ("a", "x"), ("b", "x"), ("copy", "x"), ("a", "noise")


@dataclass
class Maps:
    """A layer in memory, as a collection of the store."""

    at: Grid
    values: Mapping[str, np.ndarray]

    @property
    def channels(self) -> int:
        return int(next(iter(self.values.values())).shape[1])

    def grid(self, _key: str) -> Grid:
        return self.at

    def read(self, key: str) -> tuple[np.ndarray, Grid]:
        return self.values[key], self.at


def entry(probe: Any = None) -> ProbeEntry:
    family: Any = load_plugins().probe("l2-subsets")
    parameters = family.descriptor.parameters(rank_by="l1", k=["all"], widths=1, ridges=[1e-2, 1e-4])
    return ProbeEntry("topk", probe or family.load()(parameters, device="cpu"), "l1")


def world(
    groups: int = GROUPS,
) -> tuple[Common, dict[Layer, Collection], dict[Layer, dict[tuple[str, int], np.ndarray]]]:
    """A cell is positive where the sum of two cues is large. ``a`` has the one (8 px), ``b`` the other (4 px), ``copy``
    a rotation of a; all have noise beside."""
    names = tuple(f"g{i:02d}" for i in range(groups))
    cuts = [cut for i, g in enumerate(names) for cut in cuts_of(ImageRef(g, g, HEIGHT, WIDTH, g), i, CELL, None)]
    dataset = Dataset(cast(LabelSource, None), ("spot",), names, (None,) * groups, tuple(cuts), (), (0.5, 0.5), ())
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, groups, ROWS, COLUMNS))
    labels = (one + other > 1.8).astype(np.int8)
    labels[:, 0, 0] = 2
    coarse, fine = reference_grid(HEIGHT, WIDTH, CELL), reference_grid(HEIGHT, WIDTH, CELL // 2)

    def layer(grid: Grid, *channels: np.ndarray) -> Maps:
        values = np.stack([c.reshape(groups, -1) for c in channels], axis=2).astype(np.float32)
        return Maps(grid, dict(zip(names, values, strict=True)))

    def noise(grid: Grid) -> np.ndarray:
        return np.asarray(rng.normal(size=(groups, grid.rows, grid.columns)))

    a = [noise(coarse), one, noise(coarse)]
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    layers = {
        A: layer(coarse, *a),
        OTHER: layer(coarse, noise(coarse), noise(coarse)),
        B: layer(fine, np.kron(other, np.ones((2, 2))), noise(fine), noise(fine), noise(fine)),
        COPY: layer(coarse, *(np.einsum("i,ixyz->xyz", of, np.array(a)) for of in rotation)),
    }
    flat = labels.reshape(1, -1)
    counts = np.array([[(of == 1).sum()] for of in labels]), np.array([[(of == 0).sum()] for of in labels])
    folds = group_kfold(names, *counts, folds=3, validation=0.3, seed=0)
    common = Common(dataset, ReferenceCells(flat, dataset.cell_groups), folds, entry(), 1000, 0)
    chosen = {A: [2, 1, 0], OTHER: [1, 0], B: [3, 0], COPY: [0, 1, 2]}
    selected = {of: {("spot", f.index): np.array(channels) for f in folds} for of, channels in chosen.items()}
    selected[A]["spot", 1] = np.array([1, 2])
    return common, cast(dict[Layer, Collection], layers), selected


def found(
    common: Common, layers: Mapping[Layer, Collection], selected: Mapping[Layer, Any]
) -> dict[tuple[Layer, Layer], dict[str, Any]]:
    rows = complement_rows(common, layers, selected, lambda _count, _what: None)
    by_pair = {((r["backbone_a"], r["layer_a"]), (r["backbone_b"], r["layer_b"])): r for r in rows}
    assert all((r["concept"], r["probe"]) == ("spot", "topk") for r in by_pair.values())
    return by_pair


@pytest.fixture(scope="module")
def rows() -> dict[tuple[Layer, Layer], dict[str, Any]]:
    return found(*world())


Rows = dict[tuple[Layer, Layer], dict[str, Any]]


def test_a_second_cue_adds_and_a_copy_does_not(rows: Rows) -> None:
    for pair in ((A, B), (B, A), (COPY, B)):
        row = rows[pair]
        assert row["gain"] > 0.2
        assert row["lo"] > 0.1
        assert row["established"]
        assert row["reason"] is None
    for pair in ((A, COPY), (COPY, A)):
        row = rows[pair]
        assert abs(row["gain"]) < 0.01
        assert not row["established"]
    assert rows[OTHER, B]["gain"] > 0.2  # b has a cue
    assert abs(rows[B, OTHER]["gain"]) < 0.02  # noise adds nothing to it
    assert not rows[B, OTHER]["established"]


def test_every_ordered_pair_of_two_backbones_is_there_and_counts_as_a_test(rows: Rows) -> None:
    assert set(rows) == {
        (one, other) for one in (A, OTHER, B, COPY) for other in (A, OTHER, B, COPY) if one[0] != other[0]
    }
    for (a, b), row in rows.items():
        assert row["joint"] == rows[b, a]["joint"]
        assert row["gain"] == pytest.approx(row["joint"] - row["alone"])
    assert len({row["alone"] for row in rows.values()}) == 4  # one a layer
    np.testing.assert_allclose([r["p_holm"] for r in rows.values()], holm([r["p"] for r in rows.values()]))
    assert rows[A, B]["channels_a"] == 3  # 3, 2, 3
    assert rows[A, B]["channels_b"] == 2


def test_a_joint_score_is_that_of_one_probe_on_features_of_the_reference_grid() -> None:
    """Two grids, features read on the reference grid at every cell, and one scorer on all of them."""
    common, layers, selected = world()
    row = found(replace(common, per_class=10**6), {of: layers[of] for of in (A, B)}, selected)[A, B]
    labels, group = common.cells.labels[0], common.cells.group
    everywhere = np.arange(labels.size)
    at = {of: reference_features(common.dataset, layers[of], everywhere) for of in (A, B)}
    pooled = np.full(labels.size, np.nan)
    for fold in common.folds:
        x = np.concatenate([at[of][:, selected[of]["spot", fold.index]] for of in (A, B)], axis=1)
        training, validation, test = (
            np.isin(group, part) & (labels != 2) for part in (fold.train, fold.validation, fold.test)
        )
        rows_of, y = MemoryRows(x[training]), labels[training]
        whole = np.ones(len(y), dtype=bool)
        (mean,), (scale,) = training_moments(rows_of.chunks(), whole[None], x.shape[1])
        problem = Problem(y, fold_weights(y, whole), mean, scale, 0, rungs=(FULL,))
        (path,) = common.entry.probe.fit(rows_of, [problem], [ranked(np.arange(x.shape[1]))])
        scorers = [fit.scorer for fit in path.fits]
        precisions = [average_precision(m, labels[validation]) for m in evaluate_scorers(scorers, x[validation])]
        ridges = [fit.ridge for fit in path.fits]
        best = scorers[best_fit(np.array(precisions), [x.shape[1]] * len(scorers), ridges)]
        scaled = margin_scale(evaluate_scorers([best], x[training]), y)
        pooled[test] = scaled.apply(evaluate_scorers([best], x[test]))[0]
    scored = ~np.isnan(pooled)
    assert scored.sum() == (labels != 2).sum()
    assert row["joint"] == pytest.approx(average_precision(pooled[scored], labels[scored]), abs=1e-5)


def test_order_of_channels_and_of_models_changes_nothing(rows: Rows) -> None:
    common, layers, selected = world()
    turned = {of: {key: channels[::-1] for key, channels in sets.items()} for of, sets in selected.items()}
    row = found(common, {of: layers[of] for of in (B, A)}, turned)[A, B]
    for column in ("alone", "joint", "gain", "lo", "hi", "p"):
        assert row[column] == pytest.approx(rows[A, B][column], abs=1e-4)


def test_a_draw_of_fewer_cells_is_kept_to_and_classes_weigh_the_same() -> None:
    class Spy:
        def __init__(self) -> None:
            self.inner, self.problems = entry().probe, list[Problem]()

        def fit(self, rows: Any, problems: Sequence[Problem], upstream: Sequence[Path]) -> Sequence[Path]:
            self.problems += problems
            return self.inner.fit(rows, problems, upstream)

    common, layers, selected = world()
    spy = Spy()
    found(replace(common, per_class=60, entry=entry(spy)), {of: layers[of] for of in (A, B)}, selected)
    assert len(spy.problems) == 3 * len(common.folds)
    for problem in spy.problems:
        assert 20 < len(problem.y) <= 120
        assert problem.weights[problem.y == 1].sum() == pytest.approx(problem.weights[problem.y == 0].sum())
        assert problem.rungs == (FULL,)
    assert len({tuple(p.y) for p in spy.problems}) == len(common.folds)  # the same cells, whatever the model


def test_a_fold_without_a_channel_says_so_and_spares_the_others() -> None:
    common, layers, selected = world()
    selected[B]["spot", 2] = np.zeros(0, dtype=np.int64)
    by_pair = found(common, layers, selected)
    for a, b in ((A, B), (B, A)):
        assert by_pair[a, b].get("gain") is None
        assert by_pair[a, b]["reason"] == "fold 3 selected no channel of b x"
    assert by_pair[A, COPY]["gain"] is not None
    assert by_pair[A, COPY]["p_holm"] is not None


def test_one_model_alone_is_not_compared_and_fits_nothing() -> None:
    common, layers, selected = world()
    nothing = replace(common, entry=entry(SimpleNamespace()))
    assert found(nothing, {of: layers[of] for of in (A, OTHER)}, selected) == {}


def test_margins_that_are_no_sum_are_not_added() -> None:
    def fit(rows: Any, problems: Sequence[Problem], _upstream: Any) -> list[Path]:
        channels = np.arange(rows.shape[1])
        return [Path((Fit(FULL, channels, np.ones(len(channels)), Scorer("mlp", channels, {})),)) for _ in problems]

    common, layers, selected = world()
    (row, _) = found(
        replace(common, entry=entry(SimpleNamespace(fit=fit))), {of: layers[of] for of in (A, B)}, selected
    ).values()
    assert row.get("joint") is None
    assert row["reason"] == "the full probe of 'topk' is not linear: its margins are no sum"


def test_few_tested_groups_give_a_gain_without_a_test() -> None:
    common, layers, selected = world()
    labels = common.cells.labels.reshape(GROUPS, -1)
    counts = [np.array([[(of == value).sum()] for of in labels]) for value in (1, 0)]
    (fold,) = holdout(common.dataset.groups, *counts, test=0.4, validation=0.3, seed=0)
    row = found(replace(common, folds=[fold]), {of: layers[of] for of in (A, B)}, selected)[A, B]
    assert row["gain"] > 0.2
    assert row["lo"] is None
    assert row["p"] is None
    assert row["established"] is None
    assert row["reason"].startswith("too few groups")
