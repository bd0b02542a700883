"""The two ImageNet networks that travel with this plugin: 8-bit integers, as their weights were by origin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent / "weights"

SCALE, ZERO_POINT, LENGTH = ":scale", ":zero_point", ":length"
"""Beside a tensor of integers stand its scale (one, or one an output channel) and its zero point; beside a vector that
is one number over and over, its length."""


@dataclass(frozen=True)
class Bundled:
    """What belongs to a bundled network.

    Attributes:
        cut: the last layer whose weights are there.
        mean, std: of the colours, as in its training.
        options: of timm.create_model.
    """

    cut: str
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    options: tuple[tuple[str, str], ...] = (("pad_type", "same"),)


BUNDLED = {"mobilenetv1_100": Bundled(cut="blocks.3"), "mobilenetv2_100": Bundled(cut="blocks.4")}


def bundled_path(model: str) -> Path:
    """The file of a bundled network."""
    return FOLDER / f"{model}.safetensors"


def read_bundled(path: Path) -> dict[str, torch.Tensor]:
    """The float32 tensors of a bundled file: (integer - zero point) * scale; what is no integer is as it stands."""
    stored = load_file(path)
    tensors = {}
    for name, values in stored.items():
        if name.endswith((SCALE, ZERO_POINT, LENGTH)):
            continue
        if name + SCALE in stored:
            scale = stored[name + SCALE].view(-1, *[1] * (values.dim() - 1))
            values = (values.to(torch.int16) - stored[name + ZERO_POINT].to(torch.int16)).to(torch.float32) * scale
        if name + LENGTH in stored:
            values = values.repeat(int(stored[name + LENGTH]))
        tensors[name] = values
    return tensors
