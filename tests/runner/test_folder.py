"""A run's folder: the same bytes again, whatever happened in between; one writer; nothing of others is touched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import probekit
from probekit.api import ProbekitError
from probekit.runner import folder as folder_module
from probekit.runner.folder import begin, held
from probekit.runner.schemas import SCHEMAS
from probekit.testing.fakes import TinyBackbone

Spec = Callable[..., Path]
Child = Callable[..., "subprocess.Popen[str]"]

TINY = "{tiny: {use: tiny, layers: [stem, body]}}"

# Kills its own process at the n-th event of a kind: an atomic rename (before or after it), or a forward pass.
KILLER = """
import os, signal, sys
from pathlib import Path
kind, place, spec, out = sys.argv[1:]
count = int(place)
def die():
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
replace = Path.replace
def renamed(self, target):
    if kind == "before":
        die()
    result = replace(self, target)
    if kind == "after":
        die()
    return result
Path.replace = renamed
from probekit.testing.fakes import TinyBackbone
forward = TinyBackbone.forward
def passed(self, *arguments):
    if kind == "pass":
        die()
    return forward(self, *arguments)
TinyBackbone.forward = passed
import probekit
probekit.run(spec, out=out)
"""


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run, but the timings (on the page, too) and the lock, by its place."""
    files = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    if "report.html" in files:
        files["report.html"] = re.sub(rb'<section id="time".*?</section>', b"", files["report.html"], flags=re.DOTALL)
    return {name: content for name, content in files.items() if name not in ("timings.parquet", ".lock")}


def kill(child: Child, kind: str, place: int, out: str) -> None:
    process = child("-c", KILLER, kind, str(place), "spec.yaml", out)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors


def test_two_runs_of_one_spec_are_equal_byte_for_byte(experiment: Spec) -> None:
    first, second = (
        probekit.run(experiment(folder, backbones=TINY, controls="[twins]"), out=f"{folder}/run").path
        for folder in ("one", "two")
    )
    assert contents(first) == contents(second)
    assert {"run.json", "spec.yaml"} | {f"{name}.parquet" for name in SCHEMAS if name != "timings"} < set(
        contents(first)
    )


def test_threads_and_store_change_no_result(experiment: Spec) -> None:
    one = probekit.run(experiment("one", backbones=TINY, threads="1"), out="one/run").path
    two = probekit.run(experiment("two", backbones=TINY, threads="2", store="{path: elsewhere}"), out="two/run").path
    first, second = contents(one), contents(two)
    assert first.pop("spec.yaml") != second.pop("spec.yaml")
    assert first == second


@pytest.mark.parametrize(
    ("kind", "place"),
    [("pass", 19), ("after", 40), ("before", 70), ("before", 86)],
    ids=["in a network", "in a job", "at the thumbnails", "at the tables"],
)
def test_a_killed_run_ends_with_the_same_bytes(experiment: Spec, child: Child, kind: str, place: int) -> None:
    spec = experiment(backbones=TINY)
    kill(child, kind, place, "killed")
    store = Path(".probekit-store")
    for shard in store.rglob("[!.]*.safetensors"):  # written, or not there
        assert shard.with_suffix(".json").exists() or kind == "after"
    killed = contents(probekit.run(spec, out="killed").path)
    whole = contents(probekit.run(spec, ["store.path=other"], out="whole").path)
    assert killed.pop("spec.yaml") != whole.pop("spec.yaml")  # the store
    assert killed == whole


def test_a_run_that_was_killed_between_jobs_keeps_the_finished_ones(
    experiment: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probekit.runner import execute

    spec, done = experiment(backbones=TINY), []
    real = execute.fit_job

    def stop_at_the_second(opened, advance):
        done.append(opened.job.layer)
        if len(done) == 2:
            raise KeyboardInterrupt
        return real(opened, advance)

    monkeypatch.setattr(execute, "fit_job", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        probekit.run(spec)
    with pytest.raises(ProbekitError, match="is not finished"):
        probekit.load("runs/fake")
    probekit.run(spec)
    assert done == ["stem", "body", "body"]
    assert not (Path("runs/fake") / "jobs").exists()


def test_a_finished_run_returns_at_once(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    from probekit.runner import execute

    spec = experiment(backbones=TINY)
    before = contents(probekit.run(spec).path)
    forwards, loads = TinyBackbone.forwards, TinyBackbone.loads
    monkeypatch.setattr(execute, "fit_job", lambda *_: pytest.fail("fitted again"))
    monkeypatch.setattr(execute, "build_dataset", lambda *_: pytest.fail("read masks again"))
    again = probekit.run(spec)
    assert contents(again.path) == before
    assert (TinyBackbone.forwards, TinyBackbone.loads) == (forwards, loads)
    # The spec as it was kept is the same run too, from where it lies; threads, batches and the store do not matter.
    assert contents(probekit.run(Path("runs/fake/spec.yaml"), ["threads=2", "store.path=x"]).path) == before


def test_a_kill_after_the_record_and_before_the_end_leaves_nothing(experiment: Spec) -> None:
    spec = experiment()
    run = probekit.run(spec).path
    before = contents(run)
    (run / "jobs" / "left").mkdir(parents=True)
    (run / ".points.parquet.1.tmp").write_text("half")
    assert contents(probekit.run(spec).path) == before


def test_a_changed_spec_names_the_keys_and_touches_nothing(experiment: Spec) -> None:
    run = probekit.run(experiment()).path
    before = contents(run)
    changed = experiment(sampling="{per_class: 150}", seed="3")
    with pytest.raises(ProbekitError) as caught:
        probekit.run(changed)
    line = str(caught.value)
    assert "\n" not in line
    assert "runs/fake" in line
    for part in ("sampling.per_class was 200, is 150", "seed was 0, is 3", "--out", "--replace"):
        assert part in line
    assert contents(run) == before
    other = probekit.run(changed, out="both").path
    assert contents(run) == before
    (run / "notes.txt").write_text("mine")
    replaced, expected = contents(probekit.run(changed, replace=True).path), contents(other)
    assert replaced.pop("notes.txt") == b"mine"
    assert replaced.pop("spec.yaml") != expected.pop("spec.yaml")  # the store's path starts from elsewhere
    assert replaced == expected


def test_a_run_without_results_is_not_asked_about(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that only the work itself brings to light, such as folds without a class, is mended and run again."""
    from probekit.runner import execute

    spec = experiment()
    with monkeypatch.context() as patch:
        patch.setattr(execute, "fit_job", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            probekit.run(spec)
    assert len(probekit.run(spec, ["split.folds=2"]).points)
    with pytest.raises(ProbekitError, match=r"split\.folds was 2, is 3"):
        probekit.run(spec)


def test_replacing_leaves_nothing_of_the_old_run(experiment: Spec) -> None:
    run = probekit.run(experiment()).path
    with held(run):
        begin(run, {"schema_version": 1, "spec": {}}, ["all"], True)
    assert sorted(path.name for path in run.iterdir()) == [".lock", "run.json"]


def test_data_that_changed_under_a_spec_that_did_not(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = experiment()
    probekit.run(spec)
    from probekit.testing.fakes import DiscSource

    monkeypatch.setattr(DiscSource, "mask_digest", lambda *_: "sha256:other")
    with pytest.raises(ProbekitError, match="images, groups or masks are not those of the run"):
        probekit.run(spec)


def test_weights_that_changed_under_a_spec_that_did_not(experiment: Spec) -> None:
    Path("scale.txt").write_text("1.0")
    spec = experiment(backbones="{planted: {use: planted, with: {weights: scale.txt}}}")
    probekit.run(spec)
    probekit.run(spec)
    Path("scale.txt").write_text("2.0")
    with pytest.raises(ProbekitError, match="the weights of planted are not those of the run"):
        probekit.run(spec)


def test_other_versions_matter_only_to_a_run_in_progress(experiment: Spec) -> None:
    spec = experiment()
    run = probekit.run(spec).path
    state = json.loads((run / "run.json").read_text())
    state["environment"]["packages"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(state))
    probekit.run(spec)
    (run / "run.json").write_text(json.dumps({**state, "complete": False}))
    (run / "jobs" / "a").mkdir(parents=True)
    with pytest.raises(ProbekitError, match=r"packages\.torch was 1\.0"):
        probekit.run(spec)


@pytest.mark.parametrize(
    "files",
    [
        {"photo.jpg": "x"},
        {"run.json": "{}"},
        {"run.json": "not JSON"},
        {"run.json": "[1]", "points.parquet": "x"},
        {"points.parquet": "theirs"},
        {".lock": "of another program"},
        {"jobs/a": "x"},
    ],
)
@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_of_other_things_is_never_touched(experiment: Spec, files: Mapping[str, str], replace: bool) -> None:
    for name, text in files.items():
        path = Path("theirs") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(ProbekitError, match="--out") as caught:
        probekit.run(experiment(), out="theirs", replace=replace)
    assert "theirs" in str(caught.value)
    assert {str(p.relative_to("theirs")): p.read_text() for p in Path("theirs").rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("out", ["file/run", "file", "x" * 300, "/proc/run"])
def test_a_folder_that_cannot_be_made_is_one_line(experiment: Spec, out: str) -> None:
    Path("file").write_text("")
    with pytest.raises(ProbekitError, match="cannot be used as a run's folder"):
        probekit.run(experiment(), out=out)


def test_a_store_that_cannot_be_made_is_one_line(experiment: Spec) -> None:
    Path("file").write_text("")
    for store in ("file", "file/store"):
        with pytest.raises(ProbekitError, match="cannot be used as the store"):
            probekit.run(experiment(), [f"store.path={store}"])


@pytest.mark.parametrize("steps", range(4))
def test_a_kill_while_a_run_is_replaced_mixes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Every step of ``begin`` that changes the disk: after a stop there it can be begun again, the old run goes on as
    it was or is gone, and no job of the old run lies under the new run's record."""
    old, new = ({"schema_version": 1, "spec": {"seed": seed}} for seed in (1, 2))
    with held(tmp_path / "run"):
        begin(tmp_path / "run", old, (), False)
    run = tmp_path / "run"
    (run / "jobs" / "a").mkdir(parents=True)
    (run / "points.parquet").write_text("old")
    left = steps

    class Stop(BaseException):
        pass

    def stopping(real):
        def call(*arguments, **keywords):
            nonlocal left
            left -= 1
            if left < 0:
                raise Stop
            return real(*arguments, **keywords)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopping(Path.rename))
        patch.setattr(Path, "unlink", stopping(Path.unlink))
        patch.setattr(Path, "replace", stopping(Path.replace))
        patch.setattr(folder_module.shutil, "rmtree", stopping(folder_module.shutil.rmtree))
        with held(run), pytest.raises(Stop):
            begin(run, new, ["seed was 1, is 2"], True)
    state = json.loads((run / "run.json").read_text())
    assert not state["complete"]
    assert state["spec"]["seed"] == 1 or not (run / "jobs").exists()
    with held(run):
        begin(run, new, ["seed was 1, is 2"], True)
    assert sorted(p.name for p in run.iterdir()) == [".lock", "run.json"]


def test_a_second_process_is_told_who_holds_the_run(experiment: Spec, child: Child) -> None:
    experiment()
    text = "import time; from probekit.runner.folder import held; from pathlib import Path\n"
    text += "with held(Path('runs/fake')): print('held', flush=True); time.sleep(100)"
    process = child("-c", text)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        with pytest.raises(ProbekitError, match=rf"is being written by process {process.pid} \(since \d\d:\d\d\)"):
            probekit.run("spec.yaml")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    probekit.run("spec.yaml")  # a killed holder holds nothing


def test_two_runs_share_a_store_at_once(experiment: Spec, child: Child) -> None:
    for name in ("one", "two"):
        experiment(name, backbones=TINY, store="{path: ../store}")
    both = [child("-m", "probekit.cli", "run", f"{name}/spec.yaml", "--out", f"{name}/run") for name in ("one", "two")]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert contents(Path("one/run")) == contents(Path("two/run"))
    before = TinyBackbone.forwards
    probekit.run("one/spec.yaml", out="again")
    assert TinyBackbone.forwards == before
    assert not list(Path("store").rglob(".*.tmp"))


def test_ctrl_c_says_how_to_go_on(experiment: Spec, child: Child) -> None:
    spec = experiment(backbones=TINY, data="{use: odd, with: {groups: 12, images: 20, height: 128, width: 128}}")
    process = child("-m", "probekit.cli", "run", str(spec))
    store = Path(".probekit-store")
    begun = time.monotonic()
    while not list(store.glob("*/collection.json")):  # extraction has begun
        assert process.poll() is None
        assert time.monotonic() - begun < 100
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "stopped: what is finished is kept, the same command goes on from there"
    assert not list(store.rglob(".*.tmp"))


def test_a_tree_that_is_moved_holds_the_same_run(experiment: Spec) -> None:
    spec = experiment("tree", backbones="{planted: {use: planted, with: {weights: scale.txt}}}")
    (spec.parent / "scale.txt").write_text("1.0")
    before = contents(probekit.run(spec, out="tree/runs/a").path)
    Path("tree").rename("moved")
    run = probekit.run(Path("moved/runs/a/spec.yaml"), out="moved/runs/a")
    assert contents(run.path) == before
    assert run.path == Path("moved/runs/a")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_another_collection_and_as_stable(experiment: Spec, dtype: str) -> None:
    first = contents(probekit.run(experiment("one", dtype=dtype), out="one/run").path)
    assert first == contents(probekit.run(experiment("two", dtype=dtype), out="two/run").path)
    probekit.run("one/spec.yaml", ["dtype=float32"], out="other")
    assert len(list(Path("one/.probekit-store").iterdir())) == 2


def test_a_damaged_shard_is_one_line_and_mended(experiment: Spec) -> None:
    spec = experiment()
    before = contents(probekit.run(spec).path)
    (shard,) = Path(".probekit-store").rglob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ProbekitError, match="probekit store prune") as caught:
        probekit.run(spec, replace=True)
    assert "\n" not in str(caught.value)
    from probekit.features.store import Store

    Store(Path(".probekit-store")).prune()
    assert contents(probekit.run(spec).path) == before


def test_ctrl_c_among_the_probes(experiment: Spec, child: Child) -> None:
    """Threads that fit are let go of too, and what they have not finished is done by the next process."""
    text = (
        "import os, signal, sys, threading\n"
        "from probekit.runner import execute\n"
        "real = execute.fit_job\n"
        "def fit(opened, advance):\n"
        "    if opened.job.layer == 'body':\n"
        "        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "        while True:\n"
        "            real(opened, advance)\n"
        "    return real(opened, advance)\n"
        "execute.fit_job = fit\n"
        "from probekit.cli import main\n"
        "sys.exit(main(['run', 'spec.yaml', '--set', 'threads=2']))\n"
    )
    experiment(backbones=TINY)
    process = child("-c", text)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert len(list(Path("runs/fake/jobs").glob("[!.]*"))) == 1
    stopped = contents(probekit.run("spec.yaml").path)
    assert stopped == contents(probekit.run("spec.yaml", out="runs/whole").path)
