"""What jobs leave, as a table of probes trained on one label source and scored on each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.metrics import average_precision_score

from probekit.api import NEGATIVE, POSITIVE, VOID
from probekit.plan.units import Job
from probekit.runner.cross_labels import agreement_rows, cross_label_rows
from probekit.runner.scoring import ReferenceCells
from probekit.runner.sources import shared_concepts
from probekit.runner.tables import write_table
from probekit.testing.fakes import DiscParameters, DiscSource

CELLS = 14 * 40


def finished_job(folder: Path, job: Job, margins: dict[tuple[str, str], np.ndarray]) -> Path:
    """What a job leaves that the cross table is made of: (concept, rung) -> margins of all cells."""
    folder.mkdir(parents=True)
    rows = [
        {
            "point_id": f"{condition}|{concept}|{rung}",
            "backbone": job.backbone,
            "layer": job.layer,
            "concept": concept,
            "probe": "topk",
            "repeat": job.repeat,
            "condition": condition,
            "rung": rung,
        }
        for concept, rung in margins
        for condition in ("observed", "permuted-labels")
    ]
    write_table(folder, "points", rows)
    of = {f"observed|{concept}|{rung}": values for (concept, rung), values in margins.items()}
    of = {f"permuted-labels|{name}": next(iter(of.values())) * 0 for name in ("people/disc|full",)} | of
    save_file({"margins": np.stack(list(of.values()))}, folder / "scores.safetensors", {"points": json.dumps(list(of))})
    return folder


RECORD = {
    "concepts": ["people/disc", "people/square", "tiny-masks/disc"],
    "shared_concepts": {"disc": {"people": "people/disc", "tiny-masks": "tiny-masks/disc"}},
    "label_provenance": {
        "people/disc": {"made_by": "people", "family": None, "detail": ""},
        "tiny-masks/disc": {"made_by": "model", "family": "Tiny", "detail": ""},
    },
    "circular": [["tiny", "tiny-masks/disc"]],
    "backbones": {
        "tiny": {"kind": "model", "family": "tiny"},
        "tiny random": {"kind": "twin", "family": "tiny"},
        "planted": {"kind": "model", "family": "planted"},
    },
}


@pytest.fixture
def cells() -> ReferenceCells:
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((3, CELLS)) < 0.2, POSITIVE, NEGATIVE).astype(np.int8)
    labels[2] = np.where(rng.random(CELLS) < 0.1, 1 - labels[0], labels[0])
    labels[2, :7] = VOID
    return ReferenceCells(labels, np.repeat(np.arange(14, dtype=np.int32), 40))


def test_the_cross_table_has_every_model_on_its_own_and_the_others_labels(
    cells: ReferenceCells, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    jobs, seen = {}, {}
    for repeat in range(2):
        for backbone, layer in (("tiny", "body"), ("planted", "cells"), ("tiny random", "body")):
            margins = {
                (concept, rung): rng.normal(0, 1, CELLS).astype(np.float32) + (cells.labels[place] == POSITIVE)
                for place, concept in enumerate(("people/disc", "people/square", "tiny-masks/disc"))
                for rung in ("chosen", "full", "3")
            }
            job = Job(backbone, layer, repeat)
            seen[backbone, repeat] = margins
            jobs[job] = finished_job(tmp_path / job.name, job, margins)
    rows = list(cross_label_rows(list(jobs), list(jobs.values()), RECORD, cells))
    assert len(rows) == 3 * 2 * 4
    assert {row["concept"] for row in rows} == {"disc"}
    marked = {(row["backbone"], row["trained_on"], row["scored_on"]) for row in rows if row["circular"]}
    assert marked == {
        ("tiny", "tiny-masks", "tiny-masks"), ("tiny", "people", "tiny-masks"), ("tiny", "tiny-masks", "people"),
    }  # fmt: skip
    whose = {(row["backbone"], row["scored_on"]): row["labels"] for row in rows}
    assert whose == {
        ("tiny", "people"): "people", ("tiny", "tiny-masks"): "own",
        ("planted", "people"): "people", ("planted", "tiny-masks"): "model",
        ("tiny random", "people"): "people", ("tiny random", "tiny-masks"): "model",
    }  # fmt: skip
    kept = cells.labels[2] != VOID
    for row in rows:
        concept, truth = f"{row['trained_on']}/disc", cells.labels[0 if row["scored_on"] == "people" else 2, kept]
        scores = [seen[row["backbone"], repeat][concept, row["rung"]][kept] for repeat in range(2)]
        mean = np.mean([average_precision_score(truth, of) for of in scores])
        assert row["average_precision"] == pytest.approx(mean)
        assert row["lo"] < mean < row["hi"]
        assert (row["cells"], row["groups"]) == (CELLS - 7, 14)


def test_sources_that_share_no_concept_have_no_cross_table(cells: ReferenceCells, tmp_path: Path) -> None:
    alone = {**RECORD, "shared_concepts": shared_concepts(DiscSource(DiscParameters()))}
    assert list(cross_label_rows([Job("tiny", "body", 0)], [tmp_path / "none"], alone, cells)) == []
    assert list(agreement_rows(alone, cells)) == []


def test_agreement_is_of_the_concepts_that_sources_share(cells: ReferenceCells) -> None:
    (row,) = agreement_rows(RECORD, cells)
    assert (row["concept"], row["one"], row["other"], row["cells"]) == ("disc", "people", "tiny-masks", CELLS - 7)
    one, other = cells.labels[0, 7:] == POSITIVE, cells.labels[2, 7:] == POSITIVE
    assert row["iou"] == pytest.approx((one & other).sum() / (one | other).sum())
