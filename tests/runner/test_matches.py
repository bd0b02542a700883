"""Rows of ``matches``."""

from __future__ import annotations

import numpy as np

from probekit.compare.chance import Pairing
from probekit.compare.repairing import repair
from probekit.runner.comparisons.matches import SampledLayer, Selection, match_rows
from probekit.runner.schemas import SCHEMAS


def layers() -> tuple[SampledLayer, SampledLayer]:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((320, 6)), rng.standard_normal((320, 8))
    b[:, 5] = a[:, 2] + 0.1 * b[:, 5]
    a[:, 4] = 1
    chosen = {"pothole": Selection([2, 4, 0], [0.5, 0.2, -0.1]), "crack": Selection([2], [1.0])}
    other = {"pothole": Selection([5, 1], [1.0, 1.0]), "crack": Selection([0, 5], [1.0, 1.0])}
    return SampledLayer("v1", "x", a.astype(np.float32), chosen), SampledLayer("v2", "y", b.astype(np.float32), other)


def rows(groups: int, draws: int = 99) -> dict[tuple[str, int], dict[str, object]]:
    image = np.arange(320) // 8
    cells = (image, image * groups // 40, np.arange(320) % 2, np.arange(320) % 8 // 2)
    one, other = layers()
    repairing = repair(*cells, rng=np.random.default_rng(1), draws=draws)
    found = match_rows(one, other, Pairing(other.features, repairing))
    assert all(list(row) == SCHEMAS["matches"].names for row in found)
    return {(row["concept"], row["channel"]): row for row in found}


def test_a_shared_channel_is_one_to_one_and_a_constant_one_says_so() -> None:
    found = rows(40)
    for concept in ("pothole", "crack"):
        row = found[concept, 2]
        assert (row["kind"], row["partner"], row["mutual"], row["assigned"]) == ("one-to-one", 5, True, 5)
        assert row["rebuilt_by"][0] == 5
        assert row["reason"] is None
    assert found["pothole", 2]["p"] == found["crack", 2]["p"] == 0.01
    constant = found["pothole", 4]
    assert (constant["kind"], constant["partner"], constant["r"], constant["p"]) == (None, None, None, None)
    assert "constant" in constant["reason"]
    assert found["pothole", 0]["coefficient"] == -0.1


def test_few_groups_leave_the_partner_and_say_why() -> None:
    row = rows(5)["pothole", 2]
    assert (row["partner"], row["kind"], row["p"]) == (5, None, None)
    assert row["r"] > 0.9
    assert "5 sampled" in row["reason"]


def test_what_too_few_draws_cannot_decide_is_not_called_unmatched() -> None:
    row = rows(40, draws=49)["pothole", 2]
    assert (row["kind"], row["p"]) == (None, 0.02)
    assert row["reason"] == "49 draws cannot tell so few matches among 3: comparison.draws 119 can"
    assert rows(40, draws=119)["pothole", 2]["kind"] == "one-to-one"
