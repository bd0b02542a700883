"""The hooks: two label sources that read what people drew."""

from __future__ import annotations

from probekit.api import LabelSourcePlugin, hookimpl
from probekit_masks.parameters import CocoParameters, MaskParameters


@hookimpl
def probekit_label_sources() -> list[LabelSourcePlugin]:
    """``masks`` and ``coco``."""
    return [
        LabelSourcePlugin(
            "masks",
            "photographs with binary masks, a folder a concept, or with index masks",
            "probekit_masks.masks:MaskFolders",
            MaskParameters,
        ),
        LabelSourcePlugin(
            "coco",
            "photographs with a COCO instances file: polygons and run lengths",
            "probekit_masks.coco:CocoInstances",
            CocoParameters,
        ),
    ]
