"""The channels that halves of the groups select again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probekit.evaluate.stability import (
    disjoint_stability,
    selection_frequencies,
    stability_index,
    stability_interval,
    stable_set,
)
from probekit.runner.statistics.book import Given, Row, number


def stability_rows(given: Given) -> Iterator[Row]:
    """The stable channels and the index of every set of selections."""
    target = float(given.record["spec"]["stability"]["expected_false"])
    for part in given.parts:
        sets: dict[tuple[Any, ...], list[Row]] = {}
        for row in pq.read_table(part / "selections.parquet").to_pylist():
            key = tuple(row[c] for c in ("backbone", "layer", "concept", "probe", "repeat", "condition", "rung"))
            sets.setdefault(key, []).append(row)
        for (backbone, layer, *rest), rows in sets.items():
            channels = int(given.record["backbones"][backbone]["layers"][layer]["channels"])
            halves, folds = (_members(rows, of, channels) for of in ("half", "fold"))
            frequencies = selection_frequencies(halves)
            stable = stable_set(frequencies, len(halves) // 2, target)
            interval = stability_interval(halves, together=2)
            index = stability_index(folds) if len(folds) > 1 else np.nan
            yield {
                **dict(zip(("concept", "probe", "repeat", "condition", "rung"), rest, strict=True)),
                "backbone": backbone,
                "layer": layer,
                "pairs": len(halves) // 2,
                "q": stable.q,
                "threshold": stable.threshold,
                "bound": stable.bound,
                "assumption": stable.assumption,
                "stable": np.flatnonzero(stable.selected).tolist(),
                "frequencies": frequencies,
                "knockoffs": next((row["channels"] for row in rows if row["of"] == "knockoffs"), None),
                "index_folds": number(index),
                "index_disjoint": number(disjoint_stability(halves)),
                "index": number(interval.value),
                "lo": interval.lo,
                "hi": interval.hi,
                "reason": stable.reason or interval.reason,
            }


def _members(rows: Sequence[Row], of: str, channels: int) -> NDArray[np.bool_]:
    own = [row for row in rows if row["of"] == of]
    found = np.zeros((len(own), channels), dtype=bool)
    for row in own:
        found[row["number"], row["channels"]] = True
    return found
