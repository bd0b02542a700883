"""Large images split by blocks: tiles near each other are one group, and a buffer lies between the parts of a fold.

An image larger than a block is divided into equal blocks. A tile belongs to the block that holds the centre of its
core, so every cell is in exactly one block, and a block is what folds take whole. But neighbouring blocks are alike,
and tiles overlap: what lies too near to another part is left out of training and of validation (:func:`leave_out`);
test is always whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probekit.geometry.tiles import Rectangle
from probekit.sampling.splits import Fold


def block_of(core: Rectangle, height: int, width: int, size: int) -> tuple[int, int] | None:
    """The block (row, column) of a tile; none where the image is not larger than a block.

    Each axis is divided into as few equal parts of at most ``size`` pixels as cover it, so that no block is a sliver.

    Args:
        core: the pixels that the tile answers for.
        height, width: of the image.
        size: a block's longest side.
    """
    rows, columns = -(-height // size), -(-width // size)
    if rows == columns == 1:
        return None
    return (2 * core.y + core.height) * rows // (2 * height), (2 * core.x + core.width) * columns // (2 * width)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the cuts of a run (its tiles, and its images that are not cut) lie. Names are numbers here.

    Attributes:
        group: of each cut, what a fold takes whole: a block, or what the label source says, (n,).
        origin: of each cut, the label source's own group of its image, (n,).
        image: of each cut, (n,).
        windows, cores: what a network sees of the image, and what the cut answers for, both (n, 4): x, y, right,
            bottom in the image's pixels.
    """

    group: NDArray[np.int64]
    origin: NDArray[np.int64]
    image: NDArray[np.int64]
    windows: NDArray[np.int64]
    cores: NDArray[np.int64]

    @cached_property
    def _by_image(self) -> list[tuple[NDArray[np.int64], _Grid]]:
        order = np.argsort(self.image, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(self.image[order])) + 1)
        return [(of, _Grid.of(self.windows[of], self.cores[of])) for of in members if len(of) > 1]

    def near(self, candidates: NDArray[np.bool_], others: NDArray[np.bool_], buffer: int) -> NDArray[np.bool_]:
        """Which candidates lie too near to one of the others, all (n,).

        In one image: the window of either comes within ``buffer`` pixels of the other's core, in x and in y; so the
        window of a candidate that is *not* near shares no pixel with the others' cores, nor they with its core, and
        ``buffer`` pixels lie between. In two images of the label source's same group, which must not be split apart:
        always.
        """
        near = np.zeros(len(self.group), dtype=bool)
        for members, grid in self._by_image:
            if candidates[members].any() and others[members].any():
                near[members] = grid.near(others[members], buffer)
        holds = np.zeros(int(self.image.max(initial=-1)) + 1, dtype=bool)
        holds[self.image[others]] = True
        pairs = np.unique(np.stack([self.origin[others], self.image[others]], axis=1), axis=0)
        images = np.bincount(pairs[:, 0], minlength=int(self.origin.max(initial=-1)) + 1)  # of each origin, with others
        near |= images[self.origin] > holds[self.image]
        return near & candidates


@dataclass(frozen=True, eq=False)
class _Grid:
    """The cuts of one image by column and row: whether two are near is asked of few intervals, not of all pairs.

    Attributes:
        x, y: distinct (window start, window end, core start, core end), (columns, 4) and (rows, 4).
        column, row: of each cut.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    column: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, windows: NDArray[np.int64], cores: NDArray[np.int64]) -> _Grid:
        axes = []
        for start in (0, 1):
            ends = [start, start + 2]
            values, place = np.unique(
                np.concatenate([windows[:, ends], cores[:, ends]], axis=1), axis=0, return_inverse=True
            )
            axes.append((values, place.reshape(-1)))
        return cls(axes[0][0], axes[1][0], axes[0][1], axes[1][1])

    def near(self, others: NDArray[np.bool_], buffer: int) -> NDArray[np.bool_]:
        """Which cuts lie near one of the others."""
        there = np.zeros((len(self.y), len(self.x)))
        there[self.row[others], self.column[others]] = 1.0
        y, x = _reaches(self.y, buffer), _reaches(self.x, buffer)
        near: NDArray[np.bool_] = (y @ there @ x.T + y.T @ there @ x > 0)[self.row, self.column]
        return near


def _reaches(ends: NDArray[np.int64], buffer: int) -> NDArray[np.float64]:
    """1 where the window of interval i comes within ``buffer`` pixels of the core of interval j, else 0."""
    window, core = ends[:, None, :2], ends[None, :, 2:]
    near = (window[..., 0] - buffer < core[..., 1]) & (core[..., 0] < window[..., 1] + buffer)
    return near.astype(np.float64)


def leave_out(fold: Fold, layout: Layout, buffer: int) -> Fold:
    """The fold with what lies too near to another part left out: first of training and validation what is near test,
    then of training what is near the rest of validation. Near: see :meth:`Layout.near`.

    Args:
        fold: of the layout's groups.
        layout: of the run's cuts.
        buffer: in original pixels.
    """
    train, validation, test = (np.isin(layout.group, part) for part in (fold.train, fold.validation, fold.test))
    out = layout.near(train | validation, test, buffer)
    out |= layout.near(train, validation & ~out, buffer)
    return replace(fold, left_out=np.flatnonzero(out))
