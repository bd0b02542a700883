"""What is descended: fits that differ in what is added to their loss, and the quadratic model of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probekit_linear.solve.batch import Floats
from probekit_linear.solve.metric import Metric
from probekit_linear.solve.quadratic import Factor, Quadratic
from probekit_linear.solve.sweep import Sweep


@dataclass
class Columns(ABC):
    """K fits on their way, a row each; a subclass says what is added to their loss.

    Attributes:
        problem: of the batch, (K,).
        w, b: where they are, on standardised features, (K, p) and (K,).
        gap: relative duality gap of (w, b), (K,); inf before an exact pass has seen it.
        steps: how many passes each took part in, (K,).
    """

    problem: NDArray[np.int64]
    w: Floats
    b: Floats
    gap: Floats = field(init=False)
    steps: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.gap = np.full(len(self.b), np.inf)
        self.steps = np.zeros(len(self.b), dtype=np.int64)

    @abstractmethod
    def added(self, of: NDArray[np.int64], w: Floats) -> Floats:
        """What the penalty adds at w (k, p), for the k columns ``of``: (k,)."""

    def allowed(self, of: NDArray[np.int64], w: Floats) -> NDArray[np.bool_]:
        """Whether w (k, p) is a point of these columns, or only one to start from: (k,)."""
        return np.ones(len(of), dtype=bool)

    @abstractmethod
    def gaps(self, of: NDArray[np.int64], found: Sweep, w: Floats, null: Floats) -> Floats:
        """Relative duality gaps from an exact pass, (k,)."""

    @abstractmethod
    def about(self, of: NDArray[np.int64], found: Sweep, w: Floats, b: Floats, null: Floats) -> Floats:
        """About what the gaps are, from a float32 pass that does not tell the classes apart: worth an exact look?"""

    @abstractmethod
    def violation(self, of: NDArray[np.int64], gradient: Floats) -> Floats:
        """How much each channel wants to move, (k, p): above 1 where a metric must cover it, inf where w uses it."""

    @abstractmethod
    def minimum(self, c: int, model: Model) -> tuple[Floats, float] | None:
        """Of column c, where the quadratic model plus the penalty is least, as a change of w on the model's channels,
        and by how much the first-order model says that the objective changes; none where nothing descends."""


@dataclass
class Model:
    """The quadratic model of one fit's loss on the channels of its metric, the intercept eliminated.

    Everything is in the metric's units, divided by the fit's total curvature: the penalty has to be,
    too.

    Attributes:
        metric: whose Gram matrix is the Hessian.
        w, gradient: (k,).
        start: where to begin, (k,).
        unit: w here is w of the fit times this, (k,).
        bend: what all derivatives were divided by.
        pairs: the fit's last steps.
        factor: of an earlier solve, kept up to date.
        damping: added to the diagonal of the Hessian.
    """

    metric: Metric
    w: Floats
    gradient: Floats
    start: Floats
    unit: Floats
    bend: float
    pairs: list[tuple[Floats, Floats]]
    factor: Factor | None
    damping: float

    def quadratic(self) -> Quadratic:
        """The Hessian, damped."""
        return Quadratic(self.metric.gram, self.pairs, self.factor, self.damping)
