"""The contract of a probe family: many problems on shared rows in, paths of fits out.

A probe never sees test cells, never scores itself and never standardises a matrix: rows are raw features, a problem
says with which mean and scale they are to be read, and what comes back is data on raw features (a :class:`Scorer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FULL: Literal["full"] = "full"
"""The rung of the all-channel L2 probe: the score that k@tau is a share of."""


class Rows(Protocol):
    """Raw features of cells: n rows, one column a channel. Two calls return the same rows in the same order."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n rows, p channels)."""

    def numpy(self) -> NDArray[np.float32]:
        """All rows in memory, (n, p), C-contiguous, read-only."""

    def torch(self, device: str) -> torch.Tensor:
        """All rows on a device, (n, p) float32."""

    def chunks(self, rows: int = 65536) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows in order, at most ``rows`` at a time, each with its place: for what must not hold all in memory."""


class Validation(Protocol):
    """The inner validation of a problem: all its cells, at natural prevalence. For early stopping only; the choice
    between fits is made by the core."""

    @property
    def rows(self) -> Rows:
        """Raw features of the validation cells."""

    @property
    def y(self) -> NDArray[np.int8]:
        """1 where the concept is, else 0, shape (n validation rows,)."""

    def average_precision(self, scores: NDArray[np.floating[Any]]) -> float:
        """AP of scores (n validation rows,), ties handled exactly."""


@dataclass(frozen=True)
class Scorer:
    """A probe as data, on raw features x (one entry a channel): a margin, positive where the concept is.

    kind ``linear``: ``weight`` (k,), ``bias`` (): weight . x[channels] + bias.
    kind ``polynomial``: besides these ``pairs`` (m, 2), positions in ``channels``, and ``products`` (m,):
    + sum_j products[j] * x[channels][pairs[j, 0]] * x[channels][pairs[j, 1]].
    kind ``mlp``: ``weight_0`` (h, k), ``bias_0`` (h,), ... ``weight_d`` (1, h), ``bias_d`` (1,), ReLU between.

    All arrays float64, except ``pairs`` (int64).
    """

    kind: Literal["linear", "polynomial", "mlp"]
    channels: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Fit:
    """One solution of one problem.

    Attributes:
        rung: which point of the path this is: a number (the lambda's place in the grid, k) or ``full``. Fits of one
            problem with the same rung are candidates (several ridges at one k): validation keeps one.
        choices: the settings that the folds choose by validation and whose medians the final fit uses
            (``lambda_ratio``, ``k``, ``ridge``, ``epochs``).
        support: the channels that the fit uses, most important first.
        coefficient: one number a channel of ``support``, on standardised features: sign and size rank the channels
            (for families without coefficients a signed importance).
        scorer: the same fit on raw features.
        lambda_: the penalty of ``P(w, b) = (1/n) sum_i s_i log(1 + exp(-y_i (z_i.w + b))) + lambda ||w||_1``.
        C: ``1 / (lambda n)``.
        ridge: r of ``(1/n) sum_i s_i log(1 + exp(...)) + (r/2) ||w||_2^2``.
        gap: duality gap relative to the objective at w = 0; none where the solver gives none.
        certified: the gap is below its target; none where the solver gives none.
        details: what else is worth keeping (``pairs`` that mattered, loss by epoch): JSON values.
    """

    rung: int | Literal["full"]
    support: NDArray[np.int64]
    coefficient: NDArray[np.float64]
    scorer: Scorer
    choices: Mapping[str, float] = field(default_factory=dict)
    lambda_: float | None = None
    C: float | None = None
    ridge: float | None = None
    gap: float | None = None
    certified: bool | None = None
    iterations: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Path:
    """The fits of one problem, sparsest first (``full`` last); ``chosen`` is set by the core by validation."""

    fits: tuple[Fit, ...]
    chosen: int | None = None


@dataclass(frozen=True)
class Problem:
    """A binary question asked of the rows.

    Attributes:
        y: 1 where the concept is, else 0, shape (n,).
        weights: shape (n,), zero outside the problem's training part, class-balanced within it: both classes weigh the
            same, and the weights sum to the number of rows that are not zero.
        mean, scale: of each channel over the training part (weighted as drawn, not balanced), shape (p,); standardised
            features are ``(x - mean) / scale``; scale is 1 where a channel is constant.
        seed: fixes everything random in the fit.
        validation: for early stopping; none in the final fit.
        finals: the final fit only (all groups, no validation): label -> the fits that the folds chose under it. The
            probe returns one fit for each label, in their order, at the medians of their ``choices``, with the rung of
            the first of them, and the label in ``details["label"]``.
        warm_start: a path of a neighbouring problem, if there is one.
        rungs: the only rungs that are wanted, the same in all problems of a call; a family may return more. Null
            conditions ask for them, with an upstream path that holds a ranking and nothing else.
    """

    y: NDArray[np.int8]
    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    seed: int
    validation: Validation | None = None
    finals: Mapping[str, Sequence[Fit]] | None = None
    warm_start: Path | None = None
    rungs: Sequence[int | Literal["full"]] | None = None


@dataclass(frozen=True)
class ProbePlan:
    """What a probe will do for a layer of a given width.

    Attributes:
        fits: how many fits a path has, candidates included.
        rungs: how many points.
        dropped: parameters that this width makes meaningless, (path below ``with``, what was dropped). Dropped at every
            layer of a run, they are errors.
        listed: the numbers of channels that the user asks for, each a rung of its own: where random channels are tried.
    """

    fits: int
    rungs: int
    dropped: tuple[tuple[tuple[str | int, ...], str], ...] = ()
    listed: tuple[int, ...] = ()


class Probe(Protocol):
    """A probe family. Constructed as ``Class(parameters, device=device, threads=threads)``; cheap.

    ``device`` is for what torch does, ``threads`` how many problems may be solved side by side on the CPU (see
    :func:`probekit.api.map_in_threads`).
    """

    def plan(self, channels: int) -> ProbePlan:
        """What ``fit`` will return at this width. No torch."""

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> Sequence[Path]:
        """Solves all problems, aligned with them. ``upstream`` holds, aligned too, the paths of the probe that the
        descriptor's ``upstream`` parameter names, with ``chosen`` set (for final fits: the fits of its labels)."""


def fold_standardisation(
    coefficient: NDArray[np.float64],
    intercept: float,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Turns a linear fit on standardised features into the same fit on raw ones.

    Args:
        coefficient: (k,), on ``(x - mean) / scale``.
        intercept: on the same.
        mean, scale: (k,), of the same channels.

    Returns:
        weight (k,) and bias with ``weight . x + bias == coefficient . ((x - mean) / scale) + intercept``.
    """
    weight = coefficient / scale
    return weight, float(intercept - weight @ mean)
