"""The control task's parts: exact statistics of cells, clusters that find what is there, shares near the prevalence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from probekit.sampling import generator
from probekit.sampling.control_task import cluster_cells, colour_statistics, draw_positive_clusters


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 17), st.integers(0, 1000))
def test_statistics_are_means_and_deviations_of_what_lies_inside(height, width, cell, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = colour_statistics(pixels, cell)
    assert found.shape == (-(-height // cell), -(-width // cell), 6)
    for row, column in np.ndindex(found.shape[:2]):
        block = pixels[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell].astype(np.float64)
        expected = np.concatenate([block.mean(axis=(0, 1)), block.std(axis=(0, 1))])
        np.testing.assert_allclose(found[row, column] / 256, expected, atol=0.51 / 256)


def test_extremes_fit():
    white = np.full((32, 32, 3), 255, dtype=np.uint8)
    assert colour_statistics(white, 16).reshape(-1, 6).tolist() == [[255 * 256] * 3 + [0] * 3] * 4
    white[::2] = 0
    assert colour_statistics(white, 16)[0, 0].tolist() == [round(127.5 * 256)] * 6


def clouds(rng, centres, n):
    """Statistics around well-separated centres, as two images; and which centre."""
    which = rng.integers(0, len(centres), n)
    cells = (centres[which] + rng.normal(0, 40, (n, 6))).clip(0).astype(np.uint16)
    return [cells[: n // 2].reshape(-1, 2, 6), cells[n // 2 :].reshape(-1, 1, 6)], which


def test_well_separated_clusters_are_found_mostly():
    rng = np.random.default_rng(0)
    centres = rng.integers(2000, 60000, (12, 6))
    images, which = clouds(rng, centres, 4000)
    found = cluster_cells(images, 0, clusters=24)
    assert [one.shape for one in found] == [one.shape[:2] for one in images]
    flat = np.concatenate([one.ravel() for one in found])
    # More clusters than clouds: none spans two clouds.
    pure = sum(np.bincount(which[flat == cluster]).max() for cluster in np.unique(flat))
    assert pure / len(flat) > 0.99


def test_the_partition_is_about_as_good_as_another_implementation_finds():
    rng = np.random.default_rng(1)
    cells = (rng.normal(0, 1, (3000, 6)) @ rng.normal(0, 1, (6, 6)) * 3000 + 30000).clip(0, 65535).astype(np.uint16)
    standard = (cells - cells.mean(axis=0)) / cells.std(axis=0)
    (found,) = cluster_cells([cells[:, None]], 0)
    flat = found.ravel()
    inertia = sum(((standard[flat == c] - standard[flat == c].mean(axis=0)) ** 2).sum() for c in np.unique(flat))
    other = KMeans(64, n_init=1, random_state=0).fit(standard)
    assert len(np.unique(flat)) == 64
    assert inertia < 1.1 * other.inertia_


def test_equal_cells_share_a_cluster_though_only_a_sample_was_looked_at():
    rng = np.random.default_rng(2)
    cells = rng.integers(0, 65536, (300, 6)).astype(np.uint16)[rng.integers(0, 300, 5000)]
    (found,) = cluster_cells([cells.reshape(-1, 50, 6)], 0, sample=200)
    _, kinds = np.unique(cells, axis=0, return_inverse=True)
    clusters_of_kind = {(kind, cluster) for kind, cluster in zip(kinds.ravel(), found.ravel(), strict=True)}
    assert len(clusters_of_kind) == kinds.max() + 1


def test_seeds_cluster_differently_and_each_always_the_same():
    cells = np.random.default_rng(3).integers(0, 65536, (20, 30, 6)).astype(np.uint16)
    one, again, other = (cluster_cells([cells], seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_no_more_clusters_than_distinct_cells(distinct):
    kinds = np.random.default_rng(4).integers(0, 65536, (distinct, 6)).astype(np.uint16)
    (found,) = cluster_cells([kinds[np.arange(60) % distinct].reshape(6, 10, 6)], 0)
    assert len(np.unique(found)) == distinct


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.floats(0.001, 0.999), st.integers(2, 64))
def test_shares_come_near_and_both_classes_are_there(seed, prevalence, clusters):
    rng = np.random.default_rng(seed)
    cells = rng.geometric(0.001, clusters) * (rng.random(clusters) < 0.9)
    cells[:2] += 1
    positive = draw_positive_clusters(cells, prevalence, generator(seed, "x"))
    share = cells[positive].sum() / cells.sum()
    assert positive.sum() > 0
    assert share < 1
    assert not positive[cells == 0].any()
    # What could be added, or had to be, is a cluster: the error is at most one of them.
    assert abs(share - prevalence) <= max(cells.max() / cells.sum(), 1e-12)


def test_many_small_clusters_meet_the_prevalence():
    cells = np.random.default_rng(5).integers(50, 3000, 64)
    for seed in range(20):
        positive = draw_positive_clusters(cells, 0.05, generator(seed, "pothole"))
        assert cells[positive].sum() / cells.sum() == pytest.approx(0.05, abs=0.003)


def test_every_cluster_may_be_drawn():
    cells = np.full(20, 100)
    drawn = np.mean([draw_positive_clusters(cells, 0.25, generator(seed, "y")) for seed in range(400)], axis=0)
    assert np.abs(drawn - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 400)


def test_where_each_cluster_is_too_large_the_smallest_is_taken():
    positive = draw_positive_clusters(np.array([500, 300, 200, 0]), 0.01, generator(0, "z"))
    assert positive.tolist() == [False, False, True, False]


def test_one_cluster_makes_no_two_classes():
    with pytest.raises(ValueError, match="fewer than two"):
        draw_positive_clusters(np.array([0, 40, 0]), 0.5, generator(0, "z"))
