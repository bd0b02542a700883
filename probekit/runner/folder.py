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

LOCK, STATE, REPORT = ".lock", "run.json", "report.html"

_RECORD = ("schema_version", "spec", "complete")
_TABLES = (
    "points", "results", "fits", "channels", "models", "k_tau", "differences", "nulls", "replicates", "null_draws",
    "selections", "stability", "codes", "reliability", "outer", "cross_label", "label_agreement",
    "groups", "histograms", "folds", "matches", "subspaces", "complements", "depth", "profiles", "exemplars",
    "interactions", "ablation", "timings", "cells",
)  # fmt: skip
_FOLDERS = ("jobs", "scorers", "scores", "sample", "pictures")
_OWN = (LOCK, STATE, REPORT, "spec.yaml", ".*.tmp", *_FOLDERS, *(f"{name}.parquet" for name in _TABLES))
"""The names of all that a run writes into its folder."""


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
    """What ``run.json`` says, or none where there is no run.

    Raises:
        ProbekitError: there is a ``run.json`` that no run wrote.
    """
    try:
        state = json.loads((path / STATE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ProbekitError([Issue(display(path / STATE), f"cannot be read: {error.strerror}")]) from None
    except ValueError:
        state = None
    if not isinstance(state, dict) or any(key not in state for key in _RECORD):
        raise ProbekitError([Issue(display(path / STATE), "is not a run's record; --out DIR goes elsewhere")])
    return state


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a run's folder for this process, made where it is missing; the hold ends with the process, however it ends.

    Raises:
        ProbekitError: another process holds it, with its number and since when; it holds something that is no run; it
            cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if read_state(path) is None:
            strangers = sorted(child.name for child in path.iterdir() if not _precedes_record(child))
            if strangers:
                what = f"holds files that no run made ({strangers[0]}); --out DIR goes elsewhere"
                raise ProbekitError([Issue(display(path), what)])
        lock = (path / LOCK).open("a+")
    except OSError as error:
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
    """Makes a held folder ready for a run. What is deleted is a run's own; other files in the folder stay.

    A run that was stopped by an error or a kill before its first job was done is replaced without being asked about:
    it has no result, and the error is what its spec was changed for.

    Args:
        path: the folder.
        identity: what the run is of: the canonical spec and the digests of its data; written into a new run's record.
        changes: how ``identity`` differs from what the folder holds, one text each (empty: it does not, or it is new).
        replace: whether what the folder holds may be deleted.

    Returns:
        The record of the run that goes on, or none for a new one.

    Raises:
        ProbekitError: the folder holds a run of another spec.
    """
    state = read_state(path) if not replace else None
    if changes and state is not None and not state["complete"] and not any((path / "jobs").glob("[!.]*")):
        state = None
    if changes and state is not None:
        what = "; ".join(changes)
        raise ProbekitError(
            [Issue(display(path), f"holds a run of another spec: {what}. --out DIR keeps both, --replace starts over")]
        )
    # A kill must leave the old run, or none of its jobs under the new run's record.
    if (path / "jobs").exists() and (state is None or state["complete"]):
        (path / "jobs").rename(path / f".jobs.{os.getpid()}.tmp")
    if state is None:
        write_atomically(path / STATE, dump_json({**identity, "complete": False}))
    for child in path.iterdir():
        if _is_own(child) and (child.match(".*.tmp") or (state is None and child.name not in (LOCK, STATE))):
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    return state


def _is_own(path: Path) -> bool:
    return any(path.match(pattern) for pattern in _OWN)


def _precedes_record(path: Path) -> bool:
    """Whether a run that was killed before it had a record can have left this."""
    if path.name == LOCK:
        return path.is_file() and path.read_bytes()[:8] in (b"", b"process ")
    return path.match(f".{STATE}.*.tmp")
