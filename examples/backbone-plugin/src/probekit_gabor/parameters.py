"""What a spec may write under ``with`` for ``gabor``. No torch here either."""

from typing import Annotated, Literal

from pydantic import Field

from probekit.api import Parameters


class GaborParameters(Parameters):
    """Which filters.

    Attributes:
        weights: ``bundled`` are the Gabor filters; ``random`` are as many seeded random ones.
        orientations: evenly spaced over half a turn.
        wavelengths: in pixels of the shrunk photograph.
        shrink: how many pixels of the photograph one pixel of the network's input shows, along each axis.
    """

    weights: Literal["bundled", "random"] = "bundled"
    orientations: Annotated[int, Field(ge=1)] = 6
    wavelengths: Annotated[tuple[Annotated[float, Field(ge=2, le=8)], ...], Field(min_length=1)] = (3.0, 6.0)
    shrink: Annotated[float, Field(ge=1, le=8)] = 1.0
