"""Problems that ask the same of different rows: folds and repeats of one concept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probekit_linear.solve.batch import Batch, Floats


def kinships(signed: Floats) -> NDArray[np.int64]:
    """Which problems are kin, numbered from 0: (m, n) -> (m,).

    Two are kin if no row with weight in both has another label in one than in the other.
    """
    sign = np.sign(signed).astype(np.int8)
    heads: list[int] = []
    kin = np.empty(len(sign), dtype=np.int64)
    for j, own in enumerate(sign):
        for number, head in enumerate(heads):
            # most that differ do so early
            if (own[:4096] * sign[head, :4096] >= 0).all() and (own * sign[head] >= 0).all():
                kin[j] = number
                break
        else:
            kin[j] = len(heads)
            heads.append(j)
    return kin


def pooled(batch: Batch, kin: NDArray[np.int64]) -> Batch:
    """One problem for each kinship: the mean of its problems."""
    count = int(kin.max()) + 1
    if count == len(kin):
        return batch
    size = np.bincount(kin)[:, None]
    signed = np.zeros((count, batch.rows.n))
    mean, scale = np.zeros((count, batch.rows.p)), np.zeros((count, batch.rows.p))
    np.add.at(signed, kin, batch.signed / batch.total[:, None])
    np.add.at(mean, kin, batch.mean)
    np.add.at(scale, kin, batch.scale)
    return Batch(batch.rows, signed / size * batch.rows.n, mean / size, scale / size)
