"""timm networks: built on the meta device to learn what they can do, then for real, with weights."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import timm
import torch

from probekit.api import ParameterError
from probekit.api.checkpoints import check_keys, seeded
from probekit.api.folding import fold_batch_norms
from probekit_timm.pretrained import pretrained_config
from probekit_timm.taps import Shapes, Size, Tap, find_taps, modules_past, output_shapes

MULTIPLES = (32, 64, 14, 28, 56, 48, 224, 256)
"""What input sizes must be a multiple of, in the order tried: strides, patches of 14, windows of 7 or 8."""

_DYNAMIC: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
"""Arguments by which timm's families take any input size; a family knows at most one."""

FOLD_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Description:
    """What is known of a network without its weights.

    Attributes:
        taps: by module name, in the order of depth.
        multiple: of the input's height and width.
        arguments: of timm.create_model, so that it takes the inputs it will get.
        fixed: the only input size, (height, width); none where any multiple will do.
    """

    taps: Mapping[str, Tap]
    multiple: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fixed: Size | None = None


def check_name(model: str) -> None:
    """Raises ParameterError at ``model`` where timm has no such network or no such tag."""
    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else " (timm.list_models() lists them)"
        raise ParameterError(("model",), f"timm has no model named '{name}'{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ParameterError(("model",), f"{name} has no pretrained tag '{tag}' (it has {', '.join(tags) or 'none'})")


def create_meta(model: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """The network without weights, in evaluation mode."""
    with torch.device("meta"):
        network: torch.nn.Module = timm.create_model(model, pretrained=False, **arguments).eval()
    return network


def describe(model: str, options: Mapping[str, Any], size: Size | None) -> Description:
    """Finds out how a network is tapped.

    Args:
        model: timm's name.
        options: the user's arguments of timm.create_model.
        size: the only input size it will get, or none.

    Raises:
        ParameterError: no such model or option, or the network takes other input sizes than it would get.
    """
    check_name(model)
    try:
        text = json.dumps(dict(options), sort_keys=True)
    except TypeError as error:
        raise ParameterError(("options",), f"not plain values ({error})") from error
    return _describe(model, text, size)


@lru_cache(maxsize=32)
def _describe(model: str, options: str, size: Size | None) -> Description:
    given: dict[str, Any] = json.loads(options)
    try:
        native = create_meta(model, given)
    except Exception as error:
        if not given:
            raise
        raise ParameterError(("options",), f"{model} does not take these options ({error})") from error
    if hasattr(native, "reroll"):
        raise ParameterError(("model",), f"{model} keeps its tokens in another order than the image's: it has no maps")
    for arguments in _DYNAMIC:
        if arguments.keys() & given.keys():
            continue
        try:
            network = create_meta(model, {**given, **arguments}) if arguments else native
        except TypeError:  # this family does not know the argument
            continue
        found = _try_multiples(lambda at, network=network: output_shapes(network, at))
        if found is not None:
            return _for_size(Description(*found, {**given, **arguments}), model, size)
    return _describe_fixed(model, given, size)


def _try_multiples(shapes: Any) -> tuple[Mapping[str, Tap], int] | None:
    """The taps at the first multiple at which every map's cells are a fixed number of pixels, else at the first at
    which the network runs; none where it runs at none."""
    first = None
    for multiple in MULTIPLES:
        result = _try_multiple(shapes, multiple)
        if result is None:
            continue
        taps, failed = result
        if not failed:
            # Padding to the largest stride is enough, where the network runs there and says the same.
            largest = int(max(max(tap.layer.stride) for tap in taps.values()))
            smaller = _try_multiple(shapes, largest) if multiple % largest == 0 and largest < multiple else None
            return (taps, largest) if smaller == (taps, 0) else (taps, multiple)
        first = first or (taps, multiple)
    return first


def _try_multiple(shapes: Any, multiple: int) -> tuple[Mapping[str, Tap], int] | None:
    try:
        taps, failed = find_taps(shapes, multiple)
    except Exception:  # whatever a network raises means that it does not take this size
        return None
    return (taps, failed) if taps else None


def _for_size(description: Description, model: str, size: Size | None) -> Description:
    multiple = description.multiple
    if size is not None and (size[0] % multiple or size[1] % multiple):
        nearest = [-(-side // multiple) * multiple for side in size]
        what = f"{model} takes multiples of {multiple}: {nearest} instead of {list(size)}"
        raise ParameterError(("image_size",), what)
    return description


def _describe_fixed(model: str, given: Mapping[str, Any], size: Size | None) -> Description:
    """For a network that takes one input size, which is chosen when it is built."""
    _, *sides = pretrained_config(model).input_size
    native = int(sides[0]), int(sides[1])

    def shapes(at: Size) -> Shapes:
        return output_shapes(create_meta(model, {**given, "img_size": at}), at)

    try:
        create_meta(model, {**given, "img_size": native})
    except Exception as error:
        what = f"{model} runs at its own input size alone and cannot be built for another: choose another model"
        raise ParameterError(("model",), what) from error
    if size is None:
        what = (
            f"{model} takes one input size: set image_size: [{native[0]}, {native[1]}] (each photograph is fitted into "
            "it, aspect kept, the rest is padding)"
        )
        raise ParameterError(("image_size",), what)
    found = _try_multiples(shapes)
    if found is None:
        what = f"{model} runs at none of the sizes by which maps are told from the rest: choose another model"
        raise ParameterError(("model",), what)
    arguments = {**given, "img_size": list(size)}
    description = _for_size(Description(*found, arguments, size), model, size)
    try:
        output_shapes(create_meta(model, arguments), size)
    except Exception as error:
        raise ParameterError(("image_size",), f"{model} does not run at {list(size)} ({error})") from error
    return description


def unused_modules(model: str, description: Description, layers: Sequence[str]) -> set[str]:
    """Names of the modules past the last of ``layers``, which are neither run nor need weights."""
    network = create_meta(model, description.arguments)
    size = description.fixed or (8 * description.multiple, 8 * description.multiple)
    return modules_past(network, layers, size)


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def check_weights(
    model: str, description: Description, layers: Sequence[str], found: Mapping[str, Any], name: str
) -> None:
    """Raises ParameterError at ``weights`` unless ``found`` holds what the network needs up to the last layer."""
    state = create_meta(model, description.arguments).state_dict()
    unused = unused_modules(model, description, layers)
    wanted = {key: tensor for key, tensor in state.items() if _owner(key) not in unused}
    check_keys(wanted, found, name=name, known=state.keys())


def build(
    model: str,
    description: Description,
    layers: Sequence[str],
    seed: int,
    tensors: Mapping[str, torch.Tensor] | None = None,
    **pretrained: Any,
) -> torch.nn.Module:
    """The network with weights, in evaluation mode, float32, on the CPU; modules past the last layer are gone.

    Args:
        model: timm's name.
        description: of it.
        layers: the taps that will be read.
        seed: of the initialisation, which stays where no weights are given.
        tensors: the state dict, checked before; keys of modules past the last layer may be missing or strange.
        pretrained: given to timm.create_model instead of ``tensors``: timm's own loading.
    """
    with seeded(seed):
        network: torch.nn.Module = timm.create_model(model, **description.arguments, **pretrained)
    network = network.eval().requires_grad_(False)
    unused = unused_modules(model, description, layers)
    if tensors is not None:
        state = network.state_dict()
        used = {key: tensors[key] for key in state if _owner(key) not in unused}
        network.load_state_dict(used, strict=False)
    for name in sorted(unused, key=len):  # parents first; their children go with them
        parent, _, child = name.rpartition(".")
        if not any(name.startswith(f"{gone}.") for gone in unused):
            setattr(network.get_submodule(parent), child, torch.nn.Identity())
    return network


def folded(network: torch.nn.Module, layers: Sequence[str], size: Size) -> tuple[torch.nn.Module, float]:
    """The network with each BatchNorm folded into the convolution before it, and its relative error at the worst tap.

    Checked on one image of noise. Where folding is not exact (a family that uses a convolution's output or weights in
    its own way) the network comes back as it was, with a warning and an error of 0.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *size, generator=generator)
    plain = copy.deepcopy(network)
    taps = {name: network.get_submodule(name) for name in layers}
    try:
        with torch.no_grad():
            error = fold_batch_norms(
                network, lambda: network(image), taps, (torch.nn.BatchNorm2d,), _activation, FOLD_TOLERANCE
            )
    except RuntimeError as problem:
        warnings.warn(f"BatchNorm is left as it is: {problem}", stacklevel=2)
        return plain, 0.0
    return network, error


def _activation(norm: torch.nn.Module) -> torch.nn.Module:
    """timm's BatchNormAct2d ends with an activation, which stays."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, torch.nn.Module) else torch.nn.Identity()
