"""From the contract's problems to a solver's batch, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from probekit.api import Fit, Problem, Rows, Scorer, fold_standardisation, tell
from probekit_linear.solve.batch import Batch, make_batch
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import Workers, workers

Floats = NDArray[np.float64]


@contextmanager
def batch_of(rows: Rows, problems: Sequence[Problem], device: str, threads: int) -> Iterator[tuple[Batch, Workers]]:
    """The problems as one batch on the device, and the workers to solve it with.

    Raises:
        ValueError: a problem without rows of both classes.
    """
    source = RowSource(rows.numpy() if device == "cpu" else rows.torch(device))
    signed = np.array([np.where(problem.y == 1, problem.weights, -problem.weights) for problem in problems])
    moments = np.array([problem.mean for problem in problems]), np.array([problem.scale for problem in problems])
    with workers(threads) as work:
        yield make_batch(source, signed, moments, work), work


def points_done(problems: int, what: str) -> Callable[[int, int, float], None]:
    """Tells how many problems are being solved, how many points of them are done, and the worst gap among those."""
    word = "problem" if problems == 1 else "problems"

    def report(done: int, total: int, worst: float) -> None:
        gap = f", worst gap {worst:.1e}" if np.isfinite(worst) else ""
        tell(f"{problems} {word}, {done} of {total} {what}{gap}")

    return report


def linear_scorer(problem: Problem, support: NDArray[np.int64], w: Floats, b: float) -> Scorer:
    """A fit on standardised channels as a scorer of raw ones."""
    weight, bias = fold_standardisation(w, b, problem.mean[support], problem.scale[support])
    return Scorer("linear", support, {"weight": weight, "bias": np.array(bias)})


def standardised(problem: Problem, fit: Fit) -> tuple[Floats, float]:
    """The coefficients (p,) and intercept of a linear fit on standardised channels."""
    channels = fit.scorer.channels
    w = np.zeros(len(problem.mean))
    w[channels] = fit.scorer.arrays["weight"] * problem.scale[channels]
    return w, float(fit.scorer.arrays["bias"]) + float(w @ (problem.mean / problem.scale))
