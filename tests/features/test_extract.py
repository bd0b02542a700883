"""Extraction: every image once, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from probekit.api import Grid, Layer, ProbekitError, UnreadableImageError
from probekit.features import shards
from probekit.features.extract import Item, Request, extract
from probekit.features.memory import predict
from probekit.features.store import Store
from probekit.geometry.tiles import cut_tiles
from probekit.testing.fakes import DiscParameters, DiscSource, TinyBackbone, TinyParameters


@pytest.fixture(autouse=True)
def counters() -> None:
    TinyBackbone.loads = TinyBackbone.forwards = DiscSource.opened = 0


def items_of(groups: int = 5, **size: int) -> list[Item]:
    source = DiscSource(DiscParameters(groups=groups, **size))
    return [Item(image.digest, image.id, partial(source.open, image)) for image in source.images()]


def request(backbone: TinyBackbone | None = None, **settings) -> Request:
    settings.setdefault("layers", ("body",))
    return Request("tiny", backbone or TinyBackbone(TinyParameters()), adapter="fakes/tiny", version="1", **settings)


def reference(item: Item, layer: str) -> tuple[np.ndarray, Grid]:
    """The features of one image, without any of the machinery."""
    backbone = TinyBackbone(TinyParameters())
    backbone.load([layer], torch.device("cpu"), torch.float32)
    prepared = backbone.prepare(item.open())
    from probekit.api import Batch

    with torch.inference_mode():
        fmap = backbone.forward(Batch(prepared.tensor[None], [prepared.geometry]), [layer])[0][layer]
    channels = fmap.values.shape[0]
    return np.stack([fmap.values[c].numpy().ravel() for c in range(channels)], axis=1), fmap.grid


def stored_bytes(folder: Path) -> dict[str, bytes]:
    """key/shard -> its bytes."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_features_are_the_networks_own(tmp_path: Path) -> None:
    items = items_of(2, height=43, width=71)
    found = extract(request(layers=("stem", "head")), items, Store(tmp_path))
    assert found.computed == 4 == TinyBackbone.forwards  # one pass for both layers
    for layer in ("stem", "head"):
        for item in items:
            values, grid = found.collections[layer].read(item.key)
            expected, where = reference(item, layer)
            np.testing.assert_array_equal(values, expected)
            assert grid == where
            assert grid.valid_rows < grid.rows  # 43 is no multiple: there is padding


def test_a_hit_loads_nothing_and_opens_nothing(tmp_path: Path) -> None:
    items = items_of()
    extract(request(), items, Store(tmp_path))
    assert (TinyBackbone.loads, TinyBackbone.forwards, DiscSource.opened) == (1, 10, 10)
    found = extract(request(), items, Store(tmp_path))
    assert (TinyBackbone.loads, TinyBackbone.forwards, DiscSource.opened) == (1, 10, 10)
    assert found.computed == 0
    assert found.collections["body"].missing([item.key for item in items]) == []


def test_features_of_another_width_under_the_same_version_are_refused(tmp_path: Path) -> None:
    """A plugin that changed and kept its version must not be served what it gave before."""

    class Wider(TinyBackbone):
        @property
        def layers(self) -> dict[str, Layer]:
            return {name: replace(layer, channels=layer.channels + 1) for name, layer in super().layers.items()}

    extract(request(), items_of(), Store(tmp_path))
    with pytest.raises(ProbekitError, match="raise the version"):
        extract(request(Wider(TinyParameters())), items_of(), Store(tmp_path))


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    items, store = items_of(), Store(tmp_path)
    extract(request(), items[:4], store)
    assert extract(request(), [*items, items[0]], store).computed == 6
    # Another layer: the first four have it already, and need no pass for it.
    extract(request(layers=("head",)), items[:4], store)
    before = TinyBackbone.forwards
    found = extract(request(layers=("body", "head")), items, store)
    assert found.computed == 6 == TinyBackbone.forwards - before
    for item in items:
        np.testing.assert_array_equal(found.collections["head"].read(item.key)[0], reference(item, "head")[0])


def test_other_weights_and_settings_lie_apart(tmp_path: Path) -> None:
    items, store = items_of(1), Store(tmp_path)
    random = [TinyBackbone(TinyParameters(weights="random"), seed=seed) for seed in (1, 2)]
    requests = [request(), *(request(backbone) for backbone in random), request(dtype="bfloat16")]
    digests = {extract(each, items, store).collections["body"].folder.name for each in requests}
    assert len(digests) == 4
    assert TinyBackbone.loads == 4


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_values_do_not_depend_on_what_else_is_missing(tmp_path: Path, batch_size: int) -> None:
    """Bit for bit, for any order and any part already there, also with photographs of several sizes."""
    items = [*items_of(3), *items_of(2, height=64, width=48)]
    whole = extract(request(batch_size=batch_size), items, Store(tmp_path / "a")).collections["body"]
    parts = Store(tmp_path / "b")
    extract(request(batch_size=batch_size), items[3:8], parts)
    again = extract(request(batch_size=batch_size), items[::-1], parts).collections["body"]
    for item in items:
        np.testing.assert_array_equal(whole.read(item.key)[0], again.read(item.key)[0])
        np.testing.assert_allclose(whole.read(item.key)[0], reference(item, "body")[0], rtol=1e-5, atol=1e-6)


def test_bfloat16_is_stored_as_it_is(tmp_path: Path) -> None:
    items = items_of(1)
    coarse = extract(request(dtype="bfloat16"), items, Store(tmp_path)).collections["body"]
    fine = extract(request(), items, Store(tmp_path)).collections["body"]
    values = coarse.read(items[0].key)[0]
    np.testing.assert_array_equal(torch.from_numpy(values).to(torch.bfloat16).float().numpy(), values)
    np.testing.assert_allclose(values, fine.read(items[0].key)[0], rtol=0.05, atol=0.05)
    assert coarse.bytes < 0.8 * fine.bytes


def test_a_tile_is_placed_where_it_lies(tmp_path: Path) -> None:
    source = DiscSource(DiscParameters(groups=1, images=1, height=120, width=200))
    image = source.images()[0]
    tiles = cut_tiles(120, 200, size=80, overlap=16, cell=8)
    items = [
        Item(f"{image.digest}@{t.window.x},{t.window.y},{t.window.width},{t.window.height}", image.id,
             partial(source.open, image), t)
        for t in tiles
    ]  # fmt: skip
    found = extract(request(tile={"size": 80, "overlap": 16}), items, Store(tmp_path)).collections["body"]
    assert DiscSource.opened == 1
    assert len(tiles) > 2
    for item, tile in zip(items, tiles, strict=True):
        values, grid = found.read(item.key)
        crop = source.open(image)[tile.window.slices]
        expected, within = reference(Item("", "", lambda crop=crop: crop), "body")
        np.testing.assert_array_equal(values, expected)
        assert grid == tile.place(within)
        assert grid.to_pixels.offset_x == tile.window.x


def test_unreadable_photographs_are_returned(tmp_path: Path) -> None:
    def broken() -> np.ndarray:
        raise UnreadableImageError("the file ends early")

    items = items_of()
    items[3] = Item(items[3].key, items[3].image, broken)
    found = extract(request(), items, Store(tmp_path))
    assert found.unreadable == {items[3].image: "the file ends early"}
    assert found.computed == 9
    assert found.collections["body"].missing([item.key for item in items]) == [items[3].key]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_name_image_and_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    forward = TinyBackbone.forward

    def poisoned(self, batch, layers):
        maps = forward(self, batch, layers)
        if TinyBackbone.forwards == 7:
            maps[0]["body"].values[3, 2, 1] = value
        return maps

    monkeypatch.setattr(TinyBackbone, "forward", poisoned)
    items = items_of()
    with pytest.raises(ProbekitError, match=f"image {items[6].image} at layer body.*channel 3") as caught:
        extract(request(), items, Store(tmp_path))
    assert "\n" not in str(caught.value)
    missing = Store(tmp_path).list()[0]
    assert missing.images == 6  # what came before is sealed


def test_large_values_are_no_infinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = TinyBackbone.forward

    def large(self, batch, layers):
        maps = forward(self, batch, layers)
        maps[0]["body"].values[:] = 3e38
        return maps

    monkeypatch.setattr(TinyBackbone, "forward", large)
    items = items_of(1)
    values, _ = extract(request(), items, Store(tmp_path)).collections["body"].read(items[0].key)
    assert (values == np.float32(3e38)).all()


def test_no_memory_names_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self, batch, layers):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(TinyBackbone, "forward", hungry)
    with pytest.raises(ProbekitError, match=r"at batch_size 8 \(tiny, 96x128\): set backbones.tiny.batch_size: 4"):
        extract(request(batch_size=8), items_of(), Store(tmp_path))
    with pytest.raises(ProbekitError, match="batch_size 1 "):
        extract(request(), items_of(), Store(tmp_path))


def test_a_bug_in_a_thread_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self, key, stored, grid):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.ShardWriter, "add", full)
    with pytest.raises(ProbekitError, match="no space left"):
        extract(request(), items_of(), Store(tmp_path))
    assert list(tmp_path.rglob("*.tmp")) == []

    def bug(self, image):
        raise ZeroDivisionError

    monkeypatch.setattr(TinyBackbone, "prepare", bug)
    with pytest.raises(ZeroDivisionError):
        extract(request(), items_of(), Store(tmp_path))


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    told = []
    extract(request(batch_size=4), items_of(), Store(tmp_path), lambda *each: told.append(each))
    assert [done for done, _, _ in told] == [4, 8, 10]
    assert {total for _, total, _ in told} == {10}
    assert [seconds for *_, seconds in told] == sorted(seconds for *_, seconds in told)


def test_the_pipeline_holds_a_bounded_number_of_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding never runs more than the look-ahead beyond the forward pass, however slow that is."""
    lead = []
    forward = TinyBackbone.forward

    def slow(self, batch, layers):
        time.sleep(0.005)
        lead.append(DiscSource.opened - TinyBackbone.forwards)
        return forward(self, batch, layers)

    monkeypatch.setattr(TinyBackbone, "forward", slow)
    extract(request(workers=3), items_of(30), Store(tmp_path))
    assert max(lead) <= 2 + 3 + 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_predicted_bytes_are_those_taken(tmp_path: Path, dtype) -> None:
    items = [*items_of(20), *items_of(8, height=61, width=48)]
    layers = ("stem", "body")
    predicted = predict(TinyBackbone(TinyParameters()), layers, [(96, 128)] * 40 + [(61, 48)] * 16, dtype)
    found = extract(request(layers=layers, dtype=dtype), items, Store(tmp_path))
    for layer in layers:
        assert predicted.store[layer] == pytest.approx(found.collections[layer].bytes, rel=0.1)
    taken = Store(tmp_path).bytes
    assert 0.95 * taken <= sum(predicted.store.values()) <= 1.15 * taken


def test_many_sizes_are_predicted_from_some_of_them() -> None:
    sizes = [(40 + i, 300 - 2 * i) for i in range(100)]
    backbone = TinyBackbone(TinyParameters())
    exact = sum(predict(backbone, ["body"], [size], "float32").store["body"] - (32 << 10) - 512 for size in sizes)
    assert predict(backbone, ["body"], sizes, "float32").store["body"] == pytest.approx(exact, rel=0.1)


# Real processes. -----------------------------------------------------------------------------------------------------

CHILD = """
import sys, time
from functools import partial
from pathlib import Path
from probekit.features import shards
from probekit.features.extract import Item, Request, extract
from probekit.features.store import Store
from probekit.testing.fakes import DiscParameters, DiscSource, TinyBackbone, TinyParameters

shards.SHARD_MAPS = 8
folder = Path(sys.argv[1])
source = DiscSource(DiscParameters(groups=30))
images = source.images()

def open_slowly(image):
    while image in images[30:] and not (folder / "go").exists():
        time.sleep(0.01)
    return source.open(image)

items = [Item(image.digest, image.id, partial(open_slowly, image)) for image in images]
tiny = Request("tiny", TinyBackbone(TinyParameters()), ("stem", "body"), "fakes/tiny", "1")
done = extract(tiny, items, Store(folder), lambda done, *_: print(done, flush=True))
print("computed", done.computed, flush=True)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that extracts 60 images at two layers into ``tmp_path`` in shards of 8 and stops before the 31st until
    there is a file ``go``."""
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def read_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if wanted(line):
            return line
    raise AssertionError("the process ended before it said so")


def test_a_killed_extraction_goes_on_to_the_same_values(tmp_path: Path, child: subprocess.Popen[str]) -> None:
    read_until(child, lambda line: line.startswith("27"))
    while not list(tmp_path.rglob("*.tmp")):
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(30)
    infos = Store(tmp_path).list()
    assert len(infos) == 2
    assert all(0 < info.images < 60 and info.images % 8 == 0 for info in infos)
    items = items_of(30)
    both = request(layers=("stem", "body"))
    found = extract(both, items, Store(tmp_path))
    assert found.computed == 60 - min(info.images for info in infos)
    assert Store(tmp_path).prune().leftovers > 0
    once = extract(both, items, Store(tmp_path / "once"))
    for layer, whole in once.collections.items():
        for item in items:
            np.testing.assert_array_equal(found.collections[layer].read(item.key)[0], whole.read(item.key)[0])
            assert found.collections[layer].grid(item.key) == whole.grid(item.key)


def test_two_processes_share_the_work_of_one(tmp_path: Path, child: subprocess.Popen[str]) -> None:
    read_until(child, lambda line: line.startswith("27"))
    told = []

    def on_wait(who: str) -> None:
        told.append(who)
        (tmp_path / "go").touch()

    found = extract(request(layers=("stem", "body")), items_of(30), Store(tmp_path), on_wait=on_wait)
    assert told[0].startswith(f"process {child.pid} (since ")
    assert found.computed == 0 == TinyBackbone.loads
    assert read_until(child, lambda line: line.startswith("computed")) == "computed 60\n"
    assert found.collections["stem"].missing([item.key for item in items_of(30)]) == []


def test_two_stores_are_equal_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        extract(request(layers=("stem", "body")), items_of(), Store(tmp_path / name))
    assert stored_bytes(tmp_path / "a") == stored_bytes(tmp_path / "b") != {}
