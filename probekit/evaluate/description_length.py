"""How many bits the labels take for someone who has the features and learns a probe from the labels as they come.

Voita and Titov (2020), "Information-theoretic probing with minimum description length", the online code: the labels are
sent in portions; the first at one bit each, every other by the probe that was fitted on the portions before it. Average
precision says whether a concept is readable at all; the length of this code also counts the labels that it takes to
find out how. Lengths are of class-balanced labels: rows are weighted so that both classes weigh the same, and one bit a
label (the uniform code) is what knowing nothing costs.

One thing is added. Settings are chosen by average precision, which does not see the size of margins: a penalty that
ranks well may leave them far too small, and the plain code would compare penalties. So margins are multiplied by one
number, fitted on the portion that was sent last: sender and receiver both can. The plain length is kept beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

_FAR = 15
"""Scales beyond exp(15) and below exp(-15) are not looked at."""


@dataclass(frozen=True)
class CodedPortion:
    """One portion of the labels.

    Attributes:
        uniform: what it costs at one bit a label, in bits: the sum of its rows' weights.
        bits: what it cost.
        plain: what it would have cost by the margins as they are.
        scale: what they were multiplied by; small where the portion before shows that they know nothing.
    """

    uniform: float
    bits: float
    plain: float
    scale: float


@dataclass(frozen=True)
class CodeLength:
    """The labels of one concept as one probe codes them.

    Nothing is capped: a probe that is sure and wrong costs more than the uniform code, and ``compression`` is below 1.
    The first portion is never compressed, so that ``compression`` is at most ``uniform / portions[0].uniform``: compare
    it between probes and models that were given the same portions.

    Attributes:
        portions: in the order in which they are sent.
        final: bits of all labels under the fit on all of them, scaled on them too; none if that was not given. It has
            seen these labels: what that is worth is in ``regret``.
    """

    portions: tuple[CodedPortion, ...]
    final: float | None = None

    @property
    def bits(self) -> float:
        """The whole code."""
        return sum(portion.bits for portion in self.portions)

    @property
    def plain(self) -> float:
        """The whole code by the margins as they are: Voita and Titov's."""
        return sum(portion.plain for portion in self.portions)

    @property
    def uniform(self) -> float:
        """The same labels at one bit each: the sum of all weights."""
        return sum(portion.uniform for portion in self.portions)

    @property
    def compression(self) -> float:
        """How many times shorter than the uniform code; below 1 where it is longer."""
        return self.uniform / self.bits

    @property
    def per_label(self) -> float:
        """Bits a label, 1 for who knows nothing."""
        return self.bits / self.uniform

    @property
    def regret(self) -> float | None:
        """Bits that went into finding the probe: the code's less those under the final fit."""
        return None if self.final is None else self.bits - self.final


def label_bits(margins: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """What each label costs under a probe: ``log2(1 + exp(-margin))``, of negatives with the margin's sign turned.

    Args:
        margins: log odds where both classes are equally likely, as a fit on balanced classes gives them, (n,).
        y: 1 where the concept is, else 0, (n,).
    """
    signed = np.where(y == 1, margins, -np.asarray(margins)).astype(np.float64)
    bits: NDArray[np.float64] = np.logaddexp(0.0, -signed) / np.log(2.0)
    return bits


def best_scale(
    margins: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    weights: NDArray[np.floating[Any]],
    groups: int,
) -> float:
    """The factor by which margins code these labels best, as far as so few groups can tell.

    Minimises ``groups * mean loss + (ln scale)^2 / (2 (ln 10)^2)``: every group counts as one label, however many rows
    it has, since they say much the same; and margins are expected to be right within a factor of ten or so.

    Args:
        margins, y, weights: (n,).
        groups: in how many groups the rows are.
    """
    signed = np.where(y == 1, margins, -np.asarray(margins)).astype(np.float64)
    share = weights * (groups / weights.sum())

    def cost(log_scale: float) -> float:
        loss = share @ np.logaddexp(0.0, -np.exp(log_scale) * signed)
        return float(loss + 0.5 * (log_scale / np.log(10.0)) ** 2)

    # There may be two valleys: where margins are tiny, and at 1.
    grid = np.arange(-_FAR, _FAR + 1.0)
    start = grid[np.argmin([cost(log_scale) for log_scale in grid])]
    found = minimize_scalar(cost, bounds=(start - 1, start + 1), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def online_code(
    margins: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    weights: NDArray[np.floating[Any]],
    portion: NDArray[np.integer[Any]],
    group: NDArray[np.integer[Any]],
    final: NDArray[np.floating[Any]] | None = None,
) -> CodeLength:
    """The length of the online code.

    Margins of the second portion are read as they are; those of every later one are multiplied by :func:`best_scale` of
    the one before it, whose fit is most like its own. A portion may be empty.

    Args:
        margins: each row's by the fit on the portions before its own, (n,); those of the first portion are not read.
        y: 1 where the concept is, else 0, (n,).
        weights: not negative, both classes summing to the same, (n,).
        portion: the place of each row's portion, from 0, (n,).
        group: of each row, (n,).
        final: margins of the fit on all rows, (n,).

    Raises:
        ValueError: nothing in the first portion, or a margin that is not a number.
    """
    uniform = np.bincount(portion, weights)
    if not uniform[0] > 0:
        raise ValueError("the first portion is empty")
    if not (np.isfinite(margins[portion > 0]).all() and (final is None or np.isfinite(final).all())):
        raise ValueError("a margin is not a finite number")
    portions = [CodedPortion(float(uniform[0]), float(uniform[0]), float(uniform[0]), 1.0)]
    scale = 1.0
    for sent in range(1, len(uniform)):
        here = portion == sent
        if sent > 1 and uniform[sent - 1] > 0:
            scale = _scale(margins, y, weights, group, portion == sent - 1)
        plain, bits = (float(weights[here] @ label_bits(factor * margins[here], y[here])) for factor in (1.0, scale))
        portions.append(CodedPortion(float(uniform[sent]), bits, plain, scale))
    if final is None:
        return CodeLength(tuple(portions))
    scale = _scale(final, y, weights, group, np.ones(len(y), dtype=bool))
    return CodeLength(tuple(portions), float(weights @ label_bits(scale * final, y)))


def _scale(
    margins: NDArray[np.floating[Any]],
    y: NDArray[np.integer[Any]],
    weights: NDArray[np.floating[Any]],
    group: NDArray[np.integer[Any]],
    rows: NDArray[np.bool_],
) -> float:
    return best_scale(margins[rows], y[rows], weights[rows], len(np.unique(group[rows])))
