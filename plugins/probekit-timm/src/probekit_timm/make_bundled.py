"""Makes the bundled weights from float32 files: ``python -m probekit_timm.make_bundled FOLDER``.

FOLDER holds ``mobilenetv1_100.safetensors`` and ``mobilenetv2_100.safetensors`` in timm's layout. What lies past the
cut is left out, and the 8-bit integers, scales and zero points that the weights were by origin are found again: a
convolution's weights are whole multiples of one number a tensor, or one an output channel. It ends with an error unless
every tensor comes back bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from probekit_timm.bundled import BUNDLED, LENGTH, SCALE, ZERO_POINT, bundled_path, read_bundled
from probekit_timm.networks import create_meta
from probekit_timm.taps import modules_past

_Found = tuple[NDArray[np.int64], np.float32]


def integers(values: NDArray[np.float32]) -> _Found | None:
    """Integers spanning at most 255 steps and a scale with ``float32(integer) * scale == values``, bit for bit; none
    where there are none. The steps tried are those of symmetric 8-bit integers, then of any range that holds zero."""
    distinct = np.unique(values).astype(np.float64)
    low, high = min(distinct[0], 0.0), max(distinct[-1], 0.0)
    if low == high:
        return np.zeros(values.shape, dtype=np.int64), np.float32(1)
    for step in (max(-low, high) / 127, *((high - low) / steps for steps in range(255, 0, -1))):
        whole = np.rint(distinct / step)
        if np.abs(distinct - whole * step).max() > 1e-4 * step or np.ptp([*whole, 0.0]) > 255:
            continue
        largest = np.abs(whole).argmax()
        scale = np.float32(distinct[largest] / whole[largest])
        for candidate in (scale, np.nextafter(scale, np.float32(0)), np.nextafter(scale, np.float32(np.inf))):
            found = np.rint(values.astype(np.float64) / np.float64(candidate)).astype(np.int64)
            if np.array_equal(found.astype(np.float32) * candidate, values):
                return found, candidate
    return None


def quantise(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Integers (uint8), scale (1,) or (output channels,), zero point (1,); none where the tensor was no 8-bit one."""
    values = tensor.numpy()
    whole = integers(values)
    parts = [whole] if whole is not None else [integers(row) for row in values]
    if any(part is None for part in parts):
        return None
    found = [part for part in parts if part is not None]
    stacked = np.stack([part[0] for part in found]).reshape(values.shape)
    low, high = int(stacked.min()), int(stacked.max())
    zero_point = 128 if low >= -128 and high <= 127 else -low
    if not 0 <= zero_point <= 255 or high + zero_point > 255:
        return None
    scales = np.array([part[1] for part in found], dtype=np.float32)
    return (
        torch.from_numpy((stacked + zero_point).astype(np.uint8)),
        torch.from_numpy(scales),
        torch.tensor([zero_point], dtype=torch.uint8),
    )


def make(source: Path, model: str, target: Path) -> None:
    """Writes one bundled file.

    Raises:
        SystemExit: a convolution's weights are no 8-bit integers, or a tensor would not come back bit for bit.
    """
    network = create_meta(model, dict(BUNDLED[model].options))
    past = modules_past(network, [BUNDLED[model].cut], (256, 256))
    kept = {name: t for name, t in load_file(source).items() if name.rpartition(".")[0] not in past}
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in kept.items():
        if tensor.dim() < 2:
            repeated = tensor.numel() > 1 and bool((tensor == tensor[0]).all())
            stored[name] = tensor[:1].clone() if repeated else tensor
            if repeated:
                stored[name + LENGTH] = torch.tensor([len(tensor)])
            continue
        parts = quantise(tensor)
        if parts is None:
            raise SystemExit(f"{source.name}: {name} is no tensor of 8-bit integers")
        stored[name], stored[name + SCALE], stored[name + ZERO_POINT] = parts
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, target, {"origin": source.name, "cut": BUNDLED[model].cut})
    again = read_bundled(target)
    wrong = [name for name, tensor in kept.items() if not torch.equal(again[name], tensor)]
    if wrong or again.keys() != kept.keys():
        raise SystemExit(f"{target.name}: not bit-equal: {wrong}")
    size = target.stat().st_size / 1e6
    print(f"{target.name}: {len(kept)} tensors up to {BUNDLED[model].cut}, {size:.2f} MB, bit-equal")


def main(arguments: Sequence[str]) -> None:
    """Makes all bundled files from the folder that the only argument names."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m probekit_timm.make_bundled FOLDER")
    for model in BUNDLED:
        make(Path(arguments[0]) / f"{model}.safetensors", model, bundled_path(model))


if __name__ == "__main__":
    main(sys.argv[1:])
