"""Correlations of all channels of one layer with all of another, over cells that are streamed past."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

AT_ONCE = 2048
"""Cells of one BLAS product: its float32 sums are short, and adding it in float64 costs little beside it."""


class CrossProducts:
    """Sums over cells of products of channels: float32 products of short blocks, added in float64.

    A fixed value of each channel, its median over the first block, is subtracted first, so that nothing cancels.
    Memory beyond the blocks that are fed: 2048 cells of both layers twice, and 20 bytes a pair of channels.

    Args:
        channels_a, channels_b: p_a, p_b.
    """

    def __init__(self, channels_a: int, channels_b: int) -> None:
        widths = (channels_a, channels_b)
        self.cells = 0
        self._waiting = [np.empty((AT_ONCE, p), dtype=np.float32) for p in widths]
        self._filled = 0
        self._offsets: list[Singles] = []
        self._sums = [np.zeros(p) for p in widths]
        self._squares = [np.zeros(p) for p in widths]
        self._products = np.zeros(widths)

    def add(self, a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> None:
        """Takes cells in; blocks of any length give the same sums.

        Args:
            a, b: features of the same cells, (n, p_a) and (n, p_b).
        """
        if len(a) != len(b):
            raise ValueError(f"{len(a)} cells of a, {len(b)} of b")
        start = 0
        while start < len(a):
            stop = min(len(a), start + AT_ONCE - self._filled)
            for waiting, features in zip(self._waiting, (a, b), strict=True):
                waiting[self._filled : self._filled + stop - start] = features[start:stop]
            self._filled += stop - start
            self.cells += stop - start
            start = stop
            if self._filled == AT_ONCE:
                self._take_in()

    def correlation(self) -> Floats:
        """Pearson's r of every pair, (p_a, p_b); constant channels correlate with nothing: 0."""
        self._settle()
        centred = self._products - np.outer(self._sums[0], self._sums[1] / self.cells)
        squares = (self._centred(0), self._centred(1))
        deviations = [np.sqrt(np.where(of > 0, of, np.inf)) for of in squares]
        return np.clip(centred / deviations[0][:, None] / deviations[1], -1, 1)

    def constant(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which channels of either layer never vary, (p_a,) and (p_b,)."""
        self._settle()
        return self._still()

    def moments(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Mean and variance (of all cells) of the channels of a, and of b."""
        self._settle()
        first, second = (
            (self._offsets[i] + self._sums[i] / self.cells, self._centred(i) / self.cells) for i in range(2)
        )
        return first, second

    def _still(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        # the offset is a value of the channel itself: one that never varies has sums of exactly 0
        return self._squares[0] == 0, self._squares[1] == 0

    def _centred(self, side: int) -> Floats:
        return np.asarray(np.maximum(self._squares[side] - self._sums[side] ** 2 / self.cells, 0.0))

    def _settle(self) -> None:
        if not self.cells:
            raise ValueError("no cells")
        if self._filled:
            self._take_in()

    def _take_in(self) -> None:
        n, ones = self._filled, np.ones(self._filled, dtype=np.float32)
        if not self._offsets:
            self._offsets = [np.partition(w[:n], n // 2, axis=0)[n // 2].copy() for w in self._waiting]
        blocks = []
        for side, waiting in enumerate(self._waiting):
            block = waiting[:n]
            block -= self._offsets[side]
            sums = ones @ block
            if not np.isfinite(sums).all():
                channel = int(np.flatnonzero(~np.isfinite(sums))[0])
                raise ValueError(f"channel {channel} of {'ab'[side]} has values that are not finite")
            self._sums[side] += sums
            self._squares[side] += ones @ np.square(block)
            blocks.append(block)
        self._products += blocks[0].T @ blocks[1]
        self._filled = 0


def correlations(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> Floats:
    """Pearson's r of all channels of one layer with all of another on the same cells.

    Args:
        a, b: (n, p_a) and (n, p_b).

    Returns:
        (p_a, p_b); 0 where a channel is constant.
    """
    products = CrossProducts(a.shape[1], b.shape[1])
    products.add(a, b)
    return products.correlation()
