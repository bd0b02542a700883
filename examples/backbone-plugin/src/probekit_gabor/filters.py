"""The network's parts: nothing here knows of probekit."""

import math
from collections.abc import Sequence

import torch
from torch import nn

SIZE = 16
COLOURS = ((1, 1, 1), (1, -1, 0), (1, 1, -2))  # brightness, red against green, yellow against blue


def gabor_filters(orientations: int, wavelengths: Sequence[float]) -> torch.Tensor:
    """(2 * pairs, 3, 16, 16) float32 of norm 1: all even filters, then the odd ones in the same order."""
    offsets = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    even, odd = [], []
    for wavelength in wavelengths:
        window = torch.exp(-(x**2 + y**2) / (2 * (0.5 * wavelength) ** 2))
        for k in range(orientations):
            angle = math.pi * k / orientations
            phase = 2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
            wave = torch.cos(phase)
            even.append(window * (wave - (window * wave).sum() / window.sum()))  # blind to an even grey
            odd.append(window * torch.sin(phase))
    colours = torch.tensor(COLOURS, dtype=torch.float64)
    bank = torch.einsum("fyx,cr->fcryx", torch.stack(even + odd), colours).flatten(0, 1)
    return unit_norm(bank).float()


def unit_norm(bank: torch.Tensor) -> torch.Tensor:
    """The same filters, each of norm 1."""
    return nn.functional.normalize(bank.flatten(1)).view_as(bank)


class Energy(nn.Module):
    """(n, 2 * pairs, h, w) to (n, pairs, h / 2, w / 2): the root of even squared plus odd squared, averaged."""

    def forward(self, responses: torch.Tensor) -> torch.Tensor:
        """See the class."""
        even, odd = responses.chunk(2, dim=1)
        return nn.functional.avg_pool2d(torch.hypot(even, odd), 2)
