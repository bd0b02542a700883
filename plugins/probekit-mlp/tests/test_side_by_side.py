"""Problems that are trained together get what each gets alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probekit_mlp import mlp
from probekit_mlp.network import AdamW, Networks
from probekit_mlp.parameters import MlpParameters

from probekit.api import Fit, Scorer
from probekit.testing.probes import ArrayRows, ArrayValidation, make_problem, margins

QUICK = {"epochs": 6, "patience": 6, "batch_size": 64, "learning_rate": 0.01}


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fit(x, problems, threads=2, **parameters):
    probe = mlp.Mlp(MlpParameters.model_validate({**QUICK, **parameters}), device="cpu", threads=threads)
    return [path.fits for path in probe.fit(ArrayRows(x), problems, None)]


def alone(x, problem, **parameters):
    return fit(x, [problem], **parameters)[0]


def as_bytes(fits):
    return [
        (one.coefficient.tobytes(), *(array.tobytes() for array in one.scorer.arrays.values()), repr(one.details))
        for one in fits
    ]


def assert_alike(x, together, by_itself):
    for one, other in zip(together, by_itself, strict=True):
        assert one.choices == other.choices
        assert one.details.keys() == other.details.keys()
        np.testing.assert_allclose(one.details["loss"], other.details["loss"], rtol=1e-4)
        found, expected = margins(one.scorer, x), margins(other.scorer, x)
        np.testing.assert_allclose(found, expected, atol=2e-3 * expected.std())
        np.testing.assert_allclose(one.coefficient, other.coefficient, atol=1e-3 * np.abs(other.coefficient).max())


def rows_and_problems(shares, n=700, p=12, seed=0, validation=None):
    """Problems on shares of the rows, each its own question; the last fifth of the rows is for validation."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) * rng.uniform(0.5, 3, p) + rng.uniform(-2, 2, p)).astype(np.float32)
    inner = np.arange(n) >= n * 4 // 5
    seen = validation or ArrayRows(x[inner])
    problems = []
    for i, share in enumerate(shares):
        score = (x - x.mean(axis=0)) / x.std(axis=0) @ rng.standard_normal(p)
        y = (score + rng.standard_normal(n) > 1).astype(np.int8)
        training = ~inner & (rng.random(n) < share)
        training[np.flatnonzero(y)[0]] = training[np.flatnonzero(1 - y)[0]] = True
        problems.append(make_problem(x, y, training, i, ArrayValidation(seen, y[inner])))
    return x, problems


@settings(max_examples=12, deadline=None)
@given(
    shares=st.lists(st.floats(0.02, 1), min_size=2, max_size=5),
    batch=st.sampled_from([7, 64, 1000]),
    hidden=st.sampled_from([[6], [6, 3]]),
    seed=st.integers(0, 1000),
)
def test_a_batch_of_problems_gives_what_each_gives_alone(shares, batch, hidden, seed):
    """Whatever their numbers of rows: epochs of unequal length, last batches of unequal size."""
    x, problems = rows_and_problems(shares, seed=seed)
    problems = [replace(problem, validation=None, finals=finals("end", 3)) for problem in problems]
    together = fit(x, problems, batch_size=batch, hidden=hidden)
    for found, problem in zip(together, problems, strict=True):
        assert_alike(x, found, alone(x, problem, batch_size=batch, hidden=hidden))


def finals(*labels_and_epochs):
    pairs = zip(labels_and_epochs[::2], labels_and_epochs[1::2], strict=True)
    empty = np.empty(0)
    return {
        label: [Fit(0, empty.astype(int), empty, Scorer("mlp", empty.astype(int), {}), {"epochs": float(epochs)})]
        for label, epochs in pairs
    }


def test_one_that_stops_early_leaves_the_others_as_they_were():
    x, problems = rows_and_problems([1, 0.4, 0.9, 0.7], validation=None)
    wanting = problems[0].validation
    reversed_labels = ArrayValidation(wanting.rows, 1 - wanting.y)  # the better it learns the worse it scores
    problems[0] = replace(problems[0], validation=reversed_labels)
    settings_ = {"epochs": 12, "patience": 2, "learning_rate": 0.003}
    together = fit(x, problems, **settings_)
    lengths = [len(fits[0].details["loss"]) for fits in together]
    assert lengths[0] < max(lengths)
    for found, problem in zip(together, problems, strict=True):
        by_itself = alone(x, problem, **settings_)
        assert len(found[0].details["loss"]) == len(by_itself[0].details["loss"])
        assert_alike(x, found, by_itself)


def test_final_fits_and_fits_with_validation_share_a_batch():
    x, problems = rows_and_problems([1, 0.5])
    final = replace(problems[0], validation=None, finals=finals("late", 5, "early", 2))
    together = fit(x, [final, problems[1]])
    assert [found.details["label"] for found in together[0]] == ["late", "early"]
    assert_alike(x, together[1], alone(x, problems[1]))
    for label, found in zip(("late", "early"), together[0], strict=True):
        own = replace(final, finals={label: final.finals[label]})
        assert_alike(x, [found], alone(x, own))


def test_threads_change_no_byte():
    """Rows so wide that there are several groups, of one and of two."""
    x, problems = rows_and_problems([1, 0.8, 0.6, 0.9, 0.7], n=700, p=200)
    parameters = {"batch_size": 512, "epochs": 3, "patience": 3}
    found = [[as_bytes(fits) for fits in fit(x, problems, threads, **parameters)] for threads in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


def test_rows_without_weight_are_not_read_to_fill_a_batch():
    """Infinity times a weight of zero would be seen."""
    x, problems = rows_and_problems([0.3, 0.5])
    later = np.arange(len(x)) >= 5  # the first row is what a careless filler would take
    problems = [replace(problem, weights=problem.weights * later) for problem in problems]
    spoilt = x.copy()
    spoilt[(problems[0].weights == 0) & (problems[1].weights == 0)] = np.inf
    clean, poisoned = fit(x, problems), fit(spoilt, problems)
    assert [as_bytes(fits) for fits in clean] == [as_bytes(fits) for fits in poisoned]


class CountedRows(ArrayRows):
    def __init__(self, x):
        super().__init__(x)
        self.reads = 0

    def torch(self, device):
        self.reads += 1
        return super().torch(device)

    def chunks(self, rows=65536):
        self.reads += 1
        yield from super().chunks(rows)


def test_validation_rows_are_read_once_or_once_an_epoch_where_memory_is_short(monkeypatch):
    x, _ = rows_and_problems([1])
    counted = CountedRows(x[700 * 4 // 5 :])
    _, problems = rows_and_problems([1, 0.6, 0.8], validation=counted)
    held = fit(x, problems)
    assert counted.reads == 1
    monkeypatch.setattr(mlp, "VALIDATION_BYTES", 4 * x.shape[1] * counted.shape[0] - 1)
    counted.reads = 0
    read_anew = fit(x, problems)
    assert counted.reads == QUICK["epochs"]
    assert [as_bytes(fits) for fits in held] == [as_bytes(fits) for fits in read_anew]


@settings(max_examples=30, deadline=None)
@given(
    k=st.integers(1, 4),
    m=st.integers(1, 9),
    p=st.integers(1, 6),
    hidden=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    seed=st.integers(0, 10**6),
)
def test_gradients_are_those_of_autograd(k, m, p, hidden, seed):
    """In float64, for fewer rows of networks than there are, through plain layers on standardised rows."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    numbers = sum(a * b + b for a, b in zip([p, *hidden], [*hidden, 1], strict=True))
    mean, scale, values = draw(k + 1, p), draw(k + 1, p).exp(), draw(k + 1, numbers)
    x, slope = draw(k, m, p), draw(k, m, 1)
    networks = Networks(mean, scale, hidden, values)
    centred = x - mean[:k, None]
    outputs = networks.forward(centred)
    found = networks.differentiate(centred, outputs, slope)
    layers, _ = networks.layers(k + 1)
    for i in range(k):
        parameters = [(w[i].clone().requires_grad_(), b[i].clone().requires_grad_()) for w, b in layers]
        h = (x[i] - mean[i]) / scale[i]
        for j, (weight, bias) in enumerate(parameters):
            h = torch.nn.functional.linear(h if j == 0 else h.relu(), weight, bias)
        torch.testing.assert_close(outputs[-1][i], h.detach())
        weights, biases = zip(*parameters, strict=True)
        expected = torch.autograd.grad((h * slope[i]).sum(), [*weights, *biases])
        torch.testing.assert_close(found[i], torch.cat([part.flatten() for part in expected]))


def test_each_row_of_numbers_takes_its_own_steps_of_adamw():
    """Against the published update, decay decoupled; the second row misses every other step."""
    rng = np.random.default_rng(0)
    start, rate, decay = rng.standard_normal((2, 5)), 0.1, 0.2
    values = torch.tensor(start.copy())
    optimizer = AdamW(values, 3, learning_rate=rate, weight_decay=decay)
    expected, first, second, steps = start.copy(), np.zeros((2, 5)), np.zeros((2, 5)), [0, 0]
    for turn in range(9):
        gradient = rng.standard_normal((1 + turn % 2, 5))
        optimizer.step(torch.tensor(gradient))
        for i, g in enumerate(gradient):
            steps[i] += 1
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            expected[i, :3] -= rate * decay * expected[i, :3]
            corrected = np.sqrt(second[i] / (1 - 0.999 ** steps[i])) + 1e-8
            expected[i] -= rate * first[i] / (1 - 0.9 ** steps[i]) / corrected
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12)
