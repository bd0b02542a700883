"""Weights for backbones: files that are read without running code, digests, and keys that must fit.

Torch is imported inside the functions: importing this module costs nothing.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit.api.errors import ParameterError

if TYPE_CHECKING:
    import torch

_NESTED = ("state_dict", "model", "model_state_dict")
_LISTED = 6


def file_digest(path: Path) -> str:
    """``sha256:<hex>`` of a weights file.

    Raises:
        ParameterError: at ``weights``, where there is no such file.
    """
    try:
        with path.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        raise ParameterError(("weights",), f"{path} cannot be read ({error.strerror})") from error


def random_digest(seed: int, *distributions: str) -> str:
    """The digest of random weights: what fixes them besides the network's parameters, as text.

    Args:
        seed: the seed of the initialisation.
        distributions: whose versions matter besides torch's: the libraries that build the network.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *distributions))
    return f"random: seed {seed}, {versions}"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's generator on the CPU starts from ``seed``; outside, nothing has changed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fetch(url: str, sha256: str) -> Path:
    """The local copy of a published weights file, downloaded into torch.hub's folder where it is not there yet.

    Args:
        url: where it is published.
        sha256: of the whole file, or the first digits of it; what is downloaded or found must begin with them.

    Raises:
        ParameterError: at ``weights``: it cannot be had, or is not the published file.
    """
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[-1]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), sha256, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            what = f"{url} cannot be downloaded ({error}): give a local file, or random"
            raise ParameterError(("weights",), what) from error
    elif not file_digest(path).startswith(f"sha256:{sha256}"):
        raise ParameterError(("weights",), f"{path} is not the published file (its sha256 differs): delete it")
    return path


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a torch file read weights-only; on the CPU, mapped where it can be.

    A torch file may hold its tensors under ``state_dict``, ``model`` or ``model_state_dict``.

    Raises:
        ParameterError: at ``weights``: no such file, neither format, or reading it would run code.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise ParameterError(("weights",), f"{path} cannot be read ({error.strerror})") from error
    if head[8:9] == b"{":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ParameterError(("weights",), f"{path.name} is not a sound safetensors file ({error})") from error
    try:
        # Only zip archives can be mapped; older torch files are read whole.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=head[:2] == b"PK" or None)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ParameterError(("weights",), f"{path.name} {_refusal(str(error))}") from error
    return _tensors(content, path)


def _refusal(message: str) -> str:
    found = re.search(r"(?:unsupported GLOBAL|Unsupported global: GLOBAL) (\S+)", message)
    if found:
        return (
            f"is refused: loading it would run code (pickle of '{found.group(1)}'). "
            "Save the tensors alone, as safetensors"
        )
    if "TorchScript" in message:
        return "is refused: loading it would run code (a TorchScript archive). Save the tensors alone, as safetensors"
    if "Can only" in message or "Trying to call" in message:
        return "is refused: loading it would run code (it holds objects). Save the tensors alone, as safetensors"
    return "is neither a safetensors file nor a sound torch file"


def _tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(content, Mapping):
        for key in _NESTED:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise ParameterError(("weights",), f"{path.name} holds no mapping of names to tensors")
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        what = f"{path.name} holds what is no tensor ({_some(others)}): save the state dict alone, as safetensors"
        raise ParameterError(("weights",), what)
    return dict(content)


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def check_keys(
    wanted: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    *,
    name: str,
    known: Iterable[str] = (),
) -> None:
    """Checks that a file's tensors are those of a network, in name and shape.

    Args:
        wanted: the state dict of what will run (it may lie on the meta device).
        found: the tensors of the file.
        name: of the file, for the message.
        known: names in ``found`` that are no mistake although nothing will run them (modules past the last layer).

    Raises:
        ParameterError: at ``weights``, one line that lists what is missing, unexpected or of another shape.
    """
    known = set(known)
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted and key not in known]
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in found and found[key].shape != tensor.shape
    ]
    faults = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    text = "; ".join(f"{kind}: {_some(names)}" for kind, names in faults if names)
    if text:
        raise ParameterError(("weights",), f"{name} does not fit this network; {text}")
