"""What stands under ``with`` of a timm backbone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from probekit.api import Parameters, Weights

Positive = Annotated[int, Field(gt=0)]
Colour = tuple[float, float, float]


class TimmParameters(Parameters):
    """A timm model, its weights and what is done to a photograph before it."""

    model: str = Field(description="timm's name of the network; a tag after a dot chooses the pretrained weights.")
    weights: Weights = Field(
        default="pretrained",
        description="pretrained (timm's own download), random (a control), a local file, or bundled (mobilenetv1_100 "
        "up to blocks.3, mobilenetv2_100 up to blocks.4).",
    )
    image_size: Literal["native"] | Positive | tuple[Positive, Positive] = Field(
        default="native",
        description="native: no resizing; N: the long side is resized to N pixels; [H, W]: resized to fit into H x W, "
        "aspect kept, the rest is padding (what a network of fixed input size needs).",
    )
    mean: Colour | None = Field(
        default=None, description="Of the three colours in 0..1; the pretrained ones unless set."
    )
    std: Colour | None = Field(
        default=None, description="Of the three colours in 0..1; the pretrained ones unless set."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = Field(
        default=None, description="Pillow's, where an image is resized; the pretrained configuration's unless set."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of timm.create_model, such as {pad_type: same}."
    )
