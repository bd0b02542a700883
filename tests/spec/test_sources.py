"""``data`` as one label source or as a list of several."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from probekit.api import ParameterError
from probekit.spec import Resolved, changed_keys, experiment_schema, load_experiment

REST = "backbones: {net: {use: flat}}\nprobes: {p: {use: path}}\n"
LISTED = f"""\
probekit: 1
data:
  - {{name: people, use: folders, with: {{root: photos, concepts: {{pot: m}}}}}}
  - use: probekit-fakes/folders
    with: {{root: photos, concepts: {{pot: n, hose: h}}}}
{REST}"""


def test_a_list_names_its_sources(load: Callable[..., Resolved], tmp_path: Path) -> None:
    spec = load(LISTED)
    assert spec.lists_sources
    assert [use.name for use in spec.data] == ["people", "folders"]
    assert [use.plugin.qualified for use in spec.data] == ["probekit-fakes/folders"] * 2
    assert [use.parameters.concepts for use in spec.data] == [
        {"pot": tmp_path / "m"},
        {"pot": tmp_path / "n", "hose": tmp_path / "h"},
    ]
    assert not load().lists_sources


def test_a_list_of_one_is_a_list(load: Callable[..., Resolved]) -> None:
    one = load(LISTED, "data=[{use: folders, with: {root: ., concepts: {pot: m}}}]")
    assert one.lists_sources
    assert [use.name for use in one.data] == ["folders"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("use: probekit-fakes/folders", "name: people\n    use: folders"),
         "exp.yaml:4:11  data[1].name: a second label source 'people': name it otherwise"),
        (("name: people, ", ""), "exp.yaml:4:5  data[1].name: a second label source 'folders': name it otherwise"),
        (("name: people", "name: a/b"), "exp.yaml:3:12  data[0].name: expected a name of letters"),
        (("name: people", "nam: people"), "exp.yaml:3:6  data[0].nam: unknown key; did you mean 'name'?"),
        (("use: folders, ", ""), "exp.yaml:3:5  data[0].use: is required"),
        (("use: folders", "use: foldrs"), "exp.yaml:3:25  data[0].use: no plugin named 'foldrs'; did you mean"),
        (("root: photos, concepts: {pot: m}", "root: photos, concepts: {}"),
         "exp.yaml:3:65  data[0].with.concepts: is empty: name at least one"),
        (("use: folders, with", "root: a, use: folders, with"),
         "exp.yaml:3:20  data[0].root: unknown key here: the plugin's parameters stand under 'with'"),
    ],
)  # fmt: skip
def test_one_mistake_in_a_list_is_one_line(
    complaints: Callable[..., list[str]], change: tuple[str, str], complaint: str
) -> None:
    assert change[0] in LISTED
    lines = complaints(LISTED.replace(*change, 1))
    assert len(lines) == 1, lines
    assert complaint in lines[0]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("[]", "exp.yaml:2:7  data: is empty: name at least one"),
        ("3", "exp.yaml:2:7  data: expected a mapping or a list, given 3"),
        ("", "exp.yaml:2:6  data: expected a mapping or a list, given nothing"),
        ("[3]", "exp.yaml:2:8  data[0]: expected a mapping, given 3"),
        ("{with: {}}", "exp.yaml:2:1  data.use: is required"),
        ("{name: a, use: folders, with: {root: ., concepts: {a: b}}}",
         "exp.yaml:2:8  data.name: unknown key; what can be set: use, with"),
    ],
)  # fmt: skip
def test_what_is_neither_a_source_nor_a_list_of_them(
    complaints: Callable[..., list[str]], data: str, complaint: str
) -> None:
    assert complaints(f"probekit: 1\ndata: {data}\n{REST}") == [complaint]


def test_a_list_is_written_down_with_its_names_and_read_again(
    load: Callable[..., Resolved], fakes: object, tmp_path: Path
) -> None:
    spec, folder = load(LISTED), tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(spec.dump(folder))
    copy = load_experiment(folder / "spec.yaml", plugins=fakes)
    assert copy.canonical(folder) == spec.canonical(folder) == json.loads(json.dumps(spec.canonical(folder)))
    assert copy.dump(folder) == spec.dump(folder)
    assert [use.name for use in copy.data] == ["people", "folders"]
    assert copy.data[1].parameters.root.resolve() == (tmp_path / "photos").resolve()
    assert [entry["name"] for entry in spec.canonical(folder)["data"]] == ["people", "folders"]
    assert str(tmp_path) not in spec.dump(folder)


def test_one_source_is_written_as_one(load: Callable[..., Resolved], tmp_path: Path) -> None:
    assert set(load().canonical(tmp_path)["data"]) == {"use", "with"}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.1.with.root=elsewhere", "data[1].with.root was ../photos, is ../elsewhere"),
        ("data.0.name=experts", "data[0].name was people, is experts"),
        ("data.1.name=folders", None),
        ("allow_circular=true", None),
        ("data.2={name: third, use: folders, with: {root: photos, concepts: {a: b}}}", "data was ["),
    ],
)
def test_what_changed_in_a_list(
    load: Callable[..., Resolved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, line: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = (load(LISTED, *given).canonical(tmp_path / "runs") for given in ((), (override,)))
    changes = [str(change) for change in changed_keys(old, new)]
    assert len(changes) == (line is not None)
    assert all(change.startswith(line or "") for change in changes)


def test_an_error_of_a_listed_plugin_gets_its_place(load: Callable[..., Resolved]) -> None:
    spec = load(LISTED)
    issue = spec.locate(spec.data[1].section, ParameterError(("concepts", "hose"), "no"))
    assert str(issue).endswith("exp.yaml:5:51  data[1].with.concepts.hose: no")


def test_allow_circular_is_false_unless_said(
    load: Callable[..., Resolved], complaints: Callable[..., list[str]]
) -> None:
    assert not load().experiment.allow_circular
    assert load(LISTED, "allow_circular=true").experiment.allow_circular
    (line,) = complaints(LISTED + "allow_circular: sam\n")
    assert "allow_circular: expected true or false" in line


def test_the_schema_takes_one_source_or_a_list(fakes: object) -> None:
    schema = experiment_schema(fakes)
    one, several = schema["properties"]["data"]["anyOf"]
    assert one == {"$ref": "#/$defs/data-entry"}
    assert several["items"] == {"$ref": "#/$defs/data-source"}
    (definition,) = [part["$ref"] for part in schema["$defs"]["data-source"]["allOf"] if "$ref" in part]
    assert set(schema["$defs"][definition.rpartition("/")[2]]["properties"]) == {"name", "use", "with"}
