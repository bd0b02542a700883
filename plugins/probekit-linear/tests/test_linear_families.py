"""What each family promises beyond the contract: grids, widths, rankings, pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probekit_linear.l1_path import L1Path
from probekit_linear.l2_subsets import L2Subsets, log_widths
from probekit_linear.parameters import L1PathParameters, L2SubsetsParameters, LambdaGrid, PolynomialParameters
from probekit_linear.polynomial import Polynomial
from probekit_linear.problems import batch_of
from probekit_linear.ranking import geometric_median, rank_channels
from pydantic import ValidationError

from probekit.api import FULL, Fit, Path, Scorer
from probekit.testing.probes import ArrayRows, make_problem, margins


def rows_and_problem(n=600, p=8, seed=0, product=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) * 2 + 3
    z = (x - 3) / 2
    score = 2 * z[:, 1] * z[:, 4] + 0.5 * z[:, 1] if product else 2 * z[:, 1] - z[:, 4]
    y = score + 0.3 * rng.standard_normal(n) > 0.8
    return ArrayRows(x), make_problem(x, y, np.ones(n, dtype=bool))


def l1(rows, problem, **parameters):
    return L1Path(L1PathParameters.model_validate(parameters), device="cpu").fit(rows, [problem], None)[0]


def ranked(rows, problem, path):
    with batch_of(rows, [problem], "cpu", 1) as (batch, work):
        return rank_channels(batch, work, [problem], [path])[0]


def a_fit(channels, coefficient, **more):
    weight = np.array(coefficient, dtype=float)
    scorer = Scorer("linear", np.array(channels), {"weight": weight, "bias": np.array(0.0)})
    return Fit(rung=0, support=np.array(channels), coefficient=weight, scorer=scorer, **more)


def test_the_grid_starts_with_a_channel_and_ends_at_its_minimum():
    rows, problem = rows_and_problem()
    path = l1(rows, problem, lambda_ratio={"points": 10, "min": 1e-2})
    ratios = [fit.choices["lambda_ratio"] for fit in path.fits]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(1e-2)
    np.testing.assert_allclose(np.diff(np.log(ratios)), np.log(1e-2) / 10)
    assert [fit.rung for fit in path.fits] == list(range(10))
    assert len(path.fits[0].support) >= 1
    assert all(fit.certified and fit.gap <= 1e-6 for fit in path.fits)


def test_the_recipes_c_is_lambda_over_rows():
    rows, problem = rows_and_problem()
    path = l1(rows, problem, C=[1, 0.01])
    assert [fit.C for fit in path.fits] == pytest.approx([0.01, 1])
    assert [fit.lambda_ for fit in path.fits] == pytest.approx([1 / (0.01 * 600), 1 / 600])


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (L1PathParameters, {"C": [1], "lambda_ratio": {"points": 3}}),
        (L1PathParameters, {"C": [1, 1]}),
        (L1PathParameters, {"C": []}),
        (L1PathParameters, {"lambda_ratio": {"min": 1}}),
        (L2SubsetsParameters, {"rank_by": "l1", "k": [0]}),
        (L2SubsetsParameters, {"rank_by": "l1", "k": ["most"]}),
        (L2SubsetsParameters, {"k": [5]}),
        (PolynomialParameters, {"rank_by": "l1", "ridges": [0.0]}),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(model, wrong):
    with pytest.raises(ValidationError):
        model.model_validate(wrong)


def test_defaults_are_forty_lambdas_down_to_a_thousandth():
    grid = LambdaGrid().ratios()
    assert len(grid) == 40
    assert grid[-1] == pytest.approx(1e-3)


@given(channels=st.integers(1, 3000), count=st.integers(0, 60))
def test_widths_are_distinct_from_one_to_all(channels, count):
    widths = log_widths(channels, count)
    assert len(widths) == min(channels, count)
    assert widths == sorted(set(widths))
    if widths:
        assert widths[-1] == channels
        assert widths[0] == 1 or len(widths) == 1


def test_k_above_the_width_is_dropped_and_said_and_all_is_full():
    probe = L2Subsets(L2SubsetsParameters(rank_by="l1", k=(5, 8, 20), widths=0, ridges=(1.0, 0.1)), device="cpu")
    plan = probe.plan(8)
    assert probe.widths(8) == [5, 8]
    assert (plan.rungs, plan.fits) == (2, 4)
    assert [path for path, _ in plan.dropped] == [("k", 2)]
    rows, problem = rows_and_problem()
    upstream = replace(l1(rows, problem), chosen=5)
    fits = probe.fit(rows, [problem], [upstream])[0].fits
    assert [(fit.rung, fit.ridge) for fit in fits] == [(5, 1.0), (5, 0.1), (FULL, 1.0), (FULL, 0.1)]
    assert [fit.choices["k"] for fit in fits] == [5, 5, 8, 8]


def test_channels_rank_by_coefficient_then_entry_then_gradient():
    rows, problem = rows_and_problem()
    first = a_fit([6], [0.1])
    chosen = a_fit([3, 6], [0.5, -0.7])
    later = a_fit([0, 3, 6, 2], [0.2, 0.1, 0.1, -0.4])
    order = ranked(rows, problem, Path((first, chosen, later), chosen=1)).tolist()
    assert order[:4] == [6, 3, 2, 0]
    assert order[4] == 1  # of those that never enter, the one that carries the concept
    assert sorted(order) == list(range(8))
    final = a_fit([3, 6], [0.5, -0.7], details={"label": "chosen", "entered": [6, 3, 2, 0]})
    other = a_fit([5], [1.0], details={"label": "full", "entered": [6, 3, 2, 0]})
    assert ranked(rows, problem, Path((other, final))).tolist() == order
    with pytest.raises(ValueError, match="chosen"):
        ranked(rows, problem, Path((first, chosen)))


def test_a_final_path_ranks_all_channels_as_its_fold_does():
    rows, problem = rows_and_problem(p=30)
    path = l1(rows, problem)
    for at in (0, 8, 25):
        final = replace(problem, finals={"chosen": [path.fits[at]]})
        order = ranked(rows, problem, replace(path, chosen=at))
        assert ranked(rows, final, l1(rows, final)).tolist() == order.tolist()


def test_medians_of_ratios_are_geometric():
    assert geometric_median([1e-3, 0.1, 0.1]) == 0.1
    assert geometric_median([1e-3, 0.1]) == pytest.approx(1e-2)


def test_the_pair_that_carries_the_concept_is_named_first():
    rows, problem = rows_and_problem(product=True)
    upstream = replace(l1(rows, problem), chosen=39)
    probe = Polynomial(PolynomialParameters(rank_by="l1", k=8, ridges=(0.01,)), device="cpu")
    (fit,) = probe.fit(rows, [problem], [upstream])[0].fits
    assert set(fit.details["pairs"][0][:2]) == {1, 4}
    assert len(fit.details["pairs"]) == 28
    assert set(fit.support[:2].tolist()) == {1, 4}


@pytest.mark.parametrize("squares", [False, True])
def test_products_are_multiplied_out_exactly(squares):
    rows, problem = rows_and_problem(p=5)
    upstream = replace(l1(rows, problem), chosen=10)
    probe = Polynomial(PolynomialParameters(rank_by="l1", k=3, squares=squares, ridges=(0.1,)), device="cpu")
    (fit,) = probe.fit(rows, [problem], [upstream])[0].fits
    x = rows.numpy().astype(np.float64)
    z = (x - problem.mean) / problem.scale
    expected = np.zeros(len(z))
    for i, j, coefficient in fit.details["pairs"]:
        product = z[:, i] * z[:, j]
        expected += coefficient * (product - product.mean()) / product.std()
    # what is left of the margin is linear in z
    left = margins(fit.scorer, x) - expected
    design = np.column_stack([z, np.ones(len(z))])
    solution, *_ = np.linalg.lstsq(design, left, rcond=None)
    np.testing.assert_allclose(design @ solution, left, atol=1e-9)
