"""Which channels of a frozen vision model carry a concept, how few suffice, and how sure are we."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probekit.runner.run import Run

__all__ = ["load", "run", "write_report"]


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

    return _shown(execute(spec, overrides, out=out, replace=replace))


def load(path: str | Path) -> Run:
    """Opens a finished run; neither the plugins nor the models that made it are needed.

    Raises:
        probekit.api.ProbekitError: there is no run, or it is not finished.
    """
    from probekit.runner.run import load as open_run

    return _shown(open_run(path))


def write_report(runs: Run | Sequence[Run], path: str | Path | None = None) -> Path:
    """Writes the page of one or several runs, as the command ``run`` does at its end.

    Args:
        runs: finished runs.
        path: of the page; ``report.html`` in the folder of the first run unless given.

    Returns:
        Where it was written.

    Raises:
        probekit.api.ProbekitError: it cannot be written there.
    """
    from probekit.report.page import write_report as write

    return write(runs, None if path is None else Path(path))


def _shown(run: Run) -> Run:
    """The run, which a notebook then shows as a table and a curve."""
    from probekit.report.notebook import run_html

    run.renderer = run_html
    return run
