"""Where in what the user gave a key or a value stands, and the errors that are reported there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from probekit.api import Issue

Key = tuple[str | int, ...]
"""The way from a spec's root to a key or a list's element."""


@dataclass(frozen=True)
class Place:
    """What the user would open to mend something: ``file:line:column`` (from 1), a file, or ``--set key=value``."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)


@dataclass
class Document:
    """A spec as plain data (mappings, lists, :class:`~probekit.api.SpecString`, numbers, booleans, none).

    Attributes:
        root: where the whole stands.
        keys: the place of each mapping's key, by its path.
        values: the place of each value, by its path.
    """

    root: Place
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Key, Place] = field(default_factory=dict)
    values: dict[Key, Place] = field(default_factory=dict)

    def of_value(self, path: Key) -> Place:
        """Where the value at ``path`` stands, or, if it does not stand there, what would hold it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.values:
                return self.values[path[:end]] if end == len(path) else self.of_key(path[:end])
        return self.root

    def of_key(self, path: Key) -> Place:
        """Where the key at ``path`` stands; for a list's element, the element; or what would hold it."""
        for end in range(len(path), 0, -1):
            place = self.keys.get(path[:end]) or self.values.get(path[:end])
            if place is not None:
                return place
        return self.root


class Issues:
    """Collects what is wrong, each with its place; reads in the order of the file, ``--set`` last."""

    def __init__(self) -> None:
        self._found: dict[Issue, tuple[bool, int, int]] = {}

    def add(self, place: Place, path: Key, what: str) -> None:
        """Notes that ``what`` is wrong with the key or value at ``path``."""
        self._found.setdefault(issue(place, path, what), (place.line is None, place.line or 0, place.column or 0))

    def __bool__(self) -> bool:
        return bool(self._found)

    def sorted(self) -> list[Issue]:
        """All of them."""
        return sorted(self._found, key=lambda issue: self._found[issue])


def issue(place: Place, path: Key, what: str) -> Issue:
    """One line, whatever the user's text holds: the place, the dotted key, what is wrong."""
    text = f"{dotted(path)}: {what}" if path else what
    return Issue(str(place), "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def dotted(path: Key) -> str:
    """``("backbones", "sam", "layers", 0)`` as ``backbones.sam.layers[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def listed(words: Sequence[str], last: str = "or") -> str:
    """``a, b or c``."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
