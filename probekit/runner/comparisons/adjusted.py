"""What is claimed of one concept in several places of a run: their p-values are adjusted together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from probekit.evaluate.paired import holm

Row = dict[str, Any]

LEVEL = 0.05
"""Of an adjusted p-value."""


def adjusted(rows: Iterable[Row], p: str, claim: str, above: str) -> list[Row]:
    """The rows with ``p_holm``: Holm's adjustment over all rows of a concept that have a p-value.

    Args:
        rows: of a whole table.
        p: the column of p-values; null where nothing was tested.
        claim: the column that says whether it is established; filled where there is a p-value, left elsewhere.
        above: the column that must be above 0 for a claim.
    """
    found = [{**row, "p_holm": None} for row in rows]
    for concept in dict.fromkeys(row["concept"] for row in found):
        tested = [row for row in found if row["concept"] == concept and row.get(p) is not None]
        for row, value in zip(tested, holm(np.array([row[p] for row in tested])), strict=True):
            row["p_holm"] = float(value)
            row[claim] = bool(value <= LEVEL and row[above] > 0)
    return found
