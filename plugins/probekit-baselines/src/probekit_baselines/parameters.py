"""What stands under ``with`` for each baseline."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from probekit.api import Parameters

Cell = Annotated[int, Field(ge=1)]


class CellParameters(Parameters):
    """Of ``pixels`` and ``position``.

    Attributes:
        cell: side of a cell in original pixels; as a control of a run the core sets it to ``evaluation.grid``.
    """

    cell: Cell = 16


class RandomConvParameters(CellParameters):
    """Of ``random-conv``.

    Attributes:
        features: how many random filters.
    """

    features: Annotated[int, Field(ge=1)] = 64
