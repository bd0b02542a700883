r"""Greedy forward selection: one channel after another, each time the one that helps the likelihood most.

A step on which all problems move together, with one pass over the rows:

1. The pass gives the loss's exact gradient g at each problem's fit on the channels A that it has.
2. For every channel outside A, the gain of letting it in and moving all others along is, to second order,
   g_j^2 / (2 (r + H_jj - H_jA (H_AA + r)^-1 H_Aj)): the score test, orthogonalised to A. H is the Hessian where the fit
   is, made anew in every step, of the channels in A against all (never of all against all), the intercept eliminated.
3. The channel of the largest gain enters, and the fit on A and that channel is found by Newton's method on a copy of
   these channels, without reading the others.

A small ridge r makes the answer finite where the rows are separable; its duality gap is the certificate of each fit. It
certifies the fit on the chosen channels, not the choice: no greedy choice is the best subset for certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from probekit_linear.solve.batch import Batch, Floats, make_batch, signed_weights
from probekit_linear.solve.certificate import l2_gaps
from probekit_linear.solve.lasso import Progress
from probekit_linear.solve.metric import draw
from probekit_linear.solve.rows import RowSource, Source
from probekit_linear.solve.sweep import Sweep, sweep
from probekit_linear.solve.workers import Workers, workers

SAMPLE = 2**14
"""Rows that a problem's Hessian is made from when it chooses, at most: gains are then known to about 1 %."""
PIECE = 4096
"""Rows of one product."""
SPAN = 1e-5
"""The share of a channel's curvature that is at least taken to be its own, above the rounding of float32 products."""
NEWTON = 60
"""Steps of one refit, at most."""


@dataclass(frozen=True)
class ForwardPath:
    """Greedy fits of m problems on 1, 2, ... K channels, on standardised features.

    Attributes:
        order: the channels in the order in which they entered, (m, K): fit k uses the first k.
        gain: what each entry was expected to gain, to second order, relative to the objective at w = 0, (m, K).
        coefficient: (m, K, K), in the order of entry; zero from k on.
        intercept: (m, K).
        loss: without the ridge, (m, K).
        gap: duality gap of the refit, relative to the objective at w = 0, in float64, (m, K).
        certified: the gap is at most the target, (m, K). It says nothing of the choice of channels.
        iterations: Newton steps of each refit, (m, K).
        mean, scale: of the features, (m, p): z = (x - mean) / scale.
        reads: passes over all rows; those over the samples of a choice are not counted.
    """

    order: NDArray[np.int64]
    gain: Floats
    coefficient: Floats
    intercept: Floats
    loss: Floats
    gap: Floats
    certified: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    mean: Floats
    scale: Floats
    reads: int


def forward_path(
    x: Source,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    k: int,
    ridge: float = 1e-4,
    moments: tuple[Floats, Floats] | None = None,
    target: float = 1e-6,
    threads: int = 1,
    device: str | None = None,
    progress: Progress | None = None,
) -> ForwardPath:
    r"""Logistic regression on 1 to k channels, chosen greedily by likelihood, for many problems on shared rows.

    Each fit minimises, over w on its channels and b,

        (1/n) sum_i s_i log(1 + exp(-y_i (z_i . w + b))) + (ridge/2) ||w||^2;

    the other arguments are those of :func:`probekit_linear.solve.lasso.logistic_path`. Holds a float32 copy of every
    channel that any of the problems has let in.

    Args:
        k: how many channels, at most all.
        ridge: positive; small, so that it matters only where the rows are separable.
        target: of the duality gap of each refit, relative to the objective at w = 0.

    Raises:
        ValueError: shapes that do not fit, one class only, NaN or inf in the rows, k or ridge out of range.
    """
    rows = RowSource(x, device=device)
    if not 1 <= k <= rows.p:
        raise ValueError(f"k is {k}; give 1 to {rows.p}, the number of channels")
    if not (np.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge is {ridge}; give a finite number above 0")
    with workers(threads) as work:
        batch = make_batch(rows, signed_weights(y, weights, rows.n), moments, work)
        return solve_forward(batch, k, ridge, target, work, progress)


def solve_forward(
    batch: Batch, k: int, ridge: float, target: float, work: Workers, progress: Progress | None = None
) -> ForwardPath:
    """The fits of a batch on 1 to k channels."""
    m, p = batch.mean.shape
    every = np.arange(m)
    order, gain = np.empty((m, k), dtype=np.int64), np.empty((m, k))
    coefficient, intercept, loss = np.zeros((m, k, k)), np.empty((m, k)), np.empty((m, k))
    gap, iterations = np.empty((m, k)), np.empty((m, k), dtype=np.int64)
    copies: dict[int, NDArray[np.float32]] = {}
    b, null = batch.null_intercept.copy(), batch.null
    reads = 1
    found = sweep(batch, every, np.zeros((m, p)), b, work, groups=every)
    if not np.isfinite(found.gradient).all():
        raise ValueError("there are NaN or inf among the rows")
    for size in range(1, k + 1):
        gains = _gains(batch, found, order[:, : size - 1], ridge, work)
        order[:, size - 1] = gains.argmax(axis=1)
        gain[:, size - 1] = gains.max(axis=1) / null
        new = np.setdiff1d(order[:, size - 1], np.array(list(copies), dtype=np.int64))
        if len(new):
            gathered = batch.rows.gather(np.arange(batch.rows.n), new).T.contiguous().cpu().numpy()
            copies.update(zip(new.tolist(), gathered, strict=True))
            reads += 1

        def refit(j: int, size: int = size) -> tuple[Floats, float, int]:
            chosen = order[j, :size]
            start = coefficient[j, max(size - 2, 0), :size]
            small = _Refit(batch, j, chosen, [copies[int(channel)] for channel in chosen], ridge)
            return small.solve(start.copy(), float(b[j]), 1e-3 * target)

        for j, (w, shift, steps) in enumerate(work.map(refit, range(m))):
            coefficient[j, size - 1, :size], b[j], iterations[j, size - 1] = w, shift, steps
        whole, used = np.zeros((m, p)), np.zeros((m, p), dtype=bool)
        np.put_along_axis(whole, order[:, :size], coefficient[:, size - 1, :size], axis=1)
        np.put_along_axis(used, order[:, :size], True, axis=1)
        found = sweep(batch, every, whole, b, work, groups=every)
        reads += 1
        intercept[:, size - 1], loss[:, size - 1] = b, found.loss
        gap[:, size - 1] = l2_gaps(found, whole, np.full(m, ridge), null, used)
        if progress is not None:
            progress(m * size, m * k, float(gap[:, :size].max()))
    return ForwardPath(
        order=order,
        gain=gain,
        coefficient=coefficient,
        intercept=intercept,
        loss=loss,
        gap=gap,
        certified=gap <= target,
        iterations=iterations,
        mean=batch.mean,
        scale=batch.scale,
        reads=reads,
    )


def _gains(batch: Batch, found: Sweep, chosen: NDArray[np.int64], ridge: float, work: Workers) -> Floats:
    """What letting in each channel gains to second order, (m, p); -inf for those that are in.

    Each problem has a sample of its own: what one chooses must not depend on rows that only another may see.

    Args:
        found: an exact pass at the fits, a group a problem.
        chosen: the channels that are in, (m, a).
    """
    assert found.rows is not None  # they were asked for
    m, a = chosen.shape
    p = batch.rows.p
    # rows that the problem has not decided, by their curvature over their chance: the expectation is the Hessian
    samples = []
    for curvature in found.rows:
        picked, chance = draw(curvature, SAMPLE)
        samples.append((picked, curvature[picked] / chance))

    def of_piece(task: tuple[int, int]) -> tuple[Floats, Floats]:
        j, start = task
        picked, curvature = samples[j]
        z = batch.rows.gather(picked[start : start + PIECE])
        z -= torch.from_numpy(batch.mean[j].astype(np.float32)).to(z.device)
        z *= torch.from_numpy((1 / batch.scale[j]).astype(np.float32)).to(z.device)
        bend = torch.from_numpy(curvature[start : start + PIECE].astype(np.float32)).to(z.device)
        # the intercept first, then what is in
        sides = torch.ones((1 + a, len(z)), device=z.device)
        sides[1:] = z.T[torch.from_numpy(chosen[j]).to(z.device)]
        cross = torch.mm(sides * bend, z)
        diagonal = bend @ z.square_()
        return cross.double().cpu().numpy(), diagonal.double().cpu().numpy()

    cross, diagonal = np.zeros((m, 1 + a, p)), np.zeros((m, p))
    tasks = [(j, start) for j in range(m) for start in range(0, len(samples[j][0]), PIECE)]
    for (j, _), (one, two) in zip(tasks, work.map(of_piece, tasks), strict=True):
        cross[j] += one
        diagonal[j] += two
    out = np.empty((m, p))
    for j, inside in enumerate(chosen):
        total = max(float(samples[j][1].sum()), 1e-300)
        first, border = cross[j, 0], cross[j, 1:]
        whole = np.maximum(diagonal[j] - first**2 / total, 0.0)
        own = whole.copy()
        if a:
            border = border - np.outer(first[inside], first) / total
            own -= np.einsum(
                "ap,ap->p", border, cho_solve(_factor(border[:, inside], ridge), border, check_finite=False)
            )
        out[j] = found.gradient[j] ** 2 / (2 * (ridge + np.maximum(own, SPAN * whole)))
        out[j, inside] = -np.inf
    return out


def _factor(H: Floats, ridge: float) -> tuple[Floats, bool]:
    """Of H + ridge, H from float32 products: what their rounding may have taken is added."""
    H = (H + H.T) / 2
    raised = H + (ridge + 1e-6 * max(float(np.trace(H)) / len(H), 1e-12)) * np.eye(len(H))
    factor: tuple[Floats, bool] = cho_factor(raised, lower=True, check_finite=False)
    return factor


class _Refit:
    """Newton's method for one problem on a few channels, in float64, with the exact Hessian."""

    def __init__(
        self,
        batch: Batch,
        problem: int,
        channels: NDArray[np.int64],
        copies: Sequence[NDArray[np.float32]],
        ridge: float,
    ) -> None:
        self.signed, self.total = batch.signed[problem], float(batch.total[problem])
        self.null = float(batch.null[problem])
        self.mean, self.scale = batch.mean[problem, channels], batch.scale[problem, channels]
        self.copies = copies
        self.ridge = ridge

    def solve(self, w: Floats, b: float, target: float) -> tuple[Floats, float, int]:
        """(w, b, Newton steps); done where the gradient bounds the relative gap by ``target``."""
        v = np.append(w, b)
        value, gradient, hessian = self._look(v)
        for step in range(NEWTON):
            if self._near(gradient, target):
                return v[:-1], float(v[-1]), step
            move = -cho_solve(_definite(hessian), gradient, check_finite=False)
            slope, length = float(gradient @ move), 1.0
            while True:
                trial = self._look(v + length * move)
                if trial[0] <= value + 1e-4 * length * slope + 1e-15 * self.null:
                    break
                length /= 4
                if length < 1e-8:
                    return v[:-1], float(v[-1]), step
            v = v + length * move
            value, gradient, hessian = trial
        return v[:-1], float(v[-1]), NEWTON

    def _near(self, gradient: Floats, target: float) -> bool:
        # with balanced classes the gap is ||gradient||^2 / (2 ridge); balancing costs about the slope in b
        of_w = float(gradient[:-1] @ gradient[:-1]) / (2 * self.ridge)
        return of_w <= target * self.null and abs(float(gradient[-1])) <= target * self.null

    def _look(self, v: Floats) -> tuple[float, Floats, Floats]:
        """The objective, its gradient and its Hessian in (w, b)."""
        k = len(v) - 1
        value, gradient, hessian = 0.0, np.zeros(k + 1), np.zeros((k + 1, k + 1))
        z = np.ones((k + 1, PIECE))
        for start in range(0, len(self.signed), PIECE):
            signed = self.signed[start : start + PIECE]
            here = z[:, : len(signed)]
            for i, copy in enumerate(self.copies):
                np.subtract(copy[start : start + PIECE], self.mean[i], out=here[i])
                here[i] /= self.scale[i]
            sign, size = np.sign(signed), np.abs(signed)
            margin = sign * (v @ here)
            a = expit(-margin)
            value += float(size @ np.logaddexp(0, -margin))
            gradient -= here @ (signed * a)
            hessian += (here * (size * a * (1 - a))) @ here.T
        value, gradient, hessian = value / self.total, gradient / self.total, hessian / self.total
        value += self.ridge / 2 * float(v[:k] @ v[:k])
        gradient[:k] += self.ridge * v[:k]
        hessian[np.arange(k), np.arange(k)] += self.ridge
        return value, gradient, hessian


def _definite(H: Floats) -> tuple[Floats, bool]:
    """Of a Hessian whose intercept's curvature may have vanished."""
    H = H + 1e-14 * max(float(np.trace(H)), 1e-12) * np.eye(len(H))
    factor: tuple[Floats, bool] = cho_factor(H, lower=True, check_finite=False)
    return factor
