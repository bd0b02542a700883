"""What every backbone must keep, as a test class: subclass :class:`BackboneContract` in a plugin's own tests."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from probekit.api import Backbone, BackbonePlugin, Batch, FeatureMap
from probekit.api.taps import Edit, editing
from probekit.features.cost import count_flops, counted
from probekit.features.offset import measure_offset

CPU = torch.device("cpu")


def photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Something with a photograph's statistics: coloured noise, the stronger the coarser. (height, width, 3) RGB."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for octave in range(8):
        coarse = torch.randn(1, 3, height // 2**octave + 2, width // 2**octave + 2, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
        total += fine * 1.7**octave
    total = 127.5 + 50 * (total - total.mean()) / total.std()
    values: NDArray[np.uint8] = total[0].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()
    return values


def build(plugin: BackbonePlugin, parameters: Mapping[str, Any], seed: int = 0) -> Backbone:
    """Constructs a backbone as the core does: parameters validated, the class imported from the descriptor's target."""
    module, _, name = plugin.target.partition(":")
    backbone: Backbone = getattr(importlib.import_module(module), name)(
        plugin.parameters.model_validate(dict(parameters)), seed=seed
    )
    return backbone


def run(backbone: Backbone, images: Sequence[NDArray[np.uint8]], layers: Sequence[str]) -> list[dict[str, FeatureMap]]:
    """Prepares images that end up in one shape and passes them through a loaded backbone as one batch."""
    prepared = [backbone.prepare(image) for image in images]
    batch = Batch(torch.stack([p.tensor for p in prepared]), [p.geometry for p in prepared])
    with torch.inference_mode():
        return [dict(maps) for maps in backbone.forward(batch, layers)]


class BackboneContract:
    """The tests that a backbone must pass, on the CPU in float32.

    Name the descriptor, the parameters and the layers; keep the network and the images small::

        class TestTiny(BackboneContract):
            plugin = tiny_plugin  # the descriptor that the hook returns
            parameters = {"weights": "random"}
            taps = ("blocks.1",)

    Attributes:
        plugin: the descriptor.
        parameters: as under ``with``.
        taps: the layers to test.
        sizes: (height, width) of the photographs: landscape, portrait, odd, no multiple of a stride.
        sees_pixels: false for a backbone whose features do not depend on the pixels (position).
        runs_on_meta: false for an adapter that cannot be loaded on torch's meta device.
        own_offset: layer -> (x, y) in original pixels: what the network is known to be off by, as strided convolutions
            with 'same' padding are before training; taken off before an impulse must come back within half a cell.
        impulse_taps: the layers at which impulses are measured; all ``taps`` where empty.
        edits: those of ``taps`` whose channels can be ablated, in the order in which a pass reaches them; what the last
            one holds depends on all others.
    """

    plugin: ClassVar[BackbonePlugin]
    parameters: ClassVar[Mapping[str, Any]] = {}
    taps: ClassVar[Sequence[str]]
    sizes: ClassVar[Sequence[tuple[int, int]]] = ((97, 163), (163, 97), (129, 131))
    sees_pixels: ClassVar[bool] = True
    runs_on_meta: ClassVar[bool] = True
    own_offset: ClassVar[Mapping[str, tuple[float, float]]] = {}
    impulse_taps: ClassVar[Sequence[str]] = ()
    edits: ClassVar[Sequence[str]] = ()

    @classmethod
    def loaded(cls) -> Backbone:
        """The backbone under test, loaded once a class."""
        if "_backbone" not in cls.__dict__:
            backbone = build(cls.plugin, cls.parameters)
            backbone.load(cls.taps, CPU, torch.float32)
            cls._backbone = backbone
        return cls._backbone

    _backbone: ClassVar[Backbone]

    def test_layers_are_known_before_loading(self) -> None:
        """``layers`` of a backbone that has loaded nothing names every tap, with positive widths and strides."""
        layers = build(self.plugin, self.parameters).layers
        missing = [tap for tap in self.taps if tap not in layers]
        assert not missing, f"not among the layers: {missing}"
        for name, layer in layers.items():
            assert layer.channels > 0, f"{name}: {layer}"
            assert min(layer.stride) > 0, f"{name}: {layer}"

    def test_layers_match_the_real_output(self) -> None:
        """Channels, rows, columns and steps of real maps are those that ``layers`` and the grid declare."""
        backbone = self.loaded()
        for height, width in self.sizes:
            geometry = backbone.prepare(photograph(height, width)).geometry
            for name, fmap in run(backbone, [photograph(height, width)], self.taps)[0].items():
                declared, grid, where = backbone.layers[name], fmap.grid, f"{name} at {height} x {width}"
                expected = (declared.channels, grid.rows, grid.columns)
                assert tuple(fmap.values.shape) == expected, f"{where}: {tuple(fmap.values.shape)} is not {expected}"
                step_y = declared.stride[0] * geometry.image_height / geometry.content_height
                step_x = declared.stride[1] * geometry.image_width / geometry.content_width
                steps = (grid.to_pixels.step_y, grid.to_pixels.step_x)
                assert steps == pytest.approx((step_y, step_x), rel=1e-6), f"{where}: a cell's size"

    def test_prepare_says_what_it_did(self) -> None:
        """The geometry names the photograph's and the tensor's real sizes, and keeps the aspect to a pixel."""
        for height, width in self.sizes:
            prepared = self.loaded().prepare(photograph(height, width))
            geometry = prepared.geometry
            assert prepared.tensor.dtype == torch.float32
            assert prepared.tensor.device == CPU
            assert (geometry.image_height, geometry.image_width) == (height, width)
            assert tuple(prepared.tensor.shape[1:]) == (geometry.input_height, geometry.input_width)
            assert geometry.content_height <= geometry.input_height
            assert geometry.content_width <= geometry.input_width
            scale = geometry.content_height / height
            assert abs(geometry.content_width - scale * width) <= 1 + scale, "the aspect is not kept"

    def test_padding_is_invalid(self) -> None:
        """A cell is valid exactly where its centre lies on the photograph."""
        for height, width in self.sizes:
            for name, fmap in run(self.loaded(), [photograph(height, width)], self.taps)[0].items():
                grid, where = fmap.grid, f"{name} at {height} x {width}"
                inside_y = grid.to_pixels.centers_y(grid.rows) <= height + 1e-6
                inside_x = grid.to_pixels.centers_x(grid.columns) <= width + 1e-6
                np.testing.assert_array_equal(grid.valid, inside_y[:, None] & inside_x[None, :], err_msg=where)
                assert grid.valid.any(), f"{where}: no cell is valid"

    def test_cells_cover_the_photograph(self) -> None:
        """No more than half a cell at any border is left without a valid cell."""
        for height, width in self.sizes:
            for name, fmap in run(self.loaded(), [photograph(height, width)], self.taps)[0].items():
                affine, where = fmap.grid.to_pixels, f"{name} at {height} x {width}"
                last_y = affine.offset_y + affine.step_y * fmap.grid.valid_rows
                last_x = affine.offset_x + affine.step_x * fmap.grid.valid_columns
                slack = 0.5 + 1e-6
                assert abs(affine.offset_y) <= slack * affine.step_y, f"{where}: top"
                assert abs(affine.offset_x) <= slack * affine.step_x, f"{where}: left"
                assert abs(last_y - height) <= slack * affine.step_y, f"{where}: bottom"
                assert abs(last_x - width) <= slack * affine.step_x, f"{where}: right"

    def test_an_impulse_comes_back_to_its_cell(self) -> None:
        """At nine positions and odd sizes the centroid of what a change moves lies within half a cell of it."""
        taps = self.impulse_taps or self.taps
        for height, width in self.sizes:
            measured = measure_offset(self.loaded(), taps, photograph(height, width), CPU, torch.float32)
            for name, offset in measured.items():
                where = f"{name} at {height} x {width}"
                if not self.sees_pixels:
                    assert np.isnan(offset.deviations).all(), f"{where}: it does depend on the pixels"
                    continue
                deviations = (offset.deviations - self.own_offset.get(name, (0.0, 0.0))) / offset.cell
                worst = float(np.abs(deviations).max())
                assert worst <= 0.5, f"{where}: an impulse comes back {worst:.2f} cells away (own {offset.own} px)"

    def test_values_are_finite_floats(self) -> None:
        """No NaN, no infinity, no integer."""
        for height, width in self.sizes:
            for name, fmap in run(self.loaded(), [photograph(height, width)], self.taps)[0].items():
                assert fmap.values.is_floating_point(), name
                assert bool(fmap.values.isfinite().all()), f"{name} at {height} x {width}"

    def test_a_pass_is_deterministic(self) -> None:
        """The same image gives the same values, in this backbone and in another one built alike."""
        image = photograph(*self.sizes[0])
        other = build(self.plugin, self.parameters)
        other.load(self.taps, CPU, torch.float32)
        first, again = run(self.loaded(), [image], self.taps)[0], run(self.loaded(), [image], self.taps)[0]
        elsewhere = run(other, [image], self.taps)[0]
        for name in self.taps:
            assert torch.equal(first[name].values, again[name].values), f"{name}: a second pass differs"
            assert torch.equal(first[name].values, elsewhere[name].values), f"{name}: a second backbone differs"

    def test_a_batch_equals_its_images(self) -> None:
        """Three photographs in one batch give what each gives alone."""
        images = [photograph(*self.sizes[0], seed=seed) for seed in range(3)]
        together = run(self.loaded(), images, self.taps)
        for image, maps in zip(images, together, strict=True):
            for name, alone in run(self.loaded(), [image], self.taps)[0].items():
                assert maps[name].grid == alone.grid, name
                _assert_close(maps[name].values, alone.values, name)

    def test_one_layer_equals_the_pass_for_all(self) -> None:
        """Asking for one layer gives what the pass for all of them gives; so does loading it alone."""
        image = photograph(*self.sizes[0])
        together = run(self.loaded(), [image], self.taps)[0]
        assert set(together) == set(self.taps)
        for tap in self.taps:
            _assert_close(run(self.loaded(), [image], [tap])[0][tap].values, together[tap].values, tap)
        alone = build(self.plugin, self.parameters)
        alone.load(self.taps[:1], CPU, torch.float32)
        _assert_close(
            run(alone, [image], self.taps[:1])[0][self.taps[0]].values, together[self.taps[0]].values, "alone"
        )

    def test_edited_channels_are_what_was_set(self) -> None:
        """In an ablated layer the channels that were set, and no others, have their new value in every cell; later
        layers follow. An edit of no channel changes nothing, to the bit."""
        image = photograph(*self.sizes[0])
        plain = run(self.loaded(), [image], self.taps)[0]
        for tap in self.edits:
            width = self.loaded().layers[tap].channels
            for channels in (np.arange(0), np.array([width - 1, 0]), np.arange(width)):
                values = 1.0 + np.arange(len(channels))
                with editing(Edit(tap, [channels], [values]), self.plugin.name):
                    edited = run(self.loaded(), [image], self.taps)[0]
                expected = plain[tap].values.clone()
                expected[channels] = torch.tensor(values, dtype=expected.dtype)[:, None, None]
                assert torch.equal(edited[tap].values, expected), f"{tap}: not what was set"
                changed = [name for name in self.taps if not torch.equal(edited[name].values, plain[name].values)]
                assert len(channels) or not changed, f"{tap}: an edit of no channel changes {changed}"
                assert not len(channels) or self.edits[-1] in changed, f"{tap}: the pass goes on without the edit"

    def test_operations_are_counted_without_weights(self) -> None:
        """A pass on torch's meta device has as many operations up to each layer as a real one."""
        if not self.runs_on_meta:
            pytest.skip("the adapter is said not to run on the meta device")
        prepared = self.loaded().prepare(photograph(*self.sizes[0]))
        batch = Batch(prepared.tensor[None], [prepared.geometry])
        found = count_flops(build(self.plugin, self.parameters), self.taps, prepared)
        assert found == counted(self.loaded(), self.taps, batch)

    def test_prepare_leaves_the_photograph_alone(self) -> None:
        """A read-only photograph, as decoders return it, is accepted and not changed."""
        image = photograph(*self.sizes[0])
        before = image.copy()
        image.flags.writeable = False
        self.loaded().prepare(image)
        np.testing.assert_array_equal(image, before)

    def test_prepare_runs_in_threads(self) -> None:
        """Many photographs prepared at once give what each gives alone."""
        images = [photograph(*size, seed=seed) for seed in range(4) for size in self.sizes]
        alone = [self.loaded().prepare(image) for image in images]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(self.loaded().prepare, images))
        for a, b in zip(alone, together, strict=True):
            assert torch.equal(a.tensor, b.tensor)
            assert a.geometry == b.geometry

    def test_identity_is_stable(self) -> None:
        """Weights, family and preprocessing, which are part of the store's key, are the same each time, and JSON."""
        one, two = build(self.plugin, self.parameters), build(self.plugin, self.parameters)
        assert one.weights() == two.weights() == self.loaded().weights()
        info = one.weights()
        assert info.digest or info.kind == "none"
        if info.kind in ("pretrained", "file", "bundled"):
            assert info.digest.startswith("sha256:"), info.digest
        assert not info.source.startswith(("/", "\\")), f"an absolute path: {info.source}"
        text = json.dumps(dict(one.preprocessing), sort_keys=True)
        assert text == json.dumps(dict(two.preprocessing), sort_keys=True)
        assert text == json.dumps(dict(self.loaded().preprocessing), sort_keys=True), "loading changes preprocessing"
        assert one.family == two.family != ""

    def test_the_twin_is_the_same_network_with_random_weights(self) -> None:
        """Same layers, same input, other numbers; and other seeds give other twins."""
        parameters = build(self.plugin, self.parameters).twin()
        if parameters is None:
            assert build(self.plugin, self.parameters).weights().kind == "none", "a network without a twin"
            return
        image = photograph(*self.sizes[0])
        twins = [build(self.plugin, parameters, seed=seed) for seed in (1, 2)]
        for twin in twins:
            assert twin.weights().kind == "random"
            twin.load(self.taps, CPU, torch.float32)
            assert torch.equal(twin.prepare(image).tensor, self.loaded().prepare(image).tensor)
        assert twins[0].weights().digest != twins[1].weights().digest
        original, first, second = (run(b, [image], self.taps)[0] for b in (self.loaded(), *twins))
        for name in self.taps:
            assert twins[0].layers[name] == self.loaded().layers[name]
            assert original[name].grid == first[name].grid
            assert not torch.equal(original[name].values, first[name].values)
            assert not torch.equal(first[name].values, second[name].values)


def _assert_close(actual: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Equal to 1e-4 of the largest value: another batch size may take another kernel."""
    error = float((actual - expected).abs().max())
    assert error <= 1e-4 * float(expected.abs().max()) + 1e-12, f"{what}: differs by {error:.2g}"
