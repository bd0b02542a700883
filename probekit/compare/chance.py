"""Whether a channel is nearer to another model's channels than chance has it, where chance re-pairs whole groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from probekit.compare.cross_products import AT_ONCE, Floats, Singles
from probekit.compare.matching import LEAST
from probekit.compare.rebuilding import STEPS, pursue
from probekit.compare.repairing import Repairing
from probekit.evaluate.intervals import WIDE

BYTES = 256 * 2**20
"""Of the products of one block of channels; p_b squared times 40 bytes, and 64 a draw and channel of b, come on top."""

_SILENT = 0.01
"""Of a channel's variance: added to that of each part, so that a part in which it is silent has next to no say."""

_LEAST = 1e-6
"""Of the variance over all cells: a channel that varies less over a part of them is constant there."""


@dataclass(frozen=True, eq=False)
class Chance:
    """What S channels of a are to all channels of b.

    Attributes:
        partial: correlations with the trends over the image taken out, (S, p_b); 0 of a channel that is constant or
            varies with the place alone.
        p: chance that one of b's channels has as much to do with it, (S,); NaN where nothing was drawn, and of a
            constant channel.
        rebuilt_by: the channels of b that rebuild each, from all cells, the trends taken out, in the pursuit's order,
            (S, min(5, p_b)).
        r2: share of variance that as many explain on the parts that were left out, the trends over the image taken
            out, (S,); NaN with a single part, and of a channel that varies with the place alone.
        p_rebuilt: chance of a share as large, (S,); 1, and nothing drawn, where it is less than ``LEAST``: too little
            for a match. NaN with fewer than 30 groups too: with so few it is called small too often (simulated: .09
            where .05 is meant).
    """

    partial: Singles
    p: Floats
    rebuilt_by: NDArray[np.int64]
    r2: Floats
    p_rebuilt: Floats


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the cells of a fold, for the observed pairing and each draw (D).

    Attributes:
        n: cells, (D,).
        a, aa: of channels of a and of their squares, (D, c).
        b: of b, (D, p).
        ab: of the products, (D, c, p).
    """

    n: Floats
    a: Floats
    aa: Floats
    b: Singles
    ab: Singles

    def part(self, draws: slice, channels: slice | NDArray[np.bool_]) -> _Sums:
        """Of some draws and channels of a."""
        a, aa = self.a[draws][:, channels], self.aa[draws][:, channels]
        return _Sums(self.n[draws], a, aa, self.b[draws], self.ab[draws][:, channels])

    def __add__(self, o: _Sums) -> _Sums:
        return _Sums(self.n + o.n, self.a + o.a, self.aa + o.aa, self.b + o.b, self.ab + o.ab)

    def __sub__(self, o: _Sums) -> _Sums:
        return _Sums(self.n - o.n, self.a - o.a, self.aa - o.aa, self.b - o.b, self.ab - o.ab)


@dataclass(frozen=True, eq=False)
class _Inner:
    """Of one fold, of b alone.

    Attributes:
        deviation: of the channels over the training part, inf where they are constant there, (p,).
        train, left_out: mean products over the training part and over the part left out, of channels standardised by
            the training part, (p, p).
    """

    deviation: Singles
    train: Singles
    left_out: Singles


def against_chance(a: Singles, b: Singles, repairing: Repairing) -> Chance:
    """What :class:`Pairing` says of channels of a; see there."""
    return Pairing(b, repairing).test(a)


class Pairing:
    """All that is the same for every channel of any layer that is held against b's.

    **The statistic** of a channel of a is the largest, over b's channels, of the sum over parts of the mean product in
    units of both channels' root mean squares in the part, times the root of the part's cells (as standard scores are
    added up; Stouffer et al. 1949). Each part has its own units, since groups of more contrast have more of it in both
    models: plain products of unrelated channels are larger where such groups meet themselves than where they meet
    others, and a few groups decide. For the same reason trends are fitted with the parts weighted by the inverse of
    their variance in b: what those of much contrast leave in a trend would be in all others, in both models.
    Simulated (40 groups, 40 runs of 20 channels), p is at most .05 for .04 of unrelated channels, .04 where both models
    share a contrast of deviation .5 (of its logarithm) between groups, .02 to .03 where groups have 1 to 40 images; of
    sums of plain products for .03, .40 to .50 and .00.

    Args:
        b: features of all channels of b, (n, p_b).
        repairing: of these cells.
    """

    def __init__(self, b: Singles, repairing: Repairing) -> None:
        self.repairing, self.b = repairing, b
        self.sizes = np.diff(repairing.starts).astype(np.float64)
        self.offset, self.scale = standard(b)
        self.weights = np.ones(repairing.parts)
        self._fit_trends()
        squares = self._squares()
        varies = squares.sum(axis=0) > _LEAST * len(b)
        contrast = (squares[:, varies] / self.sizes[:, None]).mean(axis=1) if varies.any() else self.weights
        self.weights = 1 / (contrast + _SILENT * contrast.max())  # within a factor of 101: no trend is lost
        self._fit_trends()
        self.contrast = self._contrast(self._squares())
        self._grams()
        self.b_drawn = [self._draw_b(parts) for parts in repairing.by_fold]

    def test(self, a: Singles) -> Chance:
        """Holds channels against b's.

        Args:
            a: features of the channels that are tested, of the same cells, (n, S).

        Returns:
            p = (1 + draws that are at least as large) / (1 + draws).
        """
        found = [self._test(a[:, block]) for block in self._blocks(a.shape[1])]
        if not found:
            nothing, width = np.zeros(0), self.b.shape[1]
            none = np.zeros((0, width), dtype=np.float32), np.zeros((0, min(STEPS, width)), dtype=np.int64)
            return Chance(none[0], nothing, none[1], nothing, nothing)
        return Chance(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _blocks(self, channels: int) -> Iterator[slice]:
        """Of a's channels, so that their products keep to ``BYTES``."""
        repairing, widest = self.repairing, max(len(parts) for parts in self.repairing.by_fold)
        numbers = self.b.shape[1] * (repairing.parts * widest + 14 * (1 + repairing.draws))
        numbers += 3 * repairing.parts * int(self.sizes.max())
        size = max(1, BYTES // (4 * numbers))
        for start in range(0, channels, size):
            yield slice(start, start + size)

    def _test(self, a: Singles) -> tuple[Singles, Floats, NDArray[np.int64], Floats, Floats]:
        """The fields of ``Chance`` for a few channels."""
        offset, scale = standard(a)
        values = ((a - offset) / scale)[self.repairing.order]
        values -= self.repairing.trend @ self._slopes(lambda part: values[self._cells(part)])
        folds, scores = self._sums(values)
        everything = reduce(_Sums.__add__, folds)
        mean_a, mean_b = everything.a[0] / len(a), everything.b[0] / len(a)
        variance = everything.aa[0] / len(a) - mean_a**2
        left_over = ((everything.ab[0] / len(a) - np.outer(mean_a, mean_b)) / self.deviation).astype(np.float32)
        chosen, _ = pursue(left_over, self.gram)
        partial = (left_over / np.sqrt(np.where(variance > _LEAST, variance, np.inf))[:, None]).astype(np.float32)
        largest = np.abs(scores).max(axis=2).astype(np.float64)
        p = np.where(np.isfinite(scale), _p(largest), np.nan)
        return partial, p, chosen, *self._rebuilt(folds)

    def _rebuilt(self, folds: list[_Sums]) -> tuple[Floats, Floats]:
        """``r2`` and ``p_rebuilt`` of ``Chance``."""
        channels = folds[0].ab.shape[1]
        if len(folds) < 2:
            return np.full(channels, np.nan), np.full(channels, np.nan)
        (r2,) = self._held_out([of.part(slice(0, 1), slice(None)) for of in folds])
        if not self.repairing.draws or self.repairing.groups < WIDE:
            return r2, np.full(channels, np.nan)
        p, enough = np.where(np.isnan(r2), np.nan, 1.0), r2 >= LEAST
        if enough.any():
            p[enough] = _p(self._held_out([of.part(slice(None), enough) for of in folds]))
        return r2, p

    def _fit_trends(self) -> None:
        """Trends of b's channels under ``weights``, and what it takes to fit others."""
        self.inverse, self.without = self.repairing.inverses(self.weights)
        self.slopes = np.zeros((self.repairing.trend.shape[1], self.b.shape[1]), dtype=np.float32)
        self.slopes = self._slopes(self._of)

    def _slopes(self, values: Callable[[int], Singles]) -> Singles:
        """The trend over the image of channels whose values are given by part, (K, channels)."""
        trend = self.repairing.trend
        sums = (
            self.weights[part] * (trend[self._cells(part)].T @ values(part)).astype(np.float64)
            for part in range(self.repairing.parts)
        )
        return np.asarray(self.inverse @ reduce(np.add, sums), dtype=np.float32)

    def _squares(self) -> Floats:
        """Sums of squares of what the trends leave of b, by part, (M, p_b)."""
        return np.stack(
            [np.square(self._of(part)).sum(axis=0, dtype=np.float64) for part in range(self.repairing.parts)]
        )

    def _cells(self, part: int) -> slice:
        return slice(int(self.repairing.starts[part]), int(self.repairing.starts[part + 1]))

    def _of(self, part: int) -> Singles:
        """What the trend leaves of b's features of a part, standardised before, (cells, p_b)."""
        cells = self._cells(part)
        features = (self.b[self.repairing.order[cells]] - self.offset) / self.scale
        return np.asarray(features - self.repairing.trend[cells] @ self.slopes)

    def _unseen(self, part: int) -> Singles:
        """What the trends of the other parts leave of b's features of a part, (cells, p_b).

        A trend takes along what it is fitted to, in both models. As observed that happens once, in the draws twice:
        they would be too small.
        """
        trend, left = self.repairing.trend[self._cells(part)], self._of(part)
        slopes = np.float32(self.weights[part]) * (self.without[part] @ (trend.T @ left))
        return np.asarray(left + trend @ slopes)

    def _grams(self) -> None:
        """Correlations of b's channels, of all cells and of each fold's training part, and on the part left out.

        They are b's own in every draw: it is for them that folds are of b's parts.
        """
        p = self.b.shape[1]
        cells, sums, products = [], [], []
        for parts in self.repairing.by_fold:
            total, inner, n = np.zeros(p), np.zeros((p, p), dtype=np.float32), 0
            for part in parts:
                features = self._of(part)
                total += features.sum(axis=0, dtype=np.float64)
                inner += features.T @ features
                n += len(features)
            cells.append(n)
            sums.append(total)
            products.append(inner)
        n_all, sum_all, product_all = sum(cells), np.sum(sums, axis=0), reduce(np.add, products)
        mean, self.deviation = _scale(product_all, sum_all, n_all)
        self.gram = _standardised(product_all, sum_all, n_all, mean, self.deviation)
        self.inner = []
        for n, total, inner in zip(cells, sums, products, strict=True):
            if n < n_all:
                train = (product_all - inner, sum_all - total, n_all - n)
                mean, deviation = _scale(*train)
                left_out = _standardised(inner, total, n, mean, deviation)
                self.inner.append(_Inner(deviation, _standardised(*train, mean, deviation), left_out))

    def _meet(self, values: Singles, part: int) -> Singles:
        """Sums of a's values over the cells that meet each cell of b's part, by part of a: (M * c, cells)."""
        repairing, cells = self.repairing, int(np.diff(self.repairing.starts)[part])
        target = repairing.part * cells + repairing.nearest[part]
        n = len(values)
        shape = (repairing.parts * cells, n)
        met = csc_matrix((np.ones(n, dtype=np.float32), target, np.arange(n + 1)), shape=shape) @ values
        return np.ascontiguousarray(met.reshape(repairing.parts, cells, -1).transpose(0, 2, 1)).reshape(-1, cells)

    def _contrast(self, squares: Floats) -> Singles:
        """The deviation of channels within each part, inf where they vary nowhere, of sums of squares, (M, m)."""
        everywhere = squares.sum(axis=0) / self.sizes.sum()
        silent = np.where(everywhere > _LEAST, _SILENT * everywhere, np.inf)
        return np.sqrt(squares / self.sizes[:, None] + silent).astype(np.float32)

    def _by_part(self, values: Singles) -> Singles:
        """Sums over the cells of each part, (M, ...)."""
        return np.asarray(np.add.reduceat(values, self.repairing.starts[:-1], axis=0))

    def _drawn(self, parts: NDArray[np.int64], products: Singles) -> Singles:
        """Sums of a fold's products over the parts as they are drawn: (parts of b, M, m) to (draws, m)."""
        drawn = self.repairing.drawn[:, parts]
        index = (np.arange(len(parts)) * self.repairing.parts + drawn).ravel()
        rows = np.arange(0, drawn.size + 1, len(parts))
        ones = np.ones(drawn.size, dtype=np.float32)
        shape = (len(drawn), len(parts) * self.repairing.parts)
        chosen = csr_matrix((ones, index, rows), shape=shape)
        return np.asarray(chosen @ products.reshape(shape[1], -1), dtype=np.float32)

    def _draw_b(self, parts: NDArray[np.int64]) -> Singles:
        """Sums of b over the cells of a fold, observed and drawn, (1 + draws, p_b)."""
        own: Singles = np.asarray(reduce(np.add, [self._of(part).sum(axis=0) for part in parts]))[None]
        if not self.repairing.draws:
            return own
        ones = np.ones((len(self.b), 1), dtype=np.float32)
        return np.concatenate([own, self._drawn(parts, self._products(ones, parts))])

    def _products(self, values: Singles, parts: NDArray[np.int64]) -> Singles:
        """Of a's values with what they meet in each of b's parts, (parts, M * c, p_b)."""
        shape = (len(parts), self.repairing.parts * values.shape[1], self.b.shape[1])
        products = np.empty(shape, dtype=np.float32)
        for place, part in enumerate(parts):
            np.matmul(self._meet(values, part), self._unseen(part), out=products[place])
        return products

    def _sums(self, values: Singles) -> tuple[list[_Sums], Singles]:
        """Of a few channels of a, standardised and in the order of the parts, (n, c): the sums of every fold; and their
        scores with b's channels, (1 + draws, c, p_b)."""
        repairing, c, p = self.repairing, values.shape[1], self.b.shape[1]
        sums, squares = self._by_part(values).astype(np.float64), self._by_part(values**2).astype(np.float64)
        contrast = self._contrast(squares) * np.sqrt(self.sizes)[:, None].astype(np.float32)
        scores = np.zeros((1 + repairing.draws, c, p), dtype=np.float32)
        folds = []
        for parts, b in zip(repairing.by_fold, self.b_drawn, strict=True):
            ab = np.zeros((1 + repairing.draws, c, p), dtype=np.float32)
            for part in parts:
                own = values[self._cells(part)].T @ self._of(part)
                ab[0] += own
                scores[0] += own / contrast[part][:, None] / self.contrast[part]
            if repairing.draws:
                products = self._products(values, parts)
                ab[1:] = self._drawn(parts, products).reshape(-1, c, p)
                products /= contrast.ravel()[:, None]
                products /= self.contrast[parts][:, None]
                scores[1:] += self._drawn(parts, products).reshape(-1, c, p)
            drawn = np.concatenate([parts[None], repairing.drawn[:, parts]])
            n, a, aa = (of[drawn].sum(axis=1) for of in (self.sizes, sums, squares))
            folds.append(_Sums(n, a, aa, b, ab))
        return folds, scores

    def _held_out(self, folds: list[_Sums]) -> Floats:
        """R2 of the pursuit on the folds that it was not made on, pooled, (D, c)."""
        everything = reduce(_Sums.__add__, folds)
        draws, c, p = everything.ab.shape
        wrong, total = np.zeros((draws, c)), np.zeros((draws, c))
        for fold, own in zip(folds, self.inner, strict=True):
            train = everything - fold
            n = train.n[:, None]
            mean_a: Floats = np.asarray(train.a / n)
            mean_b: Singles = np.asarray(train.b / n.astype(np.float32), dtype=np.float32)
            rho = train.ab / train.n.astype(np.float32)[:, None, None]
            rho -= mean_a.astype(np.float32)[..., None] * mean_b[:, None]
            rho /= own.deviation
            variance = train.aa / n - mean_a**2
            rho[variance <= _LEAST] = 0
            chosen, weights = pursue(rho.reshape(-1, p), own.train)
            used, weights = chosen.reshape(draws, c, -1), weights.reshape(draws, c, -1)
            n, at = fold.n[:, None], (np.arange(draws)[:, None, None], used)
            over_a, over_b = fold.a / n, (fold.b / n.astype(np.float32))[at]
            met = np.take_along_axis(fold.ab, used, axis=2) / n[..., None]
            centred = met - mean_a[..., None] * over_b - mean_b[at] * (over_a - mean_a)[..., None]
            products = centred / own.deviation[used]
            size = fold.aa / n - 2 * mean_a * over_a + mean_a**2
            inner = own.left_out[used[..., :, None], used[..., None, :]]
            squares = (weights * (inner @ weights[..., None])[..., 0]).sum(axis=2)
            wrong += n * (size - 2 * (weights * products).sum(axis=2) + squares)
            total += n * size
        return np.asarray(1 - wrong / np.where(total > _LEAST * self.repairing.parts, total, np.nan))


def standard(features: Singles) -> tuple[Singles, Singles]:
    """Mean and deviation of each channel, (p,) both; a deviation of inf where it is constant."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    if not np.isfinite(mean).all():
        raise ValueError(f"channel {int(np.flatnonzero(~np.isfinite(mean))[0])} has values that are not finite")
    squares = np.zeros(len(mean))
    for start in range(0, len(features), AT_ONCE):
        squares += ((features[start : start + AT_ONCE] - mean) ** 2).sum(axis=0, dtype=np.float64)
    constant = features.min(axis=0) == features.max(axis=0)
    return mean, np.where(constant, np.inf, np.sqrt(squares / len(features))).astype(np.float32)


def _scale(products: Singles, sums: Floats, n: int) -> tuple[Floats, Singles]:
    """Means and deviations, inf where constant, of channels with these sums of products."""
    mean = sums / n
    variance = np.diag(products) / n - mean**2
    return mean, np.sqrt(np.where(variance > _LEAST, variance, np.inf)).astype(np.float32)


def _standardised(products: Singles, sums: Floats, n: int, mean: Floats, deviation: Singles) -> Singles:
    """Mean products of channels less ``mean`` over ``deviation``, (p, p)."""
    own = sums / n
    centred = products / n - np.outer(mean, own) - np.outer(own, mean) + np.outer(mean, mean)
    return (centred / deviation / deviation[:, None]).astype(np.float32)


def _p(values: Floats) -> Floats:
    """Of the first of (1 + draws, c) values among the others, (c,); NaN without draws, or where it is not defined."""
    if len(values) == 1:
        return np.full(values.shape[1], np.nan)
    p = (1 + (values[1:] >= values[0]).sum(axis=0)) / len(values)
    return np.where(np.isnan(values[0]), np.nan, p)
