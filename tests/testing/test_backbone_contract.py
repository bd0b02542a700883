"""The contract itself: it holds for a sound backbone written by a stranger, and each fault is found."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from probekit.api import BackbonePlugin, FeatureMap, InputGeometry, Layer, Parameters, Prepared, WeightsInfo
from probekit.testing.backbones import BackboneContract, photograph


class TinyParameters(Parameters):
    weights: str = "random"
    fault: str = ""


class Tiny:
    """Two strided convolutions; ``fault`` breaks one thing."""

    family = "tiny"

    def __init__(self, parameters, *, seed):
        self.fault, self.kind, self.seed = parameters.fault, parameters.weights, seed
        width = 9 if self.fault == "channels" else 8
        self.layers = {"first": Layer(4, (4, 4)), "second": Layer(width, (8, 8))}
        self.preprocessing = {"at": object()} if self.fault == "preprocessing" else {"scale": 255}

    def weights(self):
        if self.kind == "random":
            return WeightsInfo("random", f"seed {self.seed}", "tiny")
        digest = str(id(self)) if self.fault == "digest" else "sha256:00"
        return WeightsInfo("file", digest, "/weights/tiny" if self.fault == "path" else "tiny.safetensors")

    def twin(self):
        return {"weights": "file" if self.fault == "twin" else "random"}

    def load(self, layers, device, dtype):
        seed = self.seed if self.kind == "random" else 12345
        generator = torch.Generator().manual_seed(seed)
        if self.fault == "seed":
            generator.seed()
        self.first = torch.randn(4, 3, 4, 4, generator=generator)
        self.second = torch.randn(8, 4, 2, 2, generator=generator)

    def prepare(self, image):
        if self.fault == "modifies":
            image[0, 0] = 0
        height, width = image.shape[:2]
        tensor = torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32) / 255
        padded = -(-height // 8) * 8, -(-width // 8) * 8
        tensor = torch.nn.functional.pad(tensor, (0, padded[1] - width, 0, padded[0] - height))
        if self.fault == "threads":
            self.last = getattr(self, "last", 0) + 1
            tensor = tensor * self.last
        content = padded if self.fault == "stretched" else (height, width)
        return Prepared(tensor, InputGeometry(height, width, *content, *padded))

    def forward(self, batch, layers):
        x = batch.tensor.roll(12, 3) if self.fault == "offset" else batch.tensor
        if self.fault == "batch":
            x = x - x.mean()
        first = torch.conv2d(x, self.first, stride=4)
        second = torch.conv2d(first, self.second, stride=2)
        if self.fault == "nan":
            second = second / 0 * 0
        maps = {"first": first, "second": second}
        if self.fault == "layers" and len(layers) == 1:
            maps = {name: value + 1 for name, value in maps.items()}
        return [
            {name: FeatureMap(maps[name][i], self.grid(g, maps[name])) for name in layers}
            for i, g in enumerate(batch.geometry)
        ]

    def grid(self, geometry, values):
        grid = geometry.grid(*values.shape[-2:])
        if self.fault == "valid":
            return replace(grid, valid_rows=grid.rows, valid_columns=grid.columns)
        return grid


def contract(fault, weights="file"):
    class Contract(BackboneContract):
        plugin = BackbonePlugin("tiny", "two convolutions", f"{__name__}:Tiny", TinyParameters)
        parameters = {"weights": weights, "fault": fault}  # noqa: RUF012
        taps = ("first", "second")
        sizes = ((97, 131), (131, 97))

    return Contract()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The descriptor names this module by its name, whatever pytest imported it as."""
    module = type(sys)(__name__)
    module.Tiny = Tiny
    monkeypatch.setitem(sys.modules, __name__, module)


@pytest.mark.parametrize("weights", ["file", "random"])
def test_a_sound_backbone_passes(weights):
    suite = contract("", weights)
    for name in dir(suite):
        if name.startswith("test_"):
            getattr(suite, name)()


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        ("channels", "test_layers_match_the_real_output"),
        ("valid", "test_padding_is_invalid"),
        ("stretched", "test_prepare_says_what_it_did"),
        ("offset", "test_an_impulse_comes_back_to_its_cell"),
        ("nan", "test_values_are_finite_floats"),
        ("seed", "test_a_pass_is_deterministic"),
        ("batch", "test_a_batch_equals_its_images"),
        ("layers", "test_one_layer_equals_the_pass_for_all"),
        ("modifies", "test_prepare_leaves_the_photograph_alone"),
        ("threads", "test_prepare_runs_in_threads"),
        ("digest", "test_identity_is_stable"),
        ("path", "test_identity_is_stable"),
        ("preprocessing", "test_identity_is_stable"),
        ("twin", "test_the_twin_is_the_same_network_with_random_weights"),
    ],
)
def test_a_fault_is_found(fault, found_by):
    with pytest.raises((AssertionError, ValueError, TypeError)):
        getattr(contract(fault), found_by)()


def test_a_blind_backbone_must_say_so():
    suite = contract("")
    type(suite).sees_pixels = False
    with pytest.raises(AssertionError, match="does depend on the pixels"):
        suite.test_an_impulse_comes_back_to_its_cell()


def test_an_own_offset_is_taken_off():
    suite = contract("offset")
    type(suite).own_offset = {"first": (12.0, 0.0), "second": (12.0, 0.0)}
    suite.test_an_impulse_comes_back_to_its_cell()


def test_photographs_are_seeded():
    np.testing.assert_array_equal(photograph(33, 47, 3), photograph(33, 47, 3))
    assert photograph(33, 47, 3).shape == (33, 47, 3)
    assert photograph(33, 47, 3).std() > 30
