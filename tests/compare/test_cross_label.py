"""Trained on one, scored on all: the same cells in every entry, intervals from groups, nothing from void."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, cohen_kappa_score, jaccard_score

from probekit.api import NEGATIVE, POSITIVE, VOID
from probekit.compare.cross_label import agreements, cross_scores
from probekit.evaluate.intervals import jackknife_interval

GROUPS, EACH = 14, 60


@pytest.fixture
def table() -> tuple[dict, dict, np.ndarray]:
    """Margins of three probes (one repeat), labels of three sources with void cells, groups."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(GROUPS), EACH)
    truth = rng.random(group.size) < 0.2
    labels, margins = {}, {}
    for name, error in (("people", 0.0), ("sam", 0.1), ("rules", 0.3)):
        own = truth ^ (rng.random(group.size) < error)
        labels[name] = np.where(rng.random(group.size) < 0.1, VOID, np.where(own, POSITIVE, NEGATIVE)).astype(np.int8)
        margins[name] = (own + rng.normal(0, 1, group.size)).astype(np.float32)[None]
    return margins, labels, group


def by_pair(found) -> dict:
    return {(one.trained_on, one.scored_on): one for one in found}


def test_every_entry_is_the_average_precision_on_the_cells_that_all_labelled(table) -> None:
    margins, labels, group = table
    kept = np.all([of != VOID for of in labels.values()], axis=0)
    found = cross_scores(margins, labels, group)
    assert [(one.trained_on, one.scored_on) for one in found] == [(a, b) for a in margins for b in labels]
    for one in found:
        y, scores = labels[one.scored_on][kept] == POSITIVE, margins[one.trained_on][0, kept]
        assert one.average_precision.value == pytest.approx(average_precision_score(y, scores))
        assert (one.cells, one.positives) == (kept.sum(), y.sum())
        assert (one.groups, one.positive_groups) == (GROUPS, len(set(group[kept][y])))


def test_intervals_are_those_of_leaving_each_group_out(table) -> None:
    margins, labels, group = table
    kept = np.all([of != VOID for of in labels.values()], axis=0)
    one = by_pair(cross_scores(margins, labels, group))["sam", "people"]
    y, scores, of = labels["people"][kept] == POSITIVE, margins["sam"][0, kept], group[kept]
    deleted = np.array([average_precision_score(y[of != g], scores[of != g]) for g in range(GROUPS)])
    wanted = jackknife_interval(
        average_precision_score(y, scores), deleted, np.bincount(of[y], minlength=GROUPS), level=0.95
    )
    assert one.average_precision.lo == pytest.approx(wanted.lo, abs=1e-3)
    assert one.average_precision.hi == pytest.approx(wanted.hi, abs=1e-3)


def test_a_cell_that_one_source_left_void_says_nothing_in_any_entry(table) -> None:
    margins, labels, group = table
    before = cross_scores(margins, labels, group)
    gone = np.any([of == VOID for of in labels.values()], axis=0)
    for name, of in labels.items():
        margins[name][:, gone] = np.random.default_rng(0).normal(0, 50, gone.sum())
        of[gone & (of != VOID)] ^= 1
    assert cross_scores(margins, labels, group) == before


def test_order_of_cells_and_names_of_groups_change_nothing(table) -> None:
    margins, labels, group = table
    order = np.random.default_rng(1).permutation(group.size)
    moved = cross_scores(
        {name: of[:, order] for name, of in margins.items()},
        {name: of[order] for name, of in labels.items()},
        100 - 3 * group[order],
    )
    for one, other in zip(cross_scores(margins, labels, group), moved, strict=True):
        assert (one.cells, one.positives, one.groups) == (other.cells, other.positives, other.groups)
        for ends in ("value", "lo", "hi", "df"):
            assert getattr(one.average_precision, ends) == pytest.approx(getattr(other.average_precision, ends))


def test_repeats_are_averaged_as_scores_each_on_the_cells_that_it_tested(table) -> None:
    margins, labels, group = table
    other = {
        name: of + np.random.default_rng(7).normal(0, 1, of.shape).astype(np.float32) for name, of in margins.items()
    }
    for of in other.values():
        of[:, group < 2] = np.nan  # as a hold-out leaves most cells untested
    found = by_pair(cross_scores({n: np.concatenate([margins[n], other[n]]) for n in margins}, labels, group))
    first, second = by_pair(cross_scores(margins, labels, group)), by_pair(cross_scores(other, labels, group))
    for pair, one in found.items():
        mean = (first[pair].average_precision.value + second[pair].average_precision.value) / 2
        assert one.average_precision.value == pytest.approx(mean)
        assert one.cells == first[pair].cells
        assert second[pair].groups == GROUPS - 2
        assert one.average_precision.lo < mean < one.average_precision.hi


def test_what_repeats_its_labels_is_best_on_them(table) -> None:
    margins, labels, group = table
    margins["sam"] = (labels["sam"] == POSITIVE).astype(np.float32)[None]
    found = by_pair(cross_scores({"sam": margins["sam"]}, labels, group))
    assert found["sam", "sam"].average_precision.value == 1
    assert found["sam", "rules"].average_precision.value < found["sam", "people"].average_precision.value < 1


def test_few_groups_no_positives_and_no_cells_give_no_interval(table) -> None:
    margins, labels, group = table
    few = cross_scores(margins, labels, group // 2)
    assert all(one.average_precision.lo is None and "7 scored" in one.average_precision.reason for one in few)
    labels["people"][labels["people"] == POSITIVE] = NEGATIVE
    none = by_pair(cross_scores(margins, labels, group))["sam", "people"]
    assert np.isnan(none.average_precision.value)
    assert "0 hold a positive" in none.average_precision.reason
    labels["people"][:] = VOID
    empty = cross_scores(margins, labels, group)
    assert all(np.isnan(one.average_precision.value) and one.cells == 0 for one in empty)
    assert all("0 scored" in one.average_precision.reason for one in empty)


def test_margins_of_other_shapes_are_refused(table) -> None:
    margins, labels, group = table
    with pytest.raises(ValueError, match="one shape"):
        cross_scores({**margins, "sam": margins["sam"][:, 1:]}, labels, group)
    with pytest.raises(ValueError, match="one shape"):
        cross_scores({**margins, "sam": np.repeat(margins["sam"], 2, axis=0)}, labels, group)


def test_agreement_worked_by_hand() -> None:
    one = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1])
    other = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2])
    (found,) = agreements({"people": one, "sam": other})
    assert (found.one, found.other) == ("people", "sam")
    assert (found.cells, found.both, found.only_one, found.only_other) == (10, 2, 1, 1)
    assert found.iou == 2 / 4
    # Agreement .8; by chance .3 * .3 + .7 * .7 = .58.
    assert found.kappa == pytest.approx((0.8 - 0.58) / (1 - 0.58))
    (same,) = agreements({"a": one, "b": one})
    assert (same.iou, same.kappa) == (1, 1)
    (blank,) = agreements({"a": np.zeros(5), "b": np.zeros(5)})
    assert np.isnan([blank.iou, blank.kappa]).all()
    assert [(a.one, a.other) for a in agreements({"a": one, "b": one, "c": one})] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]


PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60)


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_agreement_is_that_of_the_textbooks(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    (found,) = agreements({"a": one, "b": other})
    (turned,) = agreements({"b": other, "a": one})
    assert (found.both, found.only_one, found.only_other) == (turned.both, turned.only_other, turned.only_one)
    np.testing.assert_equal([found.iou, found.kappa], [turned.iou, turned.kappa])
    kept = (one != VOID) & (other != VOID)
    first, second = one[kept], other[kept]
    if (first | second).any():
        assert found.iou == pytest.approx(jaccard_score(first, second))
    else:
        assert np.isnan(found.iou)
    if len(set(first) | set(second)) > 1:
        assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    else:
        assert np.isnan(found.kappa)
