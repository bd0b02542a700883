"""A run's progress on a terminal: bars where there is one, plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

EVERY = 30.0
"""Seconds between two lines of one stage where the output is no terminal."""

_WIDTH = 10


class ConsoleProgress:
    """Shows stages one after another; implements :class:`probekit.runner.progress.Progress`.

    Used as a context: a bar that is open when the context ends is closed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._stage = self._what = self._unit = ""
        self._total = self._done = 0
        self._began = self._said = 0.0

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def start(self, stage: str, what: str, total: int, unit: str) -> None:
        """A stage begins."""
        self._close()
        self._stage, self._what, self._total, self._unit, self._done = stage, what, total, unit, 0
        self._began = self._said = time.monotonic()
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                transient=True,
            )
            self._bars.start()
            self._bars.add_task(self._label(), total=max(total, 1), note="")

    def advance(self, count: int, note: str = "") -> None:
        """So many more units are done."""
        self._done += count
        now = time.monotonic()
        text = " · ".join(part for part in (note, self._rate(now), self._left(now)) if part)
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], completed=self._done, note=text)
        elif now - self._said >= EVERY:
            self._said = now
            self.say(f"{self._label()}  {self._done}/{self._total} {self._unit}  {text}")

    def finish(self, note: str = "") -> None:
        """The stage is over."""
        seconds = time.monotonic() - self._began
        parts = [f"{self._done}/{self._total} {self._unit}"]
        parts += [note] if note else []
        parts += [self._rate(time.monotonic()), f"{seconds:.1f} s"] if self._done and note != "from the store" else []
        self._close()
        self.say(f"{self._label()}  {'   '.join(part for part in parts if part)}")

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _label(self) -> str:
        return f"{self._stage:<{_WIDTH}} {self._what:<36}"

    def _rate(self, now: float) -> str:
        seconds = now - self._began
        return f"{self._done / seconds:.1f} {self._unit}/s" if self._unit == "images" and seconds > 0.5 else ""

    def _left(self, now: float) -> str:
        if not self._done:
            return ""
        left = (now - self._began) / self._done * (self._total - self._done)
        return f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left"
