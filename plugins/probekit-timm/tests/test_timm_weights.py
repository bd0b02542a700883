"""Where weights come from, and what is said where they do not fit."""

import subprocess
import sys

import pytest
import timm
import torch
from probekit_timm import backbone as adapter
from probekit_timm.bundled import BUNDLED, FOLDER, bundled_path, read_bundled
from probekit_timm.make_bundled import integers, quantise
from probekit_timm.networks import create_meta, folded
from probekit_timm.plugin import TIMM
from probekit_timm.taps import modules_past
from safetensors.torch import load_file, save_file

from probekit.api import ParameterError
from probekit.testing.backbones import CPU, build, photograph, run

SAME = {"mean": [0.5] * 3, "std": [0.5] * 3, "options": {"pad_type": "same"}}


def features(backbone, layer):
    backbone.load([layer], CPU, torch.float32)
    return run(backbone, [photograph(97, 131)], [layer])[0][layer].values


@pytest.mark.shared
@pytest.mark.parametrize("model", BUNDLED)
def test_bundled_weights_are_the_float32_files_bit_for_bit_up_to_the_cut(shared, model):
    original = load_file(shared / "weights" / f"{model}.safetensors")
    bundled = read_bundled(bundled_path(model))
    past = modules_past(create_meta(model, {}), [BUNDLED[model].cut], (256, 256))
    assert bundled.keys() == {name for name in original if name.rpartition(".")[0] not in past}
    assert all(torch.equal(original[name], tensor) for name, tensor in bundled.items())
    assert {tensor.dtype for tensor in bundled.values()} == {torch.float32, torch.int64}


@pytest.mark.shared
@pytest.mark.parametrize("model", BUNDLED)
def test_bundled_features_are_those_of_the_float32_files(shared, model):
    cut = BUNDLED[model].cut
    file = shared / "weights" / f"{model}.safetensors"
    ours = features(build(TIMM, {"model": model, "weights": "bundled"}), cut)
    assert torch.equal(ours, features(build(TIMM, {"model": model, "weights": file, **SAME}), cut))
    # and those of timm itself, unfolded
    overlay = {"file": str(file)}
    plain = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, pad_type="same").eval()
    image = torch.zeros(1, 3, 128, 160)
    image[0, :, :97, :131] = torch.from_numpy(photograph(97, 131)).permute(2, 0, 1) / 127.5 - 1
    with torch.no_grad():
        theirs = plain.forward_intermediates(image, indices=None, intermediates_only=True)
    theirs = next(map_[0] for map_ in theirs if map_.shape[1:] == ours.shape)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_the_bundled_files_are_small_and_carry_their_licence():
    assert bundled_path("mobilenetv1_100").stat().st_size < 1.7e6
    assert bundled_path("mobilenetv2_100").stat().st_size < 0.65e6
    assert "Apache License" in (FOLDER / "LICENSE-Apache-2.0").read_text()
    assert "Changed" in (FOLDER / "NOTICE").read_text()


def test_integers_are_found_again_and_nothing_else_is_taken_for_them():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-103, 152, (6, 4, 3, 3), generator=generator)
    scales = torch.rand(6, generator=generator)
    for scale in (scales[:1], scales):
        wide = whole if len(scale) == 1 else whole.clamp(-127, 127)
        tensor = wide.float() * scale.view(-1, 1, 1, 1)
        values, found, zero_point = quantise(tensor)
        again = (values.to(torch.int16) - zero_point.to(torch.int16)).float() * found.view(-1, 1, 1, 1)
        assert values.dtype == torch.uint8
        assert torch.equal(again, tensor)
    assert quantise(torch.randn(6, 4, 3, 3, generator=generator)) is None
    assert integers(torch.zeros(5).numpy())[0].tolist() == [0] * 5


def test_another_model_or_layer_than_the_bundled_ones_is_an_error_that_says_so():
    with pytest.raises(ParameterError, match="mobilenetv1_100, mobilenetv2_100") as caught:
        build(TIMM, {"model": "resnet18", "weights": "bundled"})
    assert caught.value.path == ("weights",)
    backbone = build(TIMM, {"model": "mobilenetv1_100", "weights": "bundled"})
    assert list(backbone.layers)[-1] == "blocks.3"
    with pytest.raises(ParameterError, match="bundled weights of mobilenetv1_100 end with blocks"):
        backbone.layers["blocks.4"]
    for layer, message in (("blocks.4", "past the cut"), ("blocks.99", "is not a layer")):
        with pytest.raises(ParameterError, match=message) as caught:
            backbone.load(["blocks.2", layer], CPU, torch.float32)
        assert caught.value.path == ("layers", 1)


def test_a_local_file_needs_only_what_runs(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    file = tmp_path / "mine.safetensors"
    save_file({name: tensor for name, tensor in state.items() if not name.startswith(("layer4", "fc"))}, file)
    parameters = {"model": "test_resnet", "weights": file}
    backbone = build(TIMM, parameters)
    assert backbone.weights().kind == "file"
    assert backbone.weights().source == "mine.safetensors"
    once = features(backbone, "layer3")
    torch.save(state, tmp_path / "whole.pth")
    assert torch.equal(once, features(build(TIMM, {**parameters, "weights": tmp_path / "whole.pth"}), "layer3"))
    with pytest.raises(ParameterError, match=r"mine.safetensors does not fit this network; missing: layer4"):
        backbone.load(["layer4"], CPU, torch.float32)
    save_file({**state, "stray": torch.ones(1)}, file)
    with pytest.raises(ParameterError, match="unexpected: stray"):
        backbone.load(["layer1"], CPU, torch.float32)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"weight": torch.ones(1), "hook": subprocess.Popen}, tmp_path / "evil.pth")
    backbone = build(TIMM, {"model": "test_resnet", "weights": tmp_path / "evil.pth"})
    with pytest.raises(ParameterError, match="refused: loading it would run code"):
        backbone.load(["layer1"], CPU, torch.float32)


def test_pretrained_weights_are_timms_own_file(tmp_path, monkeypatch):
    torch.manual_seed(3)
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(adapter, "pretrained_file", lambda model: (tmp_path / "model.safetensors", f"hub/{model}"))
    backbone = build(TIMM, {"model": "test_resnet"})
    info = backbone.weights()
    assert (info.kind, info.source) == ("pretrained", "hub/test_resnet")
    assert info.digest.startswith("sha256:")
    alike = build(TIMM, {"model": "test_resnet", "weights": tmp_path / "model.safetensors"})
    assert torch.equal(features(backbone, "layer2"), features(alike, "layer2"))


def test_without_a_network_pretrained_weights_are_one_line(monkeypatch, tmp_path):
    from probekit_timm import pretrained

    def unreachable(*_arguments, **_options):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(pretrained, "hf_hub_download", unreachable)
    with pytest.raises(ParameterError, match="no route to host") as caught:
        build(TIMM, {"model": "test_resnet"}).weights()
    assert "\n" not in caught.value.what


@pytest.mark.parametrize(
    ("parameters", "path", "message"),
    [
        ({"model": "resnet81"}, ("model",), "did you mean 'resnet"),
        ({"model": "resnet18.nonsense"}, ("model",), "no pretrained tag 'nonsense'"),
        ({"model": "test_resnet", "options": {"nonsense": 1}}, ("options",), "does not take these options"),
        ({"model": "test_vit_relpos"}, ("image_size",), r"set image_size: \[160, 160\]"),
        ({"model": "test_resnet", "image_size": [100, 128]}, ("image_size",), r"\[128, 128\] instead of \[100, 128\]"),
        ({"model": "test_resnet", "std": [0.5, 0.0, 0.5]}, ("std",), "must be positive"),
        ({"model": "hiera_tiny_224"}, ("model",), "another order"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(parameters, path, message):
    with pytest.raises(ParameterError, match=message) as caught:
        build(TIMM, {"weights": "random", **parameters})
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("model", "family"),
    [("mobilenetv1_100", "mobilenet"), ("tf_mobilenetv3_small_075", "mobilenet"), ("samvit_base_patch16", "sam")],
)
def test_families(model, family):
    assert build(TIMM, {"model": model, "weights": "random"}).family == family


@pytest.mark.parametrize(
    ("size", "content"), [("native", (97, 163)), (60, (36, 60)), (326, (194, 326)), ([64, 64], (38, 64))]
)
def test_image_size(size, content):
    backbone = build(TIMM, {"model": "test_resnet", "weights": "random", "image_size": size})
    prepared = backbone.prepare(photograph(97, 163))
    geometry = prepared.geometry
    assert (geometry.content_height, geometry.content_width) == content
    assert prepared.tensor[:, content[0] :].abs().sum() == prepared.tensor[:, :, content[1] :].abs().sum() == 0


def test_folding_is_exact_and_is_left_where_it_is_not():
    backbone = build(TIMM, {"model": "mobilenetv2_100", "weights": "bundled"})
    backbone.load(["blocks.1.0.bn1", "blocks.4"], CPU, torch.float32)
    assert 0 < backbone.fold_error < 1e-5

    class Reuses(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.end = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3), torch.nn.Identity()
            self.norm.running_mean += 1

        def forward(self, x):
            x = self.conv(x)
            return self.end(x + self.norm(x))

    network = Reuses().eval().requires_grad_(False)
    image = torch.randn(1, 3, 8, 8)
    with pytest.warns(UserWarning, match="BatchNorm is left as it is"):
        kept, error = folded(network, ["end"], (8, 8))
    assert error == 0
    assert isinstance(kept.norm, torch.nn.BatchNorm2d)
    assert kept(image).isfinite().all()


def test_the_plugin_imports_nothing_heavy():
    code = "import sys, probekit_timm.plugin; print([m for m in ('torch', 'timm', 'PIL') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
