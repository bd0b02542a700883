"""A set of plugins that need nothing installed, and a spec that uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, model_validator

from probekit.api import (
    BackbonePlugin,
    LabelSourcePlugin,
    ParameterError,
    Parameters,
    ProbePlugin,
    SpecPath,
    Weights,
    hookimpl,
)
from probekit.plugins import Candidate, Plugins, load_plugins
from probekit.spec import Resolved, load_experiment


class Groups(Parameters):
    file: SpecPath
    columns: tuple[str, ...] = ("image", "group")


class Folders(Parameters):
    root: SpecPath
    concepts: dict[str, SpecPath] = Field(min_length=1)
    groups: Groups | None = None
    image_format: Literal["png", "jpeg"] = "png"


class Net(Parameters):
    model: str = "small"
    weights: Weights = "random"
    size: int | Literal["native"] = "native"
    scale: float = 1.0
    fast: bool = False


class Needy(Parameters):
    width: int


class Grid(Parameters):
    points: int = Field(default=40, ge=2)
    min: float = 1e-3


class Path1(Parameters):
    lambda_ratio: Grid = Grid()
    C: tuple[float, ...] | None = None
    ratios: tuple[float, ...] | Literal["all"] | Grid = "all"

    @model_validator(mode="after")
    def _positive(self) -> Path1:
        for i, value in enumerate(self.C or ()):
            if value <= 0:
                raise ParameterError(("C", i), f"must be greater than 0, given {value:g}")
        return self


class Subsets(Parameters):
    rank_by: str = "l1"
    k: tuple[int | Literal["all"], ...] = (5, "all")


class Fakes:
    @hookimpl
    def probekit_backbones(self):
        return [
            BackbonePlugin("net", "a network", "fakes.net:Net", Net),
            BackbonePlugin("flat", "a network with a usual layer", "fakes.net:Flat", Net, default_layers=("top",)),
            BackbonePlugin("pixels", "image statistics", "fakes.net:Pixels", control=True, default_layers=("all",)),
            BackbonePlugin("needy", "a control that cannot do without", "fakes.net:Needy", Needy, control=True),
        ]

    @hookimpl
    def probekit_label_sources(self):
        return [LabelSourcePlugin("folders", "folders of masks", "fakes.labels:Folders", Folders)]

    @hookimpl
    def probekit_probes(self):
        return [
            ProbePlugin("path", "a path", "fakes.probes:Path", Path1),
            ProbePlugin("subsets", "subsets of a ranking", "fakes.probes:Subsets", Subsets, upstream="rank_by"),
        ]


def _broken() -> object:
    raise OSError("libodd.so: cannot open\nshared object")


@pytest.fixture(scope="session")
def fakes() -> Plugins:
    return load_plugins(
        [Candidate("probekit-fakes", "1.2", "fakes", Fakes), Candidate("probekit-odd", "0.3", "odd", _broken)]
    )


SPEC = """\
probekit: 1
name: small
data:
  use: folders
  with:
    root: photos
    concepts: {pot: masks/pot}
    groups: {file: groups.csv}
backbones:
  a-net: {use: net, layers: [one, two], with: {weights: w.pth}}
  v1.0: {use: flat}
controls: [twins, pixels]
probes:
  topk: {use: subsets, with: {rank_by: l1}}
  l1: {use: path, with: {lambda_ratio: {points: 8, min: 1e-4}}}
"""


@pytest.fixture
def spec_text() -> str:
    return SPEC


@pytest.fixture
def load(tmp_path: Path, fakes: Plugins) -> Callable[..., Resolved]:
    """Writes a text to ``exp.yaml`` in a folder of its own and loads it."""

    def write_and_load(text: str | bytes = SPEC, *overrides: str, folder: Path = tmp_path) -> Resolved:
        folder.mkdir(exist_ok=True, parents=True)
        path = folder / "exp.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_experiment(path, overrides, plugins=fakes)

    return write_and_load


@pytest.fixture
def complaints(load: Callable[..., Any]) -> Callable[..., list[str]]:
    """What is wrong with a spec, a line each, without the folder."""
    from probekit.api import ProbekitError

    def complain(text: str | bytes, *overrides: str) -> list[str]:
        with pytest.raises(ProbekitError) as caught:
            load(text, *overrides)
        assert caught.value.issues
        lines = [str(issue) for issue in caught.value.issues]
        assert all("\n" not in line for line in lines)
        return ["exp.yaml" + line.partition("exp.yaml")[2] if "exp.yaml" in line else line for line in lines]

    return complain
