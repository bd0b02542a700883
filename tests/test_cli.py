"""The command line: exit codes, one line an error, no traceback, and nothing heavy where nothing heavy is needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from probekit.cli import main
from probekit.runner.run import Run

Spec = Callable[..., Path]
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; returns its exit code, what it printed, and what it complained of."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


Command = Callable[..., tuple[int, str, str]]


def test_run_then_show(experiment: Spec, command: Command) -> None:
    code, out, err = command("run", experiment(backbones="{planted: {use: planted}}", controls="[twins]"))
    assert (code, err) == (0, "")
    for text in ("fake", "12 images, 6 groups", "disc", "square", "planted", "planted random", "runs/fake"):
        assert text in out
    code, shown, err = command("show", "runs/fake")
    assert (code, err) == (0, "")
    assert out.endswith(shown)  # a run ends with what show shows
    code, again, err = command("run", "spec.yaml")
    assert (code, err) == (0, "")
    assert "finished" in again.splitlines()[0]
    assert again.endswith(shown)
    code, text, err = command("show", "runs/fake", "--json")
    assert (code, err) == (0, "")
    assert [concept["concept"] for concept in json.loads(text)["concepts"]] == ["disc", "square"]


def test_set_reaches_the_run(experiment: Spec, command: Command) -> None:
    settings = ("--set", "limit=8", "--set", "name=other", "--set", "backbones.planted.with.channels=4")
    assert command("run", experiment(), *settings)[0] == 0
    info = json.loads(Path("runs/other/run.json").read_text())
    assert len(info["images"]) == 8
    assert info["backbones"]["planted"]["layers"]["cells"]["channels"] == 4


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("sampling", "--set sampling"),
        ("sampling.per_clas=3", "per_class"),
        ("seed=many", "seed"),
        ("backbones.planted.use=plantid", "did you mean 'planted'"),
        ("backbones.planted.layers=[cell]", "did you mean 'cells'"),
        ("backbones.planted.with.colour=1", "colour"),
        ("controls=[twin]", "twins"),
        ("probes.topk.with.rank_by=l2", "'l2'"),
        ("split.folds=1", "folds"),
        ("device=cuda:99", "cuda"),
        ("tile.size=8", "tile.size"),
        ("labels.positive=0.01", "labels"),
        ("data.use=odds", "did you mean 'odd'"),
        ("split.folds=50", "50 folds need"),
        ("limit=2", "groups"),
        ("store.path=/proc/x", "store"),
    ],
)
def test_an_expected_error_is_its_lines_and_exit_code_2(
    experiment: Spec, command: Command, setting: str, expected: str
) -> None:
    code, out, err = command("run", experiment(), "--set", setting)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err + out
    assert "bug" not in err
    assert 1 <= len(err.splitlines()) <= 3


def test_all_errors_of_a_phase_come_at_once(experiment: Spec, command: Command) -> None:
    spec = experiment(
        backbones="{a: {use: planted, layers: [nothing]}, b: {use: planted, with: {weights: gone.bin}}, c: {use: tiny, "
        "layers: [bodi]}}",
        probes="{l1: {use: l1-path}, topk: {use: l2-subsets, with: {rank_by: l1, k: [900]}}}",
    )
    code, _, err = command("run", spec)
    assert code == 2
    assert "'nothing' is not a layer of a" in err
    assert "did you mean 'body'" in err
    assert err.splitlines()[-1].endswith("errors, nothing was run")
    assert not list(Path().glob(".probekit-store/*"))


@pytest.mark.parametrize(
    "arguments",
    [("run", "absent.yaml"), ("show", "absent"), ("show", "."), ("run", "."), ("plan", "absent.yaml")],
)
def test_what_is_not_there(experiment: Spec, command: Command, arguments: tuple[str, ...]) -> None:
    experiment()
    code, _, err = command(*arguments)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert arguments[1] in err


def test_a_spec_that_is_no_text(experiment: Spec, command: Command) -> None:
    experiment()
    Path("photo.yaml").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    code, _, err = command("run", "photo.yaml")
    assert code == 2
    assert "photo.yaml" in err
    assert len(err.splitlines()) == 1


def test_show_of_a_run_in_progress_and_of_another_format(experiment: Spec, command: Command, finished: Run) -> None:
    experiment()
    state = json.loads((finished.path / "run.json").read_text())
    Path("run").mkdir()
    for change, text in (({"complete": False}, "is not finished"), ({"schema_version": 99}, "has format 99")):
        Path("run/run.json").write_text(json.dumps({**state, **change}))
        code, _, err = command("show", "run")
        assert code == 2
        assert text in err


def test_a_bug_is_called_one(experiment: Spec, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from probekit.runner import execute

    monkeypatch.setattr(execute, "build_folds", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("run", experiment())


def test_help_and_lists_import_no_torch(child: Child) -> None:
    text = (
        "import sys\n"
        "from probekit.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "heavy = {'torch', 'timm', 'torchvision', 'sklearn', 'pandas', 'PIL', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["--help"], ["run", "--help"], ["plugins"], ["plugins", "l1-path"], ["schema"]):
        process = child("-c", text, *arguments)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert output


def test_importing_the_package_costs_nothing(child: Child) -> None:
    text = "import sys, probekit, probekit.api; assert not {'torch', 'numpy.ma', 'pandas'} & set(sys.modules)"
    process = child("-c", text)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_output_that_nobody_reads_is_no_error(experiment: Spec, finished: Run, child: Child) -> None:
    process = child("-m", "probekit.cli", "show", str(finished.path), "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0, errors
    assert "Traceback" not in errors
