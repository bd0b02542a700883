"""What tests of whole runs share: the fakes as an installed plugin, a small spec, a run in a child process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from probekit.runner.run import Run

_SPEC = {
    "name": "fake",
    "data": "{use: odd, with: {groups: 6, images: 2, height: 64, width: 80}}",
    "split": "{scheme: group-kfold, folds: 3, validation: 0.4}",
    "sampling": "{per_class: 200}",
    "evaluation": "{grid: 8, description_length: false}",
    "nulls": "{random_channels: 0, permuted_labels: false, control_task: false}",
    "stability": "{pairs: 0}",
    "backbones": "{planted: {use: planted}, tiny: {use: tiny, layers: [stem, body]}}",
    "controls": "[twins, pixels]",
    "probes": "{l1: {use: l1-path, with: {lambda_ratio: {points: 5, min: 0.01}}}, "
    "topk: {use: l2-subsets, with: {rank_by: l1, k: [2, all], widths: 4, ridges: [0.1, 0.001]}}}",
    "threads": "1",
}


@pytest.fixture(scope="session")
def fakes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution ``run-fakes``, as an installer would leave it."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copy(Path(__file__).parent / "fakes" / "run_fakes.py", folder)
    about = folder / "run_fakes-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: run-fakes\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[probekit]\nrun-fakes = run_fakes\n")
    return folder


@pytest.fixture
def fakes(fakes_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs the fakes for one test."""
    monkeypatch.syspath_prepend(fakes_folder)


@pytest.fixture(scope="session")
def write_spec() -> Callable[..., Path]:
    """Writes a spec into a folder; keywords replace its root keys (YAML text; none drops the key)."""

    def write(folder: Path, **keys: str | None) -> Path:
        values = {key: value for key, value in {**_SPEC, **keys}.items() if value is not None}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "spec.yaml"
        path.write_text("\n".join(["probekit: 1", *(f"{key}: {value}" for key, value in values.items())]) + "\n")
        return path

    return write


@pytest.fixture
def experiment(
    fakes: None, write_spec: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Writes a small spec into the test's folder, which is the working directory, or below it (``folder``)."""
    monkeypatch.chdir(tmp_path)

    def write(folder: str = ".", **keys: str | None) -> Path:
        small: dict[str, str | None] = {"backbones": "{planted: {use: planted}}", "controls": None}
        return write_spec(tmp_path / folder, **{**small, **keys}).relative_to(tmp_path)

    return write


@pytest.fixture(scope="session")
def finished(
    fakes_folder: Path, write_spec: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """A run of two backbones, their twins and ``pixels``: not to be changed."""
    from probekit.runner.execute import run

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(fakes_folder)
        yield run(write_spec(folder), out=folder / "run")


@pytest.fixture(scope="session")
def surveyed(
    fakes_folder: Path, write_spec: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """A run with groups enough for intervals and tests, in two repeats: not to be changed."""
    from probekit.runner.execute import run

    folder = tmp_path_factory.mktemp("surveyed")
    data = "{use: odd, with: {groups: 16, images: 1, height: 64, width: 80, roads: 3}}"
    backbones = "{planted: {use: planted}, tiny: {use: tiny, layers: [stem]}}"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(fakes_folder)
        everything = {
            "nulls": "{random_channels: 4}",
            "stability": "{pairs: 10, knockoffs: 0.9}",
            "evaluation": "{grid: 8, bootstrap: 500}",
        }
        yield run(
            write_spec(folder, data=data, backbones=backbones, repeats="2", controls="[twins]", **everything),
            out=folder / "run",
        )


@pytest.fixture
def child(fakes_folder: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts Python in the test's folder, with the fakes installed."""

    def start(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(fakes_folder), "OMP_NUM_THREADS": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
