"""The store: what is listed is there, whole; what is damaged is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from probekit.api import Affine, Grid, ProbekitError, Rows
from probekit.features import shards
from probekit.features.locks import locked
from probekit.features.rows import LazyRows, gather_rows
from probekit.features.shards import ShardWriter, to_float32
from probekit.features.store import Collection, CollectionKey, Store

KEY = CollectionKey("sha256:ab", {"mean": [0.5, 0.5]}, "body", "float32", "some-plugin/tiny", "1")


def grid_of(rows: int, columns: int) -> Grid:
    return Grid(rows, columns, Affine(8.0, 8.5, 3.0, 4.0), rows - 1, columns)


def fill(store: Store, key: CollectionKey = KEY, images: int = 7, channels: int = 5) -> dict[str, np.ndarray]:
    """Writes maps of different sizes in shards of two; returns what was written."""
    random = np.random.default_rng(0)
    maps = {f"sha256:{i:03d}": random.normal(size=((2 + i) * 3, channels)).astype(np.float32) for i in range(images)}
    with store.extracting([key], {"backbone": "fake", "weights": "none"}) as collections:
        folder = collections[key.layer].folder
        names = list(maps)
        for start in range(0, images, 2):
            writer = ShardWriter(folder, channels, "float32")
            for name in names[start : start + 2]:
                writer.add(name, maps[name], grid_of(len(maps[name]) // 3, 3))
            writer.seal()
    return maps


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    maps = fill(store)
    collection = store.collection(KEY)
    for name, values in maps.items():
        read, grid = collection.read(name)
        np.testing.assert_array_equal(read, values)
        assert grid == grid_of(len(values) // 3, 3) == collection.grid(name)
    assert collection.channels == 5
    assert collection.missing(["sha256:000", "new", "sha256:003", "new"]) == ["new"]
    assert set(collection.images) == set(maps)
    assert collection.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))


def test_a_shard_is_plain_safetensors(tmp_path: Path) -> None:
    maps = fill(Store(tmp_path))
    found = {name: tensor for path in tmp_path.rglob("*.safetensors") for name, tensor in load_file(path).items()}
    assert found.keys() == maps.keys()
    for name, values in maps.items():
        np.testing.assert_array_equal(found[name].numpy(), values)


def test_the_key_is_canonical_and_complete() -> None:
    assert KEY.digest == replace(KEY, preprocessing={"mean": (0.5, 0.5)}).digest
    assert replace(KEY, preprocessing={"a": 1, "b": 2}).digest == replace(KEY, preprocessing={"b": 2, "a": 1}).digest
    others = [
        replace(KEY, weights="sha256:ac"), replace(KEY, preprocessing={"mean": [0.5, 0.4]}), replace(KEY, layer="stem"),
        replace(KEY, dtype="bfloat16"), replace(KEY, adapter="other/tiny"), replace(KEY, version="2"),
        replace(KEY, tile={"size": 1024, "overlap": 128}),
    ]  # fmt: skip
    assert len({KEY.digest, *(key.digest for key in others)}) == len(others) + 1


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=30))
def test_gathered_rows_equal_maps_read_whole(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "gathered"
    store = Store(folder)
    maps = fill(store) if not folder.exists() else {name: store.collection(KEY).read(name)[0] for name in NAMES}
    image = np.array([place for place, _ in wanted], dtype=np.int64)
    cell = np.array([cell for _, cell in wanted], dtype=np.int64)
    rows = gather_rows(store.collection(KEY), NAMES, image, cell)
    expected = np.array([maps[NAMES[i]][j] for i, j in wanted], dtype=np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(rows.numpy(), expected)
    assert rows.shape == expected.shape


NAMES = [f"sha256:{i:03d}" for i in range(7)]


@pytest.mark.parametrize("lazy", [True, False])
def test_rows_in_every_form_are_the_same(tmp_path: Path, lazy: bool) -> None:
    store = Store(tmp_path)
    maps = fill(store)
    collection = store.collection(KEY)
    names = ["sha256:004", "sha256:001", "sha256:006"]
    cells = [np.array([5, 0, 2]), np.array([], dtype=np.int64), np.arange(24)]
    expected = np.concatenate([maps[name][cell] for name, cell in zip(names, cells, strict=True)])
    image = np.repeat(np.arange(3), [len(part) for part in cells])
    rows: Rows = (
        LazyRows(collection, names, cells) if lazy else gather_rows(collection, names, image, np.concatenate(cells))
    )
    assert rows.shape == expected.shape
    values = rows.numpy()
    np.testing.assert_array_equal(values, expected)
    assert values.flags.c_contiguous
    assert not values.flags.writeable
    assert torch.equal(rows.torch("cpu"), torch.from_numpy(expected))
    pieces = list(rows.chunks(10))
    assert [(place.start, place.stop) for place, _ in pieces] == [(0, 10), (10, 20), (20, 27)]
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), expected)


def test_bfloat16_comes_back_exactly(tmp_path: Path) -> None:
    values = torch.randn(6, 4).mul(1e3).to(torch.bfloat16)
    bits = values.view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(to_float32(bits, "bfloat16"), values.float().numpy())
    key = replace(KEY, dtype="bfloat16")
    with Store(tmp_path).extracting([key], {}) as collections:
        writer = ShardWriter(collections["body"].folder, 4, "bfloat16")
        writer.add("one", bits, grid_of(2, 3))
        shard = writer.seal()
    collection = Store(tmp_path).collection(key)
    np.testing.assert_array_equal(collection.read("one")[0], values.float().numpy())
    picked = collection.gather(["one"], np.zeros(2, int), np.array([5, 1]))
    np.testing.assert_array_equal(picked, values.float().numpy()[[5, 1]])
    assert torch.equal(load_file(shard.file)["one"], values)


def damage_truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def damage_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def damage_removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [damage_truncated, damage_one_bit, damage_removed])
def test_a_damaged_shard_is_named_and_pruned(tmp_path: Path, damage) -> None:
    store = Store(tmp_path)
    maps = fill(store)
    entry = next(p for p in tmp_path.rglob("*.json") if p.stem != "collection" and "sha256:003" in p.read_text())
    damage(entry.with_suffix(".safetensors"))
    collection = store.collection(KEY)
    zero = np.zeros(1, dtype=np.int64)
    for read in (lambda: collection.read("sha256:003"), lambda: collection.gather(["sha256:002"], zero, zero)):
        with pytest.raises(ProbekitError, match="store prune") as caught:
            read()
        assert "\n" not in str(caught.value)
        assert entry.stem in str(caught.value)
    np.testing.assert_array_equal(collection.read("sha256:000")[0], maps["sha256:000"])
    pruned = store.prune()
    assert len(pruned.damaged) == 1
    assert pruned.leftovers == 0
    assert collection.missing(NAMES) == ["sha256:002", "sha256:003"]
    assert store.prune().damaged == []


def test_what_is_not_listed_does_not_exist(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store)
    collection = store.collection(KEY)
    entry = next(path for path in collection.folder.glob("*.json") if "sha256:000" in path.read_text())
    entry.unlink()
    unfinished = ShardWriter(collection.folder, 5, "float32")
    unfinished.add("sha256:000", np.ones((6, 5), np.float32), grid_of(2, 3))
    assert store.collection(KEY).missing(NAMES) == ["sha256:000", "sha256:001"]
    pruned = store.prune()
    assert pruned.leftovers == 2
    assert pruned.bytes > 0
    assert {path.suffix for path in collection.folder.iterdir()} == {"", ".json", ".safetensors"}
    assert store.collection(KEY).missing(NAMES) == ["sha256:000", "sha256:001"]
    unfinished.discard()


def test_list_and_prune_of_whole_collections(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store)
    fill(store, replace(KEY, layer="stem"), images=3)
    infos = store.list()
    assert [(info.key["layer"], info.images, info.channels) for info in infos] == [("body", 7, 5), ("stem", 3, 5)]
    assert infos[0].about["backbone"] == "fake"
    assert str(tmp_path) not in (tmp_path / infos[0].digest / "collection.json").read_text()
    assert store.prune([infos[1].digest]).collections == [infos[1].digest]
    assert [info.digest for info in store.list()] == [infos[0].digest]


def test_prune_leaves_a_collection_alone_that_is_written_to(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store)
    with store.extracting([KEY], {}):
        pruned = store.prune([KEY.digest])
    assert pruned.busy == [KEY.digest]
    assert store.collection(KEY).missing(NAMES) == []


def test_the_budget_refuses_with_figures(tmp_path: Path) -> None:
    fill(Store(tmp_path))
    held = Store(tmp_path).bytes
    Store(tmp_path, held + 1000).require_room(1000)
    Store(tmp_path).require_room(10**15)
    with pytest.raises(ProbekitError, match=r"store\.budget") as caught:
        Store(tmp_path, held + 999).require_room(1000)
    assert "\n" not in str(caught.value)


def hold(path: Path, held, release) -> None:
    with locked(path):
        held.set()
        release.wait(30)


def test_a_lock_waits_and_says_for_whom(tmp_path: Path) -> None:
    context = get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=partial(hold, tmp_path / "lock", held, release))
    holder.start()
    assert held.wait(30)
    told = []

    def on_wait(who: str) -> None:
        told.append(who)
        release.set()

    with locked(tmp_path / "lock", on_wait):
        pass
    holder.join(30)
    assert len(told) == 1
    assert f"process {holder.pid} " in told[0]


def test_a_map_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 5, "float32")
    with pytest.raises(ValueError, match="is no map"):
        writer.add("one", np.ones((7, 5), np.float32), grid_of(2, 3))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_header_never_outgrows_its_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys as long as they get: the shard says that it is full in time."""
    monkeypatch.setattr(shards, "SHARD_MAPS", 10**6)
    writer = ShardWriter(tmp_path, 5, "float32")
    count = 0
    while not writer.full:
        writer.add(f"sha256:{count:0200d}@1000,1000,1000,1000", np.ones((6, 5), np.float32), grid_of(2, 3))
        count += 1
    shard = writer.seal()
    assert len(load_file(shard.file)) == count > 20
    assert json.loads(shard.entry.read_text())["size"] == shard.file.stat().st_size
    assert shard.damage() is None


def test_a_reader_sees_what_another_process_adds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    early = Collection(tmp_path / KEY.digest, KEY)
    maps = fill(store)
    np.testing.assert_array_equal(early.read("sha256:005")[0], maps["sha256:005"])
    with pytest.raises(ProbekitError, match="no features"):
        early.read("sha256:999")
