"""Linear CKA of two sets of channels, without the bias that many channels on few cells give it.

Centred kernel alignment (Kornblith et al. 2019) is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K and L the cells' inner
products. The plain estimate of HSIC grows with the channels even where nothing is shared: two unrelated layers wider
than there are cells look alike. HSIC_1 of Song et al. (2012) is free of that, as Nguyen et al. (2021) and Murphy et al.
(2024) use it. It takes cells for independent, which those of one photograph are not: CKA is never reported alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 8192


def unbiased_cka(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Unbiased linear CKA: 1 for what is equal up to rotation and one scale, near 0 (and at times below) for what is
    unrelated.

    With channels centred K 1 = 0, and HSIC_1 needs but X'Y and the cells' own squares: O(n (p + q)^2), no n by n array.

    Args:
        one, other: channels of the same cells, (n, p) and (n, q).

    Returns:
        at most 1; NaN with fewer than four cells, or where one of the sets does not vary.
    """
    n = len(one)
    if len(other) != n:
        raise ValueError(f"{n} cells and {len(other)} are not the same ones")
    if n < 4 or not one.shape[1] or not other.shape[1]:
        return float("nan")
    # The mean of equal numbers may round: what does not vary must be centred to exactly zero.
    means = [np.where(x.max(axis=0) > x.min(axis=0), x.mean(axis=0, dtype=np.float64), x[0]) for x in (one, other)]
    products = {(i, j): np.zeros((x.shape[1], y.shape[1])) for i, j, x, y in _pairs(one, other)}
    squares = [np.zeros(n), np.zeros(n)]
    for start in range(0, n, _CHUNK):
        place = slice(start, start + _CHUNK)
        x, y = (of[place] - mean for of, mean in zip((one, other), means, strict=True))
        for i, j, left, right in _pairs(x, y):
            products[i, j] += left.T @ right
        for of, values in zip(squares, (x, y), strict=True):
            of[place] = np.einsum("ij,ij->i", values, values)
    across, first, second = (_hsic(products[i, j], squares[i], squares[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    if min(first, second) <= 0:
        return float("nan")
    return across / float(np.sqrt(first * second))


def _pairs(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]
) -> tuple[tuple[int, int, NDArray[np.floating[Any]], NDArray[np.floating[Any]]], ...]:
    return (0, 1, x, y), (0, 0, x, x), (1, 1, y, y)


def _hsic(product: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """HSIC_1 from X'Y and the cells' squares |x_i|^2 and |y_i|^2 of centred channels.

    Without their diagonals tr(KL) = |X'Y|^2 - s, 1'K1 = -sum |x_i|^2 and 1'KL1 = s, where s = sum |x_i|^2 |y_i|^2.
    """
    n, s = len(first), float(first @ second)
    total = float((product**2).sum()) - s + first.sum() * second.sum() / ((n - 1) * (n - 2)) - 2 * s / (n - 2)
    return float(total / (n * (n - 3)))
