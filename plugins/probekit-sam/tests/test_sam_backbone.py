"""segment-anything's encoder as a backbone: its own preprocessing, its own numbers, only as deep as asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from probekit_sam.backbone import Sam
from probekit_sam.networks import encoder, load_sam
from probekit_sam.parameters import PUBLISHED, SamParameters
from probekit_sam.plugin import probekit_backbones
from pydantic import ValidationError
from safetensors.torch import save_file
from segment_anything import build_sam_vit_b
from segment_anything.modeling import ImageEncoderViT
from segment_anything.utils.transforms import ResizeLongestSide

from probekit.api import Batch, ParameterError
from probekit.testing.backbones import BackboneContract, build, photograph, run

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4, "global_attn_indexes": [1, 3], "image_size": 256}
CPU = torch.device("cpu")
PLUGIN = probekit_backbones()[0]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and threads that wait for each other on a busy machine cost much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestSam(BackboneContract):
    plugin = PLUGIN
    # 32 x 32 cells: attention spreads a change over all cells, the more thinly the more there are.
    parameters: ClassVar = {**SMALL, "image_size": 512, "weights": "random"}
    taps = ("blocks.0", "blocks.1", "blocks.3", "neck")
    edits = taps


@cache
def small_sam():
    """A whole small model whose zero-initialised position tables are not zero."""
    model = load_sam(SamParameters.model_validate({**SMALL, "weights": "random"}), None, 3)
    torch.manual_seed(0)
    for name, tensor in model.image_encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(tensor, std=0.3)
    return model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_file(
        {key: value.contiguous() for key, value in small_sam().state_dict().items()}, tmp_path / "sam.safetensors"
    )
    return tmp_path / "sam.safetensors"


def loaded(weights: Path, *layers: str) -> Sam:
    backbone = build(PLUGIN, {**SMALL, "weights": weights})
    backbone.load(layers, CPU, torch.float32)
    return backbone


@pytest.mark.parametrize("size", [(97, 163), (163, 97), (1024, 640), (700, 700), (31, 200), (1023, 1025)])
def test_prepare_equals_segment_anything_to_the_bit(size: tuple[int, int]) -> None:
    image, model = photograph(*size), small_sam()
    resized = ResizeLongestSide(256).apply_image(image)
    wanted = model.preprocess(torch.as_tensor(resized).permute(2, 0, 1)[None])[0]
    prepared = build(PLUGIN, {**SMALL, "weights": "random"}).prepare(image)
    assert torch.equal(prepared.tensor, wanted)
    geometry = prepared.geometry
    assert (geometry.content_height, geometry.content_width) == resized.shape[:2]


@pytest.mark.parametrize("layers", [("blocks.0",), ("blocks.2",), ("blocks.1", "blocks.3"), ("blocks.0", "neck")])
def test_a_partial_pass_equals_the_whole_encoder_exactly(checkpoint: Path, layers: tuple[str, ...]) -> None:
    backbone, whole, outputs = loaded(checkpoint, *layers), small_sam().image_encoder, {}
    prepared = backbone.prepare(photograph(97, 163))
    handles = [
        whole.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: outputs.update({name: output})
        )
        for name in layers
    ]
    with torch.inference_mode():
        whole(prepared.tensor[None])
        maps = backbone.forward(Batch(prepared.tensor[None], [prepared.geometry]), layers)[0]
    for handle in handles:
        handle.remove()
    for name in layers:
        wanted = outputs[name][0] if name == "neck" else outputs[name][0].permute(2, 0, 1)
        assert torch.equal(maps[name].values, wanted), name


def test_blocks_past_the_last_one_asked_for_are_not_built(checkpoint: Path) -> None:
    assert len(loaded(checkpoint, "blocks.1", "blocks.0")._network.blocks) == 2


def test_bfloat16_stays_close(checkpoint: Path) -> None:
    exact, fast = loaded(checkpoint, "neck"), build(PLUGIN, {**SMALL, "weights": checkpoint})
    fast.load(["neck"], CPU, torch.bfloat16)
    prepared = exact.prepare(photograph(97, 163))
    with torch.inference_mode():
        wanted = exact.forward(Batch(prepared.tensor[None], [prepared.geometry]), ["neck"])[0]["neck"].values
        tensor = prepared.tensor[None].to(torch.bfloat16)
        values = fast.forward(Batch(tensor, [prepared.geometry]), ["neck"])[0]["neck"].values
    assert values.dtype == torch.bfloat16
    assert float((values.float() - wanted).norm() / wanted.norm()) < 0.03


def test_an_encoder_alone_and_a_torch_file_load_too(checkpoint: Path, tmp_path: Path) -> None:
    wanted = run(loaded(checkpoint, "neck"), [photograph(97, 163)], ["neck"])[0]["neck"].values
    torch.save(small_sam().image_encoder.state_dict(), tmp_path / "encoder.pth")
    torch.save({"model": small_sam().state_dict()}, tmp_path / "sam.pth")
    for name in ("encoder.pth", "sam.pth"):
        backbone = loaded(tmp_path / name, "neck")
        assert torch.equal(run(backbone, [photograph(97, 163)], ["neck"])[0]["neck"].values, wanted), name
        assert backbone.weights().kind == "file"
        assert backbone.weights().source == name


def test_missing_and_unexpected_keys_are_listed_except_past_the_last_layer(tmp_path: Path) -> None:
    state = dict(small_sam().state_dict())
    del state["image_encoder.blocks.3.mlp.lin1.bias"]
    save_file(state, tmp_path / "cut.safetensors")
    loaded(tmp_path / "cut.safetensors", "blocks.2")
    with pytest.raises(ParameterError, match=r"cut\.safetensors .* missing: blocks\.3\.mlp\.lin1\.bias$"):
        loaded(tmp_path / "cut.safetensors", "neck")
    save_file({**state, "image_encoder.stray": torch.ones(1)}, tmp_path / "stray.safetensors")
    with pytest.raises(ParameterError, match="unexpected: stray"):
        build(PLUGIN, {**SMALL, "weights": tmp_path / "stray.safetensors"}).weights()
    other = {**SMALL, "image_size": 512, "weights": tmp_path / "cut.safetensors"}
    with pytest.raises(ParameterError, match=r"pos_embed \(1, 16, 16, 32\) instead of \(1, 32, 32, 32\)"):
        build(PLUGIN, other).weights()


def test_the_weights_digest_tells_files_and_seeds_apart(checkpoint: Path) -> None:
    kinds = [build(PLUGIN, {**SMALL, "weights": "random"}, seed=seed).weights() for seed in (0, 1)]
    assert kinds[0].digest != kinds[1].digest
    assert build(PLUGIN, {**SMALL, "weights": checkpoint}).weights().digest.startswith("sha256:")


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_the_published_models_have_segment_anythings_own_structure(model: str) -> None:
    backbone = build(PLUGIN, {"model": model, "weights": "random"})
    sizes = PUBLISHED[model].sizes
    assert list(backbone.layers) == [*(f"blocks.{i}" for i in range(sizes.depth)), "neck"]
    assert {layer.channels for layer in backbone.layers.values()} == {sizes.embed_dim, 256}
    assert f"sam_{model}_" in PUBLISHED[model].url
    assert len(bytes.fromhex(PUBLISHED[model].sha256)) == 32


def test_vit_b_has_the_keys_and_shapes_of_the_published_checkpoint() -> None:
    parameters = SamParameters.model_validate({"weights": "random"})
    with torch.device("meta"):
        whole = build_sam_vit_b().image_encoder
        mine = encoder(parameters, 12)
    assert isinstance(mine, ImageEncoderViT)
    shapes = {key: value.shape for key, value in mine.state_dict().items()}
    assert shapes == {key: value.shape for key, value in whole.state_dict().items()}
    assert [block.window_size for block in mine.blocks] == [block.window_size for block in whole.blocks]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"weights": "bundled"}, "no bundled weights"),
        ({"embed_dim": 100, "num_heads": 3, "weights": "random"}, "no multiple of num_heads"),
        ({"depth": 2, "global_attn_indexes": [2], "weights": "random"}, "2 is no block of 2"),
        ({"depth": 2}, "the published vit_b has other sizes"),
        ({"image_size": 100, "weights": "random"}, "multiple of 16"),
        ({"model": "vit_x"}, "vit_b"),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SamParameters.model_validate(parameters)


def test_features_depend_on_the_image() -> None:
    backbone = build(PLUGIN, {**SMALL, "weights": "random"})
    backbone.load(["neck"], CPU, torch.float32)
    first, second = run(backbone, [photograph(97, 163, seed) for seed in (0, 1)], ["neck"])
    assert not np.allclose(first["neck"].values, second["neck"].values)
