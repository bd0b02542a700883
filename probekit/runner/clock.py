"""Seconds by stage; they are kept apart from the results, which must not depend on them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Measures stages.

    Attributes:
        rows: of ``timings``.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def measured(self, stage: str, what: str) -> Iterator[None]:
        """Adds a row once the block is left."""
        started = time.perf_counter()
        yield
        self.rows.append({"stage": stage, "what": what, "seconds": time.perf_counter() - started})
