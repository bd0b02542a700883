"""Ablation on a network whose wiring is known: what goes through the ablated channels is lost, what goes by another way
is not, and adapters that cannot be edited are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probekit.api import ImageRef, ProbekitError, Scorer, UnreadableImageError
from probekit.evaluate.paired import holm
from probekit.evaluate.pooling import MarginScale
from probekit.features.store import Collection, Store
from probekit.plan.units import Job
from probekit.runner.comparisons.ablation import ablated_places, ablation_rows, require_editable
from probekit.runner.comparisons.predict import forecast_comparisons
from probekit.runner.dataset import Dataset, build_dataset
from probekit.runner.extraction import extract_network
from probekit.runner.fold_fits import FoldFit, read_fold_fits, write_fold_fits
from probekit.runner.predict import forecast
from probekit.runner.prepare import Prepared, build_folds, prepare
from probekit.runner.progress import Silent
from probekit.runner.scoring import ReferenceCells, common_cells
from probekit.sampling.splits import Fold
from probekit.spec.load import load_experiment

Spec = Callable[..., Path]


@dataclass
class Counted(Silent):
    total: int = 0
    done: int = 0

    def start(self, stage: str, what: str, total: int, unit: str) -> None:
        self.total += total

    def advance(self, count: int, what: str = "") -> None:
        self.done += count


@dataclass
class Bench:
    """A network's features in a store, and fits of its folds as jobs leave them."""

    prepared: Prepared
    folder: Path
    dataset: Dataset
    cells: ReferenceCells
    collections: dict[tuple[str, str], Collection]
    folds: tuple[Fold, ...]
    progress: Counted

    def rows(self) -> Iterator[dict[str, Any]]:
        return ablation_rows(
            self.prepared, self.folder, self.dataset, self.cells, self.collections, self.folds, 1, self.progress
        )

    def ablation(self, **keys: int) -> None:
        resolved = self.prepared.resolved
        wanted = resolved.experiment.ablation.model_copy(update=keys)
        experiment = resolved.experiment.model_copy(update={"ablation": wanted})
        self.prepared = replace(self.prepared, resolved=replace(resolved, experiment=experiment))

    def fits(self, layer: str, scored: dict[str, tuple[int, float]], selected: dict[str, list[int]]) -> None:
        part = self.folder / "jobs" / Job("net", layer, 0).name
        part.mkdir(parents=True, exist_ok=True)
        fits = {}
        for concept, (channel, weight) in scored.items():
            scorer = Scorer("linear", np.array([channel]), {"weight": np.array([weight]), "bias": np.zeros(())})
            for fold in self.folds:
                fits[concept, fold.index] = FoldFit(
                    scorer, MarginScale(np.array([0.5]), np.array([0.1])), np.array(selected[concept])
                )
        write_fold_fits(part, "topk", fits)


@pytest.fixture
def bench(experiment: Spec, tmp_path: Path) -> Callable[..., Bench]:
    def make(layers: str = "[late, early, side]", axes: str = "true", **keys: str) -> Bench:
        path = experiment(
            data="{use: odd, with: {groups: 15, images: 1, height: 64, width: 80}}",
            backbones=f"{{net: {{use: wired, layers: {layers}, with: {{axes: {axes}}}}}}}",
            split="{folds: 3, validation: 0.3}",
            ablation="{draws: 6}",
            **keys,
        )
        prepared = prepare(load_experiment(path, ()))
        experiment_ = prepared.resolved.experiment
        dataset = build_dataset(prepared.source, experiment_, 1, Silent())
        (network,) = prepared.networks
        extraction, _ = extract_network(network, dataset, experiment_, Store(tmp_path / "store"), 1, Silent())
        collections = {("net", layer): of for layer, of in extraction.collections.items()}
        cells = common_cells(dataset, collections.values())
        folds = build_folds(prepared.resolved, dataset)[0]
        made = Bench(prepared, tmp_path / "run", dataset, cells, collections, folds, Counted())
        # At `late` a disc is read from what `early` says of brightness, a square (dark) from what `side` says.
        made.fits("late", {"disc": (0, 1.0), "square": (1, -1.0)}, {"disc": [0], "square": [1]})
        made.fits("early", {"disc": (0, 1.0), "square": (0, -1.0)}, {"disc": [0, 1, 2], "square": [2, 0, 1]})
        made.fits("side", {"disc": (3, 1.0), "square": (3, -1.0)}, {"disc": [3], "square": [3]})
        return made

    return make


def test_what_goes_through_the_ablated_channels_is_lost_and_nothing_else(bench: Callable[..., Bench]) -> None:
    made = bench()
    rows = {(row["layer"], row["later"], row["concept"]): row for row in made.rows()}
    # `side` comes after `early` and has nothing from it; the spec names the layers in another order.
    assert list(rows) == [(a, "late", c) for a in ("early", "side") for c in ("disc", "square")]
    for (layer, _, concept), row in rows.items():
        through = (layer, concept) in (("early", "disc"), ("side", "square"))
        assert row["circuit"] is through, row
        assert row["reason"] is None
        assert row["p_holm"] >= row["p"]
        assert row["score"] > 0.5, row
        assert row["random"] > row["score"] - 0.1, row
        if through:
            assert row["ablated"] < 0.7 * row["score"], row  # a little of all else is left
            assert row["p"] < 0.01
            assert row["lo"] > 0.1
        else:
            assert abs(row["ablated"] - row["score"]) < 0.02, row
        assert (row["backbone"], row["probe"], row["draws"], row["images"]) == ("net", "topk", 6, 15)
        assert row["channels"] == (3 if layer == "early" else 1)
        assert row["groups"] == 15
    for concept in ("disc", "square"):
        own = [row for row in rows.values() if row["concept"] == concept]
        np.testing.assert_allclose([row["p_holm"] for row in own], holm([row["p"] for row in own]))
    # Every image, two layers, two concepts, the selected channels and six random sets.
    assert made.progress.total == made.progress.done == 15 * 2 * 2 * 7
    resolved = made.prepared.resolved
    foretold = forecast(made.prepared, made.dataset, Store(resolved.store))
    compared = forecast_comparisons(resolved.experiment, made.dataset, made.folds, foretold)
    assert compared.passes == {"net": made.progress.done}
    assert not [path for path in made.folder.iterdir() if path.name != "jobs"], "a temporary file was left"


def test_the_same_again_and_nothing_is_run_twice(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, late]")
    made.ablation(draws=2, images=14)
    first = list(made.rows())
    assert {row["images"] for row in first} == {14}
    done = made.progress.done
    assert list(made.rows()) == first
    assert made.progress.done == done
    (made.folder / "jobs" / "ablation-0" / "ablation.parquet").unlink()
    assert list(made.rows()) == first


def test_batches_change_nothing(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, late]")
    made.ablation(draws=2, images=13)
    alone = list(made.rows())
    (network,) = made.prepared.networks
    made.prepared = replace(made.prepared, networks=(replace(network, batch_size=4),))
    (made.folder / "jobs" / "ablation-0" / "ablation.parquet").unlink()
    for one, other in zip(alone, made.rows(), strict=True):
        numbers = [key for key, value in one.items() if isinstance(value, float)]
        assert {key: one[key] for key in numbers} == pytest.approx({key: other[key] for key in numbers}, abs=1e-4)
        assert {key: one[key] for key in one if key not in numbers} == {
            key: other[key] for key in other if key not in numbers
        }


def test_an_adapter_that_does_not_say_where_its_channels_are_is_named_in_one_line(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, late]", axes="false")
    with pytest.raises(ProbekitError, match=r"^run-fakes/wired: early cannot be ablated: .*") as error:
        list(made.rows())
    assert "\n" not in str(error.value)
    assert not (made.folder / "jobs" / "ablation-0" / "ablation.parquet").exists()
    with pytest.raises(ProbekitError, match="early cannot be ablated"):
        require_editable(made.prepared, made.dataset, 1)
    made.ablation(draws=0)
    require_editable(made.prepared, made.dataset, 1)


def test_a_photograph_that_cannot_be_decoded_any_more_is_named(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, late]")
    require_editable(made.prepared, made.dataset, 1)
    broken, opener = made.dataset.cuts[-1].image.id, made.dataset.source.open

    def read(image: ImageRef) -> Any:
        if image.id == broken:
            raise UnreadableImageError("torn")
        return opener(image)

    made.dataset.source.open = read  # type: ignore[method-assign]
    with pytest.raises(ProbekitError, match=f"^{broken} .*any more: torn$"):
        list(made.rows())


def test_features_that_the_network_does_not_give_any_more_are_refused(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, late]")
    (network,) = made.prepared.networks
    plain = network.backbone.prepare
    network.backbone.prepare = lambda image: plain(255 - image)  # type: ignore[method-assign]
    with pytest.raises(ProbekitError, match="other features of early than the store holds"):
        list(made.rows())


def test_nothing_is_run_where_nothing_is_asked_for_or_no_layer_follows(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, side]")
    assert list(made.rows()) == []
    made.ablation(draws=0)
    assert list(made.rows()) == []
    assert made.progress.done == 0


def test_too_many_or_no_channels_say_why_there_is_no_test(bench: Callable[..., Bench]) -> None:
    made = bench(layers="[early, late]")
    made.fits("early", {"disc": (0, 1.0), "square": (0, -1.0)}, {"disc": list(range(13)), "square": []})
    many, none = made.rows()
    assert "a fold selects 13 channels: others are too few" in many["reason"]
    assert none["reason"] == "no fold selects a channel"
    assert many["circuit"] is none["circuit"] is None
    assert many["p_holm"] is none["p_holm"] is None
    assert many["score"] > 0.5
    assert made.progress.done == 0


def test_a_sample_is_of_tested_images_alone(bench: Callable[..., Bench]) -> None:
    made = bench()
    (first, *_) = made.folds
    only = ablated_places(made.dataset, [first], made.prepared.resolved.experiment)
    assert {made.dataset.cuts[place].group for place in only} == set(first.test.tolist())
    made.ablation(images=2)
    few = ablated_places(made.dataset, [first], made.prepared.resolved.experiment)
    assert len(few) == 2
    assert set(few) <= set(only)


def test_fits_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = {"weight_0": np.ones((2, 3)), "bias_0": np.zeros(2), "weight_1": np.ones((1, 2)), "bias_1": np.zeros(1)}
    mlp = Scorer("mlp", np.array([4, 1, 2]), arrays)
    linear = Scorer("linear", np.array([1]), {"weight": np.array([2.0]), "bias": np.array(0.25)})
    scale = MarginScale(np.array([0.1]), np.array([3.0]))
    given = {("a|b.c", 0): FoldFit(mlp, scale, np.array([3, 1])), ("d", 1): FoldFit(linear, scale, np.arange(0))}
    write_fold_fits(tmp_path, "the probe", given)
    probe, found = read_fold_fits(tmp_path)
    assert probe == "the probe"
    assert list(found) == list(given)
    for key, fit in given.items():
        assert found[key].scorer.kind == fit.scorer.kind
        assert found[key].scorer.arrays.keys() == fit.scorer.arrays.keys()
        for name, array in fit.scorer.arrays.items():
            assert np.array_equal(found[key].scorer.arrays[name], array)
            assert found[key].scorer.arrays[name].shape == array.shape
        assert np.array_equal(found[key].scorer.channels, fit.scorer.channels)
        assert np.array_equal(found[key].selected, fit.selected)
        assert (found[key].scale.mean, found[key].scale.deviation) == (scale.mean, scale.deviation)
