"""Which modules of a network can be tapped, and how their outputs lie: found by running it on the meta device.

No table of architectures: the network runs without weights at a few input sizes, and the sizes of what its modules put
out say which dimensions are rows, columns or tokens, and how many input pixels make a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch

from probekit.api import Layer

Size = tuple[int, int]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_MAX_PREFIX = 16
_NOTHING = (torch.nn.Identity, torch.nn.Dropout, torch.nn.Dropout2d)
"""Modules that put out what they are given; their neighbours can be tapped."""


@dataclass(frozen=True)
class Tap:
    """A tap-able module.

    Attributes:
        layer: what a spec sees of it.
        prefix: tokens before the grid's (class, registers), to be stripped.
    """

    layer: Layer
    prefix: int = 0


def output_shapes(network: torch.nn.Module, size: Size) -> Shapes:
    """Shapes of what each module puts out at its first call, in the order in which the calls end; outputs that are no
    single tensor are left out. The network lies on the meta device."""
    shapes: dict[str, Shape] = {}

    def keep(name: str) -> Callable[[object, object, object], None]:
        def hook(_module: object, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                shapes.setdefault(name, tuple(output.shape))

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in network.named_modules()
        if name and not isinstance(module, _NOTHING)
    ]
    run = getattr(network, "forward_features", network)
    try:
        with torch.no_grad():
            run(torch.zeros(1, 3, *size, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def find_taps(shapes: Callable[[Size], Shapes], multiple: int) -> tuple[Mapping[str, Tap], int]:
    """The tap-able modules, by comparing input sizes: rows change with the height alone, columns with the width alone,
    tokens with both; a fourth size checks what the first three say.

    Args:
        shapes: of all outputs at an input size; whatever it raises is passed on.
        multiple: the input sizes tried are multiples of it.

    Returns:
        the taps, and how many modules looked like one but failed the check (their cells are no fixed number of pixels).
    """
    height, width = 5 * multiple, 7 * multiple
    sizes = ((height, width), (height + multiple, width), (height, width + multiple))
    plain, taller, wider = (shapes(size) for size in sizes)
    check = (height + 2 * multiple, width + 3 * multiple)
    checked = shapes(check)
    found, failed = {}, 0
    for name, shape in plain.items():
        others = (taller.get(name, ()), wider.get(name, ()), checked.get(name, ()))
        if any(len(other) != len(shape) for other in others):
            continue
        tap = _grid_tap(shape, *others, multiple) or _token_tap(shape, *others, (height, width), check, multiple)
        if isinstance(tap, Tap):
            found[name] = tap
        failed += tap is False
    return found, failed


def _changed(a: Shape, b: Shape) -> list[int]:
    return [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


def _grid_tap(plain: Shape, taller: Shape, wider: Shape, checked: Shape, multiple: int) -> Tap | bool | None:
    by_height, by_width = _changed(plain, taller), _changed(plain, wider)
    if len(plain) != 4 or (by_height, by_width) not in (([2], [3]), ([1], [2])):
        return None
    rows, columns = by_height[0], by_width[0]
    more_rows, more_columns = taller[rows] - plain[rows], wider[columns] - plain[columns]
    if (checked[rows], checked[columns]) != (plain[rows] + 2 * more_rows, plain[columns] + 3 * more_columns):
        return False
    stride = multiple / more_rows, multiple / more_columns
    return Tap(Layer(plain[1 if rows == 2 else 3], stride, "nchw" if rows == 2 else "nhwc"))


def _token_tap(
    plain: Shape, taller: Shape, wider: Shape, checked: Shape, size: Size, check: Size, multiple: int
) -> Tap | bool | None:
    if len(plain) != 3 or _changed(plain, taller) != [1] or _changed(plain, wider) != [1]:
        return None
    # tokens = height * width / stride^2 + prefix, at every size
    more = taller[1] - plain[1]
    stride = isqrt(multiple * size[1] // more) if more > 0 else 0
    if not stride or multiple % stride:
        return False
    prefix = plain[1] - size[0] * size[1] // stride**2
    expected = [
        h * w // stride**2 + prefix for h, w in ((size[0] + multiple, size[1]), (size[0], size[1] + multiple), check)
    ]
    if [taller[1], wider[1], checked[1]] != expected or not 0 <= prefix <= _MAX_PREFIX:
        return False
    return Tap(Layer(plain[2], (float(stride), float(stride)), "tokens"), prefix)


def modules_past(network: torch.nn.Module, taps: Iterable[str], size: Size) -> set[str]:
    """Names of the modules that a pass enters only after the last of ``taps`` has put out: they need not run, nor have
    weights. A module that no pass enters (its parent may call its methods) is not among them."""
    left = set(taps)
    before: set[str] = set()
    past: set[str] = set()

    def enter(name: str) -> Callable[[object, object], None]:
        def hook(_module: object, _inputs: object) -> None:
            if left:
                before.add(name)
            else:
                past.add(name)

        return hook

    def leave(name: str) -> Callable[[object, object, object], None]:
        def hook(_module: object, _inputs: object, _output: object) -> None:
            left.discard(name)

        return hook

    modules = dict(network.named_modules())
    handles = [module.register_forward_pre_hook(enter(name)) for name, module in modules.items()]
    handles += [modules[name].register_forward_hook(leave(name)) for name in left]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *size, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return past - before
