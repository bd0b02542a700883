"""The conformance contract, and what only this backbone promises."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from probekit_gabor.plugin import probekit_backbones

from probekit.testing.backbones import CPU, BackboneContract, build, run

(PLUGIN,) = probekit_backbones()


class TestGabor(BackboneContract):
    plugin = PLUGIN
    taps = ("filters", "energy")
    edits = taps


class TestShrunkGabor(BackboneContract):
    plugin = PLUGIN
    parameters: ClassVar = {"shrink": 1.7, "orientations": 2}
    taps = ("energy",)


def test_stripes_excite_the_filter_of_their_wavelength_and_orientation():
    stripes = 127.5 + 100 * np.cos(2 * np.pi * np.arange(96) / 6)  # upright, six pixels apart
    image = np.broadcast_to(stripes[None, :, None], (64, 96, 3)).astype(np.uint8)
    backbone = build(PLUGIN, {"orientations": 4, "wavelengths": [3.0, 6.0]})
    backbone.load(["energy"], CPU, torch.float32)
    energy = run(backbone, [image], ["energy"])[0]["energy"].values[:, 2:-2, 2:-2].mean(dim=(1, 2))
    # channels: wavelength, then orientation, then colour
    assert int(energy.argmax()) == (1 * 4 + 0) * 3 + 0


def test_an_even_grey_excites_nothing():
    backbone = build(PLUGIN, {})
    backbone.load(["energy"], CPU, torch.float32)
    grey = np.full((64, 64, 3), 200, dtype=np.uint8)
    values = run(backbone, [grey], ["energy"])[0]["energy"].values[:, 2:-2, 2:-2]
    assert float(values.abs().max()) < 1e-5


@pytest.mark.parametrize("wrong", [{"orientations": 0}, {"wavelengths": [40.0]}, {"wavelengths": []}])
def test_filters_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build(PLUGIN, wrong)
