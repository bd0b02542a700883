"""torchvision's detectors without their heads: layers, weights, and BatchNorm folded away."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from probekit.api import Layer, WeightsInfo, read_taps
from probekit.api.checkpoints import check_keys, fetch, file_digest, random_digest, read_state_dict, seeded
from probekit.api.folding import fold_batch_norms
from probekit_torchvision.parameters import FasterRCNNParameters

_COUNTER = "num_batches_tracked"  # BatchNorm2d has it, FrozenBatchNorm2d does not; no evaluation reads it

POOL = "fpn.pool"
"""Every second cell of the coarsest map."""


class Trunk(torch.nn.Module):
    """A detector's body, and its feature pyramid where a layer of it is asked for.

    Args:
        backbone: torchvision's BackboneWithFPN.
        layers: what is asked for; body children past the last one (all, where the pyramid is asked for) are left out.
    """

    def __init__(self, backbone: torch.nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        pyramid = any(name.startswith("fpn.") for name in layers)
        children = list(backbone.get_submodule("body").named_children())
        if not pyramid:
            last = max(i for i, (name, _) in enumerate(children) if f"body.{name}" in layers)
            children = children[: last + 1]
        for _, child in children:
            if isinstance(getattr(child, "inplace", None), bool):
                # Else a tap on the child before it would see what comes after.
                child.inplace = False  # type: ignore[assignment]
        self.body = backbone.get_submodule("body") if pyramid else torch.nn.Sequential(OrderedDict(children))
        self.fpn = backbone.get_submodule("fpn") if pyramid else None

    def forward(self, x: torch.Tensor) -> object:
        """The pyramid's maps by key, or the last body child's output."""
        x = self.body(x)
        return x if self.fpn is None else self.fpn(x)

    def taps(self, layers: Sequence[str]) -> dict[str, torch.nn.Module]:
        """The modules to read for ``layers``: body children, the pyramid's last convolutions, and the whole pyramid for
        ``fpn.pool``, which no module of its own puts out."""
        return {name: self._module(name) for name in layers}

    def _module(self, name: str) -> torch.nn.Module:
        if name == POOL:
            return self.get_submodule("fpn")
        return self.get_submodule(re.sub(r"^fpn\.", "fpn.layer_blocks.", name))


def detector(parameters: FasterRCNNParameters) -> torch.nn.Module:
    """The whole detector as torchvision builds it, in evaluation mode, with the weights it starts from."""
    sizes = {"min_size": parameters.min_size, "max_size": parameters.max_size}
    given = {name: size for name, size in sizes.items() if size is not None}
    model: torch.nn.Module = get_model(parameters.model, weights=None, weights_backbone=None, **given)
    return model.eval().requires_grad_(False)


def norm_eps(parameters: FasterRCNNParameters) -> float:
    """The eps of every norm: torchvision sets it to zero for the COCO weights of ``fasterrcnn_resnet50_fpn``."""
    if parameters.norm_eps is not None:
        return parameters.norm_eps
    return 0.0 if parameters.model == "fasterrcnn_resnet50_fpn" else 1e-5


def describe(parameters: FasterRCNNParameters) -> tuple[dict[str, Layer], GeneralizedRCNNTransform]:
    """The layers (seen on the meta device) and the model's own transform."""
    side = 256
    with torch.device("meta"):
        model = detector(parameters)
        backbone = model.get_submodule("backbone")
        children = [name for name, _ in backbone.get_submodule("body").named_children()]
        trunk = Trunk(backbone, [*(f"body.{name}" for name in children), "fpn.0"])
        taps = {f"body.{name}": trunk.body.get_submodule(name) for name in children}
        outputs = read_taps(
            {**taps, "fpn": backbone.get_submodule("fpn")}, lambda: trunk(torch.zeros(1, 3, side, side))
        )
    pyramid = outputs.pop("fpn")
    maps = {**outputs, **{f"fpn.{key}": value for key, value in pyramid.items()}}
    layers = {
        name: Layer(value.shape[1], (side / value.shape[2], side / value.shape[3])) for name, value in maps.items()
    }
    return layers, model.transform


def find_weights(parameters: FasterRCNNParameters, seed: int) -> tuple[WeightsInfo, Path | None]:
    """Where the weights come from, and the file that holds them (none for random ones); downloads what is missing."""
    if parameters.weights == "random":
        return WeightsInfo("random", random_digest(seed, "torchvision"), f"{parameters.model}, random"), None
    if isinstance(parameters.weights, Path):
        path = parameters.weights
        return WeightsInfo("file", file_digest(path), path.name), path
    url = get_model_weights(parameters.model).COCO_V1.url
    # torchvision's file names end in the first digits of their sha256.
    path = fetch(url, url.rsplit("-", 1)[-1].removesuffix(".pth"))
    return WeightsInfo("pretrained", file_digest(path), url), path


def load_trunk(
    parameters: FasterRCNNParameters, path: Path | None, seed: int, layers: Sequence[str], *, dry: bool = False
) -> Trunk:
    """The trunk up to the last of ``layers`` with its weights, float32, on the CPU, norms not yet folded.

    Args:
        path: the file; none: random weights, drawn from ``seed``. They do not depend on ``layers``.
        dry: only check that the file fits.

    Raises:
        ParameterError: at ``weights``: the file cannot be read or does not fit.
    """
    if path is None:
        with seeded(seed):
            trunk = Trunk(detector(parameters).get_submodule("backbone"), layers)
    else:
        with torch.device("meta"):
            backbone = detector(parameters).get_submodule("backbone")
            known = set(backbone.state_dict())
            trunk = Trunk(backbone, layers)
        state = _trunk_keys(read_state_dict(path))
        wanted = {key: value for key, value in trunk.state_dict().items() if not key.endswith(_COUNTER)}
        check_keys(wanted, state, name=path.name, known=known)
        if not dry:
            trunk.to_empty(device="cpu")
            trunk.load_state_dict({key: state[key] for key in wanted}, strict=False)
    for norm in _norms(trunk):
        norm.eps = norm_eps(parameters)
    return trunk.eval().requires_grad_(False)


def _trunk_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trunk's tensors of a detector's or a trunk's state dict; what belongs to neither stays, to be listed."""
    kept = {
        key.removeprefix("backbone."): value
        for key, value in state.items()
        if not key.startswith(("rpn.", "roi_heads.")) and not key.endswith(_COUNTER)
    }
    # Until torchvision 0.13 the pyramid's convolutions stood one level higher.
    return {re.sub(r"^(fpn\.\w+_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", key): value for key, value in kept.items()}


def _norms(trunk: Trunk) -> Iterator[torch.nn.BatchNorm2d]:
    return (module for module in trunk.modules() if isinstance(module, torch.nn.BatchNorm2d))


def fold(trunk: Trunk, layers: Sequence[str]) -> float:
    """Folds the trunk's norms into its convolutions, checked on one image of noise; the largest relative error."""
    with seeded(0), torch.no_grad():
        image = torch.randn(1, 3, 96, 128)
        # The pyramid's finest map has passed through every block.
        pyramid = ["fpn.0"] if trunk.fpn is not None else []
        taps = trunk.taps([*(name for name in layers if name.startswith("body.")), *pyramid])
        return fold_batch_norms(trunk, lambda: trunk(image), taps, (torch.nn.BatchNorm2d,))
