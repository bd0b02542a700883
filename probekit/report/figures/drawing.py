"""What a figure is, before it is written."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure and what is said of it.

    Attributes:
        name: names its file: ``curve-pothole``; distinct within a run.
        section: ``curves``, ``depth``, ``precision-recall``, ``calibration`` or ``matches``.
        concept: that it is about.
        title: one line, plain text.
        description: what a reader who cannot see it needs: the numbers in one to three sentences.
        figure: drawn in the colours of a light page.
    """

    name: str
    section: str
    concept: str
    title: str
    description: str
    figure: Figure


def slug(kind: str, *names: str) -> str:
    """A file's name of lower-case letters, digits and hyphens, distinct for distinct names: ``curve-pothole``."""
    text = "-".join((kind, *names))
    if len(names) == 1 and re.fullmatch("[a-z0-9-]{1,80}", names[0]):
        return text
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')[:80]}-{digest}"
