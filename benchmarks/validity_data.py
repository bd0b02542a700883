"""Simulated cells with a known truth for ``validity.py``: cells in images in groups, and what scores are worth there.

A cell's score is noise, of which groups and images share parts, plus, where the concept is, a separation that differs
between groups. All parts are Gaussian and independent of how many cells and positives a group has, so that pooled over
endless groups negatives are N(0, 1) and positives N(d, 1 + (spread d)^2): every score's true value is an integral.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from probekit.evaluate.groups import score_histograms
from probekit.evaluate.intervals import Replicates
from probekit.evaluate.scores import average_precision
from probekit.runner.replicates import precision_without_each

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Range = tuple[float, float]
Tally = tuple[str, str, int, float, str]
"""A claim (of ``PROMISES``), which of its kind, in how many repetitions it was made, the sum over these, a note."""

AP: dict[int, Range | None] = {12: (0.93, 0.985), 30: (0.93, 0.98), 100: (0.935, 0.97)}

PROMISES: dict[str, tuple[float, dict[int, Range | None]]] = {
    "AP in its interval": (0.95, AP),
    "F1 in its interval": (0.95, AP),
    "AP, F1 in theirs, K < 15": (0.95, {}),
    "AUC in its interval": (0.95, {100: (0.92, 0.96)}),
    "fitted AP, of these fits": (0.95, AP),
    "fitted AP, of the procedure": (0.95, {}),
    "difference in its interval": (0.95, {12: (0.93, 0.98)}),
    "swap test rejects": (0.05, {12: (0.04, 0.065)}),
    "above its null": (0.05, {12: (0.0, 0.08)}),
    "k@tau in its set": (0.95, {12: (0.94, 1.0)}),
    "a difference in k is claimed": (0.05, {12: (0.0, 0.05)}),
    "a false stable channel": (0.5, {12: (0.0, 0.5)}),
    "false among knockoffs": (0.2, {12: (0.0, 0.2)}),
}
"""Of each claim the nominal rate, and the range that its true one is promised to be in, by groups from which on. What
``docs/explanation/validity.md`` says, and all that the exit status is about."""


def promised(claim: str, groups: int) -> tuple[float, Range | None]:
    """The nominal rate of a claim, and what is promised of it with so many groups; none where nothing is."""
    nominal, ranges = PROMISES[claim]
    reached = [least for least in ranges if least <= groups]
    return nominal, ranges[max(reached)] if reached else None


UNEVEN = 0.7
"""Deviation of the prevalence between groups that hold the concept, as a share of its mean."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Who is where, and where the concept is.

    Attributes:
        y: (n,).
        group, image: indices, (n,).
        groups: how many.
    """

    y: NDArray[np.int8]
    group: Ints
    image: Ints
    groups: int

    @property
    def positives(self) -> Ints:
        """Positive cells of each group, (groups,)."""
        return np.bincount(self.group[self.y == 1], minlength=self.groups)

    @property
    def negatives(self) -> Ints:
        """The others, (groups,)."""
        return np.bincount(self.group[self.y == 0], minlength=self.groups)


@dataclass(frozen=True)
class Population:
    """Groups to draw from.

    Attributes:
        prevalence: of all cells.
        holding: share of the groups that hold the concept; in these its prevalence differs (``UNEVEN``).
        images: of a group; ``cells`` of an image on average, with ``unequal`` as deviation of their logarithm.
        shared: what groups, and images within groups, share of a score's variance.
        spread: deviation between groups of the separation, as a share of it.
        precision: the true AP of the model that is asked about.
    """

    prevalence: float
    holding: float
    images: int
    cells: int
    shared: tuple[float, float]
    spread: float
    unequal: float
    precision: float

    def draw(self, groups: int, rng: np.random.Generator) -> Cells:
        """New groups of cells."""
        size = np.exp(self.unequal * rng.standard_normal(groups) - self.unequal**2 / 2) * self.cells
        size = np.maximum(1, np.rint(size)).astype(np.int64)
        mean = self.prevalence / self.holding
        tightness = (1 - mean) / (mean * UNEVEN**2) - 1
        share = rng.beta(mean * tightness, (1 - mean) * tightness, groups)
        share[rng.random(groups) >= self.holding] = 0
        image = np.repeat(np.arange(groups * self.images), np.repeat(size, self.images))
        group = image // self.images
        return Cells((rng.random(len(group)) < share[group]).astype(np.int8), group, image, groups)

    def noise(self, cells: Cells, rng: np.random.Generator) -> Floats:
        """Standard normal, with the parts that groups and images share, (n,)."""
        of_group, of_image = self.shared
        own: Floats = rng.standard_normal(len(cells.y)) * np.sqrt(1 - of_group - of_image)
        own += (rng.standard_normal(cells.groups) * np.sqrt(of_group))[cells.group]
        own += (rng.standard_normal(cells.groups * self.images) * np.sqrt(of_image))[cells.image]
        return own

    def channels(self, cells: Cells, root: Floats, rng: np.random.Generator) -> Floats:
        """Channels of covariance ``root @ root.T``, each shared as ``noise`` is, (n, p)."""
        return np.stack([self.noise(cells, rng) for _ in range(len(root))], axis=1) @ root.T


def scored(scores: NDArray[np.float32], cells: Cells) -> Replicates:
    """Average precision with and without each group, as a run computes it."""
    histograms = score_histograms(scores, cells.y, cells.group, cells.groups)
    return Replicates(average_precision(scores, cells.y), precision_without_each(histograms))


EVEN = Population(0.05, 0.83, 3, 60, (0.3, 0.16), 0.3, 0.3, 0.5)
RARE = Population(0.01, 0.5, 3, 200, (0.4, 0.18), 0.35, 0.5, 0.3)
UNEQUAL = Population(0.05, 0.25, 3, 80, (0.45, 0.24), 0.4, 1.0, 0.4)

_Z = np.linspace(-9, 9, 6001)
_WEIGHT = np.exp(-(_Z**2) / 2) / np.exp(-(_Z**2) / 2).sum()


def true_precision(prevalence: float, d: float, spread: float) -> float:
    """Average precision over endless groups: the mean over positives of the precision at their score."""
    called = prevalence * ndtr(-_Z)
    false = (1 - prevalence) * ndtr(-(d + np.hypot(1, spread * d) * _Z))
    return float(_WEIGHT @ (called / (called + false)))


@lru_cache(maxsize=4096)
def separation(precision: float, prevalence: float, spread: float) -> float:
    """The separation d at which average precision is this; 0 where that is the prevalence."""
    if precision == prevalence:
        return 0.0
    return float(brentq(lambda d: true_precision(prevalence, d, spread) - precision, 0, 20, xtol=1e-12))


def true_auc(d: float, spread: float) -> float:
    """ROC AUC over endless groups."""
    return float(ndtr(d / np.sqrt(2 + (spread * d) ** 2)))


def true_f1(prevalence: float, d: float, spread: float, threshold: float) -> float:
    """F1 over endless groups, where cells from a threshold on are called positive."""
    tp = prevalence * float(ndtr((d - threshold) / np.hypot(1, spread * d)))
    return 2 * tp / (tp + (1 - prevalence) * float(ndtr(-threshold)) + prevalence)


@lru_cache(maxsize=64)
def curve(precision: float, prevalence: float, tau: float, k: int, steep: float, full: int) -> tuple[float, ...]:
    """AP at each width 1, ..., full that rises to ``precision`` and passes tau of it at a (fractional) k.

    prevalence + (precision - prevalence) h(k), h(k) = (1 + c full^-steep) / (1 + c k^-steep).
    """
    wanted = (tau * precision - prevalence) / (precision - prevalence)
    c = (1 - wanted) / (wanted * k**-steep - full**-steep)
    widths = np.arange(1, full + 1, dtype=np.float64)
    h = (1 + c * full**-steep) / (1 + c * widths**-steep)
    return tuple(prevalence + (precision - prevalence) * h)
