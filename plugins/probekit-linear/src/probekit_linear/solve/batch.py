"""Many binary problems that share their rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import Workers

Floats = NDArray[np.float64]

SMALLEST, LARGEST = 1e-33, 1e33
"""Scales of channels that float32 can work with."""


@dataclass(frozen=True)
class Batch:
    """m problems on n rows of p channels.

    Attributes:
        rows: the raw features x.
        signed: weight times sign, (m, n): s_i where the concept is, -s_i where it is not, 0 for rows outside.
        mean, scale: (m, p); a problem reads its rows as z = (x - mean) / scale, which is never made.
    """

    rows: RowSource
    signed: Floats
    mean: Floats
    scale: Floats

    def __post_init__(self) -> None:
        for sign, word in ((1, "positive"), (-1, "negative")):
            missing = np.flatnonzero(~(sign * self.signed > 0).any(axis=1))
            if len(missing):
                raise ValueError(f"problem {missing[0]} has no {word} row with weight; it needs both classes")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all()):
            raise ValueError("a channel's mean or scale is not a finite number: are there NaN or inf in the rows?")
        extreme = ~((self.scale > SMALLEST) & (self.scale < LARGEST) & (np.abs(self.mean) < LARGEST)).all(axis=0)
        if extreme.any():
            channel = int(np.argmax(extreme))
            raise ValueError(
                f"channel {channel} has mean {self.mean[0, channel]:.3g} and scale {self.scale[0, channel]:.3g}, "
                f"beyond what float32 can hold ({SMALLEST:.0e} to {LARGEST:.0e}): give it in other units"
            )

    @cached_property
    def total(self) -> Floats:
        """n of the objectives: the sum of each problem's weights, (m,)."""
        return np.asarray(np.abs(self.signed).sum(axis=1))

    @cached_property
    def null(self) -> Floats:
        """The smallest objective at w = 0: the entropy of the classes' weights in nats, (m,); log 2 if balanced."""
        share = np.maximum(self.signed, 0).sum(axis=1) / self.total
        return np.asarray(-share * np.log(share) - (1 - share) * np.log(1 - share))

    @cached_property
    def null_intercept(self) -> Floats:
        """The best intercept at w = 0: the log odds of the classes' weights, (m,)."""
        positive = np.maximum(self.signed, 0).sum(axis=1)
        return np.asarray(np.log(positive) - np.log(self.total - positive))

    @cached_property
    def weights(self) -> torch.Tensor:
        """``signed`` on the rows' device, (m, n) float64."""
        return torch.from_numpy(self.signed).to(self.rows.device)

    def one(self, j: int) -> Batch:
        """Problem j alone, on the rows that weigh anything in it."""
        used = np.flatnonzero(self.signed[j])
        part = slice(j, j + 1)
        return Batch(self.rows.only(used), self.signed[part, used], self.mean[part], self.scale[part])

    def on(self, channels: NDArray[np.int64]) -> Batch:
        """The problems on some channels, in the given order."""
        return Batch(self.rows.columns(channels), self.signed, self.mean[:, channels], self.scale[:, channels])

    def compact(self, most: int) -> Batch:
        """The same batch on a copy of its rows and channels, if that takes at most so many bytes: what is read many
        times need not be picked out of wider rows each time."""
        copied = self.rows.copied(most)
        return self if copied is None else Batch(copied, self.signed, self.mean, self.scale)

    def some_of_each(self, most: int) -> NDArray[np.bool_]:
        """Rows that a sample must have, so that every problem has some of each class: (n,)."""
        out = np.zeros(self.rows.n, dtype=bool)
        for row in self.signed:
            for of_class in (row > 0, row < 0):
                places = np.flatnonzero(of_class)
                out[places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64)]] = True
        return out

    def sample(self, rows: NDArray[np.int64], chance: Floats) -> Batch:
        """The problems on some of the rows (ascending), each weighed by one over its chance to be among them.

        The mean and scale stay: a coefficient means the same on the sample.
        """
        return Batch(self.rows.only(rows), self.signed[:, rows] / chance, self.mean, self.scale)


def signed_weights(y: ArrayLike, weights: ArrayLike | None, n: int) -> Floats:
    """Weights times signs, (m, n), class-balanced where no weights are given: each class sums to n / 2.

    Args:
        y: (n,) or (m, n), 1 or True where the concept is, else 0.
        weights: (n,) or (m, n), not negative.

    Raises:
        ValueError: shapes that do not fit, values that are not 0 or 1, weights that are negative or not finite.
    """
    labels = np.atleast_2d(np.asarray(y))
    if labels.ndim != 2 or labels.shape[1] != n:
        raise ValueError(f"y has shape {np.shape(y)}; {n} rows need ({n},) or (m, {n})")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("y must hold 0 and 1 only")
    positive = labels == 1
    if weights is None:
        count = positive.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            size = np.where(positive, n / (2 * count), n / (2 * (n - count)))
    else:
        size = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        if size.shape[1] != n or (len(size) not in (1, len(labels)) and len(labels) != 1):
            raise ValueError(f"weights have shape {np.shape(weights)}; y has {np.shape(y)}")
        if not (np.isfinite(size).all() and (size >= 0).all()):
            raise ValueError("weights must be finite and not negative")
    return np.asarray(np.where(positive, size, -size))


def make_batch(rows: RowSource, signed: Floats, moments: tuple[Floats, Floats] | None, work: Workers) -> Batch:
    """A batch of problems, with only the rows that weigh anything in one of them.

    Args:
        signed: as of :func:`signed_weights`; their size does not matter, each problem's are made to sum to its rows.
        moments: mean and scale, (m, p) each; by default those of each problem's rows with weight, unweighted.
    """
    used = np.flatnonzero((signed != 0).any(axis=0))
    if len(used) < rows.n:
        rows, signed = rows.only(used), np.ascontiguousarray(signed[:, used])
    size = np.abs(signed).max(axis=1, keepdims=True)
    signed = signed / np.where(size > 0, size, 1.0)  # before the sum, which could overflow
    total = np.abs(signed).sum(axis=1, keepdims=True)
    signed *= (signed != 0).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    if moments is None:
        mean, scale = column_moments(rows, signed != 0, work)
    else:
        mean, scale = (np.asarray(moment, dtype=np.float64) for moment in moments)
        for word, moment in (("mean", mean), ("scale", scale)):
            if moment.shape != (len(signed), rows.p):
                raise ValueError(f"moments: the {word} has shape {moment.shape}; m problems need {len(signed), rows.p}")
    return Batch(rows, signed, mean, scale)


def column_moments(rows: RowSource, members: NDArray[np.bool_], work: Workers) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of each channel over each set of rows: (m, p), (m, p).

    Taken in float64 in one pass, about the median of a few rows. A channel that is constant (to within rounding) has
    scale 1.

    Args:
        members: (m, n).
    """
    few = rows.gather(np.unique(np.linspace(0, rows.n - 1, 65).astype(np.int64))).double()
    origin = few.nan_to_num(0.0, 0.0, 0.0).median(0).values
    packed = np.packbits(members, axis=1)
    first_of = {row.tobytes(): i for i, row in reversed(list(enumerate(packed)))}
    number = {key: i for i, key in enumerate(first_of)}
    distinct = members[list(first_of.values())]
    inverse = [number[row.tobytes()] for row in packed]
    belongs = torch.from_numpy(distinct.astype(np.float64)).to(rows.device)

    def of_block(block: slice) -> tuple[torch.Tensor, torch.Tensor]:
        first = torch.zeros((len(distinct), rows.p), dtype=torch.float64, device=rows.device)
        second = torch.zeros_like(first)
        for place, chunk in rows.chunks(block, torch.float64):
            centred = chunk - origin
            first += belongs[:, place] @ centred
            second += belongs[:, place] @ centred.square_()
        return first, second

    first, second = np.zeros((2, len(distinct), rows.p))
    for one, two in work.map(of_block, rows.blocks()):
        first += one.cpu().numpy()
        second += two.cpu().numpy()
    count = distinct.sum(axis=1, keepdims=True)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("there are NaN or inf among the rows, or numbers whose squares are not finite")
    offset = first / count
    variance = second / count - offset**2
    varies = variance > 1e-12 * (offset**2 + variance) + 1e-300
    mean = offset + origin.cpu().numpy()
    return mean[inverse], np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 1.0)[inverse]
