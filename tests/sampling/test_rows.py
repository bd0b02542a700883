"""Training rows: uniform, seeded, free of order; weights balance; moments are those of the rows, exactly stable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.api import NEGATIVE, POSITIVE, VOID, ProbekitError
from probekit.sampling import derive_seed, draw_rows, fold_weights, generator, hash_keys, training_moments


def some_labels(seed=0, images=6, share=(0.7, 0.2, 0.1)):
    rng = np.random.default_rng(seed)
    return [
        rng.choice([NEGATIVE, POSITIVE, VOID], size=(rng.integers(3, 9), 7), p=share).astype(np.int8)
        for _ in range(images)
    ]


IDS = ["f", "b", "a", "e", "d", "c"]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 100), st.integers(1, 200), st.permutations(range(6)))
def test_rows_are_labelled_cells_up_to_so_many_whatever_the_order(seed, per_class, order):
    labels = some_labels(seed)
    rows = draw_rows(IDS, labels, per_class, seed, "sam", "neck", "crack", 0)
    assert [labels[i].reshape(-1)[c] for i, c in zip(rows.image, rows.cell, strict=True)] == rows.y.tolist()
    total = np.concatenate([one.reshape(-1) for one in labels])
    for value in (NEGATIVE, POSITIVE):
        assert (rows.y == value).sum() == min(per_class, (total == value).sum())
    places = list(zip(rows.image.tolist(), rows.cell.tolist(), strict=True))
    assert places == sorted(set(places))
    other = draw_rows([IDS[i] for i in order], [labels[i] for i in order], per_class, seed, "sam", "neck", "crack", 0)
    assert {(IDS[i], c) for i, c in places} == {
        (IDS[order[i]], c) for i, c in zip(other.image.tolist(), other.cell.tolist(), strict=True)
    }


def test_keys_and_seeds_draw_differently_and_fewer_rows_are_part_of_more():
    labels = some_labels(1)

    def draw(per_class, seed, *key):
        rows = draw_rows(IDS, labels, per_class, seed, *key)
        return set(zip(rows.image.tolist(), rows.cell.tolist(), strict=True))

    assert draw(10, 0, "a", 0) == draw(10, 0, "a", 0)
    assert len({frozenset(d) for d in (draw(10, 0, "a", 0), draw(10, 1, "a", 0), draw(10, 0, "a", 1))}) == 3
    assert draw(10, 0, "a", 0) < draw(20, 0, "a", 0)


def test_every_cell_is_as_likely_as_every_other():
    labels = [np.zeros(n, np.int8) for n in (5, 40, 15)]
    hits = np.zeros(60)
    start = np.array([0, 5, 45])
    draws = 2000
    for seed in range(draws):
        rows = draw_rows(["x", "y", "z"], labels, 12, seed)
        hits[start[rows.image] + rows.cell] += 1
    # Each cell is drawn with probability .2; five standard deviations.
    assert np.abs(hits / draws - 0.2).max() < 5 * np.sqrt(0.16 / draws)


def test_pruning_on_the_way_changes_nothing():
    labels = [np.zeros(70_000, np.int8) for _ in range(3)]
    rows = draw_rows(["a", "b", "c"], labels, 50, 4, "k")
    keys = generator(4, "rows", "k", NEGATIVE).random(210_000)
    best = np.sort(np.argsort(keys)[:50])
    assert (rows.image * 70_000 + rows.cell).tolist() == best.tolist()


def test_no_cells_no_rows():
    assert len(draw_rows([], [], 5, 0)) == 0
    assert len(draw_rows(["a"], [np.full((2, 2), VOID, np.int8)], 5, 0)) == 0


def test_weights_balance_the_classes_of_the_training_part():
    y = np.array([0, 0, 0, 1, 1, 0, 0], np.int8)
    training = np.array([1, 1, 1, 1, 0, 1, 0], bool)
    weights = fold_weights(y, training)
    assert weights.sum() == pytest.approx(5)
    assert weights[y == 1].sum() == pytest.approx(2.5)
    assert (weights[~training] == 0).all()
    with pytest.raises(ProbekitError, match="no positive cell among 3 training rows"):
        fold_weights(y, np.arange(7) < 3)


def in_chunks(values, size):
    return ((slice(i, i + size), values[i : i + size]) for i in range(0, len(values), size))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 70), st.integers(1, 4))
def test_moments_equal_two_passes_over_the_training_rows(seed, chunk, folds):
    rng = np.random.default_rng(seed)
    n, p = 60, 5
    values = (rng.normal(size=(n, p)) * 10.0 ** rng.integers(-3, 4, p) + rng.normal(size=p)).astype(np.float32)
    training = rng.random((folds, n)) < 0.6
    training[:, :2] = True
    mean, scale = training_moments(in_chunks(values, chunk), training, p)
    for fold in range(folds):
        rows = values[training[fold]].astype(np.float64)
        np.testing.assert_allclose(mean[fold], rows.mean(axis=0), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(scale[fold], rows.std(axis=0), rtol=1e-9)


def test_moments_survive_a_large_offset():
    rng = np.random.default_rng(0)
    values = (1e5 + rng.normal(size=(5000, 1))).astype(np.float32)  # deviation 1, a float32 step is .008
    mean, scale = training_moments(in_chunks(values, 512), np.ones((1, 5000), bool), 1)
    assert mean.item() == pytest.approx(values.astype(np.float64).mean(), rel=1e-14)
    assert scale.item() == pytest.approx(values.astype(np.float64).std(), rel=1e-10)


def test_a_constant_channel_has_scale_one_even_if_it_varies_elsewhere():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 3)).astype(np.float32)
    values[:, 0] = 0.1
    values[:60, 1] = 1 / 3  # constant in the first fold only
    training = np.stack([np.arange(100) < 60, np.arange(100) >= 30])
    mean, scale = training_moments(in_chunks(values, 17), training, 3)
    assert scale[0, :2].tolist() == [1.0, 1.0]
    assert scale[1, 0] == 1.0
    assert scale[1, 1] == pytest.approx(values[30:, 1].astype(np.float64).std(), rel=1e-9)
    assert mean[0, 0] == np.float64(np.float32(0.1))


def test_seeds_are_stable_and_keep_their_parts_apart():
    assert derive_seed(0, "rows", "sam", 1) == derive_seed(0, "rows", "sam", 1)
    seeds = {derive_seed(0, "a", 1), derive_seed(0, "a", "1"), derive_seed(0, "a1"), derive_seed(1, "a", 1)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)
    # Fixed numbers: a run must draw the same on every platform and with every later version.
    assert derive_seed(0, "rows") == 1993219861
    assert hash_keys(0, "limit", ["x"]).tolist() == [11470015365423276659]
    assert generator(0, "rows").random() != generator(1, "rows").random()
