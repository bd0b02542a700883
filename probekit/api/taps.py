"""Reading a network's inside: forward hooks that are always removed, and a pass that stops at the last tap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class _EnoughError(Exception):
    """Ends a forward pass once every tap has been read."""


def read_taps(modules: Mapping[str, torch.nn.Module], call: Callable[[], Any]) -> dict[str, Any]:
    """Runs ``call`` and returns what each module put out, by name.

    The pass ends as soon as the last of the modules has been read; nothing past it is computed. The hooks are removed
    whatever happens. A module that runs more than once in a pass gives its first output.

    Args:
        modules: name -> the module whose output is wanted.
        call: runs the network on a batch.

    Raises:
        RuntimeError: a module was not reached by the pass.
    """
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if name in outputs:
                return
            last = len(outputs) + 1 == len(modules)
            # A copy, because what runs next may change the tensor in place (an activation, a residual sum).
            outputs[name] = output if last or not hasattr(output, "clone") else output.clone()
            if last:
                raise _EnoughError

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
