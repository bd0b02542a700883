"""One writer a folder: an advisory lock that the system drops when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

_PAUSE = 0.2  # seconds between two tries


@contextmanager
def locked(path: Path, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds the lock file ``path``, waiting for whoever holds it.

    Args:
        path: made where it is missing; its folder exists.
        on_wait: called once with who holds it (``process 4711 (since 10:42)``) where there is a wait.
    """
    told = False
    while (descriptor := _try(path)) is None:
        if on_wait and not told:
            on_wait(_holder(path))
            told = True
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Holds the lock file if nobody else does; yields whether it does."""
    descriptor = _try(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _try(path: Path) -> int | None:
    """A descriptor that holds the lock, or none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Pruning may have removed the file between opening and locking: then this lock guards nothing.
        if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):  # noqa: PTH110, PTH116
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} (since {datetime.now():%H:%M})".encode(), 0)
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text("utf-8") or "another process"
    except FileNotFoundError:
        return "another process"
