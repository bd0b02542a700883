"""Splits by blocks: what is a group, what each fold leaves out, and that a run keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit
from probekit.api import ImageRef, ProbekitError, Provenance
from probekit.geometry.tiles import Rectangle
from probekit.runner import execute
from probekit.runner import job as job_module
from probekit.runner.blocks import block_notes, build_outer_folds, left_out_rows, with_buffer
from probekit.runner.dataset import Dataset, build_dataset
from probekit.runner.job import JobInput, OpenJob
from probekit.runner.progress import Silent
from probekit.runner.rows import TrainingRows
from probekit.sampling import Fold, group_kfold
from probekit.spec.models import Experiment

Spec = Callable[..., Path]


class Strips:
    """Images of chosen groups and sizes; a corner of each 16 by 16 square is positive, but not in an image ``none``."""

    concepts = ("corner",)
    provenance = Provenance("renderer")

    def __init__(self, *images: tuple[str, str, int, int, str | None]) -> None:
        self._images = [ImageRef(i, group, h, w, f"sha256:{i}", outer) for i, group, h, w, outer in sorted(images)]

    def check(self) -> Sequence[Any]:
        return ()

    def images(self) -> Sequence[ImageRef]:
        return self._images

    def open(self, image: ImageRef) -> Any:
        return np.zeros((image.height, image.width, 3), np.uint8)

    def mask(self, image: ImageRef, concept: str) -> Any:
        y, x = np.mgrid[: image.height, : image.width] % 16
        return ((y < 8) & (x < 8) & ("none" not in image.id)).astype(np.uint8)


def experiment_of(split: dict[str, Any]) -> Experiment:
    return Experiment.model_validate(
        {
            "probekit": 1,
            "name": "strips",
            "data": {"use": "strips"},
            "backbones": {"b": {"use": "tiny"}},
            "probes": {"p": {"use": "l1-path"}},
            "split": {"scheme": "group-kfold", **split},
            "tile": {"size": 32, "overlap": 16},
            "evaluation": {"grid": 8},
        }
    )


def dataset_of(experiment: Experiment, *images: tuple[str, str, int, int, str | None]) -> Dataset:
    return build_dataset(Strips(*images), experiment, 1, Silent())


BLOCKS = {"by": "blocks", "size": 64, "buffer": 8}


def test_large_images_are_divided_and_small_ones_stay_in_their_group() -> None:
    experiment = experiment_of(BLOCKS)
    dataset = dataset_of(
        experiment,
        ("a", "flight", 40, 200, "north"),
        ("b", "flight", 64, 64, "north"),
        ("c", "flight", 30, 30, "north"),
        ("d", "walk", 130, 64, None),
    )
    of_a, of_d = [f"flight/a@0,{column}" for column in range(4)], [f"walk/d@{row},0" for row in range(3)]
    assert dataset.groups == ("flight", *of_a, *of_d)
    assert dataset.outer == ("north",) * 5 + (None,) * 3
    of = {image.id: {dataset.groups[dataset.cuts[i].group] for i in places} for image, places in dataset.by_image()}
    assert of["b"] == of["c"] == {"flight"}
    assert len(of["a"]) == 4
    # A group is a union of tiles, and all cells are in exactly one.
    np.testing.assert_array_equal(np.repeat(dataset.cut_groups, np.diff(dataset.offsets)), dataset.cell_groups)
    cells = sum(-(-h // 8) * -(-w // 8) for h, w in ((40, 200), (64, 64), (30, 30), (130, 64)))
    assert np.bincount(dataset.cell_groups, minlength=8).sum() == cells
    for value in (0, 1):
        expected = [dataset.cells_by_cut(value)[dataset.cut_groups == group].sum(axis=0) for group in range(8)]
        np.testing.assert_array_equal(dataset.cells_by_group(value), expected)
    whole = dataset_of(experiment_of({}), ("a", "flight", 40, 200, None), ("b", "flight", 64, 64, None))
    assert whole.groups == ("flight",)


def test_names_that_meet_are_refused() -> None:
    with pytest.raises(ProbekitError, match="has the name of another group's block"):
        dataset_of(experiment_of(BLOCKS), ("a", "flight", 40, 200, None), ("b", "flight/a@0,0", 40, 40, None))


def test_what_is_left_out_is_counted_and_said() -> None:
    experiment = experiment_of(BLOCKS)
    dataset = dataset_of(experiment, *((f"i{n}", f"g{n}", 32, 256, None) for n in range(4)), ("s", "s", 32, 32, None))
    counts = dataset.groups, dataset.cells_by_group(1), dataset.cells_by_group(0)
    folds = with_buffer(group_kfold(*counts, folds=4, validation=0.2, seed=0), dataset, experiment)
    rows = left_out_rows(dataset, [folds])
    assert [(row["repeat"], row["fold"]) for row in rows] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    for row, fold in zip(rows, folds, strict=True):
        kept = {part: len(fold.cuts(part, dataset.cut_groups)) for part in ("train", "validation", "test")}
        assert row["train"] - row["train_left_out"] == kept["train"]
        assert row["validation"] - row["validation_left_out"] == kept["validation"]
        assert row["train"] + row["validation"] + kept["test"] == len(dataset.cuts)
        assert len(fold.left_out) == row["train_left_out"] + row["validation_left_out"] > 0
    said = block_notes(dataset, experiment, [folds])
    assert said[0] == (
        "split by blocks: 4 of 5 images are 16 blocks; an interval speaks for new stretches of these images, not for "
        "new images"
    )
    share = sum(row["train_left_out"] for row in rows) / sum(row["train"] for row in rows)
    assert f"the buffer of 8 px leaves out {100 * share:.0f} % of the folds' training tiles" in said[1]
    assert ("larger blocks" in said[1]) == (share > 0.5)
    assert block_notes(dataset, experiment_of({}), [folds]) == []
    (none,) = block_notes(dataset_of(experiment, ("s", "s", 32, 32, None)), experiment, [])
    assert "none was divided" in none
    assert with_buffer(folds, dataset, experiment_of({})) == folds


def test_outer_groups_are_left_out_with_the_buffer_between_the_others_blocks() -> None:
    experiment = experiment_of(BLOCKS)
    roads = [(f"i{n}", f"g{n}", 32, 256, f"road {n % 3}") for n in range(6)]
    dataset = dataset_of(experiment, *roads, ("none", "g9", 32, 64, "road 9"))
    found = build_outer_folds(experiment, dataset)
    assert found is not None
    assert found.names == ("road 0", "road 1", "road 2")
    assert [sentence.partition(" was")[0] for sentence in found.skipped] == ["road 9"]
    for name, fold in zip(found.names, found.folds, strict=True):
        assert {dataset.outer[group] for group in fold.test} == {name}
        assert len(fold.left_out)
        validation = fold.cuts("validation", dataset.cut_groups)
        for i in fold.cuts("train", dataset.cut_groups):
            assert not any(sees(dataset, i, j, 8) for j in validation)
    assert build_outer_folds(experiment, dataset_of(experiment, *((*r[:4], None) for r in roads))) is None
    assert build_outer_folds(experiment, dataset_of(experiment, *((*r[:4], "one") for r in roads))) is None


def sees(dataset: Dataset, i: int, j: int, buffer: int) -> bool:
    """A cut sees the core of another, or what lies within the buffer of it."""
    one, other = dataset.cuts[i], dataset.cuts[j]
    window, core = one.tile.window, other.tile.core
    grown = Rectangle(core.x - buffer, core.y - buffer, core.width + 2 * buffer, core.height + 2 * buffer)
    return (
        one.image.id == other.image.id
        and window.x < grown.right
        and grown.x < window.right
        and window.y < grown.bottom
        and grown.y < window.bottom
    )


def test_rows_of_cuts_that_are_left_out_are_not_trained_on() -> None:
    cut = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    rows: Any = None
    training = TrainingRows(
        rows, cut, np.array([0, 0, 0, 0, 1, 1, 2, 2], np.int32), np.array([[1, 0] * 4], np.int8), np.ones((1, 8), bool)
    )
    fold = Fold(0, np.array([0, 1]), np.array([2]), np.array([3]), np.array([1]))
    trained = training.training(0, fold.train, fold.left_out)
    assert sorted(set(cut[trained])) == [0, 2]
    np.testing.assert_array_equal(training.weights(0, fold.train, fold.left_out) > 0, trained)
    assert sorted(set(cut[training.training(0, fold.train)])) == [0, 1, 2]


BY_BLOCKS: dict[str, str | None] = {
    "data": "{use: odd, with: {groups: 12, images: 1, height: 64, width: 320, concept: disc}}",
    "split": "{by: blocks, size: 160, buffer: 8, folds: 3, validation: 0.3}",
    "tile": "{size: 32, overlap: 8}",
}


def test_a_run_trains_and_chooses_on_nothing_near_its_test(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[OpenJob] = []
    chosen_on: list[list[int]] = []
    score_maps = job_module.score_maps

    def open_job(job: JobInput) -> OpenJob:
        opened.append(job_module.open_job(job))
        return opened[-1]

    def watched(dataset: Any, collection: Any, scorers: Any, places: Any, threads: int) -> Any:
        chosen_on.append(list(places))
        return score_maps(dataset, collection, scorers, chosen_on[-1], threads)

    monkeypatch.setattr(execute, "open_job", open_job)
    monkeypatch.setattr(job_module, "score_maps", watched)
    run = probekit.run(experiment(**BY_BLOCKS), out="blocks")
    (of,) = opened
    dataset, folds = of.job.dataset, of.job.folds
    assert len(dataset.groups) == 24
    tested = np.concatenate([fold.cuts("test", dataset.cut_groups) for fold in folds])
    assert sorted(tested) == list(range(len(dataset.cuts)))
    for fold in folds:
        assert len(fold.left_out)
        trained = set(of.training.cut[of.problems[fold.index, 0].weights > 0].tolist())
        assert trained
        others = [*fold.cuts("test", dataset.cut_groups), *fold.cuts("validation", dataset.cut_groups)]
        assert not any(sees(dataset, i, j, 8) for i in trained for j in others)
    allowed = [sorted(fold.cuts("validation", dataset.cut_groups)) for fold in folds]
    assert chosen_on
    assert all(sorted(places) in allowed for places in chosen_on)
    assert any("new stretches of these images" in warning for warning in run.info["warnings"])
    full = run.points.loc[run.points["rung"] == "full", "point_id"].iloc[0]
    test = run.results[(run.results["point_id"] == full) & (run.results["split"] == "test")]
    assert test.loc[test["metric"] == "average_precision", "value"].iloc[0] > 0.7  # a channel holds the truth


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"tile": None}, "spec.yaml:4:13  split.by: blocks are made of tiles, and images are not cut: set tile"),
        ({"tile": "{size: 200}"}, "spec.yaml:4:27  split.size: blocks of 160 px cannot hold tiles of 200 px: at least"),
        (
            {
                "data": "{use: odd, with: {groups: 2, images: 1, height: 64, width: 320, concept: disc}}",
                "split": "{by: blocks, size: 160, buffer: 1000, folds: 2, validation: 0.3}",
            },
            "spec.yaml:4:8  fold 1 of 2 has no positive 'disc' in training",
        ),
    ],
)
def test_what_cannot_be_is_said_at_its_place(experiment: Spec, keys: dict[str, str | None], complaint: str) -> None:
    with pytest.raises(ProbekitError) as caught:
        probekit.run(experiment(**{**BY_BLOCKS, **keys}))
    lines = [str(issue) for issue in caught.value.issues]
    assert lines[0].startswith(complaint)
    assert all("\n" not in line for line in lines)
