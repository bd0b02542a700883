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
    control: float | None = None,
) -> KAt:
    """The smallest k with s(k) >= tau s(full).

    Undefined where the full probe is not above the control (a share of what image statistics do as well says nothing of
    the model), and where no width reaches the share.

    Args:
        tau: share, in (0, 1].
        k: widths of the refit curve, ascending, without ``full``.
        average_precision: test AP of each width.
        full: test AP of the probe on all channels.
        control: test AP of the ``pixels`` control; none where it was not run, and then not asked about.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau is a share in (0, 1], not {tau}")
    widths, curve = np.asarray(k, dtype=np.int64), np.asarray(average_precision, dtype=np.float64)
    if widths.shape != curve.shape or (np.diff(widths) <= 0).any():
        raise ValueError("widths must ascend, with one score each")
    if np.isnan(full):
        return KAt(None, "the full probe has no score")
    below = None if control is None else not_above(full, control)
    if below is not None:
        return KAt(None, below)
    reaching = np.flatnonzero(curve >= tau * full)
    if not len(reaching):
        return KAt(None, f"no width reaches {tau:.0%} of the full probe")
    return KAt(int(widths[reaching[0]]))


def not_above(full: float, control: float) -> str | None:
    """Why k@tau says nothing where the full probe does not beat the ``pixels`` control; none where it does."""
    return None if full > control else f"the full probe ({full:.3f}) is not above pixels ({control:.3f})"
