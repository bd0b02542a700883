"""What this distribution offers."""

from __future__ import annotations

from probekit.api import BackbonePlugin, hookimpl
from probekit_torchvision.parameters import FasterRCNNParameters


@hookimpl
def probekit_backbones() -> list[BackbonePlugin]:
    """torchvision's Faster R-CNN models."""
    return [
        BackbonePlugin(
            "fasterrcnn",
            "torchvision's Faster R-CNN: the body and the feature pyramid",
            "probekit_torchvision.backbone:FasterRCNN",
            FasterRCNNParameters,
            default_layers=("fpn.0",),
        )
    ]
