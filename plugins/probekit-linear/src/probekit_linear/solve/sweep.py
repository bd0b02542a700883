r"""One pass over the rows: everything that a solver needs to know about many fits at once.

A fit is a column: a problem j with standardised coefficients w and an intercept b. With signs y, weights s that sum to
n, margins m_i = y_i (z_i . w + b) and a_i = 1 / (1 + exp(m_i)), a pass gives the loss, its gradient in (w, b), its
curvature in b, and the sums from which :mod:`probekit_linear.solve.certificate` bounds the optimum. The scores are
made anew from (w, b) in every pass: no state of size n is kept, and what is measured is what is returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid, softplus

from probekit_linear.solve.batch import Batch, Floats
from probekit_linear.solve.workers import Workers

MANY = 32
"""Fits beyond which a product costs more than the read."""


@dataclass(frozen=True)
class Sweep:
    """What a pass found for K fits. All sums are divided by the problem's n.

    Attributes:
        loss: (K,).
        gradient: of the loss in w, (K, p); its exact value if ``exact``, else to within float32.
        slope: of the loss in b, (K,).
        curvature: second derivative of the loss in b, (K,): the mean of s a (1 - a).
        positive: the part of ``gradient`` that the positive rows make, (K, p), if ``exact``.
        mass, turn, spread: by class (positive, negative), (2, K): sums of s a, s a m, and s exp(-m); if ``exact``.
        rows: by group of fits, the mean of s a (1 - a) / n over its fits, (groups, n), if groups were asked for.
    """

    loss: Floats
    gradient: Floats
    slope: Floats
    curvature: Floats
    positive: Floats | None
    mass: Floats
    turn: Floats
    spread: Floats
    rows: NDArray[np.float32] | None


def sweep(
    batch: Batch,
    problem: NDArray[np.int64],
    w: Floats,
    b: Floats,
    work: Workers,
    *,
    exact: bool = True,
    groups: NDArray[np.int64] | None = None,
) -> Sweep:
    """One pass over the rows for K fits at once.

    Args:
        problem: which problem each fit is of, (K,).
        w: on standardised features, (K, p).
        b: (K,).
        exact: in float64, with what a certificate needs; else in float32, good for a direction.
        groups: which group each fit belongs to, (K,), numbered from 0: asks for ``rows``.
    """
    rows, device = batch.rows, batch.rows.device
    dtype = torch.float64 if exact else torch.float32
    k, p = w.shape
    raw = w / batch.scale[problem]
    shift = b - np.einsum("kp,kp->k", raw, batch.mean[problem])
    weight = torch.from_numpy(raw).to(device, dtype)
    # float32 of w is another fit: what it leaves out has scores of its own
    rest = None if exact or k > MANY else torch.from_numpy(raw - weight.double().cpu().numpy()).to(device, dtype)
    bias = torch.from_numpy(shift).to(device, dtype)[:, None]
    chosen = torch.from_numpy(problem).to(device)
    count = 0 if groups is None else int(groups.max()) + 1
    by_row = torch.zeros((count, rows.n), dtype=torch.float32, device=device)
    member = share = None
    if groups is not None:
        member = torch.from_numpy(groups).to(device)
        each = 1 / (np.bincount(groups, minlength=count)[groups] * batch.total[problem])
        share = torch.from_numpy(each).to(device, dtype)[:, None]

    def of_block(block: slice) -> tuple[torch.Tensor, torch.Tensor]:
        sums = torch.zeros((9, k), dtype=torch.float64, device=device)
        products = torch.zeros((2 * k if exact else k, p), dtype=torch.float64, device=device)
        for place, x in rows.chunks(block, dtype):
            signed = batch.weights[:, place].index_select(0, chosen).to(dtype)
            if rest is None:
                margin = torch.mm(weight, x.T)
            else:
                both = torch.mm(torch.cat([weight, rest]), x.T)
                margin = both[:k] + both[k:]
            margin = margin.add_(bias).mul_(torch.sign(signed))
            a = torch.sigmoid(-margin)
            pull = signed * a
            size = pull.abs()
            # softplus is linear beyond 20, 2e-9 off: enough for float32, and five times as fast
            loss = logsigmoid(margin).neg_() if exact else softplus(-margin)
            sums[0] += loss.mul_(signed.abs()).sum(1)
            bend = size * (1 - a)
            sums[1] += bend.sum(1)
            sums[2] += pull.sum(1)
            if member is not None and share is not None:
                by_row[:, place].index_add_(0, member, (bend * share).float())
            if not exact:
                products += torch.mm(pull, x)
                continue
            positive, negative = pull.clamp_min(0), -pull.clamp_max(0)
            products[:k] += torch.mm(pull, x)
            some = (signed > 0).any(0).nonzero()[:, 0]
            if 2 * len(some) < len(x):  # the positive class is often the small one
                products[k:] += torch.mm(positive.index_select(1, some), x.index_select(0, some))
            else:
                products[k:] += torch.mm(positive, x)
            # each class on its own: a difference of sums would lose the lesser one
            spread = torch.exp(-margin.clamp_min(-300)).mul_(signed)
            for at, (of, wide) in enumerate(((positive, spread.clamp_min(0)), (negative, -spread.clamp_max(0)))):
                sums[3 + at] += of.sum(1)
                sums[5 + at] += (of * margin).sum(1)
                sums[7 + at] += wide.sum(1)
        return sums, products

    sums, products = np.zeros((9, k)), np.zeros((2 * k if exact else k, p))
    for one, two in work.map(of_block, rows.blocks()):
        sums += one.cpu().numpy()
        products += two.cpu().numpy()
    n = batch.total[problem]
    sums /= n
    mean, scale = batch.mean[problem], batch.scale[problem] * n[:, None]
    pull, positive = sums[2], sums[3]
    gradient = -(products[:k] - pull[:, None] * n[:, None] * mean) / scale
    of_positive = -(products[k:] - positive[:, None] * n[:, None] * mean) / scale if exact else None
    return Sweep(
        loss=sums[0],
        gradient=gradient,
        slope=-pull,
        curvature=sums[1],
        positive=of_positive,
        mass=sums[3:5],
        turn=sums[5:7],
        spread=sums[7:9],
        rows=by_row.cpu().numpy() if groups is not None else None,
    )
