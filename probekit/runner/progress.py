"""What a run tells whoever watches: stages with a length, and single lines. How it looks is the report's matter."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives a run's progress. All calls come from one thread."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def start(self, stage: str, what: str, total: int, unit: str) -> None:
        """A stage begins: ``stage`` (Features, Probes), what it works on, how many units of what."""

    def advance(self, count: int, note: str = "") -> None:
        """So many more units of the stage are done; ``note`` says what is being worked on."""

    def finish(self, note: str = "") -> None:
        """The stage is over; ``note`` stays beside it (``from the store``, ``1.1 GB``)."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def start(self, stage: str, what: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int, note: str = "") -> None:
        """Nothing."""

    def finish(self, note: str = "") -> None:
        """Nothing."""
