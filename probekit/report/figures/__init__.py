"""The figures of a report: drawn from a run's tables by matplotlib, for a page that has themes and for papers."""

from probekit.report.figures.collect import drawings
from probekit.report.figures.drawing import Drawing
from probekit.report.figures.files import save, svg
from probekit.report.figures.style import DOUBLE, PALETTE, SINGLE

__all__ = ["DOUBLE", "PALETTE", "SINGLE", "Drawing", "drawings", "save", "svg"]
