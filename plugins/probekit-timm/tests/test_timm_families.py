"""Networks of many families at random weights: what is declared is what timm says of them, and what comes out."""

import numpy as np
import pytest
import timm
import torch
from probekit_timm.plugin import TIMM

from probekit.features.offset import measure_offset
from probekit.testing.backbones import CPU, build, photograph, run

# model, what stands under `with` besides
FAMILIES = [
    ("resnet18", {"options": {"zero_init_last": False}}),
    ("resnetv2_18", {}),
    ("res2net50d", {}),
    ("regnetx_002", {}),
    ("dla34", {}),
    ("vgg11", {}),
    ("mobilenetv1_100", {}),
    ("mobilenetv2_050", {}),
    ("mobilenetv3_small_050", {}),
    ("mobilenetv4_conv_small_050", {}),
    ("test_efficientnet", {}),
    ("mnasnet_050", {}),
    ("ghostnet_050", {}),
    ("inception_next_atto", {}),
    ("inception_v3", {}),
    ("test_nfnet", {}),
    ("test_byobnet", {}),
    ("test_convnext", {}),
    ("convnextv2_atto", {}),
    ("edgenext_xx_small", {}),
    ("fastvit_t8", {}),
    ("mobilevit_xxs", {}),
    ("poolformer_s12", {}),
    ("pvt_v2_b0", {}),
    ("focalnet_tiny_srf", {}),
    ("test_mambaout", {}),
    ("sam2_hiera_tiny", {}),
    ("swin_tiny_patch4_window7_224", {}),
    ("swinv2_cr_tiny_224", {}),
    ("test_vit", {}),
    ("eva02_tiny_patch14_224", {}),
    ("mixer_s32_224", {"image_size": [96, 128]}),
    ("test_coatnet", {"image_size": [128, 160]}),
]


@pytest.mark.parametrize(("model", "parameters"), FAMILIES, ids=[model for model, _ in FAMILIES])
def test_a_family_is_tapped(model, parameters):
    backbone = build(TIMM, {"model": model, "weights": "random", **parameters})
    with torch.device("meta"):
        known = timm.create_model(model).feature_info
    names = [info["module"] for info in known if info["module"] in backbone.layers]
    assert names, f"none of {known}"
    for info in known:
        if info["module"] in names:
            layer = backbone.layers[info["module"]]
            assert (layer.channels, layer.stride) == (info["num_chs"], (info["reduction"],) * 2), info

    # the first layers only: a network of this size is not run to its end for the sake of a test
    taps = names[:2]
    backbone.load(taps, CPU, torch.float32)
    image = photograph(93, 131)
    geometry = backbone.prepare(image).geometry
    for name, fmap in run(backbone, [image], taps)[0].items():
        layer = backbone.layers[name]
        assert fmap.values.shape[0] == layer.channels
        assert abs(fmap.values.shape[1] - geometry.input_height / layer.stride[0]) < 6
        assert abs(fmap.values.shape[2] - geometry.input_width / layer.stride[1]) < 6
        assert fmap.values.isfinite().all()
        assert (fmap.grid.rows, fmap.grid.columns) == tuple(fmap.values.shape[1:])
    offset = measure_offset(backbone, taps[-1:], image, CPU, torch.float32)[taps[-1]]
    # A cell at most: symmetric padding is off by nearly half a cell before training, random kernels add to it. The
    # median, because attention at random weights may drag single positions far away.
    assert np.median(np.abs(offset.deviations / offset.cell)) < 1
