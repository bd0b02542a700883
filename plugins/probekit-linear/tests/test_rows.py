"""Rows wherever they lie: one array or shards, memory maps, tensors, every float; and threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probekit_linear.solve import rows
from probekit_linear.solve.lasso import logistic_path
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import workers

RATIOS = (0.5, 0.05, 0.005)


def plain_rows(n=600, p=20, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, p)) * rng.uniform(0.5, 3, p) + 1
    y = (x[:, 0] - x[:, 3] + rng.standard_normal(n) > 0).astype(int)
    return x.astype(dtype), y


def answer(x, y, **options):
    found = logistic_path(x, y, ratios=RATIOS, **options)
    assert found.certified.all()
    return found.coefficient.tobytes() + found.intercept.tobytes() + found.gap.tobytes()


def mapped(x, path, mode="r"):
    x.tofile(path)
    return np.memmap(path, x.dtype, mode, shape=x.shape)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_it_does_not_matter_where_rows_lie(tmp_path, dtype):
    x, y = plain_rows(dtype=dtype)
    expected = answer(x, y)
    np.save(tmp_path / "x.npy", x)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    fixed = x.copy()
    fixed.flags.writeable = False
    tensor = torch.from_numpy(x)
    for other in (
        stored,
        [stored[:100], stored[100:100], stored[100:101], stored[101:]],
        mapped(x, tmp_path / "raw"),
        fixed,
        [fixed[:333], tensor[333:]],
        (x[:64], x[64:]),
        tensor,
        list(tensor.split(77)),
        np.asfortranarray(x),
        np.repeat(x, 2, axis=1)[:, ::2],
        x[::-1].copy()[::-1],
    ):
        assert answer(other, y) == expected
    assert np.array_equal(fixed, x)
    assert np.array_equal(stored, x)
    # columns that lie together are summed in another order
    turned = logistic_path(torch.from_numpy(np.ascontiguousarray(x.T)).T, y, ratios=RATIOS, target=1e-10)
    straight = logistic_path(x, y, ratios=RATIOS, target=1e-10)
    np.testing.assert_allclose(turned.coefficient, straight.coefficient, atol=1e-4)


def test_shards_of_several_kinds_are_one(tmp_path):
    x, y = plain_rows(dtype=np.float16)
    parts = [x[:200], x[200:400].astype(np.float32), torch.from_numpy(x[400:]).double()]
    found = logistic_path(parts, y, ratios=RATIOS, target=1e-10)
    np.testing.assert_allclose(
        found.coefficient, logistic_path(x, y, ratios=RATIOS, target=1e-10).coefficient, atol=1e-4
    )


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_map_is_read_and_left_as_it_is(tmp_path, mode):
    x, y = plain_rows(n=4000)
    map_ = mapped(x, tmp_path / "x", mode)
    if mode != "r":  # with "c" what is written here is in memory alone
        map_[7:3000], x[7:3000] = 2 * map_[7:3000], 2 * x[7:3000]
    assert answer(map_, y) == answer(x, y)
    assert np.array_equal(map_, x)


def test_a_tensor_that_wants_a_gradient_is_rows_like_any():
    x, y = plain_rows()
    assert answer(torch.from_numpy(x).requires_grad_(), y) == answer(x, y)


def test_the_callers_torch_settings_do_not_matter():
    x, y = plain_rows()
    expected = answer(x, y)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert answer(torch.from_numpy(x), y) == expected
    finally:
        torch.set_default_dtype(torch.float32)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 300), p=st.integers(1, 9))
def test_chunks_and_gathered_rows_are_the_rows(data, n, p):
    x = np.random.default_rng(n * p).standard_normal((n, p)).astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    chosen = data.draw(st.none() | st.sets(st.integers(0, n - 1), min_size=1))
    before = rows.CHUNK, rows.BLOCKS
    rows.CHUNK, rows.BLOCKS = data.draw(st.sampled_from([1, 64 * p, 130 * p, 2**19])), data.draw(st.integers(1, 4))
    try:
        source, expected = RowSource(np.split(x, cuts)), x
        if chosen is not None:
            keep = np.array(sorted(chosen))
            source, expected = source.only(keep), x[keep]
            again = np.arange(len(keep))[:: data.draw(st.integers(1, 3))]
            source, expected = source.only(again), expected[again]
        assert (source.n, source.p) == expected.shape
        blocks = source.blocks()
        assert len(blocks) <= rows.BLOCKS
        for dtype in (torch.float32, torch.float64):
            seen = [(place, chunk.clone()) for block in blocks for place, chunk in source.chunks(block, dtype)]
            assert [place.start for place, _ in seen] == [0, *(place.stop for place, _ in seen)][:-1]
            assert all(chunk.dtype == dtype for _, chunk in seen)
            assert np.array_equal(torch.cat([chunk for _, chunk in seen]).numpy(), expected)
        some = np.array(sorted(data.draw(st.sets(st.integers(0, source.n - 1)))), dtype=np.int64)
        channels = np.array(sorted(data.draw(st.sets(st.integers(0, p - 1)))), dtype=np.int64)
        assert np.array_equal(source.gather(some).numpy(), expected[some])
        assert np.array_equal(source.gather(some, channels).numpy(), expected[np.ix_(some, channels)])
    finally:
        rows.CHUNK, rows.BLOCKS = before


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (np.zeros((3, 2), dtype=int), TypeError, "int64"),
        (torch.zeros((3, 2), dtype=torch.bfloat16), TypeError, "bfloat16"),
        (np.zeros(3), ValueError, "two-dimensional"),
        (np.zeros((2, 3, 4)), ValueError, "two-dimensional"),
        ([], ValueError, "empty"),
        ([np.zeros((3, 2)), np.zeros((3, 4))], ValueError, "width"),
        (np.zeros((3, 0)), ValueError, "channel"),
    ],
)
def test_what_is_not_rows_is_refused(source, error, words):
    with pytest.raises(error, match=words):
        RowSource(source)


def test_workers_keep_the_order_of_their_work_and_pass_its_errors_on():
    for threads in (1, 3):
        with workers(threads) as work:
            assert list(work.map(lambda i: i * i, range(50))) == [i * i for i in range(50)]
            with pytest.raises(ZeroDivisionError):
                list(work.map(lambda i: 1 // (i - 5), range(50)))
            assert set(work.map(lambda _: torch.get_num_threads(), range(8))) == {1}
