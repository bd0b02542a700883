"""Interactions of a job: a planted product is found and gains on test, units and order of channels do not matter, and
what cannot be asked says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import probekit
from probekit.api import NEGATIVE, POSITIVE, Grid
from probekit.evaluate.paired import benjamini_hochberg
from probekit.features.store import Collection
from probekit.runner.comparisons.adjusted import adjusted
from probekit.runner.comparisons.interactions import find_interactions
from probekit.runner.job import OpenJob, fit_job, open_job
from probekit.runner.records import interaction_rows
from probekit.runner.schemas import SCHEMAS
from probekit.runner.scoring import common_cells

Spec = Callable[..., Path]
Rows = list[dict[str, Any]]

PROBES = (
    "{l1: {use: l1-path, with: {lambda_ratio: {points: 5, min: 0.01}}}, "
    "topk: {use: l2-subsets, with: {rank_by: l1, k: [4, 5], widths: 2, ridges: [0.1, 0.001]}}}"
)
GROUPS = "{use: odd, with: {groups: 20, images: 1, height: 64, width: 80, concept: disc}}"


class _EnoughError(Exception):
    """The job is open; what a run does afterwards is not needed."""


@pytest.fixture
def opened(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OpenJob]:
    """Opens the job of a spec."""
    from probekit.runner import execute

    found: list[OpenJob] = []

    def record(job: OpenJob, *_: Any) -> None:
        found.append(job)
        raise _EnoughError

    monkeypatch.setattr(execute, "fit_job", record)

    def make(**keys: str) -> OpenJob:
        with pytest.raises(_EnoughError):
            probekit.run(experiment(**{"data": GROUPS, "probes": PROBES, **keys}), replace=True)
        return found[-1]

    return make


@dataclass(frozen=True)
class Seen:
    """A collection whose channels are in other units and in another order."""

    beneath: Collection
    order: NDArray[np.int64]
    scale: NDArray[np.float32]

    @property
    def channels(self) -> int:
        return len(self.order)

    def grid(self, image: str) -> Grid:
        return self.beneath.grid(image)

    def read(self, image: str) -> tuple[NDArray[np.float32], Grid]:
        values, grid = self.beneath.read(image)
        return self._seen(values), grid

    def gather(self, *where: Any) -> NDArray[np.float32]:
        return self._seen(self.beneath.gather(*where))

    def _seen(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(values[:, self.order] * self.scale)


@dataclass(frozen=True)
class Masks:
    """Cells of 8 pixels, those of a score above a threshold positive."""

    score: dict[str, NDArray[np.float64]]
    threshold: float

    def mask(self, image: Any, _: str) -> NDArray[np.uint8]:
        positive = (self.score[image.id] > self.threshold).repeat(8, 0).repeat(8, 1)
        return np.where(positive, POSITIVE, NEGATIVE).astype(np.uint8)


def relabelled(job: OpenJob, product: float, order: Any = range(6), scale: Any = 1.0) -> OpenJob:
    """The job with labels made of its channels: 0, 1, 3 and 4 add up, and the product of 0 and 3 comes in."""
    collection, rng = job.job.collection, np.random.default_rng(3)
    values = {cut.image.id: collection.read(cut.key) for cut in job.job.dataset.cuts}
    every = np.concatenate([of for of, _ in values.values()])
    score = {}
    for image, (of, grid) in values.items():
        z = (of - every.mean(axis=0)) / every.std(axis=0)
        made = z[:, [0, 1, 3, 4]].sum(axis=1) + product * z[:, 0] * z[:, 3] + rng.standard_normal(len(z))
        score[image] = made.reshape(grid.rows, grid.columns)
    threshold = float(np.quantile(np.concatenate([of.ravel() for of in score.values()]), 0.7))
    source: Any = Masks(score, threshold)
    dataset = job.job.dataset
    labels = tuple(
        tuple(cut.labels(source.mask(cut.image, name), cut.reference, dataset.thresholds) for cut in dataset.cuts)
        for name in dataset.concepts
    )
    seen: Any = Seen(collection, np.array(list(order)), np.broadcast_to(np.float32(scale), 6))
    dataset = replace(dataset, source=source, labels=labels)
    cells = common_cells(dataset, [seen])
    return open_job(replace(job.job, dataset=dataset, cells=cells, collection=seen))


def rows_of(job: OpenJob) -> Rows:
    output = fit_job(job, lambda *_: None)
    rows = interaction_rows(job.job, list(find_interactions(job, output, lambda *_: None)))
    return adjusted(rows, "p_gain", "established", "gain")


def test_a_planted_product_is_found_and_gains_whatever_the_units_and_the_order(
    opened: Callable[..., OpenJob],
) -> None:
    job = opened()
    *pairs, together = rows_of(relabelled(job, 1.5))
    written = pa.Table.from_pylist([*pairs, together], schema=SCHEMAS["interactions"])
    assert written.column("channel_i").null_count == 1  # of all pairs together
    assert all(set(row) <= set(written.column_names) for row in (*pairs, together))
    first = min(pairs, key=lambda row: float(row["p"]))
    assert {first["channel_i"], first["channel_j"]} == {0, 3}
    assert first["q"] < 0.05
    assert first["weight"] > 0
    np.testing.assert_allclose([row["q"] for row in pairs], benjamini_hochberg([row["p"] for row in pairs]))
    assert together["gain"] == pytest.approx(together["joint"] - together["alone"])
    assert together["gain"] > 0.02
    assert 0 < together["lo"] < together["gain"] < together["hi"]
    assert together["p_gain"] == together["p_holm"] < 0.05
    assert {row["p_holm"] for row in pairs} == {None}
    assert together["established"] is True
    assert together["reason"] is None

    order, scale = [4, 2, 0, 5, 1, 3], [3.0, 0.1, 20.0, 1.0, 0.5, 7.0]
    *others, over_all = rows_of(relabelled(job, 1.5, order, scale))
    as_before = {frozenset((order[row["channel_i"]], order[row["channel_j"]])): row for row in others}
    for row in pairs:
        same = as_before.pop(frozenset((row["channel_i"], row["channel_j"])))
        assert same["weight"] == pytest.approx(row["weight"], rel=1e-3, abs=1e-3)
        assert same["statistic"] == pytest.approx(row["statistic"], rel=1e-3, abs=1e-3)
    assert not as_before
    for name in ("alone", "joint", "lo", "hi"):
        assert over_all[name] == pytest.approx(together[name], abs=2e-3)


def test_without_a_product_nothing_is_claimed(opened: Callable[..., OpenJob]) -> None:
    *pairs, together = rows_of(relabelled(opened(), 0.0))
    assert len(pairs) in {1, 3, 6, 10, 15}
    assert all(row["q"] > 0.05 for row in pairs)
    assert (together["gain"], together["lo"], together["established"]) == (0, None, False)
    assert together["alone"] == together["joint"] > 0.5
    assert together["reason"] == "no pair is established in any fold"


def test_a_run_whose_probes_refit_nothing_has_pairs_and_says_why_no_gain(opened: Callable[..., OpenJob]) -> None:
    *pairs, together = rows_of(relabelled(opened(probes=PROBES.split(", topk")[0] + "}"), 1.5))
    first = min(pairs, key=lambda row: float(row["p"]))
    assert {first["channel_i"], first["channel_j"]} == {0, 3}
    assert together["gain"] is None
    assert "'full'" in together["reason"]


def test_too_few_groups_say_so(opened: Callable[..., OpenJob]) -> None:
    (together,) = rows_of(opened(data=GROUPS.replace("20", "6")))
    assert together["reason"].startswith("too few groups")
    assert together.get("alone") is together["gain"] is together["established"] is None
