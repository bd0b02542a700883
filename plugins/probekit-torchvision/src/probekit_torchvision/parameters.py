"""What a spec may say under ``with`` for the backbone ``fasterrcnn``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from probekit.api import Parameters, Weights

Model = Literal[
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
]


class FasterRCNNParameters(Parameters):
    """Which network, with which weights, at which size of image."""

    model: Model = "fasterrcnn_resnet50_fpn"
    weights: Weights = Field(default="pretrained", description="pretrained (COCO), random, or a file")
    min_size: int | None = Field(default=None, gt=0, description="short side of the input, if not the model's")
    max_size: int | None = Field(default=None, gt=0, description="bound of the long side, if not the model's")
    norm_eps: float | None = Field(
        default=None, ge=0, description="eps of BatchNorm; by default what torchvision uses with its COCO weights"
    )

    @field_validator("weights")
    @classmethod
    def _no_bundle(cls, value: object) -> object:
        if value == "bundled":
            raise ValueError("torchvision comes with no bundled weights: pretrained, random or a file")
        return value
