"""Where models stand: nulls that decide, differences that are corrected, ranks that share ties."""

from __future__ import annotations

import numpy as np

from probekit.compare.standing import above_all, against_null, differences, ranks
from probekit.evaluate.intervals import Replicates

POSITIVES = np.full(30, 5)


def score(value: float, spread: float = 0.002, seed: int = 0) -> Replicates:
    return Replicates(value, value + spread * np.random.default_rng(seed).standard_normal(30))


def test_a_model_is_above_what_it_clearly_beats() -> None:
    test = against_null("pixels", score(0.5), score(0.2, seed=1), POSITIVES)
    assert test.above is True
    assert test.difference.lo > 0
    assert against_null("pixels", score(0.2), score(0.5, seed=1), POSITIVES).above is False
    assert against_null("pixels", score(0.5), score(0.499, spread=0.05, seed=1), POSITIVES).above is False


def test_all_nulls_have_to_be_beaten_and_those_that_were_not_run_count_for_nothing() -> None:
    above, below = (against_null("a null", score(0.5), score(v, seed=1), POSITIVES) for v in (0.2, 0.6))
    unknown = against_null("a null", score(0.5), score(0.2, seed=1), POSITIVES[:4])
    assert above_all([above, above]) is True
    assert above_all([above, below]) is False
    assert above_all([]) is None
    assert above_all([above, unknown]) is None
    assert above_all([below, unknown]) is False


def test_differences_are_corrected_for_the_pairs_of_the_table() -> None:
    scores = [score(0.5), score(0.45, seed=1), score(0.3, seed=2)]
    found = differences(scores, {(0, 1): 0.03, (0, 2): 0.001, (1, 2): 0.02}, POSITIVES)
    assert [round(d.p_holm, 3) for d in found] == [0.04, 0.003, 0.04]
    assert all(d.established for d in found)
    assert all(d.difference.value > 0 for d in found)
    assert all(d.smallest > 0 for d in found)
    assert ranks(3, found) == [1, 2, 3]
    found = differences(scores, {(0, 1): 0.3, (0, 2): 0.001, (1, 2): 0.2}, POSITIVES)
    assert [d.established for d in found] == [False, True, False]
    assert ranks(3, found) == [1, 1, 3]


def test_with_too_few_groups_nothing_is_established() -> None:
    few = [Replicates(s.value, s.deleted[:8]) for s in (score(0.5), score(0.1, seed=1))]
    (found,) = differences(few, {(0, 1): 0.0001}, POSITIVES[:8])
    assert (found.p, found.p_holm, found.established, found.smallest) == (None, None, False, None)
    assert "too few groups" in found.difference.reason
    assert ranks(2, [found]) == [1, 1]
    assert differences([score(0.5)], {}, POSITIVES) == []
