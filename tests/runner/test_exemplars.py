"""Exemplars are the extremes that they say they are, wherever an image is cut."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probekit.api import POSITIVE, VOID, Affine, Grid
from probekit.runner.comparisons import exemplars
from probekit.runner.comparisons.exemplars import write_exemplars
from probekit.runner.dataset import Cut, Dataset, cuts_of
from probekit.runner.scoring import ReferenceCells, common_cells
from probekit.runner.shared_cells import reference_features
from probekit.testing.fakes import DiscParameters, DiscSource

CHANNELS = 5
CELL = 8
COUNT = 3
LAYER = ("noisy", "cells")


class Noise:
    """A layer of seeded noise, but for channel 1, the image's brightness, and channel 3, which does not vary."""

    channels = CHANNELS

    def __init__(self, dataset: Dataset) -> None:
        self._maps = {}
        for number, cut in enumerate(dataset.cuts):
            window, stride = cut.tile.window, 16
            rows, columns = -(-window.height // stride), -(-window.width // stride)
            affine = Affine(float(stride), float(stride), float(window.x), float(window.y))
            values = np.random.default_rng(number).normal(size=(rows * columns, CHANNELS)).astype(np.float32)
            pixels = np.pad(
                cut.crop(dataset.source.open(cut.image)).mean(axis=2),
                ((0, rows * stride - window.height), (0, columns * stride - window.width)),
                mode="edge",
            )
            values[:, 1] = pixels.reshape(rows, stride, columns, stride).mean(axis=(1, 3)).ravel()
            values[:, 3] = 2.0
            self._maps[cut.key] = values, Grid(rows, columns, affine, rows, columns)

    def grid(self, key: str) -> Grid:
        return self._maps[key][1]

    def read(self, key: str) -> tuple[np.ndarray, Grid]:
        return self._maps[key]


def dataset_of(height: int, width: int, tile: tuple[int, int] | None = None, groups: int = 4) -> Dataset:
    source = DiscSource(DiscParameters(groups=groups, images=2, height=height, width=width, radius=24.0))
    cuts: list[Cut] = []
    for image in source.images():
        cuts += [replace(cut, group=int(image.group[1:])) for cut in cuts_of(image, 0, CELL, tile)]
    labels = tuple(
        tuple(cut.labels(source.mask(cut.image, concept), cut.reference, (0.25, 0.05)) for cut in cuts)
        for concept in source.concepts
    )
    names = tuple(f"g{group:02d}" for group in range(groups))
    outer = (None,) * groups
    return Dataset(source, tuple(source.concepts), names, outer, tuple(cuts), labels, (0.25, 0.05), ())


def fit(*channels: int) -> list[dict[str, Any]]:
    """Rows of ``channels``; odd ones speak for the concept."""
    return [
        {"channel": channel, "rank": rank, "coefficient": 1.0 if channel % 2 else -1.0, "folds": 1.0}
        for rank, channel in enumerate(channels, start=1)
    ]


SELECTED = {(*LAYER, "disc"): fit(1, 0, 3), (*LAYER, "square"): fit(4, 1)}


class Made:
    """What was written for a dataset, and the features that it was made of."""

    def __init__(self, folder: Path, dataset: Dataset, count: int = COUNT, threads: int = 1) -> None:
        self.folder, self.dataset = folder, dataset
        collection: Any = Noise(dataset)
        self.cells: ReferenceCells = common_cells(dataset, [collection])
        self.profiles, self.exemplars = write_exemplars(
            folder, dataset, self.cells, {LAYER: collection}, SELECTED, count, threads
        )
        self.features = reference_features(dataset, collection, np.arange(int(dataset.offsets[-1])))
        self.image = np.repeat([cut.image.id for cut in dataset.cuts], np.diff(dataset.offsets))
        corners = [(cut.reference.to_pixels, cut.reference) for cut in dataset.cuts]
        at = [
            (int(to.offset_y) // CELL + row, int(to.offset_x) // CELL + column)
            for to, grid in corners
            for row in range(grid.rows)
            for column in range(grid.columns)
        ]
        self.place = np.array(at)

    def map(self, image: str, channel: int) -> np.ndarray:
        of = self.image == image
        rows, columns = self.place[of].T
        whole = np.full((rows.max() + 1, columns.max() + 1), np.nan)
        whole[rows, columns] = self.features[of, channel]
        return whole


@pytest.fixture(scope="module", params=["whole", "tiled", "large"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    height, width, tile = {
        "whole": (90, 131, None),
        "tiled": (200, 260, (128, 32)),
        "large": (640, 810, None),
    }[request.param]
    return Made(tmp_path_factory.mktemp(request.param), dataset_of(height, width, tile))


def test_profiles_are_of_the_selected_channels(made: Made) -> None:
    listed = [(row["concept"], row["channel"], row["rank"], row["used_by"]) for row in made.profiles]
    assert listed == [
        ("disc", 1, 1, ["square"]),
        ("disc", 0, 2, []),
        ("disc", 3, 3, []),
        ("square", 4, 1, []),
        ("square", 1, 2, ["disc"]),
    ]
    for row in made.profiles:
        labels = made.cells.labels[made.dataset.concepts.index(row["concept"])]
        values = made.features[:, row["channel"]].astype(float)
        assert row["mean_inside"] == pytest.approx(values[labels == POSITIVE].mean(), rel=1e-4)
        assert row["mean_outside"] == pytest.approx(values[labels == 0].mean(), rel=1e-4)
    brightness, constant = made.profiles[0], made.profiles[2]
    assert brightness["selectivity"] > 1.5
    assert brightness["alone"] > 0.6
    assert constant["deviation"] == 0
    assert constant["selectivity"] is None


def test_exemplars_are_the_extremes_of_different_images(made: Made) -> None:
    assert {row["kind"] for row in made.exemplars} == {"highest", "lowest", "threshold"}
    for profile in made.profiles:
        concept, channel = profile["concept"], profile["channel"]
        scored = made.cells.labels[made.dataset.concepts.index(concept)] != VOID
        of = [row for row in made.exemplars if (row["concept"], row["channel"]) == (concept, channel)]
        assert len(of) == 3 * COUNT
        values = made.features[:, channel]
        images = sorted(set(made.image))
        extremes = {
            "highest": [values[scored & (made.image == image)].max() for image in images],
            "lowest": [values[scored & (made.image == image)].min() for image in images],
        }
        for kind, sign in (("highest", -1), ("lowest", 1)):
            rows = [row for row in of if row["kind"] == kind]
            assert [row["number"] for row in rows] == list(range(COUNT))
            assert rows[0]["value"] == sign * min(sign * value for value in extremes[kind])
            assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), key=lambda v: sign * v)
            for row in rows:
                assert row["value"] == extremes[kind][images.index(row["image"])]
        for kind in ("highest", "lowest", "threshold"):
            assert len({row["image"][:3] for row in of if row["kind"] == kind}) == COUNT  # as many groups
        for row in of:
            flat = (made.image == row["image"]) & (made.place == [row["row"], row["column"]]).all(axis=1)
            assert values[flat].item() == row["value"]
            assert scored[flat].item()


def test_windows_lie_in_the_image_and_bytes_near_the_features(made: Made) -> None:
    for row in made.exemplars:
        whole = made.map(row["image"], row["channel"])
        assert 0 <= row["top"] <= row["row"] < row["top"] + row["rows"] <= whole.shape[0]
        assert 0 <= row["left"] <= row["column"] < row["left"] + row["columns"] <= whole.shape[1]
        part = whole[row["top"] :, row["left"] :][: row["rows"], : row["columns"]]
        found = np.frombuffer(row["activation"], dtype=np.uint8).reshape(row["rows"], row["columns"])
        step = (row["high"] - row["low"]) / 255
        away = np.abs(row["low"] + step * found - np.clip(part, row["low"], row["high"]))
        assert away.max() <= step / 2 * (1 + 1e-6)
        assert found.any() == (row["channel"] != 3)


def test_pictures_show_their_windows(made: Made) -> None:
    """One a distinct window, numbered in order of first use."""
    windows: dict[tuple[Any, ...], int] = {}
    refs = {image.id: image for image, _ in made.dataset.by_image()}
    for row in made.exemplars:
        key = tuple(row[name] for name in ("image", "top", "left", "rows", "columns"))
        assert windows.setdefault(key, len(windows)) == row["picture"]
    files = sorted((made.folder / "pictures").iterdir())
    assert [path.name for path in files] == [f"{number:06d}.webp" for number in range(len(windows))]
    for (image, top, left, rows, columns), number in windows.items():
        pixels = made.dataset.source.open(refs[image])
        shown = pixels[top * CELL :, left * CELL :][: rows * CELL, : columns * CELL]
        with Image.open(files[number]) as picture:
            assert max(picture.size) == min(320, max(shown.shape[:2]))
            assert picture.width / picture.height == pytest.approx(shown.shape[1] / shown.shape[0], rel=0.02)
            small = np.asarray(picture.convert("L").resize((8, 8)), dtype=float)
        expected = np.asarray(Image.fromarray(shown).convert("L").resize((8, 8)), dtype=float)
        assert np.abs(small - expected).mean() < 6


def test_the_same_is_written_again_in_chunks_of_one_channel_and_in_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of(90, 131)
    (tmp_path / "one" / "pictures").mkdir(parents=True)
    (tmp_path / "one" / "pictures" / "000999.webp").write_bytes(b"what a kill left")
    one = Made(tmp_path / "one", dataset)
    monkeypatch.setattr(exemplars, "CHUNK_BYTES", 1)
    (tmp_path / "two").mkdir()
    two = Made(tmp_path / "two", dataset, threads=3)
    assert one.profiles == two.profiles
    assert one.exemplars == two.exemplars
    contents = [{path.name: path.read_bytes() for path in (made.folder / "pictures").iterdir()} for made in (one, two)]
    assert contents[0] == contents[1]
    assert "000999.webp" not in contents[0]
    assert all(Image.open(io.BytesIO(content)).format == "WEBP" for content in contents[0].values())


def test_fewer_groups_than_exemplars_fill_up_with_their_images(tmp_path: Path) -> None:
    made = Made(tmp_path, dataset_of(64, 80, groups=2))
    rows = [row for row in made.exemplars if (row["channel"], row["concept"], row["kind"]) == (0, "disc", "highest")]
    assert len({row["image"] for row in rows}) == COUNT
    assert len({row["image"][:3] for row in rows}) == 2


def test_without_exemplars_there_are_profiles_alone(tmp_path: Path) -> None:
    made = Made(tmp_path, dataset_of(64, 80), count=0)
    assert len(made.profiles) == 5
    assert not made.exemplars
    assert not any((tmp_path / "pictures").iterdir())
