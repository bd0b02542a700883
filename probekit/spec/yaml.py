"""Reads YAML by the rules that a spec needs, with the place of every key and value.

PyYAML scans and composes; what a scalar means is decided here, by YAML 1.2's core schema: ``1e-4`` is a number, only
``true`` and ``false`` are booleans, ``1:30`` is text. Duplicate keys, keys that are not text, and tags are errors.
Nothing is constructed but mappings, lists, text, numbers, booleans and none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.error import MarkedYAMLError
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from probekit.api import Issue, ProbekitError, SpecString
from probekit.spec.places import Document, Issues, Key, Place, dotted, issue

MAX_BYTES = 1 << 20
"""No spec is larger; what is, is another file (a photograph, a checkpoint) named by mistake."""
MAX_DEPTH = 50
MAX_NODES = 50_000
"""After aliases are expanded."""

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (_TAG + name for name in ("null", "bool", "int", "float", "str", "merge"))


class SpecResolver(BaseResolver):
    """Which plain scalars are no text. Reading and writing share it, so that what is written reads back the same."""


for _tag, _pattern, _first in (
    (_NULL, r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    (_BOOL, r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    (_INT, r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", list("-+.0123456789")),
    (_FLOAT, r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z", list("-+.")),
    (_MERGE, r"<<\Z", ["<"]),
):
    SpecResolver.add_implicit_resolver(_tag, re.compile(_pattern), _first)


class _Loader(Reader, Scanner, Parser, Composer, SpecResolver):
    """Composes nodes; notes the tags that stand in the text, and takes none of them."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        SpecResolver.__init__(self)
        self.tagged: list[tuple[yaml.Mark, str]] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            self.tagged.append((event.start_mark, event.tag))
            event.tag = None
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise MarkedYAMLError(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_file(path: Path, issues: Issues) -> Document:
    """Reads a spec's file.

    Args:
        path: as the user named it; places show it so. Strings of the file remember its folder.
        issues: takes what can be stepped over (duplicate keys, tags), so that it is reported with all else.

    Raises:
        ProbekitError: there is no such file, or it is not YAML, or not a mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ProbekitError([Issue(str(path), _missing(path))]) from None
    except IsADirectoryError:
        raise ProbekitError([Issue(str(path), "is a folder: name the experiment's YAML file in it")]) from None
    except (OSError, ValueError) as error:
        raise ProbekitError([Issue(str(path), f"cannot be read: {getattr(error, 'strerror', error)}")]) from None
    if len(content) > MAX_BYTES:
        size = f"{len(content) / 1e6:.1f} MB"
        raise ProbekitError(
            [Issue(str(path), f"is {size} large: an experiment file has at most 1 MB; is it this one?")]
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProbekitError([Issue(f"{path}:{line}", "is not UTF-8 text: save it as UTF-8")]) from None
    root = Place(str(path), 1, 1)
    document = Document(root)
    data = _Reading(document, root, path.absolute().parent, issues).read(text, ())
    if data is None:
        raise ProbekitError([Issue(str(path), "is empty: an experiment starts with 'probekit: 1'")])
    if not isinstance(data, dict):
        raise ProbekitError(
            [Issue(str(root), "is not a mapping of keys to values; an experiment starts with 'probekit: 1'")]
        )
    document.data = data
    return document


def read_value(text: str, at: Place, path: Key, base: Path, document: Document, issues: Issues) -> Any:
    """Reads the value of a ``--set`` by the same rules, and enters ``at`` as its place into ``document``.

    Raises:
        ProbekitError: it is not YAML.
    """
    return _Reading(document, at, base, issues).read(text, path)


class _Reading:
    """One text on its way to plain data. Without a line, ``at`` is the place of all that is in it."""

    def __init__(self, document: Document, at: Place, base: Path, issues: Issues) -> None:
        self.document, self.at, self.base, self.issues = document, at, base, issues
        self.nodes = 0

    def read(self, text: str, path: Key) -> Any:
        try:
            loader = _Loader(text)
        except ReaderError as error:
            before = text[: error.position]
            place = self._place(before.count("\n"), len(before) - before.rfind("\n") - 1)
            raise self._fatal(place, f"the control character {error.character:#04x} cannot stand in a spec") from None
        try:
            root = loader.get_single_node()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark.line, mark.column) if mark else self.at
            raise self._fatal(place, _explain(error, self.at.line is not None)) from None
        except (ValueError, OverflowError, IndexError):  # PyYAML on escapes and directives beyond its range
            raise self._fatal(
                self._place(loader.line, loader.column), "is not YAML: an escape or directive is out of range"
            ) from None
        for mark, tag in loader.tagged:
            self.issues.add(
                self._place(mark.line, mark.column), (), f"tags are not used in a spec ({_short(tag)}): leave it out"
            )
        if root is None:
            self.document.values[path] = self.at
            return None
        return self._value(root, path, ())

    def _place(self, line: int, column: int) -> Place:
        return self.at if self.at.line is None else Place(self.at.source, line + 1, column + 1)

    def _of(self, node: yaml.Node) -> Place:
        return self._place(node.start_mark.line, node.start_mark.column)

    @staticmethod
    def _fatal(place: Place, what: str) -> ProbekitError:
        return ProbekitError([issue(place, (), what)])

    def _value(self, node: yaml.Node, path: Key, above: tuple[yaml.Node, ...]) -> Any:
        place = self._of(node)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._fatal(place, f"more than {MAX_NODES} values once aliases are expanded: write them out")
        if node in above or len(above) > MAX_DEPTH:
            raise self._fatal(place, f"{dotted(path)}: an anchor that holds itself")
        self.document.values[path] = place
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i), (*above, node)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above)
        return self._scalar(node, path, place)

    def _mapping(self, node: yaml.MappingNode, path: Key, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in self._pairs(node, path):
            first = own.setdefault(key.value, (key, value))[0]
            if first is not key:
                before = f" (first in line {first.start_mark.line + 1})" if self.at.line is not None else ""
                self.issues.add(self._of(key), (*path, key.value), f"stands twice{before}: keep one of them")
        merged = dict(own)
        for source in self._merges(node, path):
            for key, value in self._flat(source, path, (*above, node)):
                merged.setdefault(key.value, (key, value))
        result = {}
        for name, (key, value) in merged.items():
            self.document.keys[*path, name] = self._of(key)
            result[name] = self._value(value, (*path, name), (*above, node))
        return result

    def _pairs(self, node: yaml.MappingNode, path: Key) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The mapping's own keys; those that are not text are reported and left out."""
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                self.issues.add(self._of(key), path, "a key must be text, not a list or a mapping")
            elif key.tag != _STR or not key.value:
                kind = f"the key {_short(key.value)} is read as {_KINDS.get(key.tag)}: put it in quotes"
                self.issues.add(self._of(key), path, kind if key.value else "a key is empty: name it")
            elif self._storable(key, path):
                yield key, value

    def _merges(self, node: yaml.MappingNode, path: Key) -> Iterator[yaml.MappingNode]:
        """The mappings behind ``<<``."""
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(source, yaml.MappingNode):
                        yield source
                    else:
                        self.issues.add(
                            self._of(source), path, "'<<' takes a mapping's alias (*name) or a list of them"
                        )

    def _flat(
        self, node: yaml.MappingNode, path: Key, above: tuple[yaml.Node, ...]
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """A merged mapping's keys, its own before those that it merges in turn."""
        self.nodes += 1
        if node in above or len(above) > MAX_DEPTH:
            raise self._fatal(self._of(node), f"{dotted(path)}: an anchor that holds itself")
        if self.nodes > MAX_NODES:
            raise self._fatal(self._of(node), f"more than {MAX_NODES} values once aliases are expanded: write them out")
        yield from self._pairs(node, path)
        for source in self._merges(node, path):
            yield from self._flat(source, path, (*above, node))

    def _scalar(self, node: yaml.Node, path: Key, place: Place) -> Any:
        text = node.value
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag == _INT:
            number = int(text, 0 if text[:2] in ("0x", "0o") else 10) if len(text) <= 20 else 1 << 64
            if abs(number) >= 1 << 63:
                self.issues.add(place, path, f"{_short(text)} is too large a whole number")
                return 0
            return number
        if node.tag == _FLOAT:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return SpecString(node.value if self._storable(node, path) else "", self.base)

    def _storable(self, node: yaml.Node, path: Key) -> bool:
        """No NUL and no half of a surrogate pair: neither can be printed nor name a file. Whole pairs, as JSON escapes
        them, are joined."""
        try:
            node.value = node.value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            pass
        else:
            if "\0" not in node.value:
                return True
        self.issues.add(self._of(node), path, "text with a NUL or an unpaired surrogate")
        return False


_KINDS = {_NULL: "nothing", _BOOL: "a boolean", _INT: "a number", _FLOAT: "a number"}


def _missing(path: Path) -> str:
    beside = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    if not beside:
        return "there is no such file"
    names = ", ".join(str(name) for name in beside[:4]) + (" ..." if len(beside) > 4 else "")
    return f"there is no such file; beside it: {names}"


def _short(text: str) -> str:
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 40 else text[:37] + "..."


def _explain(error: MarkedYAMLError, lines: bool) -> str:
    """PyYAML's message in the user's terms: what is wrong and what to do."""
    problem = (error.problem or error.context or "").replace("\n", " ")
    opened = f" (opened in line {error.context_mark.line + 1})" if error.context_mark and lines else ""
    for sign, text in (
        ("character '\\t'", "a tab: YAML is indented with spaces"),
        ("cannot start any token", f"a value cannot start with {problem[16:19]}: put it in quotes"),
        (
            "mapping values are not allowed",
            "a ':' where no key can stand: mend the indentation, or put the value in quotes",
        ),
        (
            "expected <block end>",
            f"does not fit the indentation of the block{opened.replace('opened', 'begun')}: align it",
        ),
        ("expected the node content", f"a value is missing, or a '[' or '{{' is not closed{opened}"),
        ("expected ',' or ']'", f"a ',' or the ']' of the list is missing{opened}"),
        ("expected ',' or '}'", f"a ',' or the '}}' of the mapping is missing{opened}"),
        ("found unexpected end of stream", f"a quote is not closed{opened}"),
        ("could not find expected ':'", "a key without ': ' after it: add it, or mend the indentation"),
        ("undefined alias", f"{problem.removeprefix('found ')}: there is no such anchor (&name) before it"),
        ("duplicate anchor", "this anchor is defined twice: rename one of them"),
        ("found another document", "a second document ('---'): a file holds one experiment"),
        ("single document", "a second document ('---'): a file holds one experiment"),
        ("nested deeper", problem),
    ):
        if sign in problem or sign in (error.context or ""):
            return text
    return f"is not YAML: {problem}{opened}"
