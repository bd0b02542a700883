"""What a run was made with: versions, hardware, digests. No time, no host, no path, so that two runs are equal."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from probekit.plan.networks import Network
from probekit.spec.resolved import Resolved

_PACKAGES = ("numpy", "scipy", "torch", "torchvision", "timm", "segment-anything", "pillow", "pyarrow", "safetensors")


def environment(resolved: Resolved, networks: tuple[Network, ...]) -> dict[str, Any]:
    """Versions of all that has a say in the numbers, and the hardware. How many threads worked has none."""
    import torch

    uses = [*resolved.data, *resolved.backbones.values(), *resolved.controls.values(), *resolved.probes.values()]
    devices = sorted({network.device for network in networks})
    return {
        "probekit": version("probekit-vision"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "devices": {name: torch.cuda.get_device_name(name) if name.startswith("cuda") else "cpu" for name in devices},
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "plugins": {
            use.plugin.qualified: f"{use.plugin.version} (adapter {use.plugin.descriptor.version})" for use in uses
        },
    }


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
