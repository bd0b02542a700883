"""Choices made in each fold on its own validation, by average precision. Test never enters here."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Rung = TypeVar("Rung", bound=Hashable)


def best_fit(
    average_precision: NDArray[np.float64],
    n_channels: Sequence[int] | NDArray[np.int64],
    ridge: Sequence[float | None] | None = None,
) -> int:
    """The fit of highest validation AP; of equals the sparsest, then the one with the larger ridge, then the first.

    Args:
        average_precision: on validation, (n fits,); NaN is never chosen.
        n_channels: size of each fit's support.
        ridge: of each fit, if it has one.

    Raises:
        ValueError: no fit has a score.
    """
    ap = np.asarray(average_precision, dtype=np.float64)
    if not len(ap) or np.isnan(ap).all():
        raise ValueError("no fit has a validation score to choose by")
    ridges = [r or 0.0 for r in ridge] if ridge is not None else [0.0] * len(ap)
    tied = [int(i) for i in np.flatnonzero(ap == np.nanmax(ap))]
    return min(tied, key=lambda i: (int(n_channels[i]), -ridges[i], i))


def best_of_rungs(
    rungs: Sequence[Rung],
    average_precision: NDArray[np.float64],
    n_channels: Sequence[int] | NDArray[np.int64],
    ridge: Sequence[float | None] | None = None,
) -> dict[Rung, int]:
    """The candidate that each rung keeps (fits of one problem with the same rung are candidates): rung -> index of the
    fit, in the order in which rungs appear. Arguments and ties as for :func:`best_fit`."""
    members: dict[Rung, list[int]] = {}
    for i, rung in enumerate(rungs):
        members.setdefault(rung, []).append(i)
    ap = np.asarray(average_precision, dtype=np.float64)
    return {
        rung: fits[
            best_fit(ap[fits], [n_channels[i] for i in fits], [ridge[i] for i in fits] if ridge is not None else None)
        ]
        for rung, fits in members.items()
    }


def smallest_reaching(
    k: Sequence[int] | NDArray[np.int64], average_precision: NDArray[np.float64], full: float, tau: float
) -> int | None:
    """The smallest k whose validation AP reaches ``tau`` times the full probe's; none where no k does.

    Args:
        k: widths, in any order.
        average_precision: of each width.
        full: of the probe on all channels.
        tau: share, in (0, 1].
    """
    reaching = [int(width) for width, ap in zip(k, average_precision, strict=True) if ap >= tau * full]
    return min(reaching, default=None)
