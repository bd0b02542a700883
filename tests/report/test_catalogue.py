from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from probekit.api import (
    BackbonePlugin,
    Layer,
    ParameterError,
    Parameters,
    ProbekitError,
    ProbePlugin,
    SpecPath,
    Weights,
    hookimpl,
)
from probekit.plugins import Candidate, load_plugins
from probekit.report.catalogue import print_layers, print_plugin, print_plugins


class Inner(Parameters):
    """Inside.

    Attributes:
        low, high: the two ends, in pixels.
    """

    low: int = 1
    high: int = 2


class NetParameters(Parameters):
    """A net."""

    model: str = Field(description="Which of them; " + "and a long explanation of it that must be wrapped " * 3)
    weights: Weights = "pretrained"
    size: Annotated[int, Field(gt=0)] | Literal["native"] = "native"
    ends: Inner = Inner()
    folder: SpecPath | None = None


class Net:
    def __init__(self, parameters: NetParameters, *, seed: int) -> None:
        if parameters.model != "small":
            raise ParameterError(("model",), f"no model {parameters.model!r}; did you mean 'small'?")
        assert parameters.weights == "random"

    @property
    def layers(self) -> Mapping[str, Layer]:
        return {"early": Layer(8, (4, 4)), "late": Layer(1024, (16, 32), "tokens")}


def plugin(**hooks: list[Any]) -> Any:
    made = {name: hookimpl(lambda self, answer=answer: answer) for name, answer in hooks.items()}
    for name, hook in made.items():
        hook.__name__ = name
    return type("Plugin", (), made)()


def broken() -> Any:
    raise ImportError("no module of mine")


NET = BackbonePlugin("net", "a net", f"{__name__}:Net", NetParameters, default_layers=("late",))
PROBE = ProbePlugin("net", "a probe", "x:Y")
CONTROL = BackbonePlugin("grey", "a control", "nowhere:Grey", control=True)


@pytest.fixture
def plugins(monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or module())
    return load_plugins(
        [
            Candidate("d-nets", "1.2", "nets", lambda: plugin(probekit_backbones=[NET, CONTROL])),
            Candidate(
                "d-probes", "3", "probes", lambda: plugin(probekit_probes=[ProbePlugin("net", "a probe", "x:Y")])
            ),
            Candidate("d-bad", "0.1", "bad", broken),
        ]
    )


def module() -> Any:
    import types

    made = types.ModuleType(__name__)
    made.__dict__.update(globals())
    return made


def test_the_list_names_kind_distribution_and_what_was_set_aside(plugins, capsys):
    print_plugins(plugins)
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines[1:4]] == [
        "backbone (control) grey d-nets 1.2 a control",
        "backbone net d-nets 1.2 a net",
        "probe net d-probes 3 a probe",
    ]
    assert lines[-2] == "set aside"
    assert "'bad' (from d-bad 0.1)" in lines[-1]
    assert "no module of mine" in lines[-1]


def test_parameters_with_types_defaults_and_descriptions(plugins, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_plugin("net", plugins)
    text = capsys.readouterr().out
    rows = {
        line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line.startswith("  ") and line.strip()
    }
    assert rows["model"].startswith("model text required Which of them;")
    assert rows["weights"].startswith("weights pretrained | random |")
    assert rows["size"] == "size whole number > 0 | native native"
    assert rows["ends.low"] == "ends.low whole number 1 The two ends, in pixels."
    assert rows["folder"] == "folder path not set"
    assert "net  probe, from d-probes 3" in text
    assert max(map(len, text.splitlines())) <= 100
    print_plugin("d-probes/net", plugins)
    assert "d-nets" not in capsys.readouterr().out


def test_layers_of_a_model(plugins, capsys):
    print_layers("net", "small", plugins)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["early", "8", "4", "nchw"], ["late", "1024", "16x32", "tokens"]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: print_layers("net", "smal", p), "did you mean 'small'"),
        (lambda p: print_layers("grey", "x", p), "has no parameter 'model'"),
        (lambda p: print_layers("nat", "x", p), "did you mean 'net'"),
        (lambda p: print_plugin("nat", p), "did you mean 'net'"),
        (lambda p: print_plugin("bad", p), "no module of mine"),
    ],
)
def test_errors_are_one_line(plugins, call, words):
    with pytest.raises(ProbekitError, match=words) as caught:
        call(plugins)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "masks"], ["plugins", "sam"]])
def test_help_and_lists_import_no_torch(arguments):
    code = (
        "import sys; from probekit.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'torchvision', 'sklearn', 'pandas', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
