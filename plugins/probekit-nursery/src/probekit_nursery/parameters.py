"""What a spec may write under ``with`` for ``nursery``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from probekit.api import Parameters


class NurseryParameters(Parameters):
    """How many scenes to render, and which.

    Attributes:
        flights: groups; scenes of one flight share light, ground, kind of pot and plants.
        scenes: scenes a flight.
        size: height and width of a scene in pixels; pots keep their size, a larger scene shows more of them.
        seed: another seed is another nursery; the experiment's seed where none is given.
    """

    flights: Annotated[int, Field(ge=1, le=1000)] = 12
    scenes: Annotated[int, Field(ge=1, le=1000)] = 4
    size: Annotated[int, Field(ge=128, le=4096)] = 768
    seed: Annotated[int, Field(ge=0)] | None = None
