"""Where a feature map's cells lie on the photograph: the two small types that every backbone returns.

Pixel coordinates are continuous: pixel (row 0, column 0) covers [0, 1) x [0, 1), its centre is (.5, .5). A cell's
index coordinates follow the same rule: the centre of cell (row i, column j) is (j + .5, i + .5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _indices(count: int) -> NDArray[np.float64]:
    # Imported here: plugins are listed without it.
    import numpy as np

    return np.arange(count, dtype=np.float64)


@dataclass(frozen=True)
class Affine:
    """Axis-aligned map from a grid's index coordinates to original pixels: ``x = offset_x + step_x * u``, likewise y.

    The centre of cell (i, j) lies at ``u = j + .5``, ``v = i + .5``; its footprint is the rectangle of ``step_x`` by
    ``step_y`` pixels around it. Steps are positive.
    """

    step_x: float
    step_y: float
    offset_x: float = 0.0
    offset_y: float = 0.0

    def centers_x(self, columns: int) -> NDArray[np.float64]:
        """x of the centres of the first ``columns`` columns, in original pixels, shape (columns,)."""
        return self.offset_x + self.step_x * (_indices(columns) + 0.5)

    def centers_y(self, rows: int) -> NDArray[np.float64]:
        """y of the centres of the first ``rows`` rows, in original pixels, shape (rows,)."""
        return self.offset_y + self.step_y * (_indices(rows) + 0.5)

    def shifted(self, dx: float, dy: float) -> Affine:
        """The same grid moved by (dx, dy) original pixels, as a tile's grid is by the tile's corner."""
        return replace(self, offset_x=self.offset_x + dx, offset_y=self.offset_y + dy)


@dataclass(frozen=True)
class Grid:
    """The cells of one feature map.

    Attributes:
        rows, columns: the map's height and width in cells.
        to_pixels: index coordinates to original pixels.
        valid_rows, valid_columns: cells from the top left that show image content rather than padding; the others
            are neither labelled nor scored.
    """

    rows: int
    columns: int
    to_pixels: Affine
    valid_rows: int
    valid_columns: int

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which cells are not padding, shape (rows, columns)."""
        import numpy as np

        mask = np.zeros((self.rows, self.columns), dtype=bool)
        mask[: self.valid_rows, : self.valid_columns] = True
        return mask


@dataclass(frozen=True)
class InputGeometry:
    """What ``prepare`` did to a photograph: resized to ``content``, then padded right and below to ``input``.

    Attributes:
        image_height, image_width: the photograph, in its own pixels.
        content_height, content_width: the part of the network's input that shows it.
        input_height, input_width: the network's input, padding included.
    """

    image_height: int
    image_width: int
    content_height: int
    content_width: int
    input_height: int
    input_width: int

    def grid(self, rows: int, columns: int) -> Grid:
        """The grid of a map of ``rows`` by ``columns`` cells that covers the whole input, padding included.

        A cell is valid where its centre shows the photograph, that is, where no more than half of it is padding.
        """
        step_y = self.input_height / rows
        step_x = self.input_width / columns
        to_pixels = Affine(
            step_x=step_x * self.image_width / self.content_width,
            step_y=step_y * self.image_height / self.content_height,
        )
        inside_y = (_indices(rows) + 0.5) * step_y <= self.content_height
        inside_x = (_indices(columns) + 0.5) * step_x <= self.content_width
        return Grid(rows, columns, to_pixels, int(inside_y.sum()), int(inside_x.sum()))
