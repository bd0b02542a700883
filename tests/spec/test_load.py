"""Every error of a spec at once, each at its place, in words that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.api import ParameterError, ProbekitError
from probekit.spec import load_experiment
from probekit.spec.yaml import SpecString


def test_a_spec_with_everything_resolved(load, tmp_path: Path) -> None:
    spec = load()
    assert spec.experiment.split.folds == 5
    assert spec.data[0].plugin.qualified == "probekit-fakes/folders"
    assert spec.data[0].parameters.root == tmp_path / "photos"
    assert spec.data[0].parameters.concepts == {"pot": tmp_path / "masks/pot"}
    assert list(spec.backbones) == ["a-net", "v1.0"]
    assert spec.backbones["a-net"].layers == ("one", "two")
    assert spec.backbones["a-net"].parameters.weights == tmp_path / "w.pth"
    assert spec.backbones["v1.0"].layers == ("top",)
    assert (spec.backbones["v1.0"].device, spec.backbones["v1.0"].dtype) == ("auto", "float32")
    assert spec.twins
    assert spec.controls["pixels"].control
    assert not spec.backbones["a-net"].control
    assert list(spec.probes) == ["l1", "topk"]
    assert (spec.probes["topk"].upstream, spec.probes["l1"].upstream) == ("l1", None)
    assert spec.probes["l1"].parameters.lambda_ratio.min == 1e-4
    assert spec.store == tmp_path / ".probekit-store"


def test_the_least_that_is_needed(load) -> None:
    data = "data: {use: folders, with: {root: ., concepts: {a: m}}}\n"
    spec = load(f"probekit: 1\n{data}backbones: {{b: {{use: flat}}}}\nprobes: {{p: {{use: path}}}}\n")
    assert spec.experiment.name == "exp"
    assert (spec.controls, spec.twins, spec.experiment.repeats, spec.experiment.seed) == ({}, False, 1, 0)


def test_everything_that_is_wrong_is_said_at_once_in_the_files_order(complaints) -> None:
    text = """\
name: a b
probekit: 1
seed: "3"
data: {use: foldrs}
labels: {positive: 0.05, negative: 0.25}
split: {scheme: holdout, folds: 5}
samplng: {per_class: 1}
backbones:
  one: {use: net, layers: [x, x], dtype: bfloat17, with: {modl: a, weights: 3, size: nativ, scale: no}}
  two: {use: net, weights: w.pth}
  three: {use: path, layers: a}
controls: [twin, net, pixel, pixels, pixels, needy]
probes:
  topk: {use: subsets, with: {rank_by: l2, k: [1.5, al]}}
  l1: {use: path, with: {C: [1.0, 0.0], lambda_ratio: {points: 1}}}
  l3: {use: path, with: {C: [1.0, 0.0]}}
store: {budget: 20 GC}
tile: {size: 512, overlap: 512}
device: gpu
repeats: true
"""
    lines = complaints(text)
    expected = [
        "1:7  name: expected a name of letters",
        "2:1  probekit: must be the first key",
        "3:7  seed: expected a whole number, given the text '3': leave the quotes out",
        "4:13  data.use: no plugin named 'foldrs'; did you mean 'folders'? (probekit plugins lists them)",
        "5:36  labels.negative: must be less than positive (0.05), given 0.25",
        "6:26  split.folds: unknown key; what can be set: scheme, validation, by, size",
        "7:1  samplng: unknown key; did you mean 'sampling'?",
        "9:31  backbones.one.layers[1]: 'x' stands twice",
        "9:42  backbones.one.dtype: expected 'float32', 'bfloat16' or 'float16', given the text 'bfloat17'",
        "9:59  backbones.one.with.modl: unknown key; did you mean 'model'?",
        "9:77  backbones.one.with.weights: expected 'pretrained', 'random', 'bundled' or a path, given 3",
        "9:86  backbones.one.with.size: expected a whole number or 'native', given the text 'nativ'; did you",
        "9:100  backbones.one.with.scale: expected a number, given the text 'no'",
        "10:3  backbones.two.layers: name at least one; 'probekit plugins net'",
        "10:19  backbones.two.weights: unknown key here: the plugin's parameters stand under 'with'",
        "11:16  backbones.three.use: 'path' is a probe, not a backbone",
        "11:30  backbones.three.layers: expected a list, given the text 'a'",
        "12:12  controls[0]: no control named 'twin'; did you mean 'twins'?",
        "12:18  controls[1]: 'net' is no control (twins, needy, pixels)",
        "12:23  controls[2]: no plugin named 'pixel'; did you mean 'pixels'?",
        "12:38  controls[4]: 'pixels' stands twice",
        "12:46  controls[5]: 'needy' needs parameters",
        "14:40  probes.topk.with.rank_by: no entry 'l2' under probes; there are: l1, l3",
        "14:48  probes.topk.with.k[0]: expected a whole number or 'all', given 1.5",
        "14:53  probes.topk.with.k[1]: expected a whole number or 'all', given the text 'al'; did you mean 'all'?",
        "15:64  probes.l1.with.lambda_ratio.points: expected a number of at least 2, given 1",
        "16:35  probes.l3.with.C[1]: must be greater than 0, given 0",
        "17:17  store.budget: expected bytes",
        "18:28  tile.overlap: must be less than size (512), given 512",
        "19:9  device: expected auto, cpu, cuda or cuda:N, given 'gpu'",
        "20:10  repeats: expected a whole number, given true",
    ]
    missing = [e for e in expected if not any(line.startswith(f"exp.yaml:{e}") for line in lines)]
    assert missing == [], "\n".join(lines)
    assert len(lines) == len(expected), "\n".join(lines)
    places = [tuple(map(int, line.split("  ")[0].split(":")[1:])) for line in lines]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("probekit: 1\n", ""), "exp.yaml:1:1  probekit: is required: the first line is 'probekit: 1'"),
        (("probekit: 1", "probekit: 2"), "exp.yaml:1:11  probekit: this version reads schema 1, given 2"),
        (("probekit: 1", "probekit: true"), "exp.yaml:1:11  probekit: this version reads schema 1, given true"),
        (("    root: photos\n", ""), "exp.yaml:5:3  data.with.root: is required"),
        (("{pot: masks/pot}", "{}"), "exp.yaml:7:15  data.with.concepts: is empty: name at least one"),
        (("{file: groups.csv}", "{fil: groups.csv, file: a}"), "data.with.groups.fil: unknown key; did you"),
        (("use: folders", "use: odd"), "plugin 'odd' (from probekit-odd 0.3) failed to load: OSError: libodd.so"),
        (("use: folders", "use: probekit-odd/x"), "plugin 'odd' (from probekit-odd 0.3) failed to load"),
        (("use: folders", "use: 3"), "exp.yaml:4:8  data.use: expected text, given 3: put it in quotes"),
        (("use: folders", "use:"), "exp.yaml:4:7  data.use: expected text, given nothing"),
        (("rank_by: l1", "rank_by: topk"), "probes.topk.with.rank_by: names itself"),
        (("{use: path, with", "{use: subsets, with: {rank_by: topk}, wit"), "probes that wait for each"),
        (("controls: [twins, pixels]", "controls:"), "exp.yaml:12:10  controls: expected a list, given nothing"),
        (("v1.0:", "pixels:"), "exp.yaml:12:19  controls[1]: an entry under backbones has the name 'pixels' too"),
        (("v1.0:", "a/b:"), "exp.yaml:11:3  backbones.a/b: expected a name of letters"),
        (("name: small", "name: ../up"), "exp.yaml:2:7  name: expected a name of letters"),
        (("name: small", "split: {scheme: k-fold}"), "exp.yaml:2:17  split.scheme: expected 'group-kfold' or"),
        (("name: small", "split: {by: blocks, size: 512}"), "exp.yaml:2:1  split.buffer: is required by blocks"),
        (("name: small", "split: {by: blocks, buffer: 0}"), "exp.yaml:2:1  split.size: is required by blocks"),
        (("name: small", "split: {size: 512}"), "exp.yaml:2:15  split.size: is of blocks, and groups are not divided"),
        (("name: small", "split: {scheme: holdout, buffer: 9}"), "2:34  split.buffer: is of blocks, and groups are"),
        (("name: small", "split: {by: tiles}"), "exp.yaml:2:13  split.by: expected 'groups' or 'blocks', given the"),
        (("name: small", "split: {by: blocks, size: 1.5, buffer: 0}"), "2:27  split.size: expected a whole number"),
        (("name: small", "split: {by: blocks, size: 9, buffer: -1}"), "2:38  split.buffer: expected a number of at"),
        (("name: small", "split: {folds: 1}"), "exp.yaml:2:16  split.folds: expected a number of at least 2, given 1"),
        (("weights: w.pth", "scale: '1'"), "with.scale: expected a number, given the text '1': leave the quotes out"),
        (("weights: w.pth", "fast: 1"), "with.fast: expected true or false, given 1"),
        (("weights: w.pth", "size: true"), "with.size: expected a whole number or 'native', given true"),
        (("lambda_ratio: {", "ratios: [1, x], lambda_ratio: {"), "with.ratios[1]: expected a number, given the"),
        (("lambda_ratio: {", "ratios: {pints: 2}, lambda_ratio: {"), "with.ratios.pints: unknown key; did you"),
        (("lambda_ratio: {", "ratios: al, lambda_ratio: {"), "with.ratios: expected a list, 'all' or a mapping"),
        (("name: small", "limit: .nan"), "exp.yaml:2:8  limit: expected a whole number, given nan"),
        (("name: small", "labels: {positive: .nan}"), "exp.yaml:2:20  labels.positive: expected a finite number"),
    ],
)  # fmt: skip
def test_one_mistake_one_line(complaints, spec_text: str, change: tuple[str, str], complaint: str) -> None:
    text = spec_text.replace(*change)
    lines = complaints(text)
    assert any(complaint in line for line in lines), lines
    assert len(lines) == 1 or "wait for each" in complaint or "rank_by: topk}" in text, lines


def test_a_key_of_many_lines_is_shown_in_one(complaints, spec_text: str) -> None:
    assert complaints(spec_text + '"a\\nb": 1\n')[0].startswith("exp.yaml:16:1  a\\nb: unknown key")


def test_circles_are_named(complaints, spec_text: str) -> None:
    text = spec_text + "  l2: {use: subsets, with: {rank_by: l3}}\n  l3: {use: subsets, with: {rank_by: l2}}\n"
    assert complaints(text) == [
        "exp.yaml:16:38  probes.l2.with.rank_by: probes that wait for each other: l2 -> l3 -> l2",
        "exp.yaml:17:38  probes.l3.with.rank_by: probes that wait for each other: l3 -> l2 -> l3",
    ]


def test_what_waits_for_a_circle_is_not_in_it(complaints, spec_text: str) -> None:
    text = spec_text + "  l2: {use: subsets, with: {rank_by: l2}}\n  l3: {use: subsets, with: {rank_by: l2}}\n"
    assert complaints(text) == ["exp.yaml:16:38  probes.l2.with.rank_by: names itself"]


def test_duplicates_are_reported_with_all_else(complaints, spec_text: str) -> None:
    lines = complaints(spec_text + "probes: {}\nseed: x\n")
    assert lines[0] == "exp.yaml:16:1  probes: stands twice (first in line 13): keep one of them"
    assert lines[1].startswith("exp.yaml:17:7  seed: expected a whole number")


WAYS = [
    (), ("data",), ("data", "with"), ("data", "with", "groups"), ("backbones", "a-net"), ("backbones", "a-net", "with"),
    ("probes", "l1"), ("probes", "l1", "with"), ("probes", "l1", "with", "lambda_ratio"), ("split",), ("labels",),
    ("store",), ("tile",), ("sampling",), ("evaluation",),
]  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(WAYS), st.from_regex(r"[a-z]{1,8}x_[a-z]{1,5}", fullmatch=True), st.integers(0, 3))
def test_an_unknown_key_anywhere_is_located(
    load, fakes, tmp_path: Path, way: tuple[str, ...], key: str, blank: int
) -> None:
    tree = yaml.safe_load(
        "{probekit: 1, data: {use: folders, with: {root: a, concepts: {a: b}, groups: {file: a}}}, split: {folds: 3}, "
        "labels: {}, store: {}, tile: {size: 99}, sampling: {}, evaluation: {}, "
        "backbones: {a-net: {use: flat, with: {}}}, probes: {l1: {use: path, with: {lambda_ratio: {}}}}}"
    )
    inner = tree
    for part in way:
        inner = inner[part]
    inner[key] = 1
    text = "#\n" * blank + yaml.safe_dump(tree, sort_keys=False)
    with pytest.raises(ProbekitError) as caught:
        load(text)
    (issue,) = caught.value.issues
    line = next(i for i, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{key}:"))
    assert issue.where.endswith(f"exp.yaml:{line}:{2 * len(way) + 1}")
    assert issue.what.startswith(f"{'.'.join((*way, key))}: unknown key")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from(["net", "flat", "folders", "path", "subsets", "twins", "pixels", "l1", "20 GB", "random", "all"]),
)  # fmt: skip
KEYS = st.sampled_from(
    ["a", "l1", "use", "with", "root", "concepts", "groups", "layers", "scheme", "folds", "path", "budget", "size",
     "positive", "rank_by", "k", "C", "lambda_ratio", "weights", "dtype", "device"]
) | st.text(max_size=4)  # fmt: skip
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
SECTIONS = ["name", "data", "backbones", "controls", "probes", "split", "labels", "store", "tile", "limit", "device"]
ROOTS = st.fixed_dictionaries({}, optional=dict.fromkeys(SECTIONS, TREES))


def issues_of(load, text: str) -> list[str]:
    try:
        load(text)
    except ProbekitError as error:
        return [str(issue) for issue in error.issues] or ["none was given"]
    return []


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ROOTS, TREES)
def test_no_tree_of_values_is_a_traceback(load, root: dict, stray: object) -> None:
    text = json.dumps({"probekit": 1, "data": {"use": "folders", "with": stray}} | root, allow_nan=True)
    text = text.replace("-Infinity", "-.inf").replace("Infinity", ".inf").replace("NaN", ".nan")
    assert all(" " in line and "\n" not in line for line in issues_of(load, text))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_damaged_spec_is_a_traceback(load, spec_text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(spec_text)))
    end = data.draw(st.integers(start, min(len(spec_text), start + 30)))
    text = spec_text[:start] + data.draw(st.text("[]{}:,-?&*!|>'\"%@#\n\t <~1ae", max_size=6)) + spec_text[end:]
    assert "none was given" not in issues_of(load, text)


def test_a_plugins_later_error_gets_its_place(load) -> None:
    spec = load()
    where = [
        spec.locate(section, ParameterError(path, "no"))
        for section, path in (
            (("backbones", "a-net"), ("layers", 1)),
            (("backbones", "a-net"), ("weights",)),
            (("backbones", "v1.0"), ("layers", 0)),
            (("backbones", "v1.0"), ("weights",)),
            (("data",), ("concepts", "pot")),
            (("probes", "l1"), ("lambda_ratio", "min")),
            (("controls", 1), ("model",)),
        )
    ]
    assert [str(issue).partition("exp.yaml")[2] for issue in where] == [
        ":10:35  backbones.a-net.layers[1]: no",
        ":10:57  backbones.a-net.with.weights: no",
        ":11:3  backbones.v1.0.layers[0]: no",
        ":11:3  backbones.v1.0.with.weights: no",
        ":7:21  data.with.concepts.pot: no",
        ":15:57  probes.l1.with.lambda_ratio.min: no",
        ":12:19  controls[1]: model: no",
    ]
    assert str(spec.at(("split", "folds"), "too many")).endswith("exp.yaml:1:1  split.folds: too many")


def test_a_relative_spec_is_shown_as_it_was_named(tmp_path: Path, fakes, monkeypatch, spec_text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/a.yaml").write_text(spec_text.replace("small", "a b"))
    with pytest.raises(ProbekitError, match=r"^sub/a\.yaml:2:7  name: "):
        load_experiment("sub/a.yaml", plugins=fakes)
    Path("sub/a.yaml").write_text(spec_text)
    spec = load_experiment("sub/a.yaml", plugins=fakes)
    monkeypatch.chdir("/")
    assert spec.data[0].parameters.root == tmp_path / "sub" / "photos"
    assert isinstance(spec.document.data["data"]["with"]["root"], SpecString)
