"""What each selected channel shows: its profile, and windows of photographs in which it is high, low, or undecided."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probekit.api import POSITIVE, VOID, ImageRef, map_in_threads
from probekit.compare.profiles import Profile, extreme_cells, profile, quantise, scale, window
from probekit.features.store import Collection
from probekit.runner.dataset import Cut, Dataset
from probekit.runner.folder import write_atomically
from probekit.runner.scoring import ReferenceCells, resampler

Row = dict[str, Any]

Layer = tuple[str, str]
"""(backbone, layer)."""

CHUNK_BYTES = 256 * 2**20
"""Channels held at once, each at all reference cells: those beyond it are read in a further pass over the features."""

PICTURE = 320
"""Longest side of a picture, in pixels."""

PICTURES = "pictures"


def write_exemplars(
    folder: Path,
    dataset: Dataset,
    cells: ReferenceCells,
    collections: Mapping[Layer, Collection],
    selected: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]],
    count: int,
    threads: int = 1,
) -> tuple[list[Row], list[Row]]:
    """Profiles the selected channels, and writes the ``pictures`` of their exemplars into a run's folder.

    A channel is read at all reference cells at once, so that its ranking, its threshold and its extremes are exact;
    at most ``CHUNK_BYTES`` of channels are held, and a layer's features are read once for each such chunk.

    Args:
        cells: labels and groups of the reference cells.
        collections: (backbone, layer) -> its features.
        selected: (backbone, layer, concept) -> rows of ``channels`` of its final fit, by rank; layers without are not
            read.
        count: exemplars of each kind; 0 for none.
        threads: how many cuts, channels and photographs are worked on at a time; the result does not depend on it.

    Returns:
        The rows of ``profiles`` and of ``exemplars``.
    """
    shutil.rmtree(folder / PICTURES, ignore_errors=True)  # what a kill left
    (folder / PICTURES).mkdir()
    images = _Images(dataset)
    album = _Album(images)
    profiles: list[Row] = []
    exemplars: list[Row] = []
    for (backbone, layer), collection in collections.items():
        chosen = {name: selected.get((backbone, layer, name), ()) for name in dataset.concepts}
        shown = _show_layer(images, dataset, cells, collection, chosen, count, threads)
        for name, rows in chosen.items():
            for row in rows:
                channel = int(row["channel"])
                identity = {"backbone": backbone, "layer": layer, "concept": name, "channel": channel}
                its = shown[channel]
                used_by = [other for other in its if other != name]
                profiles.append({**identity, **_profile_row(its[name].profile, row), "used_by": used_by})
                exemplars += [{**identity, **one, "picture": album.number(one)} for one in its[name].exemplars]
    album.write(folder / PICTURES, threads)
    return profiles, exemplars


@dataclass(frozen=True)
class _Shown:
    profile: Profile
    exemplars: Sequence[Row]


class _Images:
    """The reference cells image by image: all cuts of an image follow one another."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.refs: list[ImageRef] = []
        self._places: list[list[int]] = []
        for image, places in dataset.by_image():
            self.refs.append(image)
            self._places.append(places)
        self.cell = round(dataset.cuts[0].reference.to_pixels.step_x)
        """Side of a reference cell, in pixels."""

    def open(self, number: int) -> NDArray[np.uint8]:
        """The photograph."""
        return self._dataset.source.open(self.refs[number])

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Image id -> its number."""
        return {image.id: number for number, image in enumerate(self.refs)}

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each image's cells begin, (images + 1,)."""
        return self._dataset.offsets[[*(places[0] for places in self._places), len(self._dataset.cuts)]]

    def shape(self, number: int) -> tuple[int, int]:
        """Rows and columns of the image's reference grid."""
        image = self.refs[number]
        return -(-image.height // self.cell), -(-image.width // self.cell)

    def place(self, flat: int) -> tuple[int, int]:
        """Row and column, on the image's grid, of the cell at a place of the flat order."""
        starts = self._dataset.offsets
        cut = int(np.searchsorted(starts, flat, side="right")) - 1
        reference = self._dataset.cuts[cut].reference
        row, column = divmod(flat - int(starts[cut]), reference.columns)
        top, left = self._corner(self._dataset.cuts[cut])
        return top + row, left + column

    def map(self, number: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image's part of flat values, as a map (rows, columns)."""
        whole = np.zeros(self.shape(number), dtype=values.dtype)
        for cut in self._places[number]:
            reference = self._dataset.cuts[cut].reference
            top, left = self._corner(self._dataset.cuts[cut])
            part = values[self._dataset.offsets[cut] : self._dataset.offsets[cut + 1]]
            into = whole[top : top + reference.rows, left : left + reference.columns]
            into[:] = part.reshape(reference.rows, reference.columns)
        return whole

    def _corner(self, cut: Cut) -> tuple[int, int]:
        at = cut.reference.to_pixels
        return round(at.offset_y / self.cell), round(at.offset_x / self.cell)


def _show_layer(
    images: _Images,
    dataset: Dataset,
    cells: ReferenceCells,
    collection: Collection,
    chosen: Mapping[str, Sequence[Mapping[str, Any]]],
    count: int,
    threads: int,
) -> dict[int, dict[str, _Shown]]:
    """channel -> concept -> what it shows, concepts in the dataset's order."""
    against: dict[int, dict[str, bool]] = {}
    for name in dataset.concepts:
        for row in chosen[name]:
            coefficient = row["coefficient"]
            against.setdefault(int(row["channel"]), {})[name] = coefficient is not None and coefficient < 0

    def show(one: tuple[int, NDArray[np.float32]]) -> dict[str, _Shown]:
        channel, values = one
        ends = scale(values)
        return {
            name: _show(images, cells, dataset.concepts.index(name), values, is_against, count, ends)
            for name, is_against in against[channel].items()
        }

    found: dict[int, dict[str, _Shown]] = {}
    channels = sorted(against)
    size = max(1, CHUNK_BYTES // (4 * int(dataset.offsets[-1])))
    for start in range(0, len(channels), size):
        chunk = channels[start : start + size]
        values = _read(dataset, collection, chunk, threads)
        shown = map_in_threads(show, zip(chunk, values, strict=True), threads)
        found.update(zip(chunk, shown, strict=True))
    return found


def _read(dataset: Dataset, collection: Collection, channels: Sequence[int], threads: int) -> NDArray[np.float32]:
    """Channels at all reference cells, read there as scores are, (channels, cells)."""
    values = np.empty((len(channels), int(dataset.offsets[-1])), dtype=np.float32)

    def read(place: int) -> None:
        features, grid = collection.read(dataset.cuts[place].key)
        maps = np.ascontiguousarray(features[:, channels].T).reshape(-1, grid.rows, grid.columns)
        part = slice(int(dataset.offsets[place]), int(dataset.offsets[place + 1]))
        values[:, part] = resampler(dataset, collection, place)(maps).reshape(len(channels), -1)

    map_in_threads(read, range(len(dataset.cuts)), threads)
    return values


def _show(
    images: _Images,
    cells: ReferenceCells,
    concept: int,
    values: NDArray[np.float32],
    against: bool,
    count: int,
    ends: tuple[float, float],
) -> _Shown:
    """One channel for one concept. Its exemplars are cells that are scored: ambiguous ones would show nothing."""
    labels = cells.labels[concept]
    scored = labels != VOID
    found = profile(values[scored], labels[scored] == POSITIVE, against)
    wanted = {"highest": values, "lowest": -values, "threshold": -np.abs(values - np.float32(found.threshold))}
    if np.isnan(found.threshold):
        del wanted["threshold"]
    exemplars: list[Row] = []
    for kind, towards in wanted.items() if count else ():
        best = extreme_cells(np.where(scored, towards, np.float32(-np.inf)), images.offsets, cells.group, count)
        for number, flat in enumerate(best.tolist()):
            image = int(np.searchsorted(images.offsets, flat, side="right")) - 1
            row, column = images.place(flat)
            n_rows, n_columns = images.shape(image)
            (top, rows), (left, columns) = window(row, n_rows), window(column, n_columns)
            part = images.map(image, values)[top : top + rows, left : left + columns]
            exemplars.append(
                {
                    "kind": kind,
                    "number": number,
                    "image": images.refs[image].id,
                    "row": row,
                    "column": column,
                    "value": float(values[flat]),
                    "top": top,
                    "left": left,
                    "rows": rows,
                    "columns": columns,
                    "activation": quantise(part, *ends).tobytes(),
                    "low": ends[0],
                    "high": ends[1],
                }
            )
    return _Shown(found, exemplars)


def _profile_row(found: Profile, row: Mapping[str, Any]) -> Row:
    numbers = {
        "mean_inside": found.inside,
        "mean_outside": found.outside,
        "deviation": found.deviation,
        "selectivity": found.selectivity,
        "alone": found.alone,
    }
    kept = {key: row[key] for key in ("rank", "coefficient", "folds")}
    return {**kept, **{key: None if np.isnan(value) else value for key, value in numbers.items()}}


class _Album:
    """The pictures that exemplars show, one a distinct window, numbered in order of first use."""

    def __init__(self, images: _Images) -> None:
        self._images = images
        self._numbers: dict[tuple[int, int, int, int, int], int] = {}

    def number(self, exemplar: Mapping[str, Any]) -> int:
        """The picture of an exemplar's window."""
        place = (exemplar[key] for key in ("top", "left", "rows", "columns"))
        key = (self._images.numbers[exemplar["image"]], *place)
        return self._numbers.setdefault(key, len(self._numbers))

    def write(self, folder: Path, threads: int) -> None:
        """Writes ``NNNNNN.webp``; each photograph is decoded once."""
        windows: dict[int, list[tuple[int, int, int, int, int]]] = {}
        for (image, *place), picture in self._numbers.items():
            top, left, rows, columns = (at * self._images.cell for at in place)
            windows.setdefault(image, []).append((picture, top, left, rows, columns))

        def write(image: int) -> None:
            pixels = self._images.open(image)
            for picture, top, left, rows, columns in windows[image]:
                part = pixels[top : top + rows, left : left + columns]
                write_atomically(folder / f"{picture:06d}.webp", _webp(part))

        map_in_threads(write, windows, threads)


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()
