"""Scorers equal their definition row by row, alone or in company, and survive the disk to the bit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.api import ProbekitError, Scorer, fold_standardisation
from probekit.evaluate import evaluate_scorers, load_scorer, save_scorer


def make_scorer(rng, kind, p) -> Scorer:
    k = int(rng.integers(0 if kind == "linear" else 1, p + 1))
    channels = rng.permutation(p)[:k]
    if kind == "mlp":
        widths = [k, *rng.integers(1, 6, rng.integers(1, 3)), 1]
        arrays = {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            arrays[f"weight_{i}"] = rng.normal(size=(fan_out, fan_in))
            arrays[f"bias_{i}"] = rng.normal(size=fan_out)
        return Scorer("mlp", channels, arrays)
    arrays = {"weight": rng.normal(size=k), "bias": np.array(rng.normal())}
    if kind == "polynomial":
        pairs = rng.integers(0, k, (int(rng.integers(0, 7)), 2))
        arrays |= {"pairs": pairs, "products": rng.normal(size=len(pairs))}
    return Scorer(kind, channels, arrays)


def one_margin(scorer: Scorer, x) -> float:
    """The contract's formulae, for one row, in plain Python."""
    v, arrays = [float(x[c]) for c in scorer.channels], scorer.arrays
    if scorer.kind == "mlp":
        depth = len(arrays) // 2
        for i in range(depth):
            w, b = arrays[f"weight_{i}"], arrays[f"bias_{i}"]
            v = [math.fsum(w[j, l] * v[l] for l in range(len(v))) + b[j] for j in range(len(b))]  # noqa: E741
            v = [max(0.0, one) for one in v] if i < depth - 1 else v
        return v[0]
    margin = math.fsum(w * one for w, one in zip(arrays["weight"], v, strict=True)) + float(arrays["bias"])
    if scorer.kind == "polynomial":
        margin += math.fsum(c * v[a] * v[b] for c, (a, b) in zip(arrays["products"], arrays["pairs"], strict=True))
    return margin


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.lists(st.sampled_from(["linear", "linear", "polynomial", "mlp"]), max_size=8),
)
def test_margins_are_the_contracts_formulae(seed, p, kinds):
    rng = np.random.default_rng(seed)
    scorers = [make_scorer(rng, kind, p) for kind in kinds]
    features = rng.normal(size=(9, p)).astype(np.float32)
    margins = evaluate_scorers(scorers, features)
    assert margins.shape == (len(scorers), 9)
    assert margins.dtype == np.float32
    for scorer, row in zip(scorers, margins, strict=True):
        np.testing.assert_allclose(row, [one_margin(scorer, x) for x in features], rtol=1e-5, atol=1e-5)


def test_company_and_batches_change_nothing():
    rng = np.random.default_rng(0)
    p = 300
    features = rng.normal(size=(2500, p)).astype(np.float32)
    scorers = [make_scorer(rng, kind, p) for kind in ["linear"] * 12 + ["polynomial", "mlp"]]
    together = evaluate_scorers(scorers, features)
    for i, scorer in enumerate(scorers):
        np.testing.assert_allclose(evaluate_scorers([scorer], features)[0], together[i], rtol=1e-6, atol=1e-6)
    split = np.concatenate([evaluate_scorers(scorers, features[:777]), evaluate_scorers(scorers, features[777:])], 1)
    np.testing.assert_allclose(split, together, rtol=1e-6, atol=1e-6)


def test_a_scorer_on_raw_features_equals_the_fit_on_standardised_ones():
    # Tiny deviations around a large mean, as random twins have.
    rng = np.random.default_rng(0)
    features = (5 + 0.007 * rng.normal(size=(1000, 200))).astype(np.float32)
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    coefficient = rng.normal(size=200)
    weight, bias = fold_standardisation(coefficient, 0.3, mean, scale)
    scorer = Scorer("linear", np.arange(200), {"weight": weight, "bias": np.array(bias)})
    expected = (features - mean) / scale @ coefficient + 0.3
    np.testing.assert_allclose(evaluate_scorers([scorer], features)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_channel_that_is_not_there_is_a_bug():
    scorer = Scorer("linear", np.array([7]), {"weight": np.ones(1), "bias": np.array(0.0)})
    with pytest.raises(ValueError, match="channel 7 of features that have 7"):
        evaluate_scorers([scorer], np.zeros((2, 7), np.float32))


@pytest.mark.parametrize("kind", ["linear", "polynomial", "mlp"])
def test_scorers_come_back_from_disk_to_the_bit(tmp_path, kind):
    scorer = make_scorer(np.random.default_rng(3), kind, 12)
    metadata = {"threshold": 0.1 + 0.2, "layer": "blocks.3", "preprocessing": {"mean": [0.5, 0.5], "size": None}}
    save_scorer(tmp_path / "a.safetensors", scorer, metadata)
    loaded, kept = load_scorer(tmp_path / "a.safetensors")
    assert kept == metadata
    assert loaded.kind == kind
    np.testing.assert_array_equal(loaded.channels, scorer.channels)
    assert loaded.arrays.keys() == scorer.arrays.keys()
    for name, array in scorer.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays[name], array)
    features = np.random.default_rng(4).normal(size=(5, 12)).astype(np.float32)
    np.testing.assert_array_equal(evaluate_scorers([loaded], features), evaluate_scorers([scorer], features))


def test_files_are_equal_byte_for_byte_and_nothing_else_is_left(tmp_path):
    scorer = make_scorer(np.random.default_rng(3), "mlp", 12)
    save_scorer(tmp_path / "a.safetensors", scorer, {"b": 1, "a": 2, "c": [1.5]})
    reordered = Scorer("mlp", scorer.channels, dict(reversed(scorer.arrays.items())))
    save_scorer(tmp_path / "b.safetensors", reordered, {"c": [1.5], "a": 2, "b": 1})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(TypeError):
        save_scorer(tmp_path / "c.safetensors", scorer, {"x": object()})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_what_is_no_scorer_is_refused_in_one_line(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(ProbekitError, match="no such file"):
        load_scorer(path)
    path.write_bytes(b"hello, this is no header")
    with pytest.raises(ProbekitError, match="not a safetensors file"):
        load_scorer(path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(ProbekitError, match="holds no scorer"):
        load_scorer(path)
    save_file({"channels": np.zeros(2)}, path, {"probekit": '{"format": 2, "kind": "forest", "metadata": {}}'})
    with pytest.raises(ProbekitError, match="kind 'forest' in format 2"):
        load_scorer(path)
