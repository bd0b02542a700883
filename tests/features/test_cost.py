"""What a layer costs: operations counted by hand, the same with and without weights, and notes that outlive a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from probekit.api import Batch, FeatureMap, InputGeometry, Layer, Prepared, read_taps
from probekit.api.folding import fold_batch_norm
from probekit.features.cost import Measured, count_flops, counted, measure, note_cost, read_cost
from probekit.features.extract import Item, Request, extract
from probekit.features.store import CollectionKey, Store
from probekit.testing.fakes import DiscParameters, DiscSource, TinyBackbone, TinyParameters

CPU = torch.device("cpu")
HEIGHT, WIDTH = 24, 40
ROWS, COLUMNS = HEIGHT // 4, WIDTH // 4
CELLS = ROWS * COLUMNS


class Attention(nn.Module):
    """Tokens of a map that look at one another, with two heads of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        parts = self.qkv(tokens).view(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(*parts)
        return out.transpose(1, 2).reshape(tokens.shape).transpose(1, 2).unflatten(2, x.shape[2:])


class Pointwise(nn.Module):
    """A linear map of every cell's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Known:
    """A network whose operations can be counted by hand."""

    BY_HAND: ClassVar[Mapping[str, int]] = {
        "conv": 2 * CELLS * 8 * 3 * 4 * 4,
        "norm": 0,
        "grouped": 2 * CELLS * 8 * (8 // 4) * 3 * 3,
        "attention": 2 * CELLS * 8 * 24 + 2 * (2 * 2 * CELLS * CELLS * 4),  # qkv; q.k and weights.v, of two heads
        "pool": 0,
        "linear": 2 * CELLS * 8 * 5,
    }

    def __init__(self, fold: bool = False) -> None:
        self.fold = fold

    @property
    def layers(self) -> Mapping[str, Layer]:
        return {name: Layer(5 if name == "linear" else 8, (4, 4)) for name in self.BY_HAND}

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        modules = {
            "conv": nn.Conv2d(3, 8, 4, 4),
            "norm": nn.BatchNorm2d(8),
            "grouped": nn.Conv2d(8, 8, 3, padding=1, groups=4),
            "attention": Attention(),
            "pool": nn.AvgPool2d(3, 1, 1),
            "linear": Pointwise(),
        }
        if self.fold:
            fold_batch_norm(modules["conv"], modules["norm"])
            modules["norm"] = nn.Identity()
        self.modules = {name: module.to(device, dtype).eval() for name, module in modules.items()}

    def prepare(self, image: np.ndarray) -> Prepared:
        height, width = image.shape[:2]
        tensor = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
        return Prepared(tensor, InputGeometry(height, width, height, width, height, width))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        network = nn.Sequential(*self.modules.values())
        taps = read_taps({name: self.modules[name] for name in layers}, lambda: network(batch.tensor))
        return [{name: FeatureMap(taps[name][i], g.grid(ROWS, COLUMNS)) for name in layers}
                for i, g in enumerate(batch.geometry)]  # fmt: skip


def image(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def expected() -> dict[str, int]:
    return dict(zip(Known.BY_HAND, np.cumsum(list(Known.BY_HAND.values())).tolist(), strict=True))


def test_operations_are_those_counted_by_hand() -> None:
    backbone: Any = Known()
    assert count_flops(backbone, list(Known.BY_HAND), backbone.prepare(image())) == expected()


@pytest.mark.parametrize("fold", [False, True])
def test_a_real_pass_counts_the_same_whether_its_norm_is_folded_or_not(fold: bool) -> None:
    backbone: Any = Known(fold)
    backbone.load(list(Known.BY_HAND), CPU, torch.float32)
    prepared = backbone.prepare(image())
    found = measure(backbone, list(Known.BY_HAND), prepared, CPU, torch.float32)
    assert {name: one.flops for name, one in found.items()} == expected()
    assert all(one.seconds > 0 for one in found.values())
    assert {(one.device, one.threads) for one in found.values()} == {("cpu", torch.get_num_threads())}
    assert counted(backbone, ["linear"], Batch(prepared.tensor[None], [prepared.geometry])) == {
        "linear": expected()["linear"]
    }


@given(st.integers(1, 6), st.integers(1, 6), st.permutations(["stem", "body", "head"]))
@settings(max_examples=15, deadline=None)
def test_a_later_layer_never_costs_less_and_the_order_asked_for_does_not_matter(
    rows: int, columns: int, layers: list[str]
) -> None:
    backbone: Any = TinyBackbone(TinyParameters())
    found = count_flops(backbone, layers, backbone.prepare(image(8 * rows, 8 * columns)))
    assert list(found) == layers
    assert found["stem"] < found["body"] < found["head"]
    assert found["stem"] == 2 * (2 * rows) * (2 * columns) * 8 * 3 * 4 * 4


def test_each_pass_ends_at_its_layer() -> None:
    seen: list[Sequence[str]] = []

    class Watched(TinyBackbone):
        def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
            assert len(batch.tensor) == len(batch.geometry) == 1
            seen.append(tuple(layers))
            return super().forward(batch, layers)

    backbone: Any = Watched(TinyParameters())
    backbone.load(["stem", "head"], CPU, torch.float32)
    measure(backbone, ["stem", "head"], backbone.prepare(image()), CPU, torch.float32)
    assert set(seen) == {("stem",), ("head",)}


@pytest.fixture
def items() -> list[Item]:
    source = DiscSource(DiscParameters(groups=2))
    return [Item(one.digest, one.id, partial(source.open, one)) for one in source.images()]


def request(*layers: str) -> Request:
    return Request("tiny", TinyBackbone(TinyParameters()), layers, "fakes/tiny", "1")


def test_costs_are_noted_where_the_network_is_loaded_and_read_without_it(tmp_path: Path, items: list[Item]) -> None:
    store, prepared = Store(tmp_path), TinyBackbone(TinyParameters()).prepare(image())
    counts = count_flops(TinyBackbone(TinyParameters()), ["stem", "body"], prepared)
    extract(request("stem", "body"), items, store, measured=prepared)
    loads = TinyBackbone.loads
    found = extract(request("stem", "body"), items, store, measured=prepared)
    assert TinyBackbone.loads == loads
    for layer, collection in found.collections.items():
        noted = read_cost(collection, prepared)
        assert noted is not None
        assert noted.flops == counts[layer]
        assert noted.device == "cpu"
        assert noted.seconds > 0
        assert read_cost(collection, TinyBackbone(TinyParameters()).prepare(image(48, 48))) is None


def test_only_layers_that_are_loaded_are_measured(tmp_path: Path, items: list[Item]) -> None:
    store, prepared = Store(tmp_path), TinyBackbone(TinyParameters()).prepare(image())
    extract(request("stem"), items, store)
    found = extract(request("stem", "body"), items, store, measured=prepared)
    assert read_cost(found.collections["stem"], prepared) is None
    assert read_cost(found.collections["body"], prepared) is not None


def test_features_do_not_depend_on_being_measured(tmp_path: Path, items: list[Item]) -> None:
    prepared = TinyBackbone(TinyParameters()).prepare(image())
    one = extract(request("head"), items, Store(tmp_path / "one")).collections["head"]
    other = extract(request("head"), items, Store(tmp_path / "other"), measured=prepared).collections["head"]
    for item in items:
        np.testing.assert_array_equal(one.read(item.key)[0], other.read(item.key)[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"3x24x40": 1}',
        '{"3x24x40": {"flops": 1}}',
        '{"3x24x40": {"flops": 1, "seconds": NaN, "device": "cpu", "threads": 1}}',
    ],
)
def test_a_note_is_kept_by_input_size_and_rubbish_is_none(tmp_path: Path, text: str) -> None:
    collection = Store(tmp_path).collection(CollectionKey("w", {}, "stem", "float32", "fakes/tiny", "1"))
    collection.folder.mkdir(parents=True)
    backbone = TinyBackbone(TinyParameters())
    small, large = backbone.prepare(image()), backbone.prepare(image(48, 64))
    (collection.folder / "cost").write_text(text)
    assert read_cost(collection, small) is None
    notes = [Measured(5, 0.1, "cpu", 2), Measured(7, 0.2, "cuda:0", 2), Measured(9, 0.3, "cpu", 1)]
    for prepared, note in zip((small, large, small), notes, strict=True):
        note_cost(collection, prepared, note)
    assert read_cost(collection, small) == notes[2]  # the latest
    assert read_cost(collection, large) == notes[1]
