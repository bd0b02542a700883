"""What a spec may say under ``with`` for the backbone ``sam``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from probekit.api import Parameters, Weights

PATCH = 16
"""Pixels to a side of a cell, in every segment-anything encoder."""


@dataclass(frozen=True)
class Sizes:
    """An encoder's width and depth; ``global_attn_indexes`` are the blocks without windows."""

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]


@dataclass(frozen=True)
class Published:
    """A checkpoint that segment-anything's authors published: its sizes, where it lies, and its sha256."""

    sizes: Sizes
    url: str
    sha256: str


_FOLDER = "https://dl.fbaipublicfiles.com/segment_anything"
PUBLISHED = {
    # The file names carry the first digits of an md5; the sha256 sums are those of the same files.
    "vit_b": Published(
        Sizes(768, 12, 12, (2, 5, 8, 11)),
        f"{_FOLDER}/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Published(
        Sizes(1024, 24, 16, (5, 11, 17, 23)),
        f"{_FOLDER}/sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Published(
        Sizes(1280, 32, 16, (7, 15, 23, 31)),
        f"{_FOLDER}/sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


class SamParameters(Parameters):
    """Which network, with which weights. Sizes that are left out are those of ``model``."""

    model: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    weights: Weights = Field(default="pretrained", description="pretrained, random, or a safetensors or torch file")
    embed_dim: int | None = Field(default=None, gt=0, description="width of the blocks, if not the model's")
    depth: int | None = Field(default=None, gt=0, description="number of blocks, if not the model's")
    num_heads: int | None = Field(default=None, gt=0, description="attention heads, if not the model's")
    global_attn_indexes: tuple[int, ...] | None = Field(
        default=None, description="blocks without windows, if not the model's"
    )
    image_size: int = Field(
        default=1024, gt=0, multiple_of=PATCH, description="long side of the input; of the checkpoint"
    )

    @field_validator("weights")
    @classmethod
    def _no_bundle(cls, value: object) -> object:
        if value == "bundled":
            raise ValueError("segment-anything comes with no bundled weights: pretrained, random or a file")
        return value

    @model_validator(mode="after")
    def _sizes_fit(self) -> SamParameters:
        sizes = self.sizes
        if sizes.embed_dim % sizes.num_heads:
            raise ValueError(f"embed_dim {sizes.embed_dim} is no multiple of num_heads {sizes.num_heads}")
        beyond = [index for index in sizes.global_attn_indexes if not 0 <= index < sizes.depth]
        if beyond:
            raise ValueError(f"global_attn_indexes: {beyond[0]} is no block of {sizes.depth}")
        if self.weights == "pretrained" and (sizes != PUBLISHED[self.model].sizes or self.image_size != 1024):
            raise ValueError(f"the published {self.model} has other sizes: give weights as a file, or random")
        return self

    @property
    def sizes(self) -> Sizes:
        """The sizes of the network that these parameters describe."""
        own = PUBLISHED[self.model].sizes
        depth = self.depth or own.depth
        indexes = self.global_attn_indexes
        if indexes is None:
            indexes = tuple(index for index in own.global_attn_indexes if index < depth)
        return Sizes(self.embed_dim or own.embed_dim, depth, self.num_heads or own.num_heads, indexes)
