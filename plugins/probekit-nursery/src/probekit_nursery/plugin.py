"""The hooks: rendered scenes as a label source."""

from __future__ import annotations

from probekit.api import LabelSourcePlugin, hookimpl
from probekit_nursery.parameters import NurseryParameters


@hookimpl
def probekit_label_sources() -> list[LabelSourcePlugin]:
    """``nursery``."""
    return [
        LabelSourcePlugin(
            "nursery",
            "rendered aerial photographs of a plant nursery, with exact masks of pots",
            "probekit_nursery.source:Nursery",
            NurseryParameters,
        )
    ]
