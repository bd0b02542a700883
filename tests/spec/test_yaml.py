"""What a scalar means, and where things stand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from probekit.api import ProbekitError, SpecString
from probekit.spec.places import Issues
from probekit.spec.yaml import read_file


def read(tmp_path: Path, text: str | bytes):
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    issues = Issues()
    return read_file(path, issues), [str(issue).partition("a.yaml")[2] for issue in issues.sorted()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1.0e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("+3", 3),
        ("0777", 777), ("0x1F", 31), ("0o17", 15), ("-12", -12), ("true", True), ("False", False), ("~", None),
        ("", None), ("null", None), ("no", "no"), ("on", "on"), ("yes", "yes"), ("y", "y"), ("Off", "Off"),
        ("1:30", "1:30"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("2026-01-02", "2026-01-02"), ("=", "="),
        ("1.2.3", "1.2.3"), ("e5", "e5"), ("'1e-4'", "1e-4"), ('"true"', "true"), ("0b11", "0b11"), (".", "."),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_it_looks_like(folder: Path, text: str, value: object) -> None:
    document, issues = read(folder, f"a: {text}\n")
    assert issues == []
    assert document.data["a"] == value
    assert type(document.data["a"]) is (SpecString if isinstance(value, str) else type(value))


@given(st.floats(allow_nan=False))
def test_every_float_is_read_as_it_was_written(folder: Path, number: float) -> None:
    for text in (repr(number).replace("inf", ".inf"), yaml.safe_dump(number).split("\n")[0]):
        value = read(folder, f"a: {text}\n")[0].data["a"]
        assert value == number
        assert type(value) is float


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20))
def test_quoted_text_stays_text(folder: Path, text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    if "\u2028" in text or "\u2029" in text or "\ufeff" in text:
        return
    assert read(folder, f"a: {quoted}\n")[0].data["a"] == text


def test_strings_remember_the_files_folder(folder: Path) -> None:
    value = read(folder, "a: {b: [x/y]}\n")[0].data["a"]["b"][0]
    assert isinstance(value, SpecString)
    assert value.base == folder


def test_places_of_keys_and_values(folder: Path) -> None:
    document, _ = read(folder, "# note\na:\n  b: [1, {c: x}]\n")
    assert [(p.line, p.column) for p in (document.keys["a", "b"], document.values["a", "b"])] == [(3, 3), (3, 6)]
    assert (document.keys["a", "b", 1, "c"].line, document.keys["a", "b", 1, "c"].column) == (3, 11)
    assert document.values["a", "b", 1, "c"].column == 14
    assert document.of_value(("a", "b", 1, "none")) == document.values["a", "b", 1]
    assert document.of_value(("a", "none")) == document.keys[("a",)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3:1  a: stands twice (first in line 1): keep one of them"),
        ("a:\n  b: {c: 1, c: 2}\n", ":2:13  a.b.c: stands twice (first in line 2): keep one of them"),
        ("1: x\n", ":1:1  the key 1 is read as a number: put it in quotes"),
        ("true: x\n", ":1:1  the key true is read as a boolean: put it in quotes"),
        ("a: {? [b] : x}\n", ":1:7  a: a key must be text, not a list or a mapping"),
        ("'': x\n", ":1:1  a key is empty: name it"),
        ("a: !!python/name:os.system x\n", "tags are not used in a spec"),
        ("a: !!str 3\n", ":1:4  tags are not used in a spec"),
        ("a: !!int ''\n", ":1:4  tags are not used in a spec"),
        ("a: !!seq {}\n", ":1:4  tags are not used in a spec"),
        ("a: ! 3\n", ":1:4  tags are not used in a spec"),
        ("a: 99999999999999999999\n", ":1:4  a: 99999999999999999999 is too large a whole number"),
        ('a: "x\\0y"\n', ":1:4  a: text with a NUL"),
        ('a: "\\ud800"\n', ":1:4  a: text with a NUL or an unpaired surrogate"),
        ("a: {<<: 3}\n", ":1:9  a: '<<' takes a mapping's alias"),
    ],
)
def test_what_can_be_stepped_over_is_reported_at_its_place(folder: Path, text: str, complaint: str) -> None:
    _, issues = read(folder, text)
    assert len(issues) == 1
    assert complaint in issues[0]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (b"a: \xff\n", ":1", "is not UTF-8 text"),
        ("", "", "is empty"),
        ("# only a note\n", "", "is empty"),
        ("- 1\n", ":1:1", "is not a mapping"),
        ("a: [1,\nb: 2\n", ":3:1", "the ']' of the list is missing (opened in line 1)"),
        ("a: {b: 1\n", ":2:1", "the '}' of the mapping is missing (opened in line 1)"),
        ("a:\n\tb: 1\n", ":2:1", "a tab: YAML is indented with spaces"),
        ("a: b: c\n", ":1:5", "a ':' where no key can stand"),
        ("a: 'x\n", ":2:1", "a quote is not closed (opened in line 1)"),
        ("a:\n   b: 1\n  c: 2\n", ":3:3", "does not fit the indentation"),
        ("a: @x\n", ":1:4", "a value cannot start with '@': put it in quotes"),
        ("a: *b\n", ":1:4", "there is no such anchor"),
        ("a: 1\n---\nb: 1\n", ":2:1", "a file holds one experiment"),
        ("a: x\x07\n", ":1:5", "control character 0x07"),
        ('a: "\\UFFFFFFFF"\n', ":1:7", "out of range"),
        ("a: &x [*x]\n", ":1:4", "an anchor that holds itself"),
        ("a: &x {<<: *x}\n", ":1:", "an anchor that holds itself"),
        ("a: " + "[" * 5000, ":1:", "nested deeper than 50 levels"),
    ],
)
def test_what_cannot_be_read_is_one_line_at_its_place(folder: Path, text: str | bytes, place: str, what: str) -> None:
    with pytest.raises(ProbekitError) as caught:
        read(folder, text)
    (issue,) = caught.value.issues
    assert issue.where.partition("a.yaml")[2].startswith(place)
    assert what in issue.what


def test_aliases_and_merges(folder: Path) -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {<<: *x, b: 3}\nz: {c: 4, <<: [*y, {d: 5, a: 9}]}\nw: *x\n"
    document, issues = read(folder, text)
    assert issues == []
    assert document.data["z"] == {"c": 4, "b": 3, "a": 1, "d": 5}
    assert document.data["w"] == {"a": 1, "b": 2}
    assert document.data["w"] is not document.data["x"]
    assert document.keys["z", "a"].line == 1


def test_a_bomb_of_aliases_is_refused(folder: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ProbekitError, match="once aliases are expanded"):
        read(folder, "\n".join(levels))
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    with pytest.raises(ProbekitError, match="once aliases are expanded"):
        read(folder, "\n".join(levels))


def test_files_that_are_no_spec(tmp_path: Path) -> None:
    (tmp_path / "near.yaml").write_text("a: 1\n")
    (tmp_path / "large.pth").write_bytes(bytes(2 << 20))
    for name, what in (
        ("none.yaml", "there is no such file; beside it: "),
        ("no-folder/none.yaml", "there is no such file"),
        (".", "is a folder: name the experiment's YAML file in it"),
        ("large.pth", "is 2.1 MB large"),
        ("nul\0.yaml", "cannot be read"),
    ):
        with pytest.raises(ProbekitError) as caught:
            read_file(tmp_path / name, Issues())
        (issue,) = caught.value.issues
        assert what in issue.what


@given(
    st.one_of(
        st.binary(max_size=80), st.text(max_size=80), st.text("[]{}:,-?&*!|>'\"%@`#\n\t <~1ae\\U\ufeff", max_size=60)
    )
)
def test_no_garbage_is_a_traceback(folder: Path, garbage: str | bytes) -> None:
    assert len(_fatal(folder, garbage)) <= 1


def _fatal(folder: Path, text: str | bytes) -> list[str]:
    try:
        assert isinstance(read(folder, text)[0].data, dict)
    except ProbekitError as error:
        return str(error).split("\n")
    return []
