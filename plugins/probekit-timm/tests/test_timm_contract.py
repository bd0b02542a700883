"""The contract of backbones, kept by convolutional networks, a ViT and a network of rows by columns by channels."""

from probekit_timm.plugin import TIMM

from probekit.testing.backbones import BackboneContract


class TestBundledV1(BackboneContract):
    plugin = TIMM
    parameters = {"model": "mobilenetv1_100", "weights": "bundled"}
    taps = ("blocks.1", "blocks.3")
    sizes = ((193, 291), (291, 193), (227, 229))


class TestBundledV2(BackboneContract):
    plugin = TIMM
    parameters = {"model": "mobilenetv2_100", "weights": "bundled"}
    taps = ("blocks.1", "blocks.4")
    sizes = ((193, 291), (291, 193), (227, 229))


class TestViT(BackboneContract):
    plugin = TIMM
    parameters = {"model": "test_vit", "weights": "random"}
    taps = ("patch_embed", "blocks.1", "blocks.5")
    sizes = ((97, 163), (163, 97), (129, 131))


class TestViTOfOneInputSize(BackboneContract):
    plugin = TIMM
    parameters = {"model": "gmixer_12_224", "weights": "random", "image_size": [96, 128], "options": {"embed_dim": 32}}
    taps = ("stem", "blocks.1")
    sizes = ((193, 291), (301, 193), (64, 50))
    impulse_taps = ("stem",)


class TestSwin(BackboneContract):
    plugin = TIMM
    parameters = {
        "model": "swin_tiny_patch4_window7_224",
        "weights": "random",
        "image_size": 150,
        "options": {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4]},
    }
    taps = ("layers.0", "layers.1.blocks.1", "layers.1")
    sizes = ((193, 291), (291, 193), (97, 99))


class TestResNetThatIsResized(BackboneContract):
    plugin = TIMM
    parameters = {
        "model": "resnet18",
        "weights": "random",
        "image_size": 128,
        "options": {"zero_init_last": False},
    }
    taps = ("layer1.0.bn2", "layer1", "layer2.1")
    sizes = ((193, 291), (291, 193), (61, 67))
