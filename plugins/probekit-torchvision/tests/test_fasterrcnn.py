"""torchvision's Faster R-CNN as a backbone: its own transform, its own numbers, no head and no more than asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import pytest
import torch
from probekit_torchvision.backbone import FasterRCNN
from probekit_torchvision.networks import norm_eps
from probekit_torchvision.parameters import FasterRCNNParameters, Model
from probekit_torchvision.plugin import probekit_backbones
from pydantic import ValidationError
from torchvision.models import get_model
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.transforms.functional import to_tensor

from probekit.api import ParameterError
from probekit.features.offset import measure_offset
from probekit.testing.backbones import BackboneContract, build, photograph, run

PLUGIN = probekit_backbones()[0]
CPU = torch.device("cpu")
MODELS = get_args(Model)
RESNET, MOBILE = "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"
SIDE, LARGE, SHORT = 160, 320, 97


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and threads that wait for each other on a busy machine cost much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def strided(stride: int, side: int = SIDE) -> tuple[float, float]:
    """What convolutions that halve a map with padding on both sides are off by, before training: cell i of stride s
    looks at input pixel s i, where its centre lies at s i + (s - 1) / 2 more. In original pixels."""
    offset = (stride - 1) / 2 * SHORT / side
    return (offset, offset)


class TestResNet(BackboneContract):
    plugin = PLUGIN
    parameters: ClassVar = {"model": RESNET, "weights": "random", "min_size": SIDE, "max_size": 2000}
    taps = ("body.conv1", "body.bn1", "body.layer1", "body.layer3", "body.layer4", "fpn.1", "fpn.pool")
    edits = taps[:-1]
    sizes = ((SHORT, 163), (163, SHORT))
    # Before training the coarse maps drown the fine ones in the pyramid: its geometry is measured below.
    impulse_taps = ("body.layer1", "body.layer3", "body.layer4")
    own_offset: ClassVar = {"body.layer1": strided(4), "body.layer3": strided(16), "body.layer4": strided(32)}


class TestMobileNet(BackboneContract):
    plugin = PLUGIN
    parameters: ClassVar = {"model": MOBILE, "weights": "random", "min_size": LARGE, "max_size": 2000}
    taps = ("body.0", "body.6", "body.12", "body.16", "fpn.0", "fpn.1", "fpn.pool")
    edits = (*taps[:4], "fpn.1")
    sizes = ((SHORT, 163), (163, SHORT))
    own_offset: ClassVar = {
        name: strided(stride, LARGE) for name, stride in zip(taps, (2, 8, 16, 32, 32, 32, 32), strict=True)
    }


@cache
def detector(model: str) -> torch.nn.Module:
    """A whole detector with norms that do something."""
    torch.manual_seed(0)
    network = get_model(model, weights=None, weights_backbone=None, min_size=64, max_size=160).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.eps = norm_eps(FasterRCNNParameters.model_validate({"model": model}))
    return network.requires_grad_(False)


def small(model: str, weights: object) -> FasterRCNN:
    return build(PLUGIN, {"model": model, "weights": weights, "min_size": 64, "max_size": 160})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.save(detector(MOBILE).state_dict(), tmp_path_factory.mktemp("weights") / "mobile.pth")
    return next(tmp_path_factory.getbasetemp().glob("weights*/mobile.pth"))


@pytest.mark.parametrize("size", [(97, 163), (163, 97), (33, 201), (640, 480), (47, 47)])
@pytest.mark.parametrize("model", [RESNET, MOBILE])
def test_prepare_is_the_models_own_transform(model: str, size: tuple[int, int]) -> None:
    image = photograph(*size)
    given = {} if model == MOBILE else {"min_size": 192, "max_size": 321}
    network = get_model(model, weights=None, weights_backbone=None, **given).eval()
    images, _ = network.transform([to_tensor(image)])
    prepared = build(PLUGIN, {"model": model, "weights": "random", **given}).prepare(image)
    assert torch.equal(prepared.tensor, images.tensors[0])
    assert (prepared.geometry.content_height, prepared.geometry.content_width) == images.image_sizes[0]
    assert (prepared.geometry.input_height, prepared.geometry.input_width) == images.tensors.shape[2:]


@pytest.mark.parametrize("model", MODELS)
def test_features_are_those_of_torchvisions_backbone(model: str, tmp_path: Path) -> None:
    network, image = detector(model), photograph(49, 81)
    kept = {key: value for key, value in network.state_dict().items() if key.startswith("backbone.")}
    torch.save(kept, tmp_path / "w.pth")
    backbone = small(model, tmp_path / "w.pth")
    body = [name for name in backbone.layers if name.startswith("body.")]
    layers = [body[0], body[-1], *(name for name in backbone.layers if name.startswith("fpn."))]
    backbone.load(layers, CPU, torch.float32)
    maps = run(backbone, [image], layers)[0]
    tensor = backbone.prepare(image).tensor[None]
    wanted = {f"fpn.{key}": value for key, value in network.backbone(tensor).items()}
    x = tensor
    for name, child in network.backbone.body.named_children():
        x = child(x)
        wanted[f"body.{name}"] = x.clone()
    for name in layers:
        error = (maps[name].values - wanted[name][0]).norm() / wanted[name].norm()
        assert float(error) < 1e-5, f"{name}: {float(error):.1e}"


def test_every_child_of_the_body_can_be_tapped_at_once_and_none_sees_what_comes_after() -> None:
    backbone = small(RESNET, "random")
    body = [name for name in backbone.layers if name.startswith("body.")]
    assert body == [
        f"body.{name}" for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    ]
    backbone.load(body, CPU, torch.float32)
    maps = run(backbone, [photograph(49, 81)], body)[0]
    assert float(maps["body.bn1"].values.min()) < 0
    torch.testing.assert_close(maps["body.relu"].values, maps["body.bn1"].values.relu())


def test_norms_are_folded_away_and_what_is_not_asked_for_is_not_built(checkpoint: Path) -> None:
    backbone = small(MOBILE, checkpoint)
    backbone.load(["body.3"], CPU, torch.float32)
    trunk = backbone._trunk
    kinds = (torch.nn.BatchNorm2d, FrozenBatchNorm2d)
    assert not any(isinstance(module, kinds) for module in trunk.modules())
    assert trunk.fpn is None
    assert len(trunk.body) == 4
    assert list(run(backbone, [photograph(49, 81)], ["body.3"])[0]) == ["body.3"]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_each_level_of_the_pyramid_lies_where_its_own_layer_does(level: int) -> None:
    """With the way from the coarser levels cut, an impulse comes back within half a cell of its cell."""
    side = LARGE if level == 3 else SIDE  # enough cells for the border not to matter
    backbone = build(PLUGIN, {"weights": "random", "min_size": side, "max_size": 2000})
    name = f"fpn.{level}"
    backbone.load([name], CPU, torch.float32)
    for other in {0, 1, 2, 3} - {level}:
        backbone._trunk.get_submodule(f"fpn.inner_blocks.{other}.0").weight.zero_()
    measured = measure_offset(backbone, [name], photograph(SHORT, 101), CPU, torch.float32)[name]
    own = np.array(strided(4 * 2**level, side))
    assert float(np.abs((measured.deviations - own) / measured.cell).max()) <= 0.5


@pytest.mark.parametrize("size", [(64, 64), (64, 90), (120, 64), (64, 158)])
def test_the_pools_cells_are_every_second_cell_of_the_coarsest_map(size: tuple[int, int]) -> None:
    backbone = small(MOBILE, "random")
    backbone.load(["fpn.1", "fpn.pool"], CPU, torch.float32)
    maps = run(backbone, [photograph(*size)], ["fpn.1", "fpn.pool"])[0]
    fine, pool = maps["fpn.1"], maps["fpn.pool"]
    assert torch.equal(pool.values, fine.values[:, ::2, ::2])
    for centers, rows in (("centers_x", "columns"), ("centers_y", "rows")):
        wanted = getattr(fine.grid.to_pixels, centers)(getattr(fine.grid, rows))[::2]
        np.testing.assert_allclose(getattr(pool.grid.to_pixels, centers)(getattr(pool.grid, rows)), wanted)
    np.testing.assert_array_equal(pool.grid.valid, fine.grid.valid[::2, ::2])


def test_files_of_other_torchvisions_and_bare_backbones_load(checkpoint: Path, tmp_path: Path) -> None:
    image, state = photograph(49, 81), detector(MOBILE).state_dict()
    reference = small(MOBILE, checkpoint)
    reference.load(["fpn.0"], CPU, torch.float32)
    wanted = run(reference, [image], ["fpn.0"])[0]["fpn.0"].values
    forms = {
        "bare": {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")},
        "frozen": {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
        "old": {key.replace("blocks.0.0.", "blocks.0.").replace("blocks.1.0.", "blocks.1."): value
                for key, value in state.items()},
    }  # fmt: skip
    for name, form in forms.items():
        torch.save(form, tmp_path / f"{name}.pth")
        backbone = small(MOBILE, tmp_path / f"{name}.pth")
        assert backbone.weights().source == f"{name}.pth"
        backbone.load(["fpn.0"], CPU, torch.float32)
        assert torch.equal(run(backbone, [image], ["fpn.0"])[0]["fpn.0"].values, wanted), name


def test_missing_and_unexpected_keys_are_listed_except_heads_and_past_the_last_layer(tmp_path: Path) -> None:
    state = dict(detector(MOBILE).state_dict())
    del state["backbone.body.9.block.0.0.weight"]
    torch.save(state, tmp_path / "cut.pth")
    small(MOBILE, tmp_path / "cut.pth").load(["body.8"], CPU, torch.float32)
    with pytest.raises(ParameterError, match=r"missing: body\.9\.block\.0\.0\.weight$"):
        small(MOBILE, tmp_path / "cut.pth").load(["body.12"], CPU, torch.float32)
    torch.save({**state, "neck.weight": torch.ones(1)}, tmp_path / "stray.pth")
    with pytest.raises(ParameterError, match=r"unexpected: neck\.weight$"):
        small(MOBILE, tmp_path / "stray.pth").weights()


def test_bfloat16_is_close_and_only_when_asked(checkpoint: Path) -> None:
    image, values = photograph(97, 163), []
    for dtype in (torch.float32, torch.bfloat16):
        backbone = small(MOBILE, checkpoint)
        backbone.load(["body.6"], CPU, dtype)
        prepared = backbone.prepare(image)
        assert prepared.tensor.dtype == torch.float32
        assert {parameter.dtype for parameter in backbone._trunk.parameters()} == {dtype}
        x = prepared.tensor[None].to(dtype)
        with torch.inference_mode():
            batch = type("B", (), {"tensor": x, "geometry": [prepared.geometry]})
            values.append(backbone.forward(batch, ["body.6"])[0]["body.6"].values)
    assert values[1].dtype == torch.bfloat16
    assert float((values[1].float() - values[0]).norm() / values[0].norm()) < 0.05


def test_pretrained_weights_are_torchvisions_own_file(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    asked = []
    monkeypatch.setattr(
        "probekit_torchvision.networks.fetch", lambda url, sha256: asked.append((url, sha256)) or checkpoint
    )
    for model in MODELS:
        info = small(model, "pretrained").weights()
        assert (info.kind, info.source) == ("pretrained", asked[-1][0])
        assert asked[-1][0].endswith(f"-{asked[-1][1]}.pth")
        assert len(asked[-1][1]) == 8
        assert model.split("_fpn")[0] in asked[-1][0]


def test_parameters_that_cannot_work_are_refused() -> None:
    for parameters in ({"weights": "bundled"}, {"model": "fasterrcnn_resnet18"}, {"min_size": 0}):
        with pytest.raises(ValidationError):
            FasterRCNNParameters.model_validate(parameters)


def test_the_family_names_the_body() -> None:
    families = [build(PLUGIN, {"model": model, "weights": "random"}).family for model in MODELS]
    assert families == ["faster-rcnn-resnet50"] * 2 + ["faster-rcnn-mobilenet-v3"] * 2
