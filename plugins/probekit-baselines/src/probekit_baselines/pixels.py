"""``pixels``: image statistics, what a network must beat to have learnt anything that colour and contrast do not say.

Sums over a cell are whole numbers and exact, and a neighbourhood's sums are sums of its cells', each divided by the
pixels that lie on the photograph. So nothing outside a neighbourhood moves its values, padding never enters, and a
mirrored photograph gives mirrored maps bit for bit.
"""

from __future__ import annotations

import torch

from probekit.api import InputGeometry
from probekit_baselines.cells import CellBackbone, pixels_inside, relative_position

NEIGHBOURHOODS = (1, 3, 9)
"""Sides in cells."""


class Pixels(CellBackbone):
    """Ten values a neighbourhood: mean of red, green, blue; their deviations; mean absolute difference of grey
    between pixels side by side, and one above the other; the darkest and the brightest grey of a cell, averaged over
    the neighbourhood's cells. All in units of the full scale (0 to 1). Then x and y of the cell.

    Differences are taken within a cell, not across its border. The extremes are there because a control must be as
    strong as simple statistics allow: on cracks in roads they lift a linear probe's AP from .29 to .5.
    """

    name = "pixels"
    channels = 10 * len(NEIGHBOURHOODS) + 2

    def describe(self, pixels: torch.Tensor, geometry: InputGeometry) -> torch.Tensor:
        """See the class."""
        cell, device = self.cell, pixels.device
        rows, columns = pixels.shape[1] // cell, pixels.shape[2] // cell
        inside_y = pixels_inside(geometry.image_height, rows, cell, device)
        inside_x = pixels_inside(geometry.image_width, columns, cell, device)

        grey = pixels.sum(dim=0)  # three times grey, a whole number
        beside = _differences(grey, geometry.image_width, cell)
        above = _differences(grey.T, geometry.image_height, cell).T
        planes = torch.cat([pixels, pixels.square(), beside[None], above[None]])
        # Along a row float32 is still exact (up to cells of 258 pixels), over a cell it need not be.
        sums = planes.view(8, rows, cell, columns, cell).sum(dim=4).double().sum(dim=2)
        counts = torch.stack(
            [
                torch.outer(inside_y, inside_x),
                torch.outer(inside_y, (inside_x - 1).clamp(min=0)),
                torch.outer((inside_y - 1).clamp(min=0), inside_x),
            ]
        )
        x, y = relative_position(geometry, cell, device)
        extremes, present = _extremes(grey, inside_y, inside_x, cell)
        parts = [
            part
            for side in NEIGHBOURHOODS
            for part in (
                _statistics(_box(sums, side), _box(counts, side)),
                _box(extremes, side) / _box(present, side).clamp(min=1) / (3 * 255),
            )
        ]
        return torch.cat([*parts, x[None], y[None]])


def _differences(grey: torch.Tensor, width: int, cell: int) -> torch.Tensor:
    """Absolute difference of each pixel and the next in its row, zero where that lies in another cell or outside."""
    result = torch.zeros_like(grey)
    result[:, :-1] = (grey[:, 1:] - grey[:, :-1]).abs()
    result[:, cell - 1 :: cell] = 0
    result[:, width - 1 :] = 0
    return result


def _box(sums: torch.Tensor, side: int) -> torch.Tensor:
    """Sums over ``side`` by ``side`` cells around each; whole numbers, so exact in float64."""
    if side == 1:
        return sums
    pooled = torch.nn.functional.avg_pool2d(sums[None], side, 1, side // 2, divisor_override=1)
    return pooled[0]


def _extremes(
    grey: torch.Tensor, inside_y: torch.Tensor, inside_x: torch.Tensor, cell: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each cell's darkest and brightest of three times grey, (2, rows, columns), zero where nothing of the cell lies on
    the photograph; and whether anything does, (1, rows, columns). Both float64."""
    rows, columns = len(inside_y), len(inside_x)
    cells = grey.view(rows, cell, columns, cell).transpose(1, 2)
    place = torch.arange(cell, device=grey.device)
    outside = ~((place < inside_y[:, None])[:, None, :, None] & (place < inside_x[:, None])[None, :, None, :])
    darkest = cells.masked_fill(outside, torch.inf).amin(dim=(2, 3))
    brightest = cells.masked_fill(outside, -torch.inf).amax(dim=(2, 3))
    present = torch.outer(inside_y, inside_x) > 0
    return torch.stack([darkest, brightest]).double().masked_fill(~present, 0), present[None].double()


def _statistics(sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """(8, rows, columns) of sums to means and deviations; zero where nothing lies on the photograph."""
    n, beside, above = counts.clamp(min=1)
    mean, square = sums[:3] / n, sums[3:6] / n
    deviation = (square - mean * mean).clamp(min=0).sqrt()
    steps = torch.stack([sums[6] / beside, sums[7] / above]) / 3
    return torch.cat([mean, deviation, steps]) / 255
