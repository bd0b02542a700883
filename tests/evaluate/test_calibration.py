"""Calibration finds the truth it was simulated with, equals scikit-learn's, and never breaks; scores add up."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from probekit.evaluate import group_losses, roc_auc
from probekit.evaluate.calibration import (
    CONSTANT,
    NOT_HIGHER,
    SEPARABLE,
    brier_parts,
    brier_score,
    calibrate,
    condense,
    explained_deviance,
    fit_temperature,
    log_loss_sums,
    prevalence_offset,
    reliability,
)


def simulated(seed, n, prevalence, spread=2.0):
    """Balanced log-odds of two normals (log-odds of mean +-d/2 and variance d), classes at a prevalence."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < prevalence).astype(np.int8)
    return rng.normal(size=n) * spread + (y - 0.5) * spread**2, y


def by_scikit_learn(margins, y):
    scale = margins.std()
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit((margins[:, None] - margins.mean()) / scale, y)
    temperature = model.coef_[0, 0] / scale
    return temperature, model.intercept_[0] - temperature * margins.mean()


def test_the_intercept_of_balanced_training_is_corrected_by_the_log_odds_of_the_prevalence():
    margins, y = simulated(0, 200_000, 0.03)
    corrected = margins + prevalence_offset(0.03)
    table = reliability(expit(corrected), y, bins=8, equal="expected")
    error = np.sqrt(table.predicted * (1 - table.predicted) / table.cells)
    assert (np.abs(table.observed - table.predicted) < 4 * error).all()
    assert expit(margins).mean() > 3 * y.mean()  # uncorrected
    assert prevalence_offset(0.5) == 0
    assert prevalence_offset(0.1) == pytest.approx(np.log(1 / 9))
    assert prevalence_offset(0.1, 0.3) + prevalence_offset(0.3, 0.1) == pytest.approx(0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prevalence_offset(0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prevalence_offset(0.1, 1.0)


@pytest.mark.parametrize("prevalence", [0.01, 0.2])
def test_margins_that_are_calibrated_but_for_prevalence_have_temperature_1(prevalence):
    fits = []
    for seed in range(20):
        margins, y = simulated(seed, 20_000, prevalence)
        fit = calibrate(margins + prevalence_offset(prevalence), y)
        fits.append((fit.temperature[0], fit.offset[0]))
        assert fit.reasons == (None,)
    fits = np.array(fits)
    error = fits.std(axis=0, ddof=1) / np.sqrt(len(fits))
    assert error.max() < 0.05
    assert (np.abs(fits.mean(axis=0) - [1, 0]) < 4 * error).all()


@pytest.mark.parametrize("prevalence", [0.005, 0.05, 0.4])
def test_the_fit_equals_scikit_learns_and_follows_scale_and_shift(prevalence):
    margins, y = simulated(3, 5000, prevalence)
    changed = np.stack([margins, 0.1 * margins - 3, 40 * margins + 1000, margins + np.sin(margins)])
    fit = calibrate(changed, y)
    for row, temperature, offset in zip(changed, fit.temperature, fit.offset, strict=True):
        wanted = by_scikit_learn(row, y)
        np.testing.assert_allclose([temperature, offset], wanted, rtol=1e-6)
    # The same probabilities whatever the margins' scale and origin; the same ranking as the margins.
    probabilities = fit.probabilities(changed)
    np.testing.assert_allclose(probabilities[1], probabilities[0], rtol=1e-7)
    np.testing.assert_allclose(probabilities[2], probabilities[0], rtol=1e-7)
    assert roc_auc(probabilities[0], y) == pytest.approx(roc_auc(margins, y), rel=1e-12)
    np.testing.assert_array_equal(probabilities, expit(fit.log_odds(changed)))
    assert probabilities.mean(axis=1) == pytest.approx(y.mean())  # so is every maximum of this likelihood
    # Each scorer by itself, whatever the order of cells.
    order = np.random.default_rng(0).permutation(len(y))
    one = calibrate(changed[3][order], y[order].astype(bool))
    np.testing.assert_allclose([one.temperature[0], one.offset[0]], [fit.temperature[3], fit.offset[3]], rtol=1e-9)


def test_counts_at_margins_stand_for_cells():
    rng = np.random.default_rng(0)
    margins = np.round(rng.normal(size=3000), 1)
    y = rng.random(3000) < expit(margins - 2)
    values = np.unique(margins)
    positives = [(y & (margins == v)).sum() for v in values]
    negatives = [(~y & (margins == v)).sum() for v in values]
    temperature, offset, reason = fit_temperature(values, positives, negatives)
    assert reason is None
    np.testing.assert_allclose(fit_temperature(margins, y, ~y)[:2], (temperature, offset), rtol=1e-9)
    np.testing.assert_allclose(
        fit_temperature(values, np.multiply(7, positives), np.multiply(7, negatives))[:2],
        (temperature, offset),
        rtol=1e-9,
    )


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_condensed_margins_give_nearly_the_same_fit(scale):
    margins, y = simulated(1, 100_000, 0.1)
    margins = (margins * scale).astype(np.float32)
    values, positives, negatives = condense(margins, y, bins=1024)
    assert len(values) <= 2 * 1030
    assert (positives.sum(), negatives.sum()) == (y.sum(), len(y) - y.sum())
    wide = margins.astype(np.float64)
    assert positives @ values == pytest.approx(wide[y == 1].sum())
    assert negatives @ values == pytest.approx(wide[y == 0].sum())
    exact, near = calibrate(margins, y), calibrate(margins, y, bins=1024)
    assert near.temperature[0] == pytest.approx(exact.temperature[0], rel=1e-4)
    assert near.offset[0] == pytest.approx(exact.offset[0], abs=1e-3)


def test_few_cells_are_condensed_to_themselves_and_equal_margins_stay_equal():
    margins, y = simulated(2, 500, 0.1)
    values, positives, negatives = condense(margins, y, bins=500)
    np.testing.assert_array_equal(np.sort(values[positives > 0]), np.sort(margins[y == 1]))
    np.testing.assert_array_equal(np.sort(values[negatives > 0]), np.sort(margins[y == 0]))
    equal = np.full(5000, 0.1)
    labels = np.arange(5000) % 10 == 0
    assert np.unique(condense(equal, labels, bins=16)[0]).tolist() == [0.1]
    assert calibrate(equal, labels, bins=16).reasons == (CONSTANT,)


def test_separable_margins_get_platts_targets():
    margins = np.r_[np.linspace(-3, -1, 300), np.linspace(1, 2, 20)]
    y = margins > 0
    for bins in (None, 8):
        fit = calibrate(margins, y, bins)
        assert fit.reasons == (SEPARABLE,)
        assert np.isfinite([fit.temperature, fit.offset]).all()
        assert fit.temperature[0] > 0
    fit = calibrate(margins, y)
    # The likelihood's equations with these targets.
    targets = np.where(y, 21 / 22, 1 / 302)
    residual = targets - fit.probabilities(margins[None])[0]
    assert residual.sum() == pytest.approx(0, abs=1e-9)
    assert residual @ margins == pytest.approx(0, abs=1e-9)
    # Touching at a tie is separable still, overlapping is not, though it be within a bin.
    touching = np.r_[margins, 0.5, 0.5]
    overlapping = np.r_[margins, 0.5, 0.5 + 1e-6]
    labels = np.r_[y, True, False]
    for bins in (None, 8):
        assert calibrate(touching, labels, bins).reasons == (SEPARABLE,)
        assert calibrate(overlapping, labels, bins).reasons == (None,)
        dense = np.r_[np.linspace(0.1999, 2, 500), np.linspace(-3, 0.2, 500)]
        assert calibrate(dense, np.arange(1000) < 500, bins).reasons == (None,)


def test_a_cell_beyond_doubt_does_not_blur_the_fit():
    """Its loss is 0 either way."""
    y = np.array([1, 0, 0, 1])
    near, far = (calibrate(np.array([outlier, 0.0, 2.0, 1.5]), y) for outlier in (1e3, 5e8))
    assert near.reasons == far.reasons == (None,)
    np.testing.assert_allclose(far.temperature, near.temperature, rtol=1e-9)
    np.testing.assert_allclose(far.offset, near.offset, rtol=1e-9)


def test_margins_that_say_nothing_give_the_prevalence():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 8 == 0
    margins, _ = simulated(0, 400, 0.5)
    backwards = np.where(y, -margins - 5, margins)
    for row, reason in ((np.full(400, 3.0), CONSTANT), (backwards, NOT_HIGHER), (-3.0 * y, NOT_HIGHER)):
        fit = calibrate(row, y)
        assert fit.reasons == (reason,)
        assert fit.temperature[0] == 0
        assert fit.probabilities(rng.normal(size=(1, 3))) == pytest.approx(0.125)


def test_what_cannot_be_calibrated_by_is_refused():
    with pytest.raises(ValueError, match="lacks a class"):
        calibrate(np.arange(3.0), np.zeros(3, int))
    for bad in (np.nan, np.inf):
        for bins in (None, 2):
            with pytest.raises(ValueError, match="not finite"):
                calibrate(np.array([0.0, bad, 1.0, 2.0]), np.array([0, 0, 0, 1]), bins)


@settings(deadline=None, max_examples=400)
@given(
    st.lists(
        st.tuples(st.floats(-(2.0**127), 2.0**127, width=32) | st.floats(-5, 5, width=32), st.booleans()),
        min_size=2,
        max_size=30,
    ),
    st.sampled_from([None, 3]),
)
def test_no_margins_break_the_fit(cells, bins):
    margins = np.array([cell[0] for cell in cells])
    y = np.array([cell[1] for cell in cells])
    y[:2] = True, False
    fit = calibrate(margins, y, bins)
    assert np.isfinite([fit.temperature, fit.offset]).all()
    assert (fit.temperature >= 0).all()
    assert np.isfinite(fit.probabilities(margins[None])).all()
    if fit.reasons == (None,) and np.ptp(margins) < 100:
        residual = y - fit.probabilities(margins[None])[0]
        gain = fit.temperature[0] * np.ptp(margins) + 1
        if bins is None:
            assert abs(residual.sum()) < 1e-6 * gain
            assert abs(residual @ (margins - margins.mean())) < 1e-6 * gain * np.ptp(margins)


def test_brier_equals_scikit_learns_and_is_weighed_to_a_prevalence():
    margins, y = simulated(0, 2000, 0.1)
    probabilities = np.stack([expit(margins), expit(margins - 2), np.full(2000, y.mean())])
    found = brier_score(probabilities, y)
    assert found == pytest.approx([brier_score_loss(y, row) for row in probabilities], rel=1e-12)
    assert found[2] == pytest.approx(y.mean() * (1 - y.mean()))
    assert brier_score(probabilities[0], y) == found[0]
    np.testing.assert_allclose(brier_score(probabilities, y, prevalence=y.mean()), found)
    weight = np.where(y == 1, 0.4 / y.sum(), 0.6 / (2000 - y.sum()))
    wanted = [brier_score_loss(y, row, sample_weight=weight) for row in probabilities]
    assert brier_score(probabilities, y, prevalence=0.4) == pytest.approx(wanted, rel=1e-12)


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 120),
    st.sampled_from([1, 4, 1000]),
    st.sampled_from([None, 1, 2, 10, 500]),
    st.sampled_from(["cells", "expected"]),
)
def test_the_parts_of_brier_add_up(seed, n, levels, bins, equal):
    rng = np.random.default_rng(seed)
    values = rng.random(levels) ** 4 if levels > 1 else np.array([rng.integers(0, 2)])
    probabilities = values[rng.integers(0, levels, n)]
    y = (rng.random(n) < rng.random()).astype(np.int8)
    parts = brier_parts(probabilities, y, bins, equal)
    assert parts.score == pytest.approx(float(brier_score(probabilities, y)), abs=1e-12)
    assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0
    if bins is None or (bins == 500 and levels == 1):
        assert parts.within == pytest.approx(0, abs=1e-12)
    table = reliability(probabilities, y, bins or 10, equal)
    assert (table.cells.sum(), table.positives.sum()) == (n, y.sum())
    assert len(table.cells) <= (bins or 10)
    assert (table.cells > 0).all()
    assert (np.diff(table.predicted) > 0).all()
    if equal == "cells":
        again = reliability(np.repeat(probabilities, 3), np.repeat(y, 3), bins or 10)
        np.testing.assert_array_equal(again.cells, 3 * table.cells)
        np.testing.assert_allclose(again.predicted, table.predicted)


def test_hand_worked_parts_of_brier():
    parts = brier_parts(np.array([0.2, 0.2, 0.2, 0.2, 0.8, 0.8]), np.array([0, 0, 0, 1, 1, 1]), bins=None)
    assert parts.reliability == pytest.approx((4 * 0.05**2 + 2 * 0.2**2) / 6)
    assert parts.resolution == pytest.approx((4 * 0.25**2 + 2 * 0.5**2) / 6)
    assert parts.uncertainty == 0.25
    assert parts.within == pytest.approx(0, abs=1e-15)


def test_bins_hold_as_many_cells_or_as_many_expected_positives_and_ties_stay_together():
    rng = np.random.default_rng(0)
    probabilities = rng.beta(0.3, 6, 10_000)
    y = rng.random(10_000) < probabilities
    order = np.argsort(probabilities)
    table = reliability(probabilities, y, bins=10)
    assert table.cells.tolist() == [1000] * 10
    np.testing.assert_allclose(table.predicted, probabilities[order].reshape(10, -1).mean(axis=1))
    np.testing.assert_allclose(table.observed, y[order].reshape(10, -1).mean(axis=1))
    expected = reliability(probabilities, y, bins=10, equal="expected")
    np.testing.assert_allclose(expected.cells * expected.predicted, probabilities.sum() / 10, rtol=0.02)
    tied = reliability(np.repeat([0.0, 0.1, 0.7], [8000, 1500, 500]), y, bins=10)
    assert tied.cells.tolist() == [8000, 1500, 500]
    # By the middle of their ranks, so that the mirrored question has the mirrored table.
    levels = np.repeat([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [7, 1, 13, 4, 2, 9])
    assert reliability(levels, y[:36], bins=3).cells.tolist() == [8, 17, 11]
    assert reliability(1 - levels, ~y[:36], bins=3).cells.tolist() == [11, 17, 8]
    with pytest.raises(ValueError, match="outside 0 to 1"):
        reliability(np.array([0.5, 1.5]), np.array([0, 1]))
    with pytest.raises(ValueError, match="at least one bin"):
        reliability(np.array([0.5]), np.array([0]), bins=0)


def test_calibration_betters_brier_and_deviance_of_margins_that_are_too_sure():
    margins, y = simulated(0, 20_000, 0.05)
    fresh, truth = simulated(1, 20_000, 0.05)
    raw, corrected = 3 * fresh, 3 * fresh + prevalence_offset(0.05)
    fit = calibrate(3 * margins, y)
    steps = np.stack([raw, corrected, fit.log_odds(raw[None])[0]])
    assert (np.diff(brier_score(expit(steps), truth)) < 0).all()
    cells = [np.count_nonzero(truth == 0), np.count_nonzero(truth)]
    assert (np.diff(explained_deviance(log_loss_sums(steps, truth), cells)) > 0).all()
    assert brier_parts(expit(steps[2]), truth).reliability < 0.1 * brier_parts(expit(steps[1]), truth).reliability


def test_explained_deviance_is_one_less_the_share_of_the_constants_log_loss():
    margins, y = simulated(0, 3000, 0.1)
    log_odds = np.stack([margins - 2, margins, np.full(3000, logit(y.mean()))])
    cells = np.array([np.count_nonzero(y == 0), np.count_nonzero(y)])
    sums = log_loss_sums(log_odds, y)
    groups = np.arange(3000) % 7
    np.testing.assert_allclose(sums[0], group_losses(log_odds[0], y, groups, 7).sum(axis=0))
    null = log_loss(y, np.full(3000, y.mean()))
    wanted = [1 - log_loss(y, expit(row)) / null for row in log_odds]
    found = explained_deviance(sums, cells)
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found[2] == pytest.approx(0, abs=1e-12)
    assert explained_deviance(log_loss_sums(np.where(y == 1, 99.0, -99.0), y), cells) == pytest.approx(1)
    np.testing.assert_allclose(explained_deviance(sums, cells, cells[1] / cells.sum()), found)
    for prevalence in (0.5, 0.02):
        weight = np.where(y == 1, prevalence / cells[1], (1 - prevalence) / cells[0])
        loss = log_loss(y, expit(margins), sample_weight=weight)
        null = log_loss(y, np.full(3000, prevalence), sample_weight=weight)
        assert explained_deviance(sums[1], cells, prevalence) == pytest.approx(1 - loss / null)
    assert np.isnan(explained_deviance(sums, [3000, 0])).all()
    assert np.isnan(explained_deviance(sums, [3000, 0], 0.5)).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        explained_deviance(sums, cells, 0.0)


def test_losses_of_balanced_margins_do_not_tell_the_deviance_explained_at_the_natural_prevalence():
    """Two scorers with the same sums by class, and so the same balanced figure, part when the intercept moves."""
    y = np.r_[np.zeros(1000, int), np.ones(10, int)]
    even = np.where(y == 1, 2.0, -2.0)
    loss = np.logaddexp(0, -2.0)
    one_bad = np.where(y == 1, 2.0, -40.0)
    one_bad[0] = np.log(np.expm1(1000 * loss))
    sums = log_loss_sums(np.stack([even, one_bad]), y)
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-9)
    natural = explained_deviance(log_loss_sums(np.stack([even, one_bad]) + prevalence_offset(10 / 1010), y), [1000, 10])
    assert abs(natural[0] - natural[1]) > 0.1
