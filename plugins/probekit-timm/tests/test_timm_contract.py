"""The contract of backbones, kept by convolutional networks, a ViT and a network of rows by columns by channels."""

from typing import ClassVar

from probekit_timm.plugin import TIMM

from probekit.testing.backbones import BackboneContract


class TestBundledV1(BackboneContract):
    plugin = TIMM
    parameters: ClassVar = {"model": "mobilenetv1_100", "weights": "bundled"}
    taps = ("blocks.1", "blocks.3")
    edits = taps
    sizes = ((161, 227), (227, 161))


class TestBundledV2(BackboneContract):
    plugin = TIMM
    parameters: ClassVar = {"model": "mobilenetv2_100", "weights": "bundled"}
    taps = ("blocks.1", "blocks.4")
    edits = taps
    sizes = ((161, 227), (227, 161))


class TestViT(BackboneContract):
    plugin = TIMM
    parameters: ClassVar = {"model": "test_vit", "weights": "random"}
    taps = ("patch_embed", "blocks.1", "blocks.5")
    edits = taps
    sizes = ((97, 163), (163, 97), (129, 131))


class TestViTOfOneInputSize(BackboneContract):
    plugin = TIMM
    parameters: ClassVar = {"model": "test_vit_relpos", "weights": "random", "image_size": [96, 128]}
    taps = ("patch_embed", "blocks.1")
    edits = taps
    sizes = ((193, 291), (301, 193), (64, 50))


class TestSwin(BackboneContract):
    plugin = TIMM
    parameters: ClassVar = {
        "model": "swin_tiny_patch4_window7_224",
        "weights": "random",
        "image_size": 150,
        "options": {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4]},
    }
    taps = ("layers.0", "layers.1.blocks.1", "layers.1")
    edits = taps
    sizes = ((193, 291), (291, 193), (97, 99))


class TestResNet(BackboneContract):
    """Symmetric padding: before training a cell shows what lies (stride - 1) / 2 to the left of its centre."""

    plugin = TIMM
    parameters: ClassVar = {"model": "test_resnet", "weights": "random"}
    taps = ("layer1.0.bn1", "layer1", "layer2")
    edits = taps[1:]  # before training a block's own branch adds nothing
    sizes = ((97, 163), (163, 97))
    own_offset: ClassVar = {"layer1.0.bn1": (1.5, 1.5), "layer1": (1.5, 1.5), "layer2": (3.5, 3.5)}
