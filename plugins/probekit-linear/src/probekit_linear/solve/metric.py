"""What a Newton step measures lengths by: the Hessian of the loss, from as many rows as it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probekit_linear.solve.batch import Batch, Floats
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import Workers

PIECE = 8192
"""Rows of one product: enough for the speed of a large one, few enough that each thread's copy stays small."""

NOTHING = 1e-3


@dataclass(frozen=True)
class Metric:
    """The Hessian of the loss on some channels, the intercept eliminated, over the sum of the curvature: the covariance
    of the channels under the curvature.

    Attributes:
        channels: ascending, (k,).
        gram: in units of ``unit``, (k, k), float32 or, where that was not enough, float64.
        unit: (k,).
        centre: mean of the raw channels over the curvature, (k,).
    """

    channels: NDArray[np.int64]
    gram: NDArray[np.floating]
    unit: Floats
    centre: Floats


def draw(
    curvature: NDArray[np.floating], most: int, sure: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], Floats]:
    """At most ``most`` rows (to within one), each with a chance proportional to its curvature, or certain.

    Rows that curve next to nothing are never drawn: all of them together are less than ``NOTHING`` of the sum.
    Systematic sampling: no random numbers, and rows that lie together are drawn evenly.

    Args:
        sure: rows that are drawn whatever they curve.

    Returns:
        The rows, ascending, and each one's chance.
    """
    size = curvature.astype(np.float64)
    taken = size > NOTHING * size.mean()
    some = np.flatnonzero(taken if sure is None else taken | sure)
    if len(some) <= most:
        return some, np.ones(len(some))
    size = size[some]
    certain = np.zeros(len(some), dtype=bool) if sure is None else sure[some]
    while not certain.all():
        left = max(most - int(certain.sum()), 1)
        chance = np.where(certain, 1.0, size * (left / float(size[~certain].sum())))
        grown = certain | (chance >= 1)
        if (grown == certain).all():
            break
        certain = grown
    else:
        chance = np.ones(len(some))
    steps = np.floor(np.cumsum(chance) + 0.5)
    taken = np.flatnonzero(np.diff(steps, prepend=0.0) > 0)
    return some[taken], chance[taken]


def reach(batch: Batch, work: Workers) -> NDArray[np.float32]:
    """How far out each row lies: 1 and its largest squared deviation, in any channel, (n,).

    Means and scales are those of the first problem: it is the order of magnitude that counts.
    """
    rows: RowSource = batch.rows

    def of_piece(start: int) -> NDArray[np.float32]:
        z = rows.gather(np.arange(start, min(start + PIECE, rows.n)))
        z -= torch.from_numpy(batch.mean[0].astype(np.float32)).to(z.device)
        z *= torch.from_numpy((1 / batch.scale[0]).astype(np.float32)).to(z.device)
        return np.asarray(1 + z.abs().amax(dim=1).cpu().numpy() ** 2, dtype=np.float32)

    return np.concatenate(list(work.map(of_piece, range(0, rows.n, PIECE))))


def measure(
    batch: Batch,
    problem: int,
    curvature: NDArray[np.floating],
    channels: NDArray[np.int64],
    most: int,
    work: Workers,
    precise: bool = False,
    far: NDArray[np.float32] | None = None,
) -> Metric:
    """The Hessian sum_i h_i z_i z_i' / sum_i h_i on some channels, from at most ``most`` rows.

    Rows are drawn by their curvature h and weighed by h over their chance, so that the expectation is the Hessian:
    rows that the fit has long decided cost nothing. Products are float32: a metric decides how fast a solver gets
    there, not where. A share of 1e-6 of the mean diagonal is added, above their rounding. For channels that are
    nearly copies of one another that is much too stiff: a ``precise`` metric is float64, and its share 1e-13.

    With heavy tails, rows that curve next to nothing may lie so far out that they make up much of the Hessian. ``far``,
    their :func:`reach`, multiplies the chance to be drawn: 17 passes instead of 81 (not all certified then) on single
    cells at 140 deviations.
    """
    if not curvature.any():  # every row is decided: any metric is as good as another
        curvature = np.abs(batch.signed[problem]) / batch.total[problem]
    picked, chance = draw(curvature if far is None else curvature * far, most)
    weight = curvature[picked].astype(np.float64) / chance
    mean, unit = batch.mean[problem][channels], batch.scale[problem][channels]
    everything = len(channels) == batch.rows.p
    k, dtype = len(channels), np.float64 if precise else np.float32
    rows: RowSource = batch.rows

    def of_piece(start: int) -> tuple[NDArray[np.floating], Floats]:
        part = slice(start, start + PIECE)
        z = rows.gather(picked[part], None if everything else channels, torch.float64 if precise else torch.float32)
        root = torch.from_numpy(np.sqrt(weight[part]).astype(dtype)).to(z.device)
        z -= torch.from_numpy(mean.astype(dtype)).to(z.device)
        z *= torch.from_numpy((1 / unit).astype(dtype)).to(z.device)
        z *= root[:, None]
        cross = (root @ z).double().cpu().numpy()
        if z.device.type == "cpu":
            array = z.numpy()
            return array.T @ array, cross  # NumPy sees the symmetry and does half the work
        return (z.T @ z).cpu().numpy(), cross

    gram, cross = np.zeros((k, k), dtype=dtype), np.zeros(k)
    for one, two in work.map(of_piece, range(0, len(picked), PIECE)):
        gram += one
        cross += two
    total = float(weight.sum())
    centre = cross / total
    gram -= np.outer(cross, centre).astype(dtype)
    gram /= dtype(total)
    gram[np.diag_indices(k)] += dtype((1e-13 if precise else 1e-6) * max(float(np.trace(gram)) / k, 1e-12))
    return Metric(channels, gram, unit, mean + unit * centre)
