"""Many L1 paths at once: each what it is alone, however the solver cuts its work."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import ALIKE, RATIOS, Judge, balanced, bytes_of, check, make_rows, only, same_within_certificates
from probekit_linear.solve import lasso, rows
from probekit_linear.solve.lasso import logistic_path
from threadpoolctl import threadpool_info

# -- many at once


def batch_of_problems():
    """Folds as zero weights, two concepts, permuted labels, own weights: on 700 rows of 12 channels."""
    x, y = make_rows(n=700, p=12, seed=4)
    _, other = make_rows(n=700, p=12, seed=5)
    rng = np.random.default_rng(0)
    fold = rng.integers(0, 3, 700)
    labels = np.stack([y, y, y, other, rng.permutation(y), y])
    folds = [np.where(fold != k, balanced(y), 0) for k in range(3)]
    weights = np.stack([*folds, balanced(other), np.ones(700), rng.uniform(0.1, 3, 700)])
    return x, labels, weights


def test_a_batch_is_its_problems_one_by_one():
    x, labels, weights = batch_of_problems()
    together = logistic_path(x, labels, weights, ratios=RATIOS)
    for j, (y, s) in enumerate(zip(labels, weights, strict=True)):
        alone = logistic_path(x, y, s, ratios=RATIOS)
        judge = Judge(x, y, s)
        check(together, j, judge)
        np.testing.assert_allclose(together.lambdas[j], alone.lambdas[0], rtol=1e-10)
        np.testing.assert_allclose(together.mean[j], alone.mean[0], rtol=1e-10, atol=1e-12)
        same_within_certificates(judge, only(together, j), alone)


def test_problems_may_have_moments_grids_and_factors_of_their_own():
    x, labels, weights = batch_of_problems()
    rng = np.random.default_rng(1)
    moments = x.mean(0) + rng.standard_normal((6, 12)), x.std(0) * 10 ** rng.uniform(-1, 1, (6, 12))
    factors, lambdas = 10 ** rng.uniform(-1, 1, (6, 12)), 10 ** rng.uniform(-4, -1, (6, 4))
    found = logistic_path(x, labels, weights, lambdas=lambdas, factors=factors, moments=moments)
    np.testing.assert_array_equal(found.lambdas, -np.sort(-lambdas, axis=1))
    np.testing.assert_array_equal(found.mean, moments[0])
    for j in range(6):
        own = moments[0][j], moments[1][j]
        check(found, j, Judge(x, labels[j], weights[j], factors[j], own))


def test_one_label_with_many_weights_and_many_labels_with_one_weight():
    x, labels, weights = batch_of_problems()
    found = logistic_path(x, labels[0], weights, ratios=[0.2])
    for j in range(6):
        check(found, j, Judge(x, labels[0], weights[j]))
    found = logistic_path(x, labels, weights[5], ratios=[0.2])
    for j in range(6):
        check(found, j, Judge(x, labels[j], weights[5]))


def test_problems_on_other_rows_with_opposite_labels_do_not_cancel():
    x, y = make_rows(n=600, p=8)
    here = np.arange(600) < 300
    labels = np.stack([y, y, 1 - y])
    weights = np.stack([here, ~here, ~here]).astype(float)
    found = logistic_path(x, labels, weights, ratios=RATIOS)
    for j in range(3):
        check(found, j, Judge(x, labels[j], weights[j]))


def test_an_easy_problem_does_not_wait_for_a_hopeless_one(quickly):
    x, y = make_rows(n=400, p=15, noise=0)
    labels = np.stack([y, np.random.default_rng(0).permutation(y)])
    found = logistic_path(x, labels, lambdas=[1e-1, 1e-2, 1e-12])
    check(found, 0, Judge(x, y), certified=False)
    check(found, 1, Judge(x, labels[1]))
    assert found.certified[0, :2].all()


def test_one_lambda_equals_the_same_one_in_a_grid():
    x, y = make_rows(n=1200, p=20)
    judge, grid = Judge(x, y), logistic_path(x, y, ratios=np.geomspace(1, 1e-3, 15))
    check(grid, 0, judge)
    for i in (4, 14):
        alone = logistic_path(x, y, lambdas=grid.lambdas[0, [i]])
        check(alone, 0, judge)
        difference = judge.objective(alone.coefficient[0, 0], alone.intercept[0, 0], grid.lambdas[0, i])
        difference -= judge.objective(grid.coefficient[0, i], grid.intercept[0, i], grid.lambdas[0, i])
        assert abs(difference) <= max(alone.gap[0, 0], grid.gap[0, i]) * judge.null + 1e-12


def test_lambdas_may_come_in_any_order_and_twice():
    x, y = make_rows()
    found = logistic_path(x, y, lambdas=[0.01, 0.1, 0.01, 1e-3])
    np.testing.assert_array_equal(found.lambdas, [[0.1, 0.01, 0.01, 1e-3]])
    check(found, 0, Judge(x, y))


@settings(max_examples=10, **ALIKE)
@given(spread=st.floats(0, 4), seed=st.integers(0, 1000))
def test_penalties_by_channel(spread, seed):
    x, y = make_rows(n=300, p=10, seed=seed)
    factors = 10 ** np.random.default_rng(seed).uniform(-spread, spread, 10)
    judge = Judge(x, y, None, factors)
    found = logistic_path(x, y, ratios=RATIOS, factors=factors)
    np.testing.assert_allclose(found.lambda_max, judge.lambda_max(), rtol=1e-9)
    check(found, 0, judge)


# -- where the solver cuts its work


@pytest.mark.parametrize("scouts", [1, 4, 10**6])
def test_scouting_on_a_sample_changes_nothing(monkeypatch, scouts):
    x, labels, weights = batch_of_problems()
    plain = logistic_path(x, labels, weights, ratios=RATIOS)
    monkeypatch.setattr(lasso, "SCOUTS", scouts)
    found = logistic_path(x, labels, weights, ratios=RATIOS)
    for j in range(6):
        judge = Judge(x, labels[j], weights[j])
        check(found, j, judge)
        same_within_certificates(judge, only(plain, j), only(found, j))


@pytest.mark.parametrize(("chunk", "blocks"), [(1, 32), (12 * 64, 2), (12 * 200, 3), (2**22, 1)])
def test_chunks_and_blocks_change_nothing(monkeypatch, chunk, blocks):
    x, labels, weights = batch_of_problems()
    plain = logistic_path(x, labels, weights, ratios=RATIOS)
    monkeypatch.setattr(rows, "CHUNK", chunk)
    monkeypatch.setattr(rows, "BLOCKS", blocks)
    found = logistic_path(x, labels, weights, ratios=RATIOS)
    for j in range(6):
        judge = Judge(x, labels[j], weights[j])
        check(found, j, judge)
        same_within_certificates(judge, only(plain, j), only(found, j))


def test_solving_points_in_lots_changes_nothing(monkeypatch):
    x, labels, weights = batch_of_problems()
    plain, told = logistic_path(x, labels, weights, ratios=RATIOS), []
    monkeypatch.setattr(lasso, "STATE", 1)
    found = logistic_path(x, labels, weights, ratios=RATIOS, progress=lambda *seen: told.append(seen))
    assert told[-1] == (30, 30, found.gap.max())
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    for j in range(6):
        same_within_certificates(Judge(x, labels[j], weights[j]), only(plain, j), only(found, j))


def test_the_number_of_threads_changes_no_byte(monkeypatch):
    x, labels, weights = batch_of_problems()
    monkeypatch.setattr(rows, "CHUNK", 12 * 64)
    found = [bytes_of(logistic_path(x, labels, weights, ratios=RATIOS, threads=threads)) for threads in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


def counts():
    return torch.get_num_threads(), sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, ValueError])
def test_thread_counts_are_left_as_they_were(threads, end):
    x, y = make_rows()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found, seen = counts(), []

        def told(*_):
            seen.append(torch.get_num_threads())
            if end is not None:
                raise end

        if end is None:
            logistic_path(x, y, ratios=RATIOS, threads=threads, progress=told)
        else:
            with pytest.raises(end):
                logistic_path(x, y, ratios=RATIOS, threads=threads, progress=told)
        assert set(seen) == {1}
        assert counts() == found
    finally:
        torch.set_num_threads(before)


def test_ctrl_c_in_the_middle_of_a_pass_leaves_thread_counts(monkeypatch):
    x, y = make_rows(n=3000)
    before = counts()
    chunks, seen = rows.RowSource.chunks, []

    def interrupted(self, *arguments):
        for piece in chunks(self, *arguments):
            seen.append(1)
            if len(seen) == 40:
                signal.raise_signal(signal.SIGINT)
            yield piece

    monkeypatch.setattr(rows, "CHUNK", 64 * 15)
    monkeypatch.setattr(rows.RowSource, "chunks", interrupted)
    for threads in (1, 3):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            logistic_path(x, y, ratios=RATIOS, threads=threads)
        assert counts() == before
