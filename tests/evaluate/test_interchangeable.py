"""Channels that stand for one another: correlations, clusters, substitutes and how they are printed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.evaluate.interchangeable import (
    Substitute,
    correlation,
    interchangeable_groups,
    others_of_group,
    replaceable,
    with_substitutes,
)


def families(seed, n=400, members=(4, 3, 1, 2, 1), noise=0.2):
    """Channels in families that share a source, signs at random; and the family of each, shuffled."""
    rng = np.random.default_rng(seed)
    family = np.repeat(np.arange(len(members)), members)
    rng.shuffle(family)
    x = rng.normal(size=(n, len(members)))[:, family] + noise * rng.normal(size=(n, len(family)))
    return x * rng.choice([-1, 1], len(family)) * np.exp(rng.normal(size=len(family))), family


def same(labels):
    """Which pairs are together."""
    return np.equal.outer(labels, labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_correlation_is_the_weighted_one(dtype):
    rng = np.random.default_rng(0)
    x = (5 + rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))).astype(dtype)
    times = rng.integers(0, 4, 300)
    expected = np.corrcoef(np.repeat(x, times, axis=0).astype(np.float64).T)
    np.testing.assert_allclose(correlation(x, times * 0.37), expected, atol=1e-6)
    np.testing.assert_allclose(correlation(x), np.corrcoef(x.astype(np.float64).T), atol=1e-6)
    np.testing.assert_allclose(correlation(x, times, [4, 1]), expected[[4, 1]], atol=1e-6)


def test_many_rows_are_as_good_as_few():
    x = np.random.default_rng(1).normal(size=(20_000, 3)).astype(np.float32)
    np.testing.assert_allclose(correlation(x), np.corrcoef(x.astype(np.float64).T), atol=1e-6)


def test_a_channel_that_does_not_vary_is_correlated_with_none():
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[:, 1] = 0.1
    r = correlation(x)
    assert (r[1] == [0, 1, 0]).all()
    assert (r[:, 1] == [0, 1, 0]).all()
    with pytest.raises(ValueError, match="weight"):
        correlation(x, np.zeros(50))


@pytest.mark.parametrize("seed", range(5))
def test_families_are_found_with_any_sign(seed):
    x, family = families(seed)
    np.testing.assert_array_equal(same(interchangeable_groups(correlation(x))), same(family))


def test_clusters_are_numbered_by_their_first_channel():
    r = np.eye(5)
    r[0, 3] = r[3, 0] = -0.95
    r[2, 4] = r[4, 2] = 0.9
    assert interchangeable_groups(r).tolist() == [0, 1, 2, 0, 2]


def test_a_chain_is_not_one_cluster():
    # 0 - 1 - 2 at .95 and .92, but 0 and 2 only .8
    r = np.array([[1, 0.95, 0.8], [0.95, 1, 0.92], [0.8, 0.92, 1]])
    assert interchangeable_groups(r).tolist() == [0, 0, 1]
    assert interchangeable_groups(r, 0.8).tolist() == [0, 0, 0]
    assert interchangeable_groups(r, 0.96).tolist() == [0, 1, 2]


@settings(max_examples=40)
@given(st.integers(2, 25), st.integers(0, 2**31), st.sampled_from([0.3, 0.6, 0.9]))
def test_every_pair_of_a_cluster_is_correlated_and_no_two_clusters_could_be_one(p, seed, threshold):
    rng = np.random.default_rng(seed)
    r = correlation(rng.normal(size=(12, 4)) @ rng.normal(size=(4, p)) + 0.2 * rng.normal(size=(12, p)))
    clusters = interchangeable_groups(r, threshold)
    near = np.abs(r) >= threshold - 1e-9
    assert near[same(clusters)].all()
    for a in range(clusters.max() + 1):
        for b in range(a):
            assert not near[np.ix_(clusters == a, clusters == b)].all()


@settings(max_examples=40)
@given(st.integers(2, 20), st.integers(0, 2**31), st.booleans())
def test_permuted_channels_give_permuted_clusters(p, seed, ties):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(10, 3)) @ rng.normal(size=(3, p))
    if ties:
        x[:, rng.integers(0, p, p // 2)] = x[:, rng.integers(0, p, p // 2)]
    r = correlation(x + 0.3 * rng.normal(size=(10, 1)))
    turned = rng.permutation(p)
    clusters = interchangeable_groups(r, 0.7)
    again = interchangeable_groups(r[np.ix_(turned, turned)], 0.7)
    np.testing.assert_array_equal(same(again), same(clusters)[np.ix_(turned, turned)])


def test_ties_are_broken_by_the_other_correlations_not_by_numbers():
    # 1 could join 0 or 2, both at .95; 0 is also close to 3.
    r = np.eye(4)
    for i, j, value in ((0, 1, 0.95), (1, 2, 0.95), (0, 3, 0.5)):
        r[i, j] = r[j, i] = value
    together = same(interchangeable_groups(r))
    assert together[0, 1] ^ together[1, 2]
    for turned in ([2, 1, 0, 3], [3, 0, 2, 1], [1, 3, 2, 0]):
        np.testing.assert_array_equal(
            same(interchangeable_groups(r[np.ix_(turned, turned)])), together[turned][:, turned]
        )


def test_others_of_a_group_come_with_their_sign_the_closest_first():
    x, family = families(3)
    r = correlation(x)
    clusters = interchangeable_groups(r)
    ranking = np.random.default_rng(0).permutation(len(family))
    for channel, others in zip(ranking, others_of_group(ranking, clusters, r), strict=True):
        assert sorted(s.channel for s in others) == [
            j for j in range(len(family)) if family[j] == family[channel] and j != channel
        ]
        assert all(s.r == r[channel, s.channel] for s in others)
        strength = [abs(s.r) for s in others]
        assert strength == sorted(strength, reverse=True)


def test_replaceable_names_every_channel_that_is_close():
    x, family = families(4)
    r = correlation(x)
    selected = [5, 0, 2]
    expected = [{j for j in range(len(family)) if family[j] == family[i] and j != i} for i in selected]
    found = replaceable(selected, r)
    assert [{s.channel for s in others} for others in found] == expected
    assert replaceable(selected, correlation(x, channels=selected)) == found
    # a chain: both ends stand for the middle, not for one another
    chain = np.array([[1, 0.95, 0.8], [0.95, 1, -0.92], [0.8, -0.92, 1]])
    assert replaceable([2, 1], chain) == [(Substitute(1, -0.92),), (Substitute(0, 0.95), Substitute(2, -0.92))]
    assert replaceable([], chain) == []


def test_a_correlation_at_the_threshold_counts():
    r = np.array([[1, 0.9], [0.9, 1]])
    assert replaceable([0], r) == [(Substitute(1, 0.9),)]
    assert interchangeable_groups(r).tolist() == [0, 0]


def test_how_channels_are_printed():
    assert with_substitutes(17, ()) == "17"
    found = [
        Substitute(203, 0.99),
        Substitute(511, -0.97),
        Substitute(4, 0.95),
        Substitute(5, 0.94),
        Substitute(6, 0.93),
    ]
    assert with_substitutes(17, found[:2]) == "17 (or 203, -511)"
    assert with_substitutes(17, found) == "17 (or 203, -511, 4 and 2 more)"


def test_few_channels():
    assert interchangeable_groups(np.ones((1, 1))).tolist() == [0]
    assert interchangeable_groups(np.ones((0, 0))).tolist() == []


def test_what_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        interchangeable_groups(np.eye(3), 0.0)
    with pytest.raises(ValueError, match="finite"):
        interchangeable_groups(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="all channels"):
        interchangeable_groups(np.eye(3)[:2])
    with pytest.raises(ValueError, match="a row of correlations"):
        replaceable([0, 1], np.eye(3)[:1])
