"""A finished run, read from its folder; neither the plugins nor the models that made it are needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit.api.errors import Issue, ProbekitError
from probekit.runner.folder import display, read_state

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """What a run found, as data frames; ``docs/reference/results.md`` describes every column.

    Attributes:
        path: the run's folder.
        info: ``run.json``: environment, digests, label counts, warnings, what each backbone was.
        renderer: shows the run in a notebook, as HTML. ``probekit.run`` and ``probekit.load`` set it: what makes pages
            is built on runs, and runs do not know of it.
    """

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self.renderer: Callable[[Run], str] | None = None

    def __repr__(self) -> str:
        return f"Run({display(self.path)!r})"

    def _repr_html_(self) -> str | None:
        return None if self.renderer is None else self.renderer(self)

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row a point: a rung of a path, its fits pooled over the folds."""
        return self.table("points")

    @cached_property
    def results(self) -> pd.DataFrame:
        """One row a score of a point (long form)."""
        return self.table("results")

    @cached_property
    def fits(self) -> pd.DataFrame:
        """One row a fit: each fold's of each rung, and the final fits (fold -1)."""
        return self.table("fits")

    @cached_property
    def channels(self) -> pd.DataFrame:
        """One row a channel of a final fit, by rank."""
        return self.table("channels")

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row a layer and concept: its score with interval, rank, and how it stands against its nulls."""
        return self.table("models")

    @cached_property
    def k_tau(self) -> pd.DataFrame:
        """One row a curve and share: the fewest channels that reach this share of the full score, and their set."""
        return self.table("k_tau")

    @cached_property
    def differences(self) -> pd.DataFrame:
        """One row a pair of models that may be ranked, by concept."""
        return self.table("differences")

    @cached_property
    def nulls(self) -> pd.DataFrame:
        """One row a model, concept and null."""
        return self.table("nulls")

    def table(self, name: str) -> pd.DataFrame:
        """A table by its file's stem.

        Raises:
            ProbekitError: the run has no such table, or a damaged one.
        """
        import pandas as pd
        from pyarrow import ArrowInvalid

        path = self.path / f"{name}.parquet"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in self.path.glob("*.parquet")))
            raise ProbekitError([Issue(display(path), f"is missing; the run has {known}")])
        try:
            return pd.read_parquet(path)
        except ArrowInvalid:
            what = "is damaged: take the run's folder from where it was copied, or run its spec again with --replace"
            raise ProbekitError([Issue(display(path), what)]) from None


def load(path: str | Path) -> Run:
    """Opens a finished run.

    Raises:
        ProbekitError: there is no run, it is not finished, or another format.
    """
    from probekit.runner.schemas import SCHEMA_VERSION

    path = Path(path)
    info = read_state(path) if path.is_dir() else None
    if info is None:
        raise ProbekitError([Issue(display(path), "holds no run (no run.json)")])
    if info["schema_version"] != SCHEMA_VERSION:
        what = f"has format {info['schema_version']}, not {SCHEMA_VERSION}: the probekit that made it opens it"
        raise ProbekitError([Issue(display(path), what)])
    if not info["complete"]:
        raise ProbekitError([Issue(display(path), "is not finished: `probekit run` with its spec goes on")])
    return Run(path, info)
