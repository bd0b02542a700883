"""What an extraction took, kept beside its features so that the next one can be foretold; results never read it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from probekit.features.shards import write_whole
from probekit.features.store import Collection

_FILE = "speed"  # no .json: those are manifest entries


@dataclass(frozen=True)
class Speed:
    """A measurement: seconds a forward pass (all layers that were asked for then), on what."""

    seconds: float
    passes: int
    device: str
    threads: int


def note_speed(collection: Collection, seconds: float, passes: int, device: str, threads: int) -> None:
    """Keeps the latest measurement of a collection."""
    speed = {"seconds": seconds / passes, "passes": passes, "device": device, "threads": threads}
    write_whole(collection.folder / _FILE, json.dumps(speed).encode())


def read_speed(collection: Collection) -> Speed | None:
    """The latest measurement, or none where nothing usable was noted."""
    try:
        noted = json.loads((collection.folder / _FILE).read_text("utf-8"))
        speed = Speed(float(noted["seconds"]), int(noted["passes"]), str(noted["device"]), int(noted["threads"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return speed if math.isfinite(speed.seconds) else None
