"""BatchNorm folded into the convolution before it: the same numbers for less work.

Torch is imported inside the functions: importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from probekit.api.taps import read_taps

if TYPE_CHECKING:
    import torch


def fold_batch_norm(conv: torch.nn.Conv2d, norm: Any) -> None:
    """Makes ``conv`` compute what ``norm(conv(x))`` computes in evaluation mode; the caller then removes ``norm``.

    Args:
        conv: changed in place (its bias is made where there is none).
        norm: anything with ``weight``, ``bias``, ``running_mean``, ``running_var`` and ``eps``: BatchNorm2d or
            FrozenBatchNorm2d; a weight or bias of none is 1 or 0.
    """
    import torch

    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    bias = -mean if conv.bias is None else conv.bias.detach().double() - mean
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias.detach().double()
    weight = conv.weight.detach().double() * scale[:, None, None, None]
    conv.weight = torch.nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = torch.nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


def fold_batch_norms(
    network: torch.nn.Module,
    call: Callable[[], Any],
    taps: Mapping[str, torch.nn.Module],
    norms: tuple[type[torch.nn.Module], ...],
    remainder: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    tolerance: float = 1e-4,
) -> float:
    """Folds every norm that directly follows a convolution into it, in place, and checks that the taps say the same.

    Which norm follows which convolution is seen by running ``call``: a norm whose input is a convolution's output. A
    pair of which one is a tap, or runs more than once, is left alone.

    Args:
        network: holds the modules; in evaluation mode.
        call: runs the network on one small batch under ``torch.no_grad``; called twice.
        taps: name -> module whose output must stay what it is.
        norms: the classes to fold.
        remainder: what stands in a folded norm's place, made from it; the identity by default.
        tolerance: of the relative error (root mean square) at each tap.

    Returns:
        the largest relative error of a tap.

    Raises:
        RuntimeError: the folded network says something else: a bug.
    """
    import torch

    outputs: dict[int, tuple[torch.nn.Conv2d, Any]] = {}
    pairs: dict[torch.nn.Module, torch.nn.Conv2d] = {}
    calls: dict[torch.nn.Module, int] = {}

    def after_conv(module: torch.nn.Conv2d, _inputs: Any, output: Any) -> None:
        outputs[id(output)] = (module, output)  # the output is kept, so that its id stays its own
        calls[module] = calls.get(module, 0) + 1

    def before_norm(module: torch.nn.Module, inputs: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if id(inputs[0]) in outputs:
            pairs[module] = outputs[id(inputs[0])][0]

    handles = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            handles.append(module.register_forward_hook(after_conv))
        elif isinstance(module, norms):
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        before = {name: value.clone() for name, value in read_taps(taps, call).items()}
    finally:
        for handle in handles:
            handle.remove()
    outputs.clear()
    tapped = set(taps.values())
    convs = list(pairs.values())
    folded = {}
    for norm, conv in pairs.items():
        if {conv, norm} & tapped or calls[conv] > 1 or calls[norm] > 1 or convs.count(conv) > 1:
            continue
        fold_batch_norm(conv, norm)
        folded[norm] = torch.nn.Identity() if remainder is None else remainder(norm)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, folded[child])
    worst = 0.0
    for name, value in read_taps(taps, call).items():
        error = float((value - before[name]).norm() / before[name].norm().clamp_min(1e-30))
        worst = max(worst, error)
    if not worst <= tolerance:
        raise RuntimeError(f"folding the norms changed the features: relative error {worst:.1e}")
    return worst
