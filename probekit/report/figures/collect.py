"""All figures that a run's tables support."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from probekit.report.figures.calibration import draw_calibration
from probekit.report.figures.curves import draw_curves
from probekit.report.figures.depth import draw_depth
from probekit.report.figures.drawing import Drawing
from probekit.report.figures.matches import draw_matches
from probekit.report.figures.material import Key, Material
from probekit.report.figures.precision_recall import draw_precision_recall
from probekit.report.figures.style import SINGLE, styled
from probekit.runner.run import Run

_Draw = Callable[[Material, str, float], list[Drawing]]
_SECTIONS: tuple[_Draw, ...] = (draw_curves, draw_depth, draw_precision_recall, draw_calibration, draw_matches)


def drawings(
    run: Run, width: float = SINGLE, matched: Collection[tuple[str, Key, Key]] | None = None
) -> Iterator[Drawing]:
    """All figures that the run's tables support, section by section and in each by concept.

    Args:
        run: a finished run.
        width: of a figure in millimetres: ``SINGLE`` or ``DOUBLE``.
        matched: concepts and pairs of models, in any order, whose matches are drawn; all unless given.
    """
    material = Material(run, matched)
    for draw in _SECTIONS:
        for concept in material.concepts:
            with styled():
                drawn = draw(material, concept, width)
            yield from drawn
