"""What this distribution offers."""

from __future__ import annotations

from probekit.api import BackbonePlugin, LabelSourcePlugin, hookimpl
from probekit_sam.label_parameters import SamMasksParameters
from probekit_sam.parameters import SamParameters


@hookimpl
def probekit_backbones() -> list[BackbonePlugin]:
    """segment-anything's image encoders."""
    summary = "segment-anything's image encoder: its blocks and its neck"
    return [BackbonePlugin("sam", summary, "probekit_sam.backbone:Sam", SamParameters, default_layers=("neck",))]


@hookimpl
def probekit_label_sources() -> list[LabelSourcePlugin]:
    """Masks made by segment-anything's automatic mask generator."""
    summary = "segment-anything's own masks, made into concepts by rules on area, roundness and quality"
    return [LabelSourcePlugin("sam-masks", summary, "probekit_sam.masks:SamMasks", SamMasksParameters)]
