"""The hooks of the timm plugin."""

from __future__ import annotations

from collections.abc import Iterable

from probekit.api import BackbonePlugin, hookimpl
from probekit_timm.parameters import TimmParameters

TIMM = BackbonePlugin(
    name="timm",
    summary="any timm model at any module that gives a map or tokens; two small ImageNet networks are bundled",
    target="probekit_timm.backbone:Timm",
    parameters=TimmParameters,
    version="1",
)


@hookimpl
def probekit_backbones() -> Iterable[BackbonePlugin]:
    """One backbone: ``timm``."""
    return [TIMM]
