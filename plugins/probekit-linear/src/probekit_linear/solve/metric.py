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


@dataclass(frozen=True)
class Metric:
    """The Hessian of the loss on some channels, the intercept eliminated.

    Attributes:
        channels: ascending, (k,).
        gram: in units of ``unit``, (k, k) float32.
        unit: (k,).
        centre: mean of the raw channels over the curvature, (k,).
        weight: sum of the curvature.
        rows: how many rows it was made from.
        whole: these were all rows that curve at all.
    """

    channels: NDArray[np.int64]
    gram: NDArray[np.float32]
    unit: Floats
    centre: Floats
    weight: float
    rows: int
    whole: bool


def draw(curvature: NDArray[np.floating], most: int) -> tuple[NDArray[np.int64], Floats]:
    """At most ``most`` rows (to within one), each with a chance proportional to its curvature, or certain.

    Systematic sampling: no random numbers, and rows that lie together are drawn evenly.

    Returns:
        The rows, ascending, and each one's chance.
    """
    size = curvature.astype(np.float64)
    some = np.flatnonzero(size > 0)
    if len(some) <= most:
        return some, np.ones(len(some))
    size = size[some]
    certain = np.zeros(len(some), dtype=bool)
    while True:
        left = most - int(certain.sum())
        chance = np.where(certain, 1.0, size * (left / float(size[~certain].sum())))
        grown = certain | (chance >= 1)
        if (grown == certain).all():
            break
        certain = grown
    steps = np.floor(np.cumsum(chance) + 0.5)
    taken = np.flatnonzero(np.diff(steps, prepend=0.0) > 0)
    return some[taken], chance[taken]


def measure(
    batch: Batch, problem: int, curvature: NDArray[np.floating], channels: NDArray[np.int64], most: int, work: Workers
) -> Metric:
    """The Hessian sum_i h_i z_i z_i' on some channels, from at most ``most`` rows.

    Rows are drawn by their curvature h and weighed by h over their chance, so that the expectation is the Hessian:
    rows that the fit has long decided cost nothing. Products are float32: a metric decides how fast a solver gets
    there, not where. A share of 1e-6 of the mean diagonal is added, above their rounding.
    """
    picked, chance = draw(curvature, most)
    weight = curvature[picked].astype(np.float64) / chance
    mean, unit = batch.mean[problem][channels], batch.scale[problem][channels]
    everything = len(channels) == batch.rows.p
    k = len(channels)
    rows: RowSource = batch.rows

    def of_piece(start: int) -> tuple[NDArray[np.float32], Floats]:
        part = slice(start, start + PIECE)
        z = rows.gather(picked[part], None if everything else channels)
        root = torch.from_numpy(np.sqrt(weight[part]).astype(np.float32)).to(z.device)
        z -= torch.from_numpy(mean.astype(np.float32)).to(z.device)
        z *= torch.from_numpy((1 / unit).astype(np.float32)).to(z.device)
        z *= root[:, None]
        cross = (root @ z).double().cpu().numpy()
        if z.device.type == "cpu":
            array = z.numpy()
            return array.T @ array, cross  # NumPy sees the symmetry and does half the work
        return (z.T @ z).cpu().numpy(), cross

    gram, cross = np.zeros((k, k), dtype=np.float32), np.zeros(k)
    for one, two in work.map(of_piece, range(0, len(picked), PIECE)):
        gram += one
        cross += two
    total = float(weight.sum())
    centre = cross / total
    gram -= np.outer(cross, centre).astype(np.float32)
    gram[np.diag_indices(k)] += np.float32(1e-6 * max(float(np.trace(gram)) / k, 1e-12))
    return Metric(channels, gram, unit, mean + unit * centre, total, len(picked), len(picked) >= (curvature > 0).sum())
