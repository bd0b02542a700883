"""k@tau: the fewest channels that reach a share of the full probe's score, estimated on a refit curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class KAt:
    """An estimate of k@tau.

    Attributes:
        k: channels; none where undefined.
        reason: why it is undefined, in one line; none where it is not.
    """

    k: int | None
    reason: str | None = None


def k_at(
    tau: float,
    k: Sequence[int] | NDArray[np.int64],
    average_precision: Sequence[float] | NDArray[np.float64],
    full: float,
) -> KAt:
    """The smallest k with s(k) >= tau s(full).

    Undefined where no width reaches the share. (Nor does it say anything of a model that is not above its nulls.)

    Args:
        tau: share, in (0, 1].
        k: widths of the refit curve, ascending, without ``full``.
        average_precision: test AP of each width.
        full: test AP of the probe on all channels.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau is a share in (0, 1], not {tau}")
    widths, curve = np.asarray(k, dtype=np.int64), np.asarray(average_precision, dtype=np.float64)
    if widths.shape != curve.shape or (np.diff(widths) <= 0).any():
        raise ValueError("widths must ascend, with one score each")
    if np.isnan(full):
        return KAt(None, "the full probe has no score")
    reaching = np.flatnonzero(curve >= tau * full)
    if not len(reaching):
        return KAt(None, f"no width reaches {tau:.0%} of the full probe")
    return KAt(int(widths[reaching[0]]))
