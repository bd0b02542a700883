"""``--set key=value``: the same rules as the file, its own places."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_values_by_the_files_rules(load, spec_text: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    spec = load(
        spec_text, "sampling.per_class=8000", "split={scheme: holdout, test: 0.3}", "backbones.a-net.layers.0=zero",
        "backbones.a-net.layers.2=three", "data.with.root=photos", "probes.l1.with.lambda_ratio.min=1e-2", "limit=",
        "name='7'", "backbones.v1.0.batch_size=4", "backbones.v2.use=flat", "backbones.v2.with.weights=v2.pth",
        "seed=1", "seed=2", "store.budget=1 GiB", "tile.size=512",
    )  # fmt: skip
    assert spec.experiment.sampling.per_class == 8000
    assert spec.experiment.split.test == 0.3
    assert spec.backbones["a-net"].layers == ("zero", "two", "three")
    assert spec.data[0].parameters.root == tmp_path / "here" / "photos"
    assert spec.data[0].parameters.concepts["pot"] == tmp_path / "masks" / "pot"
    assert spec.probes["l1"].parameters.lambda_ratio.min == 0.01
    assert (spec.experiment.limit, spec.experiment.name, spec.experiment.seed) == (None, "7", 2)
    assert spec.backbones["v1.0"].batch_size == 4
    assert spec.backbones["v2"].parameters.weights == tmp_path / "here" / "v2.pth"
    assert spec.experiment.store.budget == 1 << 30
    assert spec.experiment.tile.size == 512


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("x", "--set x  expected key=value"),
        ("=3", "--set =3  expected key=value"),
        ("a..b=3", "--set a..b=3  expected key=value"),
        ("name.x=1", "--set name.x=1  name: holds a single value: nothing can be set below it"),
        ("seeds=1", "--set seeds=1  seeds: unknown key; did you mean 'seed'?"),
        ("seed=one", "--set seed=one  seed: expected a whole number, given the text 'one'"),
        ("sampling.per_clas=1", "--set sampling.per_clas=1  sampling.per_clas: unknown key; did you mean 'per_class'?"),
        ("sampling={per_class: x}", "--set sampling={per_class: x}  sampling.per_class: expected a whole number"),
        ("backbones.a-net.layers.9=x", "backbones.a-net.layers: is a list of 2: '9' is no place in it"),
        ("backbones.a-net.layers.x=x", "backbones.a-net.layers: is a list of 2: 'x' is no place in it"),
        ("backbones.a-net.layers.-1=x", "backbones.a-net.layers: is a list of 2: '-1' is no place in it"),
        ("seed=[", "--set seed=[  a value is missing, or a '[' or '{' is not closed"),
        ("seed={a: 1, a: 2}", "--set seed={a: 1, a: 2}  seed.a: stands twice: keep one of them"),
        ("data.use=foldr", "--set data.use=foldr  data.use: no plugin named 'foldr'; did you mean 'folders'?"),
        ("data.with={}", "--set data.with={}  data.with.root: is required"),
        ("probekit=3", "--set probekit=3  probekit: this version reads schema 1, given 3"),
        ("backbones.v1.0.device=gpu", "--set backbones.v1.0.device=gpu  backbones.v1.0.device: expected auto, cpu"),
    ],
)
def test_errors_name_the_set_that_caused_them(complaints, spec_text: str, override: str, complaint: str) -> None:
    lines = complaints(spec_text, override)
    assert any(complaint in line for line in lines), lines
    assert all(line.startswith(f"--set {override}  ") for line in lines), lines


def test_errors_of_the_file_and_of_sets_come_together(complaints, spec_text: str) -> None:
    lines = complaints(spec_text.replace("name: small", "name: a b"), "seed=x", "limit=y", "name2=a")
    assert lines[0].startswith("exp.yaml:2:7  name: ")
    assert sorted(line.partition("  ")[0] for line in lines[1:]) == ["--set limit=y", "--set name2=a", "--set seed=x"]


def test_a_set_mends_what_the_file_has_wrong(load, spec_text: str) -> None:
    spec = load(
        spec_text.replace("use: net,", "use: nett,").replace("small", "a b"), "backbones.a-net.use=net", "name=ab"
    )
    assert spec.experiment.name == "ab"
