"""The MLP keeps what every probe must, and learns what a weighted sum cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from probekit_mlp.parameters import MlpParameters
from probekit_mlp.plugin import probekit_probes
from pydantic import ValidationError

from probekit.api import Rows
from probekit.testing.probes import (
    ArrayRows,
    ArrayValidation,
    ProbeContract,
    average_precision,
    build_probe,
    make_problem,
    margins,
)

(MLP,) = probekit_probes()
ONE = {"hidden": [8], "epochs": 8, "batch_size": 64, "learning_rate": 0.01}
TWO = {"hidden": [8, 4], "epochs": 8, "batch_size": 64, "learning_rate": 0.01}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Batches this small only wait for each other on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestOneHiddenLayer(ProbeContract):
    plugin = MLP
    parameters = ONE
    convex = False
    tolerance = 0.05  # training carries float32 rounding along


class TestTwoHiddenLayers(ProbeContract):
    plugin = MLP
    parameters = TWO
    convex = False
    tolerance = 0.05


def ring(n=1500, seed=0):
    """A concept that is where two channels are far from their mean, either way."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return (x * 3 + 5).astype(np.float32), (x[:, 0] ** 2 + x[:, 1] ** 2 > 3).astype(np.int8), rng.random(n) < 0.7


def fitted(x, y, training, parameters, seed=0):
    validation = ArrayValidation(ArrayRows(x[~training]), y[~training])
    problem = make_problem(x, y, training, seed, validation)
    return build_probe(MLP, parameters).fit(ArrayRows(x), [problem], None)[0].fits[0], problem


def test_it_learns_what_a_weighted_sum_cannot():
    x, y, training = ring()
    fit, _ = fitted(x, y, training, {"hidden": [16], "epochs": 40, "batch_size": 64, "learning_rate": 0.01})
    assert average_precision(y[~training], margins(fit.scorer, x[~training])) > 0.95


def test_the_epoch_of_the_best_validation_score_is_kept():
    x, y, training = ring()
    fit, _ = fitted(x, y, training, {**ONE, "patience": 3})
    scores = fit.details["validation_average_precision"]
    epochs = int(fit.choices["epochs"])
    assert scores[epochs - 1] == max(scores)
    assert len(scores) == len(fit.details["loss"]) <= 8
    assert len(scores) == 8 or len(scores) == epochs + 3
    measured = average_precision(y[~training], margins(fit.scorer, x[~training]))
    assert measured == pytest.approx(scores[epochs - 1], abs=1e-3)


def test_a_final_fit_trains_for_the_median_number_of_epochs_without_validation():
    x, y, training = ring()
    fit, problem = fitted(x, y, training, ONE)
    folds = [replace(fit, choices={"epochs": epochs}) for epochs in (2.0, 4.0, 9.0)]
    final = replace(problem, validation=None, finals={"chosen": folds, "again": [fit]})
    found, same = build_probe(MLP, ONE).fit(ArrayRows(x), [final], None)[0].fits
    assert found.choices == {"epochs": 4.0}
    assert len(found.details["loss"]) == 4
    np.testing.assert_allclose(margins(same.scorer, x), margins(fit.scorer, x))  # same seed, same epochs


def test_seeds_matter_and_the_global_generator_does_not():
    x, y, training = ring(400)
    one, _ = fitted(x, y, training, ONE, seed=1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    two, _ = fitted(x, y, training, ONE, seed=1)
    other, _ = fitted(x, y, training, ONE, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(margins(one.scorer, x), margins(two.scorer, x))
    assert not np.allclose(margins(one.scorer, x), margins(other.scorer, x))


def test_without_validation_it_refuses_to_guess():
    x, y, training = ring(200)
    rows: Rows = ArrayRows(x)
    with pytest.raises(ValueError, match="validation"):
        build_probe(MLP, ONE).fit(rows, [make_problem(x, y, training)], None)


@pytest.mark.parametrize("wrong", [{"hidden": []}, {"hidden": [8, 8, 8]}, {"epochs": 0}, {"layers": 2}])
def test_parameters_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ValidationError):
        MlpParameters.model_validate(wrong)


def test_listing_the_plugin_imports_no_torch():
    code = "import sys, json, probekit_mlp.plugin as p; p.probekit_probes(); print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert not {"torch", "scipy", "sklearn"} & set(loaded)
