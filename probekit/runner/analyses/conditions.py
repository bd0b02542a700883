"""The datasets of the null conditions: the same images, cuts and groups, with labels that mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from probekit.api import (
    POSITIVE,
    VOID,
    ImageRef,
    Issue,
    LabelSource,
    ProbekitError,
    Provenance,
    UnreadableImageError,
)
from probekit.geometry.labels import CellLabels
from probekit.geometry.reference import reference_grid
from probekit.geometry.tiles import Rectangle
from probekit.runner.dataset import Dataset
from probekit.sampling.control_task import cluster_cells, colour_statistics, draw_positive_clusters
from probekit.sampling.permuted import assign_donors
from probekit.sampling.seeds import generator

PERMUTED_LABELS = "permuted-labels"
CONTROL_TASK = "control-task"

_T = TypeVar("_T")
_Places = tuple[ImageRef, list[int]]
"""An image and the places of its cuts."""


@dataclass(frozen=True)
class _Part:
    """What one group holds of an image: all of it, or a block."""

    image: ImageRef
    group: str
    place: Rectangle

    @property
    def name(self) -> str:
        return f"{self.image.id}@{self.place.x},{self.place.y}"


@dataclass(frozen=True, eq=False)
class _OtherMasks:
    """A label source whose masks are not its own; all else is that of the source beneath.

    Attributes:
        source: beneath.
        notes: what a reader of the results should know.
    """

    source: LabelSource
    notes: tuple[str, ...]

    @property
    def concepts(self) -> Sequence[str]:
        return self.source.concepts

    @property
    def provenance(self) -> Provenance:
        return self.source.provenance

    def check(self) -> Sequence[Issue]:
        return self.source.check()

    def images(self) -> Sequence[ImageRef]:
        return self.source.images()

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        return self.source.open(image)

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        return self.source.mask_digest(image, concept)


@dataclass(frozen=True, eq=False)
class _PermutedMasks(_OtherMasks):
    """Masks put together from other parts.

    Attributes:
        donors: image id -> each of its parts, and the part whose masks it gets; for the images of the dataset.
    """

    donors: Mapping[str, Sequence[tuple[_Part, _Part]]]

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """The donors', each from the top left of its part; void where it does not reach."""
        mask = np.full((image.height, image.width), VOID, dtype=np.uint8)
        by_donor = groupby(self.donors[image.id], key=lambda pair: pair[1].image)
        for donor, pairs in by_donor:
            given = self.source.mask(donor, concept)
            for part, other in pairs:
                rows = min(part.place.height, other.place.height)
                columns = min(part.place.width, other.place.width)
                mask[replace(part.place, height=rows, width=columns).slices] = given[
                    replace(other.place, height=rows, width=columns).slices
                ]
        return mask


@dataclass(frozen=True, eq=False)
class _CellMasks(_OtherMasks):
    """Masks painted cell by cell.

    Attributes:
        cell: side of a reference cell, in pixels.
        labels: (image id, concept) -> labels of the image's whole reference grid, for the images of the dataset.
    """

    cell: int
    labels: Mapping[tuple[str, str], NDArray[np.uint8]]

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """Every pixel has its reference cell's label."""
        painted = self.labels[image.id, concept].repeat(self.cell, axis=0).repeat(self.cell, axis=1)
        return painted[: image.height, : image.width]


def permuted_labels(dataset: Dataset, seed: int, threads: int) -> Dataset:
    """The dataset where each image has the label maps of an image of another group (of all concepts alike).

    What position alone can know of a concept survives, all else is lost. Maps are laid on from the top left, cropped to
    the part that both images have; the rest is void. Where images are divided into blocks, each a group, maps of blocks
    are exchanged in the same way. What is void is the donor's affair: the cells that can be scored are not quite the
    observed ones. Cuts, groups, thresholds and what was skipped stay.

    Args:
        dataset: as observed.
        seed: of the run (or of a repeat).
        threads: how many masks are read at once.

    Raises:
        ProbekitError: all images are in one group.
    """
    parts = [part for image, places in dataset.by_image() for part in _parts(dataset, image, places)]
    donors = assign_donors(
        [part.name for part in parts],
        [part.group for part in parts],
        [(part.place.height, part.place.width) for part in parts],
        seed,
    )
    of_image: dict[str, list[tuple[_Part, _Part]]] = {}
    for part, donor in zip(parts, donors.donor.tolist(), strict=True):
        of_image.setdefault(part.image.id, []).append((part, parts[donor]))
    for pairs in of_image.values():
        pairs.sort(key=lambda pair: pair[1].name)  # each donor's mask is read once, one at a time
    notes = (donors.note,) if donors.note is not None else ()
    return _with_masks_of(dataset, _PermutedMasks(dataset.source, notes, of_image), threads)


def control_task(dataset: Dataset, seed: int, threads: int) -> Dataset:
    """The dataset where a cell's label is drawn for its cluster of colours, at each concept's prevalence.

    Clusters are of reference cells and the same for all concepts; the draw is each concept's own. Reference cells that
    are void as observed are void here, for whatever reason, and no others: the same cells are scored, and their share
    of positives is as near the observed one as the drawn clusters come. On a layer's own grid labels are made from the
    cells as from any mask: a coarser cell is positive where enough of the reference cells in it are. Cuts, groups,
    thresholds and what was skipped stay.

    Args:
        dataset: as observed.
        seed: of the run (or of a repeat).
        threads: how many photographs are read at once; 12 bytes are kept of each cell.

    Raises:
        ProbekitError: a photograph that cannot be decoded any more; labelled cells all of one colour; a concept without
            labelled cells.
    """
    images = sorted(dataset.by_image(), key=lambda one: one[0].id)
    cell = int(dataset.cuts[0].reference.to_pixels.step_x)
    statistics = _in_threads(partial(_statistics, dataset.source, cell), images, threads)
    clusters = dict(zip((image.id for image, _ in images), cluster_cells(statistics, seed), strict=True))
    del statistics
    labels: dict[tuple[str, str], NDArray[np.uint8]] = {}
    wrong: list[Issue] = []
    for concept, name in enumerate(dataset.concepts):
        observed = {image.id: _whole_grid(dataset, concept, image, places, cell) for image, places in images}
        counts = np.zeros((2, 256), dtype=np.int64)
        for image, values in observed.items():
            for value in (0, 1):
                counts[value] += np.bincount(clusters[image][values == value], minlength=256)
        cells = counts.sum(axis=0)
        if (cells > 0).sum() < 2:
            wrong.append(
                Issue(name, "no control task can be made: its labelled cells are too few, or all of one colour")
            )
            continue
        prevalence = float(counts[POSITIVE].sum() / cells.sum())
        positive = draw_positive_clusters(cells, prevalence, generator(seed, "control task", name))
        for image, values in observed.items():
            labels[image, name] = np.where(values == VOID, VOID, positive[clusters[image]]).astype(np.uint8)
    if wrong:
        raise ProbekitError(wrong)
    return _with_masks_of(dataset, _CellMasks(dataset.source, (), cell, labels), threads)


def condition_notes(dataset: Dataset) -> tuple[str, ...]:
    """What a reader of a null condition's results should know of how its labels were made; nothing as a rule."""
    return dataset.source.notes if isinstance(dataset.source, _OtherMasks) else ()


def _parts(dataset: Dataset, image: ImageRef, places: Sequence[int]) -> list[_Part]:
    """The groups of an image's cuts, each with the rectangle that its cuts' cores fill."""
    cores: dict[int, list[Rectangle]] = {}
    for place in places:
        cores.setdefault(dataset.cuts[place].group, []).append(dataset.cuts[place].tile.core)
    parts = []
    for group, of in cores.items():
        x, y = min(core.x for core in of), min(core.y for core in of)
        right, bottom = max(core.right for core in of), max(core.bottom for core in of)
        parts.append(_Part(image, dataset.groups[group], Rectangle(x, y, right - x, bottom - y)))
    return parts


def _with_masks_of(dataset: Dataset, source: LabelSource, threads: int) -> Dataset:
    """The same dataset over another source's masks, its reference grid labelled anew."""

    def label(one: _Places) -> list[list[CellLabels]]:
        image, places = one
        cuts = [dataset.cuts[place] for place in places]
        masks = (source.mask(image, concept) for concept in dataset.concepts)
        return [[cut.labels(mask, cut.reference, dataset.thresholds) for cut in cuts] for mask in masks]

    images = list(dataset.by_image())
    labels: list[dict[int, CellLabels]] = [{} for _ in dataset.concepts]
    for (_, places), of_image in zip(images, _in_threads(label, images, threads), strict=True):
        for of_concept, parts in zip(labels, of_image, strict=True):
            of_concept.update(zip(places, parts, strict=True))
    in_order = tuple(tuple(of[place] for place in range(len(dataset.cuts))) for of in labels)
    return replace(dataset, source=source, labels=in_order)


def _statistics(source: LabelSource, cell: int, one: _Places) -> NDArray[np.uint16]:
    image, _ = one
    try:
        return colour_statistics(source.open(image), cell)
    except UnreadableImageError as error:
        raise ProbekitError([Issue(image.id, f"cannot be decoded any more: {error}")]) from None


def _whole_grid(dataset: Dataset, concept: int, image: ImageRef, places: Sequence[int], cell: int) -> NDArray[np.uint8]:
    """The observed labels of an image's whole reference grid, from those of its cuts."""
    grid = reference_grid(image.height, image.width, cell)
    whole = np.full((grid.rows, grid.columns), VOID, dtype=np.uint8)
    for place in places:
        values, core = dataset.labels[concept][place].values, dataset.cuts[place].tile.core
        row, column = core.y // cell, core.x // cell
        whole[row : row + values.shape[0], column : column + values.shape[1]] = values
    return whole


def _in_threads(work: Callable[[_Places], _T], images: Sequence[_Places], threads: int) -> list[_T]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, images))
