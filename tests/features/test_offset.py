import numpy as np
import pytest
import torch

from probekit.api import FeatureMap, Grid, InputGeometry, Prepared
from probekit.features.offset import measure_offset
from probekit.testing.backbones import photograph

CPU, F32 = torch.device("cpu"), torch.float32


class Pooled:
    """Mean colour of cells of ``stride`` pixels, moved by ``shift`` pixels, claimed to lie ``claim`` pixels off."""

    def __init__(self, stride, shift=(0, 0), claim=(0.0, 0.0), factor=1.0, blind=False):
        self.stride, self.shift, self.claim, self.factor, self.blind = stride, shift, claim, factor, blind

    def prepare(self, image):
        height, width = image.shape[:2]
        tensor = torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32)
        content = round(height * self.factor), round(width * self.factor)
        tensor = torch.nn.functional.interpolate(tensor[None], content, mode="bilinear", antialias=True)[0]
        padded = tuple(-(-side // self.stride) * self.stride for side in content)
        tensor = torch.nn.functional.pad(tensor, (0, padded[1] - content[1], 0, padded[0] - content[0]))
        return Prepared(tensor, InputGeometry(height, width, *content, *padded))

    def forward(self, batch, layers):
        tensor = batch.tensor.roll((-self.shift[1], -self.shift[0]), (2, 3)) * (not self.blind)
        maps = torch.nn.functional.avg_pool2d(tensor, self.stride)
        grids = [geometry.grid(*maps.shape[-2:]) for geometry in batch.geometry]
        grids = [
            Grid(g.rows, g.columns, g.to_pixels.shifted(*self.claim), g.valid_rows, g.valid_columns) for g in grids
        ]
        return [{layer: FeatureMap(m, g) for layer in layers} for m, g in zip(maps, grids, strict=True)]


@pytest.mark.parametrize("size", [(121, 187), (187, 121), (96, 128), (33, 200)])
@pytest.mark.parametrize("factor", [1.0, 0.7, 2.3])
def test_cells_that_lie_where_they_say_come_back(size, factor):
    offset = measure_offset(Pooled(8, factor=factor), ["a"], photograph(*size), CPU, F32)["a"]
    assert offset.impulses.shape == offset.centroids.shape == (9, 2)
    assert offset.worst < 0.13
    assert offset.cell == pytest.approx((8 / factor, 8 / factor), rel=0.05)


def test_a_networks_own_offset_is_measured_with_its_sign():
    """A network that looks to the right and down moves what it sees to the left and up."""
    offset = measure_offset(Pooled(16, shift=(16, 32)), ["a"], photograph(243, 321), CPU, F32)["a"]
    assert offset.own == pytest.approx((-16, -32), abs=1.5)


def test_a_grid_that_is_claimed_a_cell_off_is_found():
    offset = measure_offset(Pooled(16, claim=(16.0, 0.0)), ["a"], photograph(243, 321), CPU, F32)["a"]
    assert offset.own == pytest.approx((16, 0), abs=1.5)
    assert offset.worst > 0.9


def test_layers_are_measured_on_their_own_grids():
    class Two(Pooled):
        def forward(self, batch, layers):
            fine = Pooled.forward(self, batch, ["fine"])[0]
            coarse = Pooled(32).forward(batch, ["coarse"])[0]
            return [{layer: ({**fine, **coarse})[layer] for layer in layers}]

    measured = measure_offset(Two(8), ["coarse", "fine"], photograph(160, 128), CPU, F32)
    assert list(measured) == ["coarse", "fine"]
    assert measured["coarse"].cell[0] == 32
    assert measured["fine"].cell == (8, 8)


def test_what_does_not_look_at_the_pixels_has_no_offset():
    offset = measure_offset(Pooled(16, blind=True), ["a"], photograph(65, 97), CPU, F32)["a"]
    assert np.isnan(offset.own).all()
    assert np.isnan(offset.worst)


def test_a_network_that_samples_one_pixel_of_a_cell_is_measured_with_a_larger_patch():
    class Corner(Pooled):
        def forward(self, batch, layers):
            maps = batch.tensor[:, :, :: self.stride, :: self.stride]
            grids = [geometry.grid(*maps.shape[-2:]) for geometry in batch.geometry]
            return [{layer: FeatureMap(m, g) for layer in layers} for m, g in zip(maps, grids, strict=True)]

    offset = measure_offset(Corner(16), ["a"], photograph(160, 160), CPU, F32)["a"]
    assert offset.own == pytest.approx((0, 0), abs=1)
