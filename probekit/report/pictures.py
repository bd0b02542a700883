"""A run's pictures: what a channel shows, and what a probe finds, on photographs. Made from a run's folder alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from probekit.api import POSITIVE, VOID
from probekit.compare.profiles import quantise
from probekit.evaluate.scores import Confusion, confusion
from probekit.report.digits import digits
from probekit.report.paint import Canvas, Style
from probekit.runner.run import Run

RULE = (
    "Of the test images that hold a positive cell, those of the best, the median and the worst F1; of equals the "
    "first by name. Each cell is called by the fold that was not trained on its group, at that fold's threshold, in "
    "the first draw of the data."
)
"""How the images of :func:`detections` are chosen: not by hand."""

Kind = Literal["best", "median", "worst"]
KINDS: tuple[Kind, ...] = ("best", "median", "worst")

TRUE = Style((72, 170, 255), "solid")
FALSE = Style((255, 158, 27), "dashed", hatched=True)
MISSED = Style((255, 255, 255), "dotted")
"""Cells that are found, called falsely, and missed."""

_LARGE = 480
_CHANNEL = ("backbone", "layer", "concept", "channel")


@dataclass(frozen=True)
class Detection:
    """A test image with what the probe calls on it.

    Attributes:
        kind: which of the images it is (see ``RULE``).
        image: its name.
        f1: of its scored cells, as are the counts.
        webp: the picture: true cells solid, false ones dashed and hatched, missed ones dotted.
        alt: one sentence for who does not see it.
    """

    kind: Kind
    image: str
    f1: float
    tp: int
    fp: int
    fn: int
    webp: bytes
    alt: str


def exemplar_picture(run: Run, exemplar: Mapping[str, Any], size: int = 200) -> bytes:
    """The window of an exemplar, grey, with the channel over it and the concept outlined.

    Orange is where the channel is above its mean outside the concept, blue where it is below; as strong as it is far
    from that mean, on the channel's own scale. A ring marks the cell that is the exemplar; void cells are dotted.

    Args:
        exemplar: a row of ``exemplars``.
        size: longest side, in pixels.

    Returns:
        WebP.
    """
    cells = _cells_of(run)
    top, left, rows, columns = (int(exemplar[key]) for key in ("top", "left", "rows", "columns"))
    height, width = cells.extent(exemplar["image"])
    photograph = _read(_picture_path(run, exemplar["picture"]))
    canvas = Canvas(photograph, size, (min(rows, height - top), min(columns, width - left)))
    canvas.mute(colour=0.0, contrast=0.7)
    activation = np.frombuffer(exemplar["activation"], dtype=np.uint8).reshape(rows, columns)
    canvas.tint(_from_mean(activation, _mean_outside(cells, exemplar)))
    labels = cells.map(exemplar["image"], cells.labels(exemplar["concept"]))[top : top + rows, left : left + columns]
    canvas.veil(labels == VOID)
    canvas.outline(labels == POSITIVE)
    canvas.ring(int(exemplar["row"]) - top, int(exemplar["column"]) - left)
    return canvas.webp()


def exemplar_alt(run: Run, exemplar: Mapping[str, Any]) -> str:
    """What :func:`exemplar_picture` shows, in one sentence."""
    cells, concept = _cells_of(run), exemplar["concept"]
    top, left, rows, columns = (int(exemplar[key]) for key in ("top", "left", "rows", "columns"))
    labels = cells.map(exemplar["image"], cells.labels(concept))[top : top + rows, left : left + columns]
    positive = labels == POSITIVE
    where = {"highest": "among its highest", "lowest": "among its lowest", "threshold": "near its own threshold"}
    row, column = int(exemplar["row"]), int(exemplar["column"])
    at = {POSITIVE: f"is {concept}", VOID: f"is void for {concept}"}.get(
        int(labels[row - top, column - left]), f"is not {concept}"
    )
    return (
        f"Channel {int(exemplar['channel'])} of {exemplar['backbone']} {exemplar['layer']} on {exemplar['image']}: "
        f"{where[exemplar['kind']]} ({exemplar['value']:.2f}) at row {row + 1}, column {column + 1} of the image's "
        f"cells, which {at}; {int(positive.sum())} of {positive.size} cells in view are outlined as {concept}."
    )


def _from_mean(activation: NDArray[np.uint8], mean: float) -> NDArray[np.float64]:
    """How far each cell is from the mean (on the same scale of bytes), in [-1, 1]: 1 is the scale's farther end."""
    return (activation.astype(np.float64) - mean) / max(255.0 - mean, mean)


def _mean_outside(cells: _Cells, exemplar: Mapping[str, Any]) -> float:
    """The channel's mean outside the concept, as a byte on the exemplar's scale; its lower end where there is none."""
    mean = cells.means_outside[tuple(exemplar[key] for key in _CHANNEL)]
    ends = float(exemplar["low"]), float(exemplar["high"])
    return float(quantise(np.array(ends[0] if np.isnan(mean) else mean, dtype=np.float32), *ends))


def has_picture(run: Run, picture: int) -> bool:
    """Whether the run's folder has this photograph of exemplars, which :func:`exemplar_picture` needs."""
    return _picture_path(run, picture).is_file()


def _picture_path(run: Run, number: Any) -> Path:
    return run.path / "pictures" / f"{int(number):06d}.webp"


def detections(run: Run, backbone: str, layer: str, concept: str, most: int = len(KINDS)) -> list[Detection]:
    """The images that ``RULE`` chooses, with the cells that the reported probe's ``full`` point (``chosen`` where it
    has none) calls. Fewer where fewer images hold a positive; none where no image does. What the run's folder has no
    photograph of is left out.

    Args:
        most: how many; of two the best and the worst, of one the median.
    """
    cells = _cells_of(run)
    labels, called = cells.labels(concept), _called(run, cells, backbone, layer, concept)
    scored = (labels != VOID) & (called >= 0)
    found: list[tuple[str, Confusion]] = []
    for image in cells.images:
        part = cells.part(image)
        y = labels[part][scored[part]] == POSITIVE
        if y.any():
            found.append((image, confusion(called[part][scored[part]] == 1, y)))
    found.sort(key=lambda one: (-one[1].f1, one[0]))
    if not found:
        return []
    worst = next(i for i, (_, counts) in enumerate(found) if counts.f1 == found[-1][1].f1)
    middle = (len(found) - 1) // 2
    places: dict[int, Kind] = {middle: "median"} if most == 1 else {worst: "worst", 0: "best"}
    if most > 2:
        places = {worst: "worst", middle: "median", 0: "best"}
    shown = [
        _detection(run, cells, kind, *found[place], concept, labels, called, len(found))
        for place, kind in sorted(places.items())
    ]
    return [one for one in shown if one is not None]


def _detection(
    run: Run,
    cells: _Cells,
    kind: Kind,
    image: str,
    counts: Confusion,
    concept: str,
    labels: NDArray[np.int8],
    called: NDArray[np.int8],
    of: int,
) -> Detection | None:
    photograph = _whole(run, cells, image)
    if photograph is None:
        return None
    truth, call = cells.map(image, labels), cells.map(image, called)
    canvas = Canvas(photograph, _LARGE, cells.extent(image))
    canvas.mute(colour=0.35, contrast=0.8)
    canvas.veil((truth == VOID) | (call < 0))
    canvas.mark((truth == POSITIVE) & (call == 0), MISSED)
    canvas.mark((truth != POSITIVE) & (truth != VOID) & (call == 1), FALSE)
    canvas.mark((truth == POSITIVE) & (call == 1), TRUE)
    alt = (
        f"{concept} on {image}, the {kind} of {of} test images by F1 ({digits(counts.f1)}): {counts.tp} cells found, "
        f"{counts.fp} called falsely, {counts.fn} missed."
    )
    return Detection(kind, image, counts.f1, counts.tp, counts.fp, counts.fn, canvas.webp(), alt)


def _whole(run: Run, cells: _Cells, image: str) -> NDArray[np.uint8] | None:
    """The photograph: an exemplar's picture where one shows all of it, else its thumbnail; none where neither is."""
    picture = cells.whole_pictures.get(image)
    paths = [] if picture is None else [_picture_path(run, picture)]
    paths.append(run.path / "sample" / "thumbnails" / f"{cells.images.index(image):06d}.webp")
    return next((_read(path) for path in paths if path.is_file()), None)


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _called(run: Run, cells: _Cells, backbone: str, layer: str, concept: str) -> NDArray[np.int8]:
    """Whether each reference cell is called positive; -1 where no fold tested it."""
    points, fits, folds = run.points, run.fits, run.table("folds")
    unit = {"backbone": backbone, "layer": layer, "concept": concept, "probe": run.info["reported_probe"], "repeat": 0}
    for key, value in unit.items():
        points = points[points[key] == value]
    rungs = dict(zip(points["rung"], points["point_id"], strict=True))
    fits = fits[(fits["fold"] >= 0) & fits["point_id"].isin(points["point_id"])]
    fits = fits[fits["point_id"] == rungs["full"]] if "full" in rungs else fits[fits["chosen"].astype(bool)]
    thresholds = ((fits["threshold"] - fits["margin_mean"]) / fits["margin_deviation"]).to_numpy()
    by_fold = dict(zip(fits["fold"], thresholds, strict=True))
    folds = folds[folds["repeat"] == 0]
    by_group = {group: by_fold[fold] for group, fold in zip(folds["group"], folds["fold"], strict=True)}
    at = np.array([by_group.get(group, np.nan) for group in cells.groups])[cells.group]
    margins = _margins(run, rungs["full" if "full" in rungs else "chosen"])
    # Margins were standardised and rounded to float32: a threshold must be rounded as they were.
    return np.where(np.isnan(margins) | np.isnan(at), -1, margins >= at.astype(np.float32)).astype(np.int8)


def _margins(run: Run, point: str) -> NDArray[np.float32]:
    """Pooled test scores of a point, in the order of ``cells``."""
    for path in sorted((run.path / "scores").glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            points = json.loads(file.metadata()["points"])
            if point in points:
                row: NDArray[np.float32] = file.get_slice("margins")[points.index(point)]
                return row
    raise KeyError(f"no scores of {point}")


class _Cells:
    """The reference cells of a run, image by image, and what else its pictures are made of."""

    def __init__(self, run: Run) -> None:
        self._folder = run.path
        self._table = pq.read_table(run.path / "cells.parquet")
        self.images: Sequence[str] = run.info["images"]
        self._sizes: Sequence[tuple[int, int]] = run.info["sizes"]
        self._cell = int(run.info["spec"]["evaluation"]["grid"])
        self._numbers = {image: number for number, image in enumerate(self.images)}
        self.groups, self.group = self._codes("group")
        names, codes = self._codes("image")
        numbers = np.array([self._numbers[name] for name in names])[codes]
        self._starts = np.searchsorted(numbers, np.arange(len(self.images) + 1))
        self._row, self._column = (self._table[key].to_numpy() for key in ("row", "column"))

    def _codes(self, column: str) -> tuple[Sequence[str], NDArray[np.int32]]:
        values = self._table[column].combine_chunks().dictionary_encode()
        return values.dictionary.to_pylist(), values.indices.to_numpy()

    @cached_property
    def means_outside(self) -> Mapping[tuple[Any, ...], float]:
        """(backbone, layer, concept, channel) -> its mean outside the concept; NaN where there is none."""
        table = pq.read_table(self._folder / "profiles.parquet", columns=[*_CHANNEL, "mean_outside"])
        means = table.column("mean_outside").to_numpy()  # null is NaN
        channels = zip(*(table.column(key).to_pylist() for key in _CHANNEL), strict=True)
        return dict(zip(channels, means.tolist(), strict=True))

    @cached_property
    def whole_pictures(self) -> Mapping[str, int]:
        """Image -> the picture that shows all of it, where there is one."""
        columns = ["image", "rows", "columns", "picture"]
        rows = pq.read_table(self._folder / "exemplars.parquet", columns=columns).to_pylist()
        return {
            row["image"]: row["picture"] for row in rows if (row["rows"], row["columns"]) == self.shape(row["image"])
        }

    def part(self, image: str) -> slice:
        """Where the image's cells lie in the flat order."""
        number = self._numbers[image]
        return slice(int(self._starts[number]), int(self._starts[number + 1]))

    def extent(self, image: str) -> tuple[float, float]:
        """(height, width) of the photograph, in cells."""
        height, width = self._sizes[self._numbers[image]]
        return height / self._cell, width / self._cell

    def shape(self, image: str) -> tuple[int, int]:
        """Rows and columns of the image's grid."""
        height, width = self._sizes[self._numbers[image]]
        return -(-height // self._cell), -(-width // self._cell)

    def labels(self, concept: str) -> NDArray[np.int8]:
        """Of every cell."""
        values: NDArray[np.int8] = self._table[f"label {concept}"].to_numpy()
        return values

    def map(self, image: str, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """The image's part of flat values, (rows, columns)."""
        part = self.part(image)
        whole = np.full(self.shape(image), VOID, dtype=np.int8)
        whole[self._row[part], self._column[part]] = values[part]
        return whole


_CELLS: WeakKeyDictionary[Run, _Cells] = WeakKeyDictionary()


def _cells_of(run: Run) -> _Cells:
    """Read once a run: a report makes hundreds of pictures."""
    if run not in _CELLS:
        _CELLS[run] = _Cells(run)
    return _CELLS[run]
