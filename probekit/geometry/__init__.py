"""Cells and pixels: labels of cells from masks, the reference grid, score maps read on it, tiles of large images."""

from probekit.geometry.labels import CellAreas, CellLabels, cell_areas, label_cells
from probekit.geometry.reference import Resampler, reference_grid
from probekit.geometry.tiles import Rectangle, Tile, cut_tiles

__all__ = [
    "CellAreas", "CellLabels", "Rectangle", "Resampler", "Tile",
    "cell_areas", "cut_tiles", "label_cells", "reference_grid",
]  # fmt: skip
