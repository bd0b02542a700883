"""The hook: three controls as backbones."""

from __future__ import annotations

from collections.abc import Iterable

from probekit.api import BackbonePlugin, hookimpl
from probekit_baselines.parameters import CellParameters, RandomConvParameters


@hookimpl
def probekit_backbones() -> Iterable[BackbonePlugin]:
    """What any network must beat."""
    return [
        BackbonePlugin(
            "pixels",
            "colour mean, deviation, gradients and extremes in a cell, its 3x3 and 9x9 neighbourhoods, and position",
            "probekit_baselines.pixels:Pixels",
            CellParameters,
            control=True,
            default_layers=("cells",),
        ),
        BackbonePlugin(
            "position",
            "where a cell lies in the image, and nothing else",
            "probekit_baselines.position:Position",
            CellParameters,
            control=True,
            default_layers=("cells",),
        ),
        BackbonePlugin(
            "random-conv",
            "one layer of seeded random convolutions, averaged over a cell",
            "probekit_baselines.random_conv:RandomConv",
            RandomConvParameters,
            control=True,
            default_layers=("cells",),
        ),
    ]
