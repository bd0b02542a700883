"""What figures are drawn from: views of a run's tables that several share, and which model looks how."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open

from probekit.report.figures.style import DASHES, MARKERS, SERIES, plain
from probekit.runner.run import Run

Key = tuple[str, str]
"""A backbone and a layer."""


@dataclass(frozen=True)
class Look:
    """How a model looks in every figure of a run.

    Attributes:
        name: the backbone, with the layer where the run has several of it.
        colour, marker, dash: of its marks and lines.
    """

    name: str
    colour: str
    marker: str
    dash: Any


class Material:
    """Tables of a run, cut to what is drawn.

    Args:
        run: whose tables they are.
        matched: (concept, model, model) whose matches are drawn; all unless given.
    """

    def __init__(self, run: Run, matched: Collection[tuple[str, Key, Key]] | None = None) -> None:
        self.run = run
        self.matched = None if matched is None else {(concept, frozenset({a, b})) for concept, a, b in matched}
        self.probe: str = run.info["reported_probe"]
        self.concepts: list[str] = list(run.info["concepts"])
        self.several: bool = run.info["repeats"] > 1

    @cached_property
    def looks(self) -> dict[Key, Look]:
        """The models that are no controls, best first over all concepts: the best has the accent."""
        models = self.run.models[~self.run.models["control"].astype(bool)]
        mean = models.groupby(["backbone", "layer"], sort=True)["score"].mean()
        keys: list[Key] = [
            (str(backbone), str(layer)) for backbone, layer in mean.sort_values(ascending=False, kind="stable").index
        ]
        backbones = list(dict.fromkeys(backbone for backbone, _ in keys))
        looks = {}
        for place, (backbone, layer) in enumerate(keys):
            layers = [other for name, other in keys if name == backbone]
            # One colour and marker a backbone; of a single backbone, one a layer. Every model has its own dash.
            hue = backbones.index(backbone) if len(backbones) > 1 else place
            looks[backbone, layer] = Look(
                plain(f"{backbone} {layer}" if len(layers) > 1 else backbone),
                SERIES[0] if not hue else SERIES[1:][(hue - 1) % (len(SERIES) - 1)],  # nobody else has the accent
                MARKERS[hue % len(MARKERS)],
                DASHES[place % len(DASHES)],
            )
        return looks

    @cached_property
    def scored(self) -> pd.DataFrame:
        """Points of the reported probe (means over repeats) with their test AP: ``value``, ``lo``, ``hi``."""
        points = self.run.points[self.run.points["probe"] == self.probe]
        points = points[points["repeat"].isna()] if self.several else points
        scores = self._test[self._test["metric"] == "average_precision"]
        return points.merge(scores[["point_id", "value", "lo", "hi"]], on="point_id")

    @cached_property
    def _test(self) -> pd.DataFrame:
        results = self.run.results
        return results[(results["split"] == "test") & (results["sampling"] == "natural")]

    @cached_property
    def _numbers(self) -> pd.Series:
        return self._test.set_index(["point_id", "metric"])["value"]

    def number(self, point: str, metric: str) -> float | None:
        """A test score of a point at natural prevalence, or none."""
        value = self._numbers.get((point, metric))
        return None if value is None or pd.isna(value) else float(value)

    def whole(self, concept: str, key: Key) -> pd.Series | None:
        """The point of all channels (of what validation chose, where there is none), of the first repeat."""
        points = self.run.points
        own = points[
            (points["concept"] == concept)
            & (points["backbone"] == key[0])
            & (points["layer"] == key[1])
            & (points["probe"] == self.probe)
        ]
        own = own[own["repeat"] == own["repeat"].min()]
        for rung in ("full", "chosen"):
            if (own["rung"] == rung).any():
                first: pd.Series = own[own["rung"] == rung].iloc[0]
                return first
        return None

    def repeat(self, point: pd.Series) -> str:
        """``repeat 0``: said of what is drawn of one repeat where there are several; else nothing."""
        return f"repeat {point['repeat']:.0f}" if self.several else ""

    def prevalence(self, concept: str) -> float | None:
        """Of the concept among the scored cells."""
        for key in self.looks:
            point = self.whole(concept, key)
            value = None if point is None else self.number(point["point_id"], "prevalence")
            if value is not None:
                return value
        return None

    def of(self, name: str, concept: str) -> pd.DataFrame:
        """A concept's rows of a table."""
        table = self.run.table(name)
        return table[table["concept"] == concept]

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        places = {}
        for path in sorted((self.run.path / "scores").glob("*.safetensors")):
            with safe_open(path, "np") as file:
                names = json.loads(file.metadata()["points"])
            places.update({name: (str(path), row) for row, name in enumerate(names)})
        return places

    def margins(self, point: str) -> NDArray[np.float32] | None:
        """Pooled test margins of all reference cells, (cells,), NaN where a cell has none; none where not kept."""
        if point not in self._places:
            return None
        path, row = self._places[point]
        with safe_open(path, "np") as file:
            return np.asarray(file.get_slice("margins")[row : row + 1][0])

    def labels(self, concept: str) -> NDArray[np.int64]:
        """Of all reference cells, (cells,): 0 negative, 1 positive, 2 void."""
        column = f"label {concept}"
        return pd.read_parquet(self.run.path / "cells.parquet", columns=[column])[column].to_numpy(np.int64)
