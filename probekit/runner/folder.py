"""A run's folder: who writes it, what it holds of which spec, and how parts of it come into being whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from probekit.api.errors import Issue, ProbekitError

LOCK, STATE = ".lock", "run.json"


def display(path: Path) -> str:
    """A path as a user would type it: relative to the working directory where it lies below it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk and renames it: it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def dump_json(value: Any) -> bytes:
    """JSON with sorted keys, the same bytes for the same value."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_state(path: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, or none where there is no run."""
    try:
        state = json.loads((path / STATE).read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ProbekitError(
            [Issue(display(path / STATE), f"cannot be read ({error}); --replace starts over, --out DIR goes elsewhere")]
        ) from None
    if not isinstance(state, dict):
        raise ProbekitError([Issue(display(path / STATE), "is not a run's record; --out DIR goes elsewhere")])
    return state


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a run's folder for this process; the hold ends with the process, however it ends.

    Raises:
        ProbekitError: another process holds it, with its number and since when.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("a+")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ProbekitError([Issue(display(path), f"cannot be used as a run's folder: {error.strerror}")]) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise ProbekitError([Issue(display(path), f"is being written by {holder}; it goes on there")]) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} (since {datetime.now():%H:%M})")
        lock.flush()
        yield


def begin(path: Path, identity: Mapping[str, Any], changes: Sequence[str], replace: bool) -> dict[str, Any] | None:
    """Makes a held folder ready for a run.

    Args:
        path: the folder.
        identity: what the run is of: the canonical spec and the digests of its data; written into a new run's record.
        changes: how ``identity`` differs from what the folder holds, one text each (empty: it does not, or it is new).
        replace: whether what another spec left here may be deleted.

    Returns:
        The record of the run that goes on, or none for a new one.

    Raises:
        ProbekitError: the folder holds a run of another spec, or something that is no run.
    """
    state = read_state(path) if not replace else None
    strangers = [child.name for child in path.iterdir() if child.name != LOCK]
    if state is None and strangers and STATE not in strangers:
        raise ProbekitError(
            [Issue(display(path), f"holds files that no run made ({strangers[0]}); --out DIR goes elsewhere")]
        )
    if changes and not replace:
        what = "; ".join(changes)
        raise ProbekitError(
            [Issue(display(path), f"holds a run of another spec: {what}. --out DIR keeps both, --replace starts over")]
        )
    if state is not None:
        return state
    for child in path.iterdir():
        if child.name == LOCK:
            continue
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    (path / "jobs").mkdir()
    write_atomically(path / STATE, dump_json({**identity, "complete": False}))
    return None
