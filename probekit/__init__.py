"""Which channels of a frozen vision model carry a concept, how few suffice, and how sure are we."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probekit.runner.run import Run

__all__ = ["load", "run"]


def run(
    spec: str | Path, overrides: Sequence[str] = (), *, out: str | Path | None = None, replace: bool = False
) -> Run:
    """Runs an experiment, or goes on with it where it stopped, or returns at once what is finished.

    Args:
        spec: the experiment file.
        overrides: ``dotted.key=value``, as after ``--set`` on the command line.
        out: the run's folder; ``runs/NAME`` in the working directory unless given.
        replace: deletes a run of another spec in that folder.

    Raises:
        probekit.api.ProbekitError: everything that is wrong with what was given.
    """
    from probekit.runner.execute import run as execute

    return execute(spec, overrides, out=out, replace=replace)


def load(path: str | Path) -> Run:
    """Opens a finished run; neither the plugins nor the models that made it are needed.

    Raises:
        probekit.api.ProbekitError: there is no run, or it is not finished.
    """
    from probekit.runner.run import load as open_run

    return open_run(path)
