"""What is written of a spec can be run again and compared."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.spec import changed_keys, load_experiment


def again(spec, folder: Path, plugins):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spec.yaml"
    path.write_text(spec.dump(folder), encoding="utf-8")
    return load_experiment(path, plugins=plugins)


def test_a_dump_runs_from_its_folder(load, fakes, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "small"
    spec = load()
    copy = again(spec, folder, fakes)
    assert copy.data[0].parameters.root.resolve() == (tmp_path / "photos").resolve()
    assert copy.backbones["a-net"].parameters.weights.resolve() == (tmp_path / "w.pth").resolve()
    assert copy.store.resolve() == spec.store.resolve()
    assert copy.canonical(folder) == spec.canonical(folder)
    assert copy.dump(folder) == spec.dump(folder)
    assert str(tmp_path) not in spec.dump(folder)
    assert "use: probekit-fakes/folders" in spec.dump(folder)
    assert list(copy.experiment.probes) == list(spec.experiment.probes)


def test_a_dump_moves_with_its_tree(load, fakes, tmp_path: Path) -> None:
    texts = []
    for place in ("here", "there"):
        spec = load(folder=tmp_path / place)
        texts.append((spec.dump(tmp_path / place / "runs" / "a"), spec.canonical(tmp_path / place / "runs" / "a")))
    assert texts[0] == texts[1]


def test_absolute_paths_stay_as_given_but_compare_equal(load, spec_text: str, tmp_path: Path, fakes) -> None:
    relative = load()
    absolute = load(spec_text.replace("root: photos", f"root: {tmp_path}/photos"))
    assert f"root: {tmp_path}/photos" in absolute.dump(tmp_path / "runs")
    assert absolute.canonical(tmp_path / "runs") == relative.canonical(tmp_path / "runs")


def test_a_file_with_a_keywords_name_stays_a_file(load, spec_text: str, tmp_path: Path, fakes) -> None:
    spec = load(spec_text.replace("w.pth", "./random"))
    assert spec.backbones["a-net"].parameters.weights == tmp_path / "random"
    copy = again(spec, tmp_path, fakes)
    assert copy.backbones["a-net"].parameters.weights == tmp_path / "random"


def test_a_linked_run_folder_is_left_by_its_real_place(load, tmp_path: Path, fakes) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "deep" / "er")
    copy = again(load(), tmp_path / "runs", fakes)
    (tmp_path / "photos").mkdir()
    assert copy.data[0].parameters.root.resolve() == (tmp_path / "photos").resolve()
    assert (copy.folder / copy.data[0].parameters.root).exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.lists(
        st.sampled_from(["1e-4", "no", "true", "null", "1:30", "0x1", "~", "x", "", "a: b", "- a", "#", "é"]),
        max_size=3,
        unique=True,
    ),
    st.one_of(st.integers(1, 1 << 40), st.just("native")),
    st.text(string.ascii_letters + " '\"#:{}[]&*!|>%@`-,?", min_size=1, max_size=12),
)
def test_round_trip(load, fakes, tmp_path: Path, scale, model, layers, size, concept) -> None:
    tree = {
        "probekit": 1,
        "data": {"use": "folders", "with": {"root": "photos", "concepts": {concept: "masks"}}},
        "backbones": {
            "net": {"use": "net", "layers": ["top", *layers], "with": {"model": model, "scale": scale, "size": size}}
        },
        "probes": {"l1": {"use": "path", "with": {"C": [abs(scale) + 1e-300, 1e-4]}}},
    }
    spec = load(json.dumps(tree))
    folder = tmp_path / "runs"
    copy = again(spec, folder, fakes)
    assert copy.backbones["net"].parameters == spec.backbones["net"].parameters
    assert copy.backbones["net"].layers == spec.backbones["net"].layers
    assert copy.probes["l1"].parameters == spec.probes["l1"].parameters
    assert copy.canonical(folder) == spec.canonical(folder) == json.loads(json.dumps(spec.canonical(folder)))


@pytest.mark.parametrize(
    ("override", "lines"),
    [
        ("sampling.per_class=8000", ["sampling.per_class was 20000, is 8000"]),
        ("limit=5", ["limit is new"]),
        ("backbones.a-net.layers.0=zero", ["backbones.a-net.layers was ['one', 'two'], is ['zero', 'two']"]),
        ("backbones.more={use: flat}", ["backbones.more is new"]),
        ("controls=[pixels]", ["controls was ['twins', 'probekit-fakes/pixels'], is ['probekit-fakes/pixels']"]),
        ("backbones.a-net.with.fast=true", ["backbones.a-net.with.fast was false, is true"]),
        (
            "split={scheme: holdout}",
            ["split.scheme was group-kfold, is holdout", "split.folds is gone", "split.test is new"],
        ),
        ("data.use=probekit-fakes/folders", []),
        ("labels={}", []),
        ("threads=1", []),
        ("store={path: elsewhere, budget: 1 GB}", []),
        ("backbones.a-net.batch_size=1", []),
    ],
)  # fmt: skip
def test_changed_keys(load, spec_text: str, tmp_path: Path, override: str, lines: list[str]) -> None:
    old = json.loads(json.dumps(load().canonical(tmp_path / "runs")))
    new = load(spec_text, override).canonical(tmp_path / "runs")
    assert [str(change) for change in changed_keys(old, new)] == lines
