"""``position``: what a probe can know without looking."""

from __future__ import annotations

import torch

from probekit.api import InputGeometry
from probekit_baselines.cells import CellBackbone, relative_position


class Position(CellBackbone):
    """x and y relative to the image, their squares and product, and the distance from its middle (1 in a corner)."""

    name = "position"
    channels = 6

    def describe(self, pixels: torch.Tensor, geometry: InputGeometry) -> torch.Tensor:
        """x, y, x y, x^2, y^2, radius."""
        x, y = relative_position(geometry, self.cell, pixels.device)
        radius = torch.hypot(2 * x - 1, 2 * y - 1) / 2**0.5
        return torch.stack([x, y, x * y, x * x, y * y, radius])
