"""What is claimed of a concept in several places rests on p-values that are adjusted together."""

from __future__ import annotations

from typing import Any

import pytest

from probekit.runner.comparisons.adjusted import adjusted


def test_places_of_a_concept_are_adjusted_together_and_claims_rest_on_it() -> None:
    rows: list[dict[str, Any]] = [
        {"concept": "disc", "p": 0.03, "gain": 0.1},
        {"concept": "square", "p": 0.03, "gain": 0.1},
        {"concept": "disc", "p": None, "gain": None, "claim": None},
        {"concept": "disc", "p": None, "gain": 0.0, "claim": False},
        {"concept": "disc", "p": 0.01, "gain": 0.1},
        {"concept": "disc", "gain": 0.1},
        {"concept": "disc", "p": 0.001, "gain": -0.1},
    ]
    found = adjusted(rows, "p", "claim", "gain")
    assert [row["p_holm"] for row in found] == pytest.approx([0.03, 0.03, None, None, 0.02, None, 0.003])
    assert [row.get("claim") for row in found] == [True, True, None, False, True, None, False]
    found = adjusted([*rows, {"concept": "disc", "p": 0.04, "gain": 0.1}], "p", "claim", "gain")
    assert [row.get("claim") for row in found] == [False, True, None, False, True, None, False, False]
    assert "p_holm" not in rows[0]


def test_nothing_tested_is_nothing_adjusted() -> None:
    assert adjusted([], "p", "claim", "gain") == []
    assert adjusted([{"concept": "disc", "p": None}], "p", "claim", "gain") == [
        {"concept": "disc", "p": None, "p_holm": None}
    ]
