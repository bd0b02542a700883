"""Reading a network's inside: forward hooks that are always removed, and a pass that stops at the last tap. Channels
may be set to other values where they are read, for all that the pass computes from there on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.api.errors import ProbekitError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Edit:
    """Channels of a layer that are set to a value each, in every cell of the map.

    Attributes:
        layer: whose output is changed.
        channels: for each image of a batch the channels, (k,); images past the last are left as they are.
        values: for each image what they are set to, (k,).
    """

    layer: str
    channels: Sequence[NDArray[np.integer[Any]]]
    values: Sequence[NDArray[np.floating[Any]]]


@dataclass
class _Editing:
    edit: Edit
    done: bool = False


_EDITING: ContextVar[_Editing | None] = ContextVar("editing", default=None)


class _EnoughError(Exception):
    """Ends a forward pass once every tap has been read."""


@contextmanager
def editing(edit: Edit, adapter: str) -> Iterator[None]:
    """Forward passes of this thread go on with an edited layer, wherever they read it by :func:`read_taps`.

    The edit ends with the block, however that ends.

    Args:
        edit: of a layer that the passes read.
        adapter: the plugin whose passes these are, for the message.

    Raises:
        ProbekitError: at the block's end: no pass was edited.
    """
    running = _Editing(edit)
    token = _EDITING.set(running)
    try:
        yield
    finally:
        _EDITING.reset(token)
    if not running.done:
        raise ProbekitError(
            f"{adapter}: {edit.layer} cannot be ablated: the plugin must read it by read_taps and say in `axes` which "
            "dimension its channels are (or leave ablation out: ablation.draws: 0)"
        )


def read_taps(
    modules: Mapping[str, torch.nn.Module],
    call: Callable[[], Any],
    axes: Mapping[str, int] | None = None,
    prefixes: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Runs ``call`` and returns what each module put out, by name.

    The pass ends as soon as the last of the modules has been read; nothing past it is computed. The hooks are removed
    whatever happens. A module that runs more than once in a pass gives its first output.

    Within :func:`editing` the edited module's output is changed first: that is what is returned of it, and what the
    pass goes on with.

    Args:
        modules: name -> the module whose output is wanted; the names are those of layers.
        call: runs the network on a batch.
        axes: name -> the dimension of the module's output that its channels lie along (the first is the batch's);
            without it a layer cannot be edited.
        prefixes: name -> tokens before the grid's, along dimension 1; they are never edited.

    Raises:
        RuntimeError: a module was not reached by the pass.
    """
    outputs: dict[str, Any] = {}
    running = _EDITING.get()
    axis = None if running is None else (axes or {}).get(running.edit.layer)

    def keep(name: str) -> Callable[[Any, Any, Any], Any]:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            if name in outputs:
                return None
            edited = False
            if running is not None and axis is not None and name == running.edit.layer:
                output = _edited(output, running.edit, axis, (prefixes or {}).get(name, 0))
                edited = running.done = True
            last = len(outputs) + 1 == len(modules)
            # A copy, because what runs next may change the tensor in place (an activation, a residual sum).
            outputs[name] = output if last or not hasattr(output, "clone") else output.clone()
            if last:
                raise _EnoughError
            return output if edited else None

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        with suppress(_EnoughError):
            call()
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in modules if name not in outputs]
    if missing:
        raise RuntimeError(f"the forward pass does not reach {', '.join(missing)}")
    return outputs


def _edited(output: torch.Tensor, edit: Edit, axis: int, prefix: int) -> torch.Tensor:
    """A copy of what a module put out, with an edit's values in it."""
    import torch

    copy = output.clone()
    cells = copy[:, prefix:].movedim(axis, 1) if prefix else copy.movedim(axis, 1)  # (n, channels, ...), of the copy
    for image, channels, values in zip(cells, edit.channels, edit.values, strict=False):
        to = torch.as_tensor(values, dtype=copy.dtype, device=copy.device)
        image[torch.as_tensor(channels, device=copy.device)] = to.reshape(-1, *[1] * (image.dim() - 1))
    return copy
