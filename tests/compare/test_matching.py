"""Channel matching: what models share is found, what they do not is not, and chance is what it is said to be."""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from probekit.compare.chance import Chance, against_chance
from probekit.compare.cross_products import AT_ONCE, CrossProducts, LayerProducts, correlations, streamed_bytes
from probekit.compare.matching import assign, decide, least_draws, nearest
from probekit.compare.rebuilding import pursue
from probekit.compare.repairing import MOST, Repairing, repair

_SPEC = importlib.util.spec_from_file_location(
    "matching_benchmark", Path(__file__).parents[2] / "benchmarks" / "matching.py"
)
benchmark = importlib.util.module_from_spec(_SPEC)
sys.modules["matching_benchmark"] = benchmark
_SPEC.loader.exec_module(benchmark)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grid(groups: int = 14, images: int = 1, rows: int = 3, columns: int = 4) -> dict[str, np.ndarray]:
    image, row, column = np.indices((groups * images, rows, columns)).reshape(3, -1)
    return {"image": image, "group": image // images, "row": row, "column": column}


def features(cells: int, a: int = 5, b: int = 7, seed: int = 1, common: float = 1) -> tuple[np.ndarray, np.ndarray]:
    both = common * rng(seed).standard_normal((cells, 2))
    one, other = rng(seed + 1).standard_normal((cells, a)), rng(seed + 2).standard_normal((cells, b))
    one[:, :2] += both
    other[:, :2] += both
    return one.astype(np.float32), other.astype(np.float32)


# Streamed cross-products


def test_streamed_correlations_are_those_of_numpy_whatever_the_blocks() -> None:
    a, b = features(2 * AT_ONCE + 77)
    a, b = a + 1000, 3 * b - 40
    expected = np.corrcoef(a.T.astype(np.float64), b.T.astype(np.float64))[:5, 5:]
    for blocks in (1, 13):
        products = CrossProducts(5, 7)
        for one, other in zip(np.array_split(a, blocks), np.array_split(b, blocks), strict=True):
            products.add(one, other)
        np.testing.assert_allclose(products.correlation(), expected, atol=2e-6)


def test_more_cells_may_follow_an_answer() -> None:
    a, b = features(300)
    products = CrossProducts(5, 7)
    products.add(a[:100], b[:100])
    products.correlation()
    products.add(a[100:], b[100:])
    np.testing.assert_allclose(products.correlation(), correlations(a, b), atol=1e-6)


def test_many_layers_are_as_two_at_a_time() -> None:
    (a, b), (c, d) = features(AT_ONCE + 300), features(AT_ONCE + 300, a=3, b=2, seed=9)
    layers, pairs = (a, b, c, d), [(0, 1), (0, 3), (2, 1)]
    products = LayerProducts([of.shape[1] for of in layers], pairs, "abcd")
    for cut in (slice(0, 100), slice(100, None)):
        products.add([of[cut] for of in layers])
    assert products.cells == len(a)
    expected = {(one, other): products.correlation(one, other) for one, other in pairs}
    found = products.finish()
    assert list(found) == pairs
    for one, other in pairs:
        np.testing.assert_array_equal(found[one, other], expected[one, other])
        np.testing.assert_array_equal(found[one, other], correlations(layers[one], layers[other]))
    with pytest.raises(ValueError, match="layers of 5, 4 cells"):
        LayerProducts([5, 7], [(0, 1)], "ab").add((a[:5], b[:4]))


def test_memory_is_foretold() -> None:
    widths, pairs = (96, 64, 160), [(0, 1), (0, 2), (1, 2)]
    layers = [rng(width).standard_normal((3000, width)).astype(np.float32) for width in widths]
    tracemalloc.start()
    products = LayerProducts(widths, pairs, "abc")
    products.add(layers)
    products.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 * peak < streamed_bytes(widths, pairs) < 1.2 * peak


def test_constant_channels_correlate_with_nothing() -> None:
    a, b = features(200)
    a[:, 3] = 1e6 + 0.1
    products = CrossProducts(5, 7)
    products.add(a, b)
    assert (products.correlation()[3] == 0).all()
    assert (products.correlation()[[0, 1, 2, 4]] != 0).all()


def test_what_is_not_a_number_is_refused_and_so_is_nothing_at_all() -> None:
    a, b = features(50)
    b[7, 2] = np.nan
    with pytest.raises(ValueError, match="channel 2 of b"):
        correlations(a, b)
    with pytest.raises(ValueError, match="no cells"):
        CrossProducts(5, 7).correlation()
    with pytest.raises(ValueError, match="not finite"):
        against_chance(a, b, repair(**grid(5, rows=2, columns=5), rng=rng(), draws=9))


# Re-pairing


def test_cells_meet_the_nearest_cell_of_the_image_of_the_same_number() -> None:
    image = np.repeat(np.arange(30), rng().integers(1, 9, 30))
    group = np.minimum(image // 2, 13)  # the last group has four images
    row, column = rng(1).integers(0, 40, (2, len(image)))
    pairing = repair(image, group, row, column, rng=rng(2), draws=3)
    at = {key: of[pairing.order] for key, of in {"i": image, "g": group, "r": row, "c": column}.items()}
    for part in range(pairing.parts):
        start = pairing.starts[part]
        images = np.unique(at["i"][at["g"] == part])
        for cell in range(len(image)):
            met = start + pairing.nearest[part, cell]
            number = at["i"][cell] - at["i"][at["g"] == at["g"][cell]].min()
            target = np.flatnonzero(at["i"] == images[number % len(images)])
            distances = np.hypot(at["r"][target] - at["r"][cell], at["c"][target] - at["c"][cell])
            assert met in target
            assert np.hypot(at["r"][met] - at["r"][cell], at["c"][met] - at["c"][cell]) == distances.min()
            if at["g"][cell] == part:
                assert met == cell


def brute_force(a: np.ndarray, b: np.ndarray, pairing: Repairing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlations without the trend (S, p), largest scores (1 + draws, S) and held-out R2 (S,) of cells at the same
    places in all groups."""
    size = len(a) // pairing.parts
    trend = pairing.trend.astype(np.float64)
    a, b = (((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float64) for x in (a, b))
    by_part = (b - trend @ np.linalg.lstsq(trend, b, rcond=None)[0]).reshape(pairing.parts, -1)
    contrast = (by_part**2).mean(axis=1)
    root = np.repeat(1 / np.sqrt(contrast + 0.01 * contrast.max()), size)[:, None]

    def fitted(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(root[cells] * trend[cells], root[cells] * x[cells], rcond=None)[0]

    left_a, left_b = (x - trend @ fitted(x, np.ones(len(x), bool)) for x in (a, b))
    unseen = np.empty_like(b)  # by trends that are fitted without the part
    for part in range(pairing.parts):
        own = pairing.part == part
        unseen[own] = b[own] - trend[own] @ fitted(b, ~own)
    by_a, by_b, by_unseen = (x.reshape(pairing.parts, size, -1) for x in (left_a, left_b, unseen))
    rms_a, rms_b = (np.sqrt((x**2).mean(axis=1) + 0.01 * (x**2).mean(axis=(0, 1))) for x in (by_a, by_b))
    scores = []
    for drawn in [np.arange(pairing.parts), *pairing.drawn]:
        met = by_b if (drawn == np.arange(pairing.parts)).all() else by_unseen
        own = [
            np.sqrt(size) * (by_a[drawn[part]].T @ met[part] / size) / rms_a[drawn[part]][:, None] / rms_b[part]
            for part in range(pairing.parts)
        ]
        scores.append(np.abs(np.sum(own, axis=0)).max(axis=1))
    missed, total = np.zeros(a.shape[1]), np.zeros(a.shape[1])
    for fold in range(pairing.folds.max() + 1):
        out = np.repeat(pairing.folds == fold, size)
        mean_a, mean, scale = left_a[~out].mean(axis=0), left_b[~out].mean(axis=0), left_b[~out].std(axis=0)
        x, y = (left_b - mean) / scale, left_a - mean_a
        for i in range(a.shape[1]):
            chosen: list[int] = []
            rest = y[~out, i]
            for _ in range(5):
                size_of = np.abs(x[~out].T @ rest)
                size_of[chosen] = -1
                chosen.append(int(size_of.argmax()))
                weights = np.linalg.lstsq(x[~out][:, chosen], y[~out, i], rcond=None)[0]
                rest = y[~out, i] - x[~out][:, chosen] @ weights
            missed[i] += ((y[out, i] - x[out][:, chosen] @ weights) ** 2).sum()
            total[i] += (y[out, i] ** 2).sum()
    r = np.corrcoef(left_a.T, left_b.T)[: a.shape[1], a.shape[1] :]
    return r, np.array(scores), 1 - missed / total


def test_chance_is_that_of_brute_force_where_all_groups_have_the_same_places() -> None:
    cells = grid(30)
    a, b = features(len(cells["image"]), common=2)
    pairing = repair(**cells, rng=rng(3), draws=19)
    assert (pairing.order == np.arange(len(a))).all()
    r, scores, r2 = brute_force(a, b, pairing)
    found = against_chance(a, b, pairing)
    np.testing.assert_allclose(found.partial, r, atol=1e-5)
    np.testing.assert_allclose(found.r2, r2, atol=1e-4)
    np.testing.assert_allclose(found.p, (scores >= scores[0] - 1e-5).mean(axis=0))
    np.testing.assert_array_equal(found.p_rebuilt[:2], 1 / 20)
    np.testing.assert_array_equal(found.p_rebuilt[2:], 1)
    assert (found.r2[2:] < 0.25).all()


def test_blocks_of_channels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = grid()
    a, b = features(len(cells["image"]))
    pairing = repair(**cells, rng=rng(), draws=19)
    whole = against_chance(a, b, pairing)
    monkeypatch.setattr("probekit.compare.chance.BYTES", 1)
    same(against_chance(a, b, pairing), whole)


def same(found: Chance, expected: Chance) -> None:
    np.testing.assert_allclose(found.partial, expected.partial, atol=1e-5)
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-4)
    np.testing.assert_array_equal(found.p, expected.p)
    np.testing.assert_array_equal(found.p_rebuilt, expected.p_rebuilt)
    np.testing.assert_array_equal(found.rebuilt_by, expected.rebuilt_by)


def test_the_order_and_the_units_of_channels_change_nothing() -> None:
    cells = grid(20)
    a, b = features(len(cells["image"]))
    pairing = repair(**cells, rng=rng(), draws=39)
    expected = against_chance(a, b, pairing)
    same(against_chance(a * 7 + 3, b * np.float32(0.01) - 5, pairing), expected)
    turned = against_chance(a[:, ::-1], b, pairing)
    np.testing.assert_array_equal(turned.p, expected.p[::-1])
    np.testing.assert_array_equal(turned.rebuilt_by, expected.rebuilt_by[::-1])
    turned = against_chance(a, b[:, ::-1], pairing)
    np.testing.assert_array_equal(turned.p, expected.p)
    np.testing.assert_array_equal(turned.rebuilt_by, 6 - expected.rebuilt_by)


def test_many_groups_are_joined_to_parts_and_stay_whole() -> None:
    image = np.repeat(np.arange(1000), 2)
    group = np.repeat(np.arange(500), 4)
    pairing = repair(image, group, np.arange(2000) % 2, np.zeros(2000, int), rng=rng(), draws=3)
    assert pairing.parts == MOST
    assert pairing.groups == 500
    parts = {int(g): set(pairing.part[group[pairing.order] == g].tolist()) for g in range(500)}
    assert all(len(of) == 1 for of in parts.values())
    assert np.ptp(np.diff(pairing.starts)) == 4


def test_few_groups_are_not_tested_but_described() -> None:
    cells = grid(8)
    a, b = features(len(cells["image"]))
    pairing = repair(**cells, rng=rng(), draws=99)
    assert "8 sampled, a test needs 12" in pairing.reason
    found = against_chance(a, b, pairing)
    assert np.isnan(found.p).all()
    assert np.isnan(found.p_rebuilt).all()
    assert np.isfinite(found.r2).all()
    assert decide(found.p, found.p_rebuilt, np.ones(5, bool), np.ones(5), np.ones(5)).kind == [None] * 5
    one = against_chance(a, b, repair(**(cells | {"group": np.zeros(len(a), int)}), rng=rng(), draws=99))
    assert np.isnan(one.r2).all()


def test_constant_channels_and_more_channels_than_cells_are_survived() -> None:
    cells = grid(12, rows=1, columns=1)
    a, b = features(12, a=6, b=40)
    a[:, 0], b[:, :20], b[:, 30] = 4, 2, b[:, 31]
    found = against_chance(a, b, repair(**cells, rng=rng(), draws=19))
    assert np.isnan(found.p[0])
    assert np.isnan(found.r2[0])
    assert ((found.p[1:] > 0) & (found.p[1:] <= 1)).all()
    assert (found.rebuilt_by[1:] >= 20).all()
    assert len(against_chance(a[:, :0], b, repair(**cells, rng=rng(), draws=19)).p) == 0


# The pursuit, partners and decisions


def test_the_pursuit_finds_the_few_that_make_a_channel() -> None:
    x = rng().standard_normal((4000, 30))
    weights = np.zeros((2, 30))
    weights[0, [3, 8, 20]], weights[1, [1, 2]] = (2, -1, 0.7), (1, 1)
    gram = np.corrcoef(x.T)
    chosen, found = pursue((weights @ gram).astype(np.float32), gram.astype(np.float32))
    assert set(chosen[0, :3]) == {3, 8, 20}
    assert set(chosen[1, :2]) == {1, 2}
    np.testing.assert_allclose(found[0, :3], [2, -1, 0.7], atol=1e-3)
    np.testing.assert_allclose(found[0, 3:], 0, atol=1e-3)


def test_partners_are_mutual_in_both_directions_or_in_neither() -> None:
    r = correlations(*features(100, 9, 9))
    there, back = nearest(r, np.arange(9)), nearest(r.T, np.arange(9))
    pairs = {(i, int(j)) for i, j in enumerate(there.partner) if there.mutual[i]}
    assert pairs == {(int(i), j) for j, i in enumerate(back.partner) if back.mutual[j]}
    assert pairs
    nothing = nearest(np.zeros((2, 3)), np.arange(2))
    assert nothing.partner.tolist() == [-1, -1]
    assert not nothing.mutual.any()


def test_assignment_uses_each_channel_once_and_leaves_some_out() -> None:
    r = np.array([[0.9, 0.8, 0.0], [-0.85, 0.1, 0.0], [0.5, 0.4, 0.0]])
    assigned, of = assign(r, np.arange(3), np.array([0, 1]))
    assert assigned.tolist() == [1, 0, -1]
    assert of[:2].tolist() == [0.8, -0.85]
    assert np.isnan(of[2])
    assert assign(r, np.arange(3), np.array([], dtype=int))[0].tolist() == [-1, -1, -1]


def test_kinds_follow_from_both_tests_at_half_the_level() -> None:
    p, rebuilt = np.array([0.001, 0.001, 0.9, 0.06, np.nan]), np.array([0.9, 0.9, 0.001, 0.9, np.nan])
    mutual = np.array([True, False, True, True, True])
    strong = decide(p, rebuilt, mutual, np.full(5, -0.6), np.full(5, 0.3))
    assert strong.kind == ["one-to-one", "one-to-many", "one-to-many", "unmatched", None]
    assert strong.related.tolist() == [True, True, False, False, False]
    weak = decide(p, rebuilt, mutual, np.full(5, -0.4), np.full(5, 0.2))
    assert weak.kind == ["unmatched"] * 4 + [None]
    assert (weak.related == strong.related).all()
    apart = decide(p, rebuilt, mutual, np.full(5, 0.4), np.full(5, 0.3))
    assert apart.kind == ["unmatched"] * 2 + ["one-to-many", "unmatched", None]


def test_weak_relations_make_no_match_easier() -> None:
    p, some = np.array([0.02, *[0.001] * 9]), np.full(10, 0.9)
    strong, mutual = np.array([0.8, *[0.1] * 9]), np.ones(10, bool)
    assert decide(p, some, mutual, strong, np.zeros(10)).kind[0] == "unmatched"
    assert decide(p[:1], some[:1], mutual[:1], strong[:1], np.zeros(1)).kind[0] == "one-to-one"


def test_too_few_draws_for_so_many_channels_leave_a_match_undecided() -> None:
    p, r = np.array([0.001, *[0.5] * 45]), np.array([1.0, *[0.1] * 45])
    found = decide(p, np.full(46, np.nan), np.ones(46, bool), r, np.zeros(46), least_p=0.001)
    assert found.kind == [None, *["unmatched"] * 45]
    assert found.undecided.tolist() == [True, *[False] * 45]
    draws = least_draws(46, 1)
    assert draws == 1839
    least = 1 / (1 + draws)
    surer = decide(np.array([least, *p[1:]]), np.full(46, np.nan), np.ones(46, bool), r, np.zeros(46), least)
    assert surer.kind[0] == "one-to-one"


def test_shared_channels_are_found_and_others_are_not() -> None:
    shared, none = benchmark.Setting("20 shared"), benchmark.Setting("unrelated, strong trend", shared=0, trend=3.0)
    found, false, *_ = np.array([benchmark.calls(shared, seed, draws=99) for seed in range(5)]).T
    assert (found >= 19).all()
    assert (false / (found + false)).mean() < 0.1
    assert sum(benchmark.calls(none, seed, draws=99)[1] > 0 for seed in range(5)) <= 2


def test_what_the_place_explains_is_no_match() -> None:
    """Both channels follow the row; what it leaves has next to nothing in common."""
    cells = grid(40, rows=10, columns=12)
    n = len(cells["image"])
    common = rng(1).standard_normal((n, 5))
    a, b = (
        (0.8 * (cells["row"][:, None] - 4.5) + 0.3 * common + rng(seed).standard_normal((n, 5))).astype(np.float32)
        for seed in (2, 3)
    )
    found = against_chance(a, b, repair(**cells, rng=rng(4), draws=199))
    everything = correlations(a, b)
    near = nearest(everything, np.arange(5))
    assert (np.abs(near.r) > 0.75).all()
    r = found.partial[np.arange(5), near.partner]
    assert (np.abs(r) < 0.2).all()
    assert (found.p < 0.05).all()
    decided = decide(found.p, found.p_rebuilt, near.mutual, r, found.r2)
    assert decided.kind == ["unmatched"] * 5
    assert decided.related.all()


def test_a_contrast_that_both_models_see_is_no_relation() -> None:
    """Unrelated channels, larger in the same groups: plain products call a third of them related."""
    levels = []
    for seed in range(6):
        cells = grid(40, images=2, rows=3, columns=4)
        draw = rng(100 + seed)
        size = np.exp(0.5 * draw.standard_normal(40))[cells["group"]][:, None]
        a, b = (
            (size * (draw.standard_normal((40, p))[cells["group"]] + draw.standard_normal((len(size), p)))).astype("f4")
            for p in (20, 32)
        )
        levels.append((against_chance(a, b, repair(**cells, rng=draw, draws=99)).p <= 0.05).mean())
    assert np.mean(levels) < 0.15
