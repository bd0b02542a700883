"""Rows of ``subspaces``: every ordered pair of two models' layers, on the cells that count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probekit.api import VOID
from probekit.runner.comparisons.subspaces import subspace_rows
from probekit.runner.scoring import ReferenceCells

GROUPS, CELLS = 35, 20
A, LATER, B = ("a", "x"), ("a", "y"), ("b", "x")


def rows(**selected: list[int]) -> dict[tuple[Any, Any, str], dict[str, Any]]:
    """Channels 1 and 2 of a, and 0 and 3 of b, are one plane, but for the void cells of ``spot``."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(GROUPS, dtype=np.int32), CELLS)
    features = {of: rng.normal(size=(len(group), 4)).astype(np.float32) for of in (A, LATER, B)}
    features[B][:, [0, 3]] = features[A][:, [1, 2]] @ np.array([[3, 4], [-4, 3]], dtype=np.float32)
    features[A][:, 0] = 5
    void = rng.random(len(group)) < 0.2
    void[group == 3] = True
    features[B][void, 0] = rng.normal(size=void.sum()) * 100
    labels = np.stack([np.where(void, VOID, 0), np.zeros(len(group))]).astype(np.int8)
    chosen = {A: [1, 2], LATER: [0, 1], B: [3, 0]} | {
        {"a": A, "later": LATER, "b": B}[name]: channels for name, channels in selected.items()
    }
    of_concept = {
        (*layer, concept): [{"channel": channel} for channel in channels]
        for layer, channels in chosen.items()
        for concept in ("spot", "all")
    }
    cells = ReferenceCells(labels, group)
    found = subspace_rows(features, of_concept, cells, ("spot", "all"), [f"g{i}" for i in range(GROUPS)], 0)
    return {((r["backbone_a"], r["layer_a"]), (r["backbone_b"], r["layer_b"]), r["concept"]): r for r in found}


def test_a_plane_in_common_is_found_on_the_cells_that_are_not_void() -> None:
    found = rows()
    assert set(found) == {(*p, c) for p in ((A, B), (B, A), (LATER, B), (B, LATER)) for c in ("spot", "all")}
    for pair in ((A, B), (B, A)):
        row = found[(*pair, "spot")]
        assert row["r2"] == pytest.approx(1, abs=1e-9)
        assert row["cka"] == pytest.approx(1, abs=0.02)  # each channel is given deviation 1: nearly a rotation
        assert row["groups"] == GROUPS - 1
        assert row["cells"] < 0.85 * GROUPS * CELLS
        assert row["reason"] is None
        assert found[(*pair, "all")]["r2"] < 0.9
        assert found[(*pair, "all")]["cells"] == GROUPS * CELLS
    assert abs(found[LATER, B, "spot"]["r2"]) < 0.02
    assert abs(found[LATER, B, "spot"]["cka"]) < 0.02
    assert found[A, B, "all"]["cka"] == found[B, A, "all"]["cka"]


def test_what_cannot_be_said_has_a_reason() -> None:
    found = rows(a=[1, 0, 2], later=[])
    assert found[A, B, "spot"]["r2"] == pytest.approx(1, abs=1e-9)
    assert found[A, B, "spot"]["lo"] is not None
    assert found[A, B, "spot"]["channels_a"] == 3
    assert found[A, B, "spot"]["reason"] == "1 channel of a does not vary"
    assert found[B, A, "spot"]["reason"] is None
    for pair, word in (((LATER, B), "is to be explained"), ((B, LATER), "explains")):
        row = found[(*pair, "all")]
        assert (row["r2"], row["lo"], row["cka"]) == (None, None, None)
        assert row["reason"] == f"no channel that varies {word}"
