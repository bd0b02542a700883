"""``--set dotted.key=value``: changes a spec as it was read, before it is validated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probekit.api import ProbekitError
from probekit.spec.places import Document, Issues, Key, Place
from probekit.spec.yaml import read_value


def apply_overrides(document: Document, overrides: Sequence[str], base: Path, issues: Issues) -> None:
    """Sets each ``key=value`` in turn, the later over the earlier.

    A key's parts are names of mappings' keys or places in lists (``layers.0``; one past the end appends). A key that
    holds dots is found by the longest match with what the spec already has. Mappings on the way that are missing are
    made. Values are YAML; paths in them start from ``base``.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        shown = " ".join(text.split())
        at = Place(f"--set {shown if len(shown) <= 100 else shown[:97] + '...'}")
        if not equals or not all(key.split(".")):
            issues.add(at, (), "expected key=value, like --set sampling.per_class=8000")
            continue
        try:
            container, path = _walk(document, key.split("."), at)
            new = read_value(value, at, path, base, document, issues)
        except _NoWayError as error:
            issues.add(at, error.path, error.what)
        except ProbekitError as error:
            for issue in error.issues:
                issues.add(at, (), issue.what)
        else:
            last = path[-1]
            if isinstance(container, list) and last == len(container):
                container.append(new)
            else:
                container[last] = new


class _NoWayError(Exception):
    def __init__(self, path: Key, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(what)


def _walk(document: Document, parts: list[str], at: Place) -> tuple[Any, Key]:
    """The mapping or list that holds the last part, and the path of what is to be set; its old places are forgotten."""
    container: Any = document.data
    path: Key = ()
    while True:
        name, taken = _step(container, parts, path)
        path, parts = (*path, name), parts[taken:]
        missing = name not in container if isinstance(container, dict) else name == len(container)
        if not parts:
            for places in (document.keys, document.values):
                for old in [old for old in places if old[: len(path)] == path]:
                    del places[old]
            document.keys[path] = at
            return container, path
        if missing or container[name] is None:
            if isinstance(container, list) and missing:
                container.append({})
            else:
                container[name] = {}
            document.keys[path] = document.values[path] = at
        container = container[name]


def _step(container: Any, parts: list[str], path: Key) -> tuple[str | int, int]:
    """The key or place that the next parts name, and how many parts it takes."""
    if isinstance(container, dict):
        for end in range(len(parts), 0, -1):
            if ".".join(parts[:end]) in container:
                return ".".join(parts[:end]), end
        return parts[0], 1
    if isinstance(container, list):
        if parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 10 and int(parts[0]) <= len(container):
            return int(parts[0]), 1
        raise _NoWayError(path, f"is a list of {len(container)}: {parts[0]!r} is no place in it (they count from 0)")
    raise _NoWayError(path, "holds a single value: nothing can be set below it")
