"""Pictures show what the tables say, made from a run's folder alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors.numpy import save_file

from probekit.report.pictures import Detection, detections, exemplar_alt, exemplar_picture
from probekit.runner.run import Run
from probekit.runner.tables import write_arrow, write_table

CELL, HEIGHT, WIDTH = 16, 120, 160  # 7.5 by 10 cells: the last row reaches beyond the photograph
ROWS, COLUMNS = 8, 10
LAYER = {"backbone": "net", "layer": "l1", "concept": "hole"}
POINT = "net|l1|hole|topk|0|observed|full"


def coloured(webp: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(webp)) as picture:
        assert picture.format == "WEBP"
        return np.asarray(picture.convert("RGB"), dtype=float)


def warmth(pixels: np.ndarray) -> float:
    """Red less blue: above zero for orange."""
    return float((pixels[..., 0] - pixels[..., 2]).mean())


@dataclass
class Image3:
    """An image of the small run: its labels, and the margins that a probe gives its cells, each (rows, columns)."""

    name: str
    fold: int
    labels: np.ndarray
    margins: np.ndarray


def image(name: str, fold: int, positive: int, called: int, missed: int = 0) -> Image3:
    """``positive`` cells are so; of these all but ``missed`` are called, and ``called`` others."""
    labels, margins = np.zeros(ROWS * COLUMNS, dtype=np.int8), np.zeros(ROWS * COLUMNS, dtype=np.float32)
    labels[:positive] = 1
    labels[-COLUMNS:] = 2
    margins[missed : positive + called] = (1.0, 3.0)[fold]
    margins[-COLUMNS:] = 9.0
    return Image3(name, fold, labels.reshape(ROWS, COLUMNS), margins.reshape(ROWS, COLUMNS))


SMALL = [
    image("a", 0, positive=4, called=0, missed=4),  # F1 0
    image("b", 0, positive=6, called=2, missed=2),  # F1 2/3
    image("c", 1, positive=0, called=5),
    image("d", 1, positive=5, called=0),  # F1 1
    image("e", 1, positive=3, called=0, missed=3),  # F1 0
    image("f", 0, positive=8, called=2, missed=4),  # F1 4/7
    image("g", 1, positive=2, called=0),  # F1 1
]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """Writes a run of some images by hand, with one exemplar, on the first of them."""

    def write(images: list[Image3] = SMALL, rung: str = "full") -> Run:
        names = [one.name for one in images]
        at = np.indices((ROWS, COLUMNS)).reshape(2, -1).astype(np.int32)
        per_image = ROWS * COLUMNS
        cells = {
            "image": pa.array(np.repeat(names, per_image)),
            "group": pa.array(np.repeat([f"group {name}" for name in names], per_image)),
            "row": pa.array(np.tile(at[0], len(images))),
            "column": pa.array(np.tile(at[1], len(images))),
            "label hole": pa.array(np.concatenate([one.labels.ravel() for one in images])),
        }
        write_arrow(tmp_path / "cells.parquet", pa.table(cells))
        reported = {"point_id": POINT, **LAYER, "probe": "topk", "repeat": 0, "rung": rung}
        others = [{**reported, "point_id": f"other {i}", "rung": str(i)} for i in range(2)]
        write_table(tmp_path, "points", [*others, reported, {**reported, "point_id": "again", "repeat": 1}])
        scales = [
            {"threshold": 7.0, "margin_mean": 5.0, "margin_deviation": 2.0},  # 1 on the pooled scale
            {"threshold": 0.3, "margin_mean": 0.0, "margin_deviation": 0.1},  # 3
        ]
        chosen = rung == "chosen"  # which is a fit of another rung in each fold
        fits = [
            {"fit_id": str(i), "point_id": f"other {i}" if chosen else POINT, "fold": i, "chosen": chosen, **of}
            for i, of in enumerate(scales)
        ]
        wrong = {"threshold": -9.0, "chosen": False}
        others = [{**fit, **wrong, "point_id": f"other {1 - fit['fold']}"} for fit in fits]
        write_table(tmp_path, "fits", [*fits, *others, {**fits[0], **wrong, "point_id": POINT, "fold": -1}])
        folds = [{"repeat": 0, "fold": one.fold, "group": f"group {one.name}"} for one in images]
        write_table(tmp_path, "folds", [*folds, *({**row, "repeat": 1, "fold": 0} for row in folds)])
        (tmp_path / "scores").mkdir()
        margins = np.stack([np.zeros(len(images) * per_image), *[np.concatenate([i.margins.ravel() for i in images])]])
        save_file(
            {"margins": margins.astype(np.float32)},
            tmp_path / "scores" / "job.safetensors",
            {"points": json.dumps(["another", POINT])},
        )
        (tmp_path / "sample" / "thumbnails").mkdir(parents=True)
        (tmp_path / "pictures").mkdir()
        grey = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 110, dtype=np.uint8))
        for number in range(len(images)):
            grey.save(tmp_path / "sample" / "thumbnails" / f"{number:06d}.webp")
        grey.save(tmp_path / "pictures" / "000000.webp")
        activation = np.full((ROWS, COLUMNS), 51, dtype=np.uint8)
        activation[:, :5], activation[0] = 255, 0
        profile = {**LAYER, "channel": 4, "rank": 1, "coefficient": 1.0, "mean_outside": 1.0}
        write_table(tmp_path, "profiles", [{**profile, "channel": 5, "mean_outside": None}, profile])
        window = {"top": 0, "left": 0, "rows": ROWS, "columns": COLUMNS, "low": 0.0, "high": 5.0, "picture": 0}
        at_cell = {"kind": "highest", "number": 0, "image": names[0], "row": 2, "column": 3, "value": 4.98}
        exemplar = {**LAYER, "channel": 4, **at_cell, **window, "activation": activation.tobytes()}
        write_table(tmp_path, "exemplars", [exemplar])
        info = {
            "images": names,
            "sizes": [[HEIGHT, WIDTH]] * len(images),
            "reported_probe": "topk",
            "spec": {"evaluation": {"grid": CELL}},
        }
        return Run(tmp_path, info)

    return write


def exemplar(run: Run, **changed: Any) -> dict[str, Any]:
    return {**run.table("exemplars").to_dict("records")[0], **changed}


@pytest.mark.parametrize("size", [96, 200, 333])
def test_an_exemplar_is_warm_where_the_channel_is_high_and_cold_where_it_is_low(
    make: Callable[..., Run], size: int
) -> None:
    run = make()
    pixels = coloured(exemplar_picture(run, exemplar(run), size))
    height, width = pixels.shape[:2]
    assert (width, height) == (size, round(size * HEIGHT / WIDTH))
    assert warmth(pixels[height // 3 :, : width // 2 - width // 10]) > 60
    assert abs(warmth(pixels[height // 3 :, width // 2 + width // 10 :])) < 8  # its mean outside
    low = pixels[: height // 16, width // 2 :]
    assert -80 < warmth(low) < -3


def test_an_exemplar_outlines_the_concept_and_rings_the_cell(make: Callable[..., Run]) -> None:
    marked = image("a", 0, positive=0, called=0)
    marked.labels[4:7, 6:9] = 1
    run = make([marked])
    light = coloured(exemplar_picture(run, exemplar(run), 320)).min(axis=2) > 170
    across = light[light.shape[0] * 55 // 75]  # the middle of row 5
    assert across[6 * 32 - 4 : 6 * 32 + 4].any()
    assert across[9 * 32 - 4 : 9 * 32 + 4].any()
    assert not across[6 * 32 + 6 : 9 * 32 - 6].any()
    y, x = np.nonzero(light[: 4 * 32 - 8, : 5 * 32])
    away = np.hypot(y - 2.5 * 32, x - 3.5 * 32)
    assert len(away)
    assert away.max() < 9
    assert away.min() > 3


def test_a_window_of_a_large_image_is_shown_by_itself(make: Callable[..., Run]) -> None:
    run = make()
    part = exemplar(run, top=2, left=4, rows=6, columns=4, activation=bytes([51]) * 24, row=3, column=5)
    assert coloured(exemplar_picture(run, part, 110)).shape[:2] == (110, 80)  # 5.5 by 4 cells are left of it


def test_a_channel_without_a_mean_or_a_scale_is_shown_all_the_same(make: Callable[..., Run]) -> None:
    run = make()
    for changed in ({"channel": 5}, {"high": 0.0}):
        assert coloured(exemplar_picture(run, exemplar(run, **changed))).shape == (150, 200, 3)


def test_the_alternative_text_says_where_and_what(make: Callable[..., Run]) -> None:
    run = make()
    assert exemplar_alt(run, exemplar(run)) == (
        "Channel 4 of net l1 on a: among its highest (4.98) at row 3, column 4 of the image's cells, "
        "which is not hole; 4 of 80 cells in view are outlined as hole."
    )
    assert "which is hole;" in exemplar_alt(run, exemplar(run, row=0, column=0))


@pytest.mark.parametrize("rung", ["full", "chosen"])
def test_detections_are_the_best_the_median_and_the_worst(make: Callable[..., Run], rung: str) -> None:
    found = detections(make(rung=rung), **LAYER)
    assert [(one.kind, one.image, one.tp, one.fp, one.fn) for one in found] == [
        ("best", "d", 5, 0, 0),
        ("median", "b", 4, 2, 2),
        ("worst", "a", 0, 0, 4),
    ]
    assert found[1].f1 == pytest.approx(2 / 3)
    assert found[1].alt == (
        "hole on b, the median of 6 test images by F1 (.667): 4 cells found, 2 called falsely, 2 missed."
    )
    for one in found:
        assert coloured(one.webp).shape == (360, 480, 3)


def test_found_false_and_missed_cells_are_marked_apart(make: Callable[..., Run]) -> None:
    pixels = coloured(detections(make(), **LAYER)[1].webp)
    first, side = pixels[:48], 48
    missed, true, false = first[:, : 2 * side], first[:, 2 * side : 6 * side], first[:, 6 * side : 8 * side]
    assert warmth(true) < -8
    assert warmth(false) > 30
    assert abs(warmth(missed)) < 4
    assert (missed.min(axis=2) > 220).any()
    assert np.abs(pixels[60:300] - pixels[200, 240]).max() < 12  # nothing else is marked


@pytest.mark.parametrize(("count", "kinds"), [(0, []), (1, ["best"]), (2, ["best", "worst"])])
def test_few_images_are_not_shown_twice(make: Callable[..., Run], count: int, kinds: list[str]) -> None:
    images = [image("z", 0, positive=0, called=1), *(image(f"i{n}", 0, 4, 0, missed=n) for n in range(count))]
    assert [one.kind for one in detections(make(images), **LAYER)] == kinds


def test_counts_are_those_of_the_tables(surveyed: Run) -> None:
    """Every image of that run is a group."""
    groups, points = surveyed.table("groups"), surveyed.points
    cells = surveyed.table("cells")
    of_group = dict(zip(cells["image"], cells["group"], strict=True))
    assert len(set(of_group.values())) == len(of_group)
    units = points[points["rung"].isin(["full"]) & (points["repeat"] == 0)]
    units = units[(units["probe"] == surveyed.info["reported_probe"]) & ~units["backbone"].str.endswith("random")]
    assert len(units)
    for unit in units.to_dict("records"):
        found: list[Detection] = detections(surveyed, unit["backbone"], unit["layer"], unit["concept"])
        counts = groups[groups["point_id"] == unit["point_id"]].set_index("group")
        counts = counts[counts["tp"] + counts["fn"] > 0]
        f1 = 2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"])
        assert [one.kind for one in found] == ["best", "median", "worst"]
        for one in found:
            row = counts.loc[of_group[one.image]]
            assert (one.tp, one.fp, one.fn) == (row["tp"], row["fp"], row["fn"])
        assert found[0].f1 == pytest.approx(f1.max())
        assert found[1].f1 == pytest.approx(f1.sort_values(ascending=False).iloc[(len(f1) - 1) // 2])
        assert found[2].f1 == pytest.approx(f1.min())
