"""Which images must not be split apart: from a table, from the files' names, from the annotation file's records."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from probekit.api import Issue
from probekit_masks.files import SUFFIXES, first_of, shown
from probekit_masks.parameters import GroupField, GroupPattern, GroupTable

Groups = dict[str, tuple[str, str | None]]
"""Image id -> its group and the group of its group."""


def assign(
    rule: GroupTable | GroupPattern | GroupField | Literal["each"],
    root: Path,
    folder: Path,
    ids: Collection[str],
    records: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Groups, list[Issue]]:
    """The groups of all images.

    Args:
        rule: as the spec gives it.
        root: where the table's path starts.
        folder: of the images, to name in an issue.
        ids: of the images.
        records: image id -> its record in the annotation file, for :class:`GroupField`.
    """
    if isinstance(rule, GroupTable):
        return _from_table(rule, root / rule.file, ids)
    if isinstance(rule, GroupPattern):
        return _from_pattern(rule, folder, ids)
    if isinstance(rule, GroupField):
        return _from_field(rule, folder, ids, records or {})
    return {name: (name, None) for name in ids}, []


def without_suffix(name: str) -> str:
    """A file name as an image's id: only a suffix of an image file is taken off (``a.1`` stays)."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else path.as_posix()


def _from_table(rule: GroupTable, path: Path, ids: Collection[str]) -> tuple[Groups, list[Issue]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        return {}, [Issue(shown(path), f"cannot be read ({error.strerror}): `groups.file` starts from `root`")]
    except UnicodeDecodeError:
        return {}, [Issue(shown(path), "is not UTF-8: save it as UTF-8")]
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    lines = csv.reader(text.splitlines(), delimiter=separator)
    header = [name.strip() for name in next(lines, [])]
    wanted = {"image": rule.image, "group": rule.group} | ({"outer": rule.outer} if rule.outer else {})
    issues = [
        Issue(f"{shown(path)}:1", f"has no column {name!r} (`groups.{key}`): {_choice(name, header)}")
        for key, name in wanted.items()
        if name not in header
    ]
    if issues:
        return {}, issues
    places = {key: header.index(name) for key, name in wanted.items()}
    groups: Groups = {}
    seen: dict[str, int] = {}
    for row in lines:
        if not any(row):
            continue
        where = f"{shown(path)}:{lines.line_num}"
        if len(row) != len(header):
            issues.append(Issue(where, f"has {len(row)} fields, the first line has {len(header)}"))
            continue
        values = {key: row[place].strip() for key, place in places.items()}
        name = without_suffix(values["image"])
        if name in seen:
            issues.append(Issue(where, f"names image {name!r} again (line {seen[name]}): keep one"))
        elif not all(values.values()):
            empty = next(wanted[key] for key, value in values.items() if not value)
            issues.append(Issue(where, f"column {empty!r} is empty"))
        else:
            groups[name] = values["group"], values.get("outer")
        seen.setdefault(name, lines.line_num)
    missing = [name for name in ids if name not in seen]
    if missing:
        what = first_of(missing, len(ids), "images", "are not in the table", f"Add them to column {rule.image!r}")
        issues.append(Issue(shown(path), what))
    return {name: groups[name] for name in ids if name in groups}, issues


def _from_pattern(rule: GroupPattern, folder: Path, ids: Collection[str]) -> tuple[Groups, list[Issue]]:
    pattern = re.compile(rule.stem or rule.folder or "")
    groups: Groups = {}
    for name in ids:
        path = PurePosixPath(name)
        text = path.name if rule.stem else "" if path.parent == PurePosixPath() else path.parent.as_posix()
        match = pattern.search(text)
        if match is None:
            continue
        named = match.groupdict()
        first = next(
            (part for key, part in enumerate(match.groups(), 1) if key != pattern.groupindex.get("outer")), None
        )
        group = named["group"] if "group" in named else first if first is not None else match[0]
        if group:
            groups[name] = group, named.get("outer")
    missing = [name for name in ids if name not in groups]
    part = "stem" if rule.stem else "folder"
    what = f"have a {part} in which `groups.{part}` finds nothing"
    return groups, [Issue(shown(folder), first_of(missing, len(ids), "images", what))] if missing else []


def _from_field(
    rule: GroupField, folder: Path, ids: Collection[str], records: Mapping[str, Mapping[str, Any]]
) -> tuple[Groups, list[Issue]]:
    issues = []
    for field in (rule.field, rule.outer):
        missing = [name for name in ids if field and not _is_label(records[name].get(field))]
        if missing:
            what = first_of(missing, len(ids), "image records", f"have no text or number in field {field!r}")
            issues.append(Issue(shown(folder), what))
    if issues:
        return {}, issues
    outer = rule.outer
    return {n: (str(records[n][rule.field]), str(records[n][outer]) if outer else None) for n in ids}, []


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) and value != ""


def _choice(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none'}"
