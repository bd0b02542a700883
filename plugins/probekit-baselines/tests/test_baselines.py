"""The baselines: exact statistics, whatever the size; nothing but what they claim."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probekit_baselines.plugin import probekit_backbones

from probekit.testing.backbones import BackboneContract, build, photograph, run

PLUGINS = {plugin.name: plugin for plugin in probekit_backbones()}


class TestPixels(BackboneContract):
    plugin = PLUGINS["pixels"]
    taps = ("cells",)


class TestPosition(BackboneContract):
    plugin = PLUGINS["position"]
    taps = ("cells",)
    sees_pixels = False


class TestRandomConv(BackboneContract):
    plugin = PLUGINS["random-conv"]
    parameters: ClassVar = {"features": 8}
    taps = ("cells",)


def features(name: str, image: np.ndarray, **parameters) -> np.ndarray:
    """(channels, rows, columns)."""
    backbone = build(PLUGINS[name], parameters, seed=3)
    backbone.load(["cells"], torch.device("cpu"), torch.float32)
    return run(backbone, [image], ["cells"])[0]["cells"].values.numpy()


def by_hand(image: np.ndarray, cell: int, row: int, column: int, side: int) -> np.ndarray:
    """The ten statistics of one neighbourhood, pixel by pixel."""
    reach = side // 2
    cells = [
        image[r * cell : (r + 1) * cell, c * cell : (c + 1) * cell].astype(np.float64)
        for r in range(max(row - reach, 0), row + reach + 1)
        for c in range(max(column - reach, 0), column + reach + 1)
    ]
    colours = np.concatenate([part.reshape(-1, 3) for part in cells])
    beside = np.concatenate([np.abs(np.diff(part.mean(axis=2), axis=1)).ravel() for part in cells])
    above = np.concatenate([np.abs(np.diff(part.mean(axis=2), axis=0)).ravel() for part in cells])
    steps = [part.mean() if part.size else 0.0 for part in (beside, above)]
    greys = [part.mean(axis=2) for part in cells if part.size]
    extremes = [np.mean([grey.min() for grey in greys]), np.mean([grey.max() for grey in greys])]
    return np.concatenate([colours.mean(axis=0), colours.std(axis=0), steps, extremes]) / 255


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 8, 16]), st.integers(0, 99), st.data())
def test_pixels_equal_brute_force(height: int, width: int, cell: int, seed: int, data: st.DataObject) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    values = features("pixels", image, cell=cell)
    rows, columns = -(-height // cell), -(-width // cell)
    assert values.shape == (32, rows, columns)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    for place, side in enumerate((1, 3, 9)):
        expected = by_hand(image, cell, row, column, side)
        np.testing.assert_allclose(values[10 * place : 10 * place + 10, row, column], expected, rtol=1e-5, atol=1e-6)
    assert values[30, row, column] == pytest.approx((column + 0.5) * cell / width)
    assert values[31, row, column] == pytest.approx((row + 0.5) * cell / height)


@pytest.mark.parametrize(("name", "reach"), [("pixels", (0, 1, 4)), ("random-conv", (1,))])
def test_an_impulse_moves_only_the_neighbourhood(name: str, reach: tuple[int, ...]) -> None:
    image = photograph(200, 216)
    before = features(name, image, cell=16)
    changed = image.copy()
    changed[6 * 16, 7 * 16 + 15] ^= 128  # a corner of cell (6, 7)
    moved = features(name, changed, cell=16) != before
    groups = np.split(moved[:30], 3) if name == "pixels" else [moved]
    for channels, cells in zip(groups, reach, strict=True):
        rows, columns = np.nonzero(channels.any(axis=0))
        assert np.abs(rows - 6).max() <= cells
        assert np.abs(columns - 7).max() <= cells
    if name == "pixels":
        for channels, cells in zip(groups, reach, strict=True):
            assert channels[:3].any(axis=0).sum() == (2 * cells + 1) ** 2
        assert not moved[30:].any()


def test_pixels_of_a_mirrored_photograph_are_mirrored() -> None:
    image = photograph(96, 128)
    values = features("pixels", image)
    np.testing.assert_array_equal(features("pixels", image[:, ::-1])[:30], values[:30, :, ::-1])
    np.testing.assert_array_equal(features("pixels", image[::-1])[:30], values[:30, ::-1])
    turned = features("pixels", image.transpose(1, 0, 2)).transpose(0, 2, 1)
    swap = [*range(6), 7, 6, 8, 9]
    for start in (0, 10, 20):
        np.testing.assert_array_equal(turned[start : start + 10], values[start : start + 10][swap])


@pytest.mark.parametrize("name", ["pixels", "random-conv"])
def test_padding_never_enters(name: str) -> None:
    """A grey photograph is grey up to its border, whatever its size, as far as its cells are valid."""
    grey = features(name, np.full((160, 160, 3), 77, np.uint8))
    for height, width in ((160, 151), (137, 160), (139, 153)):
        values = features(name, np.full((height, width, 3), 77, np.uint8))
        rows, columns = int(height / 16 + 0.5), int(width / 16 + 0.5)
        channels = slice(0, 30) if name == "pixels" else slice(None)
        np.testing.assert_allclose(values[channels, :rows, :columns], grey[channels, :rows, :columns], rtol=1e-5)


def test_position_is_relative_and_symmetric() -> None:
    values = features("position", photograph(96, 160))
    x, y, xy, xx, yy, radius = values.astype(np.float64)
    np.testing.assert_allclose(x, 1 - x[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(y, 1 - y[::-1], atol=1e-6)
    np.testing.assert_allclose([xy, xx, yy], [x * y, x * x, y * y], rtol=1e-5)
    np.testing.assert_allclose(radius, radius[::-1, ::-1], atol=1e-6)
    assert radius.max() < 1
    np.testing.assert_array_equal(values, features("position", photograph(96, 160, seed=5)))


@pytest.mark.parametrize("cell", [5, 6, 16])
def test_random_filters_equal_brute_force(cell: int) -> None:
    image = photograph(4 * cell + 3, 5 * cell)
    values = features("random-conv", image, cell=cell, features=4)
    backbone = build(PLUGINS["random-conv"], {"cell": cell, "features": 4}, seed=3)
    weight, bias = backbone._weight.double().numpy(), backbone._bias.double().numpy()
    stride, margin, size = backbone._stride, backbone._margin, backbone._size
    scaled = (image.astype(np.float64) / 255 - 0.5) * 4
    for row, column in ((0, 0), (1, 2), (3, 4)):
        responses = []
        for y in range(row * cell - margin, (row + 1) * cell - margin, stride):
            for x in range(column * cell - margin, (column + 1) * cell - margin, stride):
                if y >= 0 and x >= 0 and y + size <= image.shape[0] and x + size <= image.shape[1]:
                    patch = scaled[y : y + size, x : x + size].transpose(2, 0, 1)
                    responses.append(np.maximum(np.tensordot(weight, patch, 3) + bias, 0))
        np.testing.assert_allclose(values[:, row, column], np.mean(responses, axis=0), rtol=1e-4, atol=1e-4)


def test_bfloat16_loses_only_the_last_digits() -> None:
    """Pixels are handed over unscaled, so that a coarse type does not round them before the statistics."""
    backbone = build(PLUGINS["pixels"], {})
    prepared = backbone.prepare(photograph(96, 128))
    from probekit.api import Batch

    fine, coarse = (
        backbone.forward(Batch(prepared.tensor[None].to(dtype), [prepared.geometry]), ["cells"])[0]["cells"].values
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert coarse.dtype == torch.bfloat16
    assert torch.equal(coarse, fine.to(torch.bfloat16))


def test_the_descriptors_are_controls_and_cost_nothing() -> None:
    assert [plugin.name for plugin in PLUGINS.values()] == ["pixels", "position", "random-conv"]
    assert all(plugin.control and plugin.default_layers == ("cells",) for plugin in PLUGINS.values())
    code = "import sys, probekit_baselines.plugin as p; list(p.probekit_backbones()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
