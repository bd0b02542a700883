"""The photographs of ``sam-masks``: a folder of images, upright, and the groups that must not be split apart."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from probekit.api import Issue, UnreadableImageError
from probekit_sam.label_parameters import GroupPattern, GroupTable, SamMasksParameters

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_MODES = ("1", "L", "P", "RGB", "YCbCr", "CMYK", "LA", "PA", "RGBA")
_ORIENTATION, _BITS = 274, 258

# Pillow refuses pictures of 179 million pixels, which orthomosaics have; twice this is the limit here.
Image.MAX_IMAGE_PIXELS = 2**32


@dataclass(frozen=True)
class Photograph:
    """A file, its size once upright, and its groups."""

    path: Path
    height: int
    width: int
    group: str
    outer: str | None


def shown(path: Path) -> str:
    """A path as the user would open it: from the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def scan(parameters: SamMasksParameters) -> tuple[dict[str, Photograph], list[Issue]]:
    """All photographs by id (the path below ``images`` without suffix), sorted, and all that is wrong; reads headers
    only."""
    folder = parameters.root / parameters.images
    if not folder.is_dir():
        return {}, [Issue(shown(folder), "is no folder: check `root` and `images`")]
    paths: dict[str, Path] = {}
    sizes: dict[str, tuple[int, int]] = {}
    issues: list[Issue] = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in below.parts):
            continue
        name = below.with_suffix("").as_posix()
        if name in paths:
            issues.append(Issue(shown(path), f"has the stem of {paths[name].name}: keep one of them"))
            continue
        paths[name] = path
        size = _size(path)
        if isinstance(size, Issue):
            issues.append(size)
        else:
            sizes[name] = size
    if not paths:
        issues.append(Issue(shown(folder), "holds no image (JPEG, PNG, TIFF, WebP)"))
    groups, group_issues = _groups(parameters, folder, paths)
    issues += group_issues
    photographs = {
        name: Photograph(paths[name], *sizes[name], *groups[name])
        for name in sorted(paths)
        if name in sizes and name in groups
    }
    return photographs, issues


def _size(path: Path) -> tuple[int, int] | Issue:
    """(height, width) once upright, or why no model should be shown this file unasked."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            mode, bits = image.mode, (8,)
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                # Taken from the tags: whether ``size`` is already turned depends on Pillow's version.
                width, height = image.tag_v2[256], image.tag_v2[257]
                orientation, bits = image.tag_v2.get(_ORIENTATION, 1), image.tag_v2.get(_BITS, bits)
            else:
                # The base class's method: that of PNG decodes all pixels in search of what may follow them.
                orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception as error:  # what a decoder raises on a broken file is not limited to one family
        return Issue(shown(path), f"cannot be read ({error}): mend or remove it")
    if mode not in _MODES or max(np.atleast_1d(bits)) > 8:
        return Issue(shown(path), f"is of mode {mode}: choose how to scale it and save it as RGB with 8 bits a band")
    return (width, height) if orientation >= 5 else (height, width)


def decode(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) RGB, upright.

    Raises:
        UnreadableImageError: it cannot be decoded to the end.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            pixels = upright.convert("RGBA").convert("RGB") if upright.mode == "P" else upright.convert("RGB")
            return np.array(pixels)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise UnreadableImageError(f"{shown(path)} cannot be decoded ({error})") from error


def _groups(
    parameters: SamMasksParameters, folder: Path, names: Collection[str]
) -> tuple[dict[str, tuple[str, str | None]], list[Issue]]:
    rule = parameters.groups
    if isinstance(rule, GroupTable):
        return _from_table(rule, parameters.root / rule.file, names)
    if isinstance(rule, GroupPattern):
        groups = {name: found for name in names if (found := _from_pattern(rule, PurePosixPath(name)))}
        missing = [name for name in names if name not in groups]
        part = "stem" if rule.stem else "folder"
        what = f"`groups.{part}` finds nothing in {len(missing)} of {len(names)} images"
        return groups, [Issue(shown(folder), f"{what}; the first: {missing[0]}")] if missing else []
    return {name: (name, None) for name in names}, []


def _from_pattern(rule: GroupPattern, path: PurePosixPath) -> tuple[str, str | None] | None:
    text = path.name if rule.stem else "/".join(path.parts[:-1])
    match = re.search(rule.stem or rule.folder or "", text)
    if match is None:
        return None
    named = match.groupdict()
    outer = match.re.groupindex.get("outer")
    first = next((part for key, part in enumerate(match.groups(), 1) if key != outer), match[0])
    group = named.get("group", first)
    return (group, named.get("outer")) if group else None


def _from_table(
    rule: GroupTable, path: Path, names: Collection[str]
) -> tuple[dict[str, tuple[str, str | None]], list[Issue]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return {}, [Issue(shown(path), f"cannot be read ({error}): `groups.file` starts from `root`")]
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = csv.DictReader(lines, delimiter=separator)
    header = list(rows.fieldnames or [])
    wanted = [rule.image, rule.group] + ([rule.outer] if rule.outer else [])
    missing = [column for column in wanted if column not in header]
    if missing:
        return {}, [Issue(f"{shown(path)}:1", f"has no column {missing[0]!r}; it has {', '.join(header) or 'none'}")]
    groups: dict[str, tuple[str, str | None]] = {}
    issues: list[Issue] = []
    for row in rows:
        values = [(row[column] or "").strip() for column in wanted]
        where, image = f"{shown(path)}:{rows.line_num}", PurePosixPath(values[0])
        name = image.with_suffix("").as_posix() if image.suffix.lower() in SUFFIXES else image.as_posix()
        if not all(values):
            issues.append(Issue(where, f"column {wanted[values.index('')]!r} is empty"))
        elif name in groups:
            issues.append(Issue(where, f"names image {name!r} again: keep one"))
        else:
            groups[name] = values[1], values[2] if rule.outer else None
    absent = [name for name in names if name not in groups]
    if absent and not issues:
        issues.append(Issue(shown(path), f"does not name {len(absent)} of {len(names)} images; the first: {absent[0]}"))
    return {name: groups[name] for name in names if name in groups}, issues
