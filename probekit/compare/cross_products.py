"""Correlations of all channels of layers with one another, over cells that are streamed past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

AT_ONCE = 2048
"""Cells of one BLAS product: its float32 sums are short, and adding it in float64 costs little beside it."""


def streamed_bytes(widths: Sequence[int], pairs: Sequence[tuple[int, int]]) -> int:
    """Bytes of :class:`LayerProducts` at most, its answers among them."""
    held = sum(8 * widths[a] * widths[b] for a, b in pairs)
    largest = max((widths[a] * widths[b] for a, b in pairs), default=0)
    # a block is squared while those of all layers wait; one float32 product at a time, or one outer product of sums
    return held + 4 * AT_ONCE * (sum(widths) + max(widths, default=0)) + 12 * largest


class LayerProducts:
    """Sums over cells of products of channels of several layers: float32 products of short blocks, added in float64.

    A fixed value of each channel, its median over the first block, is subtracted first, so that nothing cancels.
    Memory beyond the cells that are fed: 2048 cells of each layer, 8 bytes a pair of channels, and 12 a pair of
    channels of the two widest layers (see :func:`streamed_bytes`).

    Args:
        widths: channels of each layer.
        pairs: places of two layers each.
        names: of the layers, for errors.

    Attributes:
        cells: that were taken in.
    """

    def __init__(self, widths: Sequence[int], pairs: Sequence[tuple[int, int]], names: Sequence[str]) -> None:
        self.cells = 0
        self._names = names
        self._waiting = [np.empty((AT_ONCE, p), dtype=np.float32) for p in widths]
        self._filled = 0
        self._offsets: list[Singles] = []
        self._sums = [np.zeros(p) for p in widths]
        self._squares = [np.zeros(p) for p in widths]
        self._products = {(a, b): np.zeros((widths[a], widths[b])) for a, b in pairs}
        self._scratch = np.empty(max((of.size for of in self._products.values()), default=0), dtype=np.float32)

    def add(self, layers: Sequence[NDArray[np.floating[Any]]]) -> None:
        """Takes cells in; blocks of any length give the same sums.

        Args:
            layers: features of the same cells in each layer, (n, p).
        """
        n = len(layers[0])
        if any(len(features) != n for features in layers):
            raise ValueError(f"layers of {', '.join(str(len(features)) for features in layers)} cells")
        start = 0
        while start < n:
            stop = min(n, start + AT_ONCE - self._filled)
            for waiting, features in zip(self._waiting, layers, strict=True):
                waiting[self._filled : self._filled + stop - start] = features[start:stop]
            self._filled += stop - start
            self.cells += stop - start
            start = stop
            if self._filled == AT_ONCE:
                self._take_in()

    def correlation(self, a: int, b: int) -> Floats:
        """Pearson's r of every channel of layer a with every one of b, (p_a, p_b); constant ones correlate with
        nothing: 0. More cells may follow."""
        self._settle()
        return self._finished(a, b, self._products[a, b].copy())

    def finish(self) -> dict[tuple[int, int], Floats]:
        """Pearson's r of every pair, in the memory of its sums: no cells can follow, and nothing more be asked."""
        self._settle()
        found = {(a, b): self._finished(a, b, products) for (a, b), products in self._products.items()}
        self._products, self._waiting = {}, []
        return found

    def _finished(self, a: int, b: int, products: Floats) -> Floats:
        products -= np.outer(self._sums[a], self._sums[b] / self.cells)
        of_a, of_b = (np.sqrt(np.where(of > 0, of, np.inf)) for of in (self._centred(a), self._centred(b)))
        products /= of_a[:, None]
        products /= of_b
        return np.clip(products, -1, 1, out=products)

    def _centred(self, layer: int) -> Floats:
        return np.asarray(np.maximum(self._squares[layer] - self._sums[layer] ** 2 / self.cells, 0.0))

    def _settle(self) -> None:
        if not self.cells:
            raise ValueError("no cells")
        if self._filled:
            self._take_in()

    def _take_in(self) -> None:
        n, ones = self._filled, np.ones(self._filled, dtype=np.float32)
        blocks = [waiting[:n] for waiting in self._waiting]
        if not self._offsets:
            self._offsets = [np.partition(block, n // 2, axis=0)[n // 2].copy() for block in blocks]
        for layer, block in enumerate(blocks):
            block -= self._offsets[layer]
            sums = ones @ block
            if not np.isfinite(sums).all():
                channel = int(np.flatnonzero(~np.isfinite(sums))[0])
                raise ValueError(f"channel {channel} of {self._names[layer]} has values that are not finite")
            self._sums[layer] += sums
            self._squares[layer] += ones @ np.square(block)
        for (a, b), products in self._products.items():
            products += np.matmul(blocks[a].T, blocks[b], out=self._scratch[: products.size].reshape(products.shape))
        self._filled = 0


class CrossProducts:
    """:class:`LayerProducts` of two layers.

    Args:
        channels_a, channels_b: p_a, p_b.
    """

    def __init__(self, channels_a: int, channels_b: int) -> None:
        self._products = LayerProducts((channels_a, channels_b), [(0, 1)], "ab")

    @property
    def cells(self) -> int:
        """That were taken in."""
        return self._products.cells

    def add(self, a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> None:
        """Takes cells in; blocks of any length give the same sums.

        Args:
            a, b: features of the same cells, (n, p_a) and (n, p_b).
        """
        self._products.add((a, b))

    def correlation(self) -> Floats:
        """Pearson's r of every pair, (p_a, p_b); constant channels correlate with nothing: 0. More cells may follow."""
        return self._products.correlation(0, 1)


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
