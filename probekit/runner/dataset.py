"""Images, their cuts and their labels on the reference grid: everything of a run that no model has a say in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from probekit.api import POSITIVE, VOID, Grid, ImageRef, Issue, LabelSource, ProbekitError, UnreadableImageError
from probekit.geometry.labels import CellLabels, label_cells
from probekit.geometry.tiles import Tile, cut_tiles
from probekit.runner.progress import Progress
from probekit.sampling.blocks import block_of
from probekit.sampling.limit import choose_images
from probekit.spec.models import Experiment, Split

_T = TypeVar("_T")


@dataclass(frozen=True)
class Cut:
    """What one forward pass sees: an image, or a tile of it.

    Attributes:
        image: whose pixels.
        group: index into the dataset's groups.
        tile: the window of the image that is read, and its core: the part that this cut answers for.
        reference: the reference cells of the core, in the image's pixels.
    """

    image: ImageRef
    group: int
    tile: Tile
    reference: Grid

    @property
    def name(self) -> str:
        """Names the cut among those of a run."""
        return f"{self.image.id}@{self.tile.core.x},{self.tile.core.y}"

    @property
    def key(self) -> str:
        """Names the cut in the store: the image's digest, and the window where it is not the whole image."""
        window = self.tile.window
        if (window.height, window.width) == (self.image.height, self.image.width):
            return self.image.digest
        return f"{self.image.digest}@{window.x},{window.y},{window.width},{window.height}"

    def crop(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The cut's window of an image or a mask."""
        return pixels[self.tile.window.slices]

    def labels(self, mask: NDArray[np.uint8], grid: Grid, thresholds: tuple[float, float]) -> CellLabels:
        """Labels of a grid's cells: void outside the core and where the map shows padding.

        Args:
            mask: of the whole image.
            grid: of a feature map of this cut or its reference grid, in the image's pixels.
            thresholds: (positive, negative) shares.
        """
        window = self.tile.window
        in_window = replace(grid, to_pixels=grid.to_pixels.shifted(-window.x, -window.y))
        labels = label_cells(self.crop(mask), in_window, *thresholds)
        labels.values[~self.tile.owns(grid)] = VOID
        return labels


@dataclass(frozen=True)
class ConceptCount:
    """What there is of a concept on the reference grid of the images that are used.

    Attributes:
        cells: neither void nor outside.
        positives: of these.
        between, unlabelled: void cells: a share between the thresholds; mostly void pixels.
        groups_with_positives: the groups that hold a positive cell.
    """

    cells: int
    positives: int
    between: int
    unlabelled: int
    groups_with_positives: int


@dataclass(frozen=True)
class Dataset:
    """The images of a run, cut, grouped and labelled on the reference grid.

    Attributes:
        source: opens images and masks.
        concepts: in the order of the tables.
        groups: names, sorted: the label source's, or blocks of its images (see :func:`group_name`).
        outer: the outer group of each group, or none.
        cuts: sorted by image id, then by tile.
        labels: (concept, cut) -> labels of the cut's reference grid.
        thresholds: (positive, negative) shares of a cell's footprint.
        skipped: (image id, why) of photographs that could not be decoded.
    """

    source: LabelSource
    concepts: tuple[str, ...]
    groups: tuple[str, ...]
    outer: tuple[str | None, ...]
    cuts: tuple[Cut, ...]
    labels: tuple[tuple[CellLabels, ...], ...]
    thresholds: tuple[float, float]
    skipped: tuple[tuple[str, str], ...]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each cut's cells begin in flat arrays over all reference cells; the last entry is their number."""
        sizes = [cut.reference.rows * cut.reference.columns for cut in self.cuts]
        return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    @cached_property
    def cut_groups(self) -> NDArray[np.int32]:
        """The group of every cut."""
        return np.array([cut.group for cut in self.cuts], dtype=np.int32)

    @cached_property
    def cell_groups(self) -> NDArray[np.int32]:
        """The group of every reference cell, flat."""
        return np.repeat(self.cut_groups, np.diff(self.offsets))

    def flat_labels(self, concept: int) -> NDArray[np.int8]:
        """The labels of a concept over all reference cells, flat."""
        return np.concatenate([labels.values.ravel() for labels in self.labels[concept]])

    def cells_by_group(self, label: int) -> NDArray[np.int64]:
        """Reference cells with this label, (groups, concepts)."""
        counts = np.zeros((len(self.groups), len(self.concepts)), dtype=np.int64)
        np.add.at(counts, self.cut_groups, self.cells_by_cut(label))
        return counts

    def cells_by_cut(self, label: int) -> NDArray[np.int64]:
        """Reference cells with this label, (cuts, concepts)."""
        counts = [[int((labels.values == label).sum()) for labels in of_cuts] for of_cuts in self.labels]
        return np.array(counts, dtype=np.int64).reshape(len(self.concepts), len(self.cuts)).T

    def count(self, concept: int) -> ConceptCount:
        """How much there is of a concept."""
        labels = self.flat_labels(concept)
        return ConceptCount(
            cells=int((labels != VOID).sum()),
            positives=int((labels == POSITIVE).sum()),
            between=sum(part.between for part in self.labels[concept]),
            unlabelled=sum(part.unlabelled for part in self.labels[concept]),
            groups_with_positives=int((self.cells_by_group(POSITIVE)[:, concept] > 0).sum()),
        )

    def by_image(self) -> Iterator[tuple[ImageRef, list[int]]]:
        """Each image once, with the places of its cuts."""
        places: dict[str, list[int]] = {}
        for place, cut in enumerate(self.cuts):
            places.setdefault(cut.image.id, []).append(place)
        for indices in places.values():
            yield self.cuts[indices[0]].image, indices


def cuts_of(image: ImageRef, group: int, cell: int, tile: tuple[int, int] | None) -> list[Cut]:
    """Cuts one image: the whole, or tiles where it is larger than ``tile`` = (size, overlap)."""
    size, overlap = tile if tile else (max(image.height, image.width, cell), 0)
    tiles = cut_tiles(image.height, image.width, size, overlap, cell)
    return [Cut(image, group, window, window.reference(cell)[0]) for window in tiles]


def group_name(cut: Cut, split: Split) -> str:
    """The group of a cut: the label source's, or ``GROUP/IMAGE@ROW,COLUMN`` of its block where the split is by blocks
    and the image is larger than one."""
    image = cut.image
    block = block_of(cut.tile.core, image.height, image.width, split.size) if split.size is not None else None
    return image.group if block is None else f"{image.group}/{image.id}@{block[0]},{block[1]}"


def build_dataset(source: LabelSource, experiment: Experiment, threads: int, progress: Progress) -> Dataset:
    """Checks the files, chooses the images, verifies that they decode and labels the reference grid.

    Raises:
        ProbekitError: everything that is wrong with the files, at once; under ``strict`` also the first photograph
            that cannot be decoded.
    """
    issues = source.check()
    if issues:
        raise ProbekitError(issues)
    images = list(source.images())
    if not images:
        raise ProbekitError([Issue("data", "holds no image")])
    tile = (experiment.tile.size, experiment.tile.overlap) if experiment.tile else None
    thresholds = (experiment.labels.positive, experiment.labels.negative)
    concepts = tuple(source.concepts)
    cell = experiment.evaluation.grid

    wrong: list[Issue] = []

    def label(image: ImageRef) -> list[list[CellLabels]]:
        cuts = cuts_of(image, 0, cell, tile)
        try:
            masks = [source.mask(image, concept) for concept in concepts]
        except ProbekitError as error:
            wrong.extend(error.issues or [Issue(image.id, str(error))])
            return []
        return [[cut.labels(mask, cut.reference, thresholds) for cut in cuts] for mask in masks]

    progress.start("Labels", ", ".join(concepts), len(images), "images")
    labelled = _in_threads(label, images, threads, progress)
    progress.finish()
    if wrong:
        raise ProbekitError(sorted(wrong))
    if experiment.limit is not None and experiment.limit < len(images):
        positives = np.array(
            [[sum(int((part.values == POSITIVE).sum()) for part in of) for of in parts] for parts in labelled]
        )
        kept = choose_images(
            [image.id for image in images],
            [image.group for image in images],
            positives,
            limit=experiment.limit,
            seed=experiment.seed,
        )
        images = [images[i] for i in kept]
        labelled = [labelled[i] for i in kept]

    def readable(image: ImageRef) -> str | None:
        try:
            source.open(image)
        except UnreadableImageError as error:
            return str(error)
        return None

    progress.start("Photographs", "decoded once, to be sure of them", len(images), "images")
    faults = _in_threads(readable, images, threads, progress)
    progress.finish()
    skipped = tuple((image.id, fault) for image, fault in zip(images, faults, strict=True) if fault is not None)
    if skipped and experiment.strict:
        raise ProbekitError(
            [Issue(name, f"cannot be decoded: {why}. Without `strict` it would be skipped") for name, why in skipped]
        )
    good = [i for i, fault in enumerate(faults) if fault is None]
    if not good:
        raise ProbekitError(
            [Issue("data", f"none of {len(images)} photographs can be decoded; the first: {faults[0]}")]
        )

    cuts: list[Cut] = []
    labels: list[list[CellLabels]] = [[] for _ in concepts]
    for i in good:
        cuts += cuts_of(images[i], 0, cell, tile)
        for concept, parts in enumerate(labelled[i]):
            labels[concept] += parts
    names = [group_name(cut, experiment.split) for cut in cuts]
    groups = tuple(sorted(set(names)))
    if len({(name, cut.image.group) for cut, name in zip(cuts, names, strict=True)}) > len(groups):
        raise ProbekitError([Issue("data", "a group has the name of another group's block: rename it")])
    numbers = {name: i for i, name in enumerate(groups)}
    cuts = [replace(cut, group=numbers[name]) for cut, name in zip(cuts, names, strict=True)]
    outer = {name: cut.image.outer for cut, name in zip(cuts, names, strict=True)}
    return Dataset(
        source,
        concepts,
        groups,
        tuple(outer[group] for group in groups),
        tuple(cuts),
        tuple(tuple(of) for of in labels),
        thresholds,
        skipped,
    )


def _in_threads(
    work: Callable[[ImageRef], _T], images: Sequence[ImageRef], threads: int, progress: Progress
) -> list[_T]:
    results = []
    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(work, images):
            results.append(result)
            progress.advance(1)
    return results
