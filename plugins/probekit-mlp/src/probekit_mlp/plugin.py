"""Registers the shallow MLP. Imports nothing heavy."""

from __future__ import annotations

from probekit.api import ProbePlugin, hookimpl
from probekit_mlp.parameters import MlpParameters


@hookimpl
def probekit_probes() -> list[ProbePlugin]:
    """The shallow MLP."""
    return [
        ProbePlugin(
            "mlp",
            "shallow MLP on all channels, stopped early on validation",
            "probekit_mlp.mlp:Mlp",
            MlpParameters,
        )
    ]
