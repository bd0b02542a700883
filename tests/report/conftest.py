"""A spec over the fakes of ``probekit.testing``, and a progress that remembers what was said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from probekit.api import Parameters, ProbePlan, ProbePlugin, hookimpl
from probekit.plugins import Candidate, load_plugins
from probekit.testing.fakes import DISCS, TINY


class IdleProbe:
    """Plans one fit and is never asked for it."""

    def __init__(self, parameters: Parameters, device: str = "cpu", threads: int = 1) -> None:
        pass

    def plan(self, channels: int) -> ProbePlan:
        return ProbePlan(3, 2)


IDLE = ProbePlugin("idle", "plans three fits, for tests", f"{__name__}:IdleProbe")


class FakePlugin:
    @hookimpl
    def probekit_backbones(self) -> Sequence[object]:
        return [TINY]

    @hookimpl
    def probekit_label_sources(self) -> Sequence[object]:
        return [DISCS]

    @hookimpl
    def probekit_probes(self) -> Sequence[object]:
        return [IDLE]


class Told:
    """A progress that remembers its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def start(self, stage: str, what: str, total: int, unit: str) -> None:
        pass

    def advance(self, count: int, note: str = "") -> None:
        pass

    def finish(self, note: str = "") -> None:
        pass

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a spec; keywords replace top-level keys (as YAML text)."""
    import sys

    monkeypatch.setitem(sys.modules, IDLE.target.partition(":")[0], sys.modules[__name__])
    fakes = load_plugins([Candidate("fakes", "1", "fakes", FakePlugin)])
    monkeypatch.setattr("probekit.spec.load.load_plugins", lambda: fakes)
    monkeypatch.chdir(tmp_path)

    def write(**keys: str) -> Path:
        values = {
            "name": "fake",
            "data": "{use: discs}",
            "split": "{scheme: group-kfold, folds: 3}",
            "evaluation": "{grid: 8}",
            "threads": "1",
            "backbones": "{tiny: {use: tiny, layers: [body]}}",
            "probes": "{idle: {use: idle}}",
            **keys,
        }
        path = tmp_path / "spec.yaml"
        path.write_text("\n".join(["probekit: 1", *(f"{key}: {value}" for key, value in values.items())]) + "\n")
        return path

    return write
