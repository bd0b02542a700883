"""Unbiased linear CKA is what its definition says, and blind to what it should be blind to."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.compare.cka import unbiased_cka


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, with the (n, n) kernels."""
    n, one = len(x), np.ones(len(x))

    def hsic(first: np.ndarray, second: np.ndarray) -> float:
        k, m = first @ first.T, second @ second.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return float((np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))

    return hsic(x, y) / float(np.sqrt(hsic(x, x) * hsic(y, y)))


def biased(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float((np.sum((x.T @ y) ** 2)) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@pytest.mark.parametrize(("n", "p", "q"), [(4, 2, 3), (7, 1, 12), (30, 5, 4), (60, 80, 40)])
def test_it_is_the_definition(n: int, p: int, q: int) -> None:
    rng = np.random.default_rng([n, p, q])
    x = rng.normal(size=(n, p)) + 3
    y = rng.normal(size=(n, q)) + x[:, :1] - 5
    assert unbiased_cka(x, y) == pytest.approx(by_definition(x, y), abs=1e-9)
    assert unbiased_cka(y, x) == pytest.approx(unbiased_cka(x, y), abs=1e-12)


def test_cells_beyond_one_chunk_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 4))
    whole = unbiased_cka(x, y)
    monkeypatch.setattr("probekit.compare.cka._CHUNK", 7)
    assert unbiased_cka(x, y) == pytest.approx(whole, abs=1e-12)


def test_rotation_scale_shift_and_order_change_nothing() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 6))
    y = x[:, :3] + 0.5 * rng.normal(size=(80, 3))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    order = rng.permutation(80)
    value = unbiased_cka(x, y)
    assert 0.2 < value < 1
    for other in (x @ rotation, -7.5 * x, x + 100, x[:, ::-1]):
        assert unbiased_cka(other, y) == pytest.approx(value, abs=1e-9)
    assert unbiased_cka(x[order], y[order]) == pytest.approx(value, abs=1e-9)
    assert unbiased_cka(x, x @ rotation * 3 + 1) == pytest.approx(1, abs=1e-12)
    assert unbiased_cka(x, y[order]) < value / 2


def test_unrelated_layers_wider_than_the_cells_are_not_alike() -> None:
    rng = np.random.default_rng(2)
    values = [
        (unbiased_cka(x, y), biased(x, y))
        for x, y in ((rng.normal(size=(60, 400)), rng.normal(size=(60, 400))) for _ in range(20))
    ]
    unbiased, plain = np.array(values).T
    assert plain.min() > 0.8
    assert abs(unbiased.mean()) < 4 * unbiased.std() / np.sqrt(len(unbiased))
    assert np.abs(unbiased).max() < 0.1


def test_what_does_not_vary_has_no_alignment() -> None:
    x = np.random.default_rng(3).normal(size=(10, 2))
    assert np.isnan(unbiased_cka(x, np.full((10, 3), 0.1)))
    assert np.isnan(unbiased_cka(x, np.ones((10, 0))))
    assert np.isnan(unbiased_cka(x[:3], x[:3]))
    with pytest.raises(ValueError, match="not the same"):
        unbiased_cka(x, x[:5])
