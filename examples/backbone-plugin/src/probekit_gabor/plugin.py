"""The hook. Imported whenever plugins are listed: no torch here."""

from probekit.api import BackbonePlugin, hookimpl
from probekit_gabor.parameters import GaborParameters


@hookimpl
def probekit_backbones() -> list[BackbonePlugin]:
    """``gabor``."""
    return [
        BackbonePlugin(
            name="gabor",
            summary="a fixed bank of Gabor filters on brightness and two opponent colours, and its local energy",
            target="probekit_gabor.backbone:Gabor",
            parameters=GaborParameters,
            default_layers=("energy",),
        )
    ]
