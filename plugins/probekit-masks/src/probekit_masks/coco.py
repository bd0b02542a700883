"""``coco``: photographs with a COCO instances file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, VOID, ImageRef, Issue, Provenance, UnreadableImageError
from probekit_masks import files, regions
from probekit_masks.files import Header, shown
from probekit_masks.groups import assign, without_suffix
from probekit_masks.parameters import CocoParameters
from probekit_masks.photographs import Scan

Record = Mapping[str, Any]


class CocoInstances:
    """The label source ``coco`` (:class:`probekit.api.LabelSource`).

    A pixel is positive inside any annotation of the concept's categories; else void inside one of these categories
    that is a crowd (``iscrowd: 1``) or is marked ``ignore``; else negative. Photographs without a record are not part
    of the source; records without annotations are, and are negative throughout.
    """

    def __init__(self, parameters: CocoParameters, *, cache: Path, seed: int) -> None:
        self._parameters = parameters
        self._images = parameters.root / parameters.images
        self._file = parameters.root / parameters.annotations
        self._categories: dict[str, set[int]] = {}
        self._annotations: dict[str, list[Record]] = {}

    @property
    def concepts(self) -> Sequence[str]:
        """In the order of the spec."""
        return list(self._parameters.concepts)

    @property
    def provenance(self) -> Provenance:
        """As the spec says; people unless it says otherwise."""
        return self._parameters.provenance.provenance()

    def check(self) -> Sequence[Issue]:
        """All that is wrong with the instances file, the photographs that it names and the groups."""
        return list(self._scan.issues)

    def images(self) -> Sequence[ImageRef]:
        """All images that have a record, sorted by id."""
        return self._scan.references()

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Decodes one photograph: (height, width, 3) RGB."""
        return self._scan.open(image)

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """One mask, (height, width) of ``NEGATIVE``, ``POSITIVE``, ``VOID``."""
        mask = np.full((image.height, image.width), NEGATIVE, np.uint8)
        annotations = self._of(image, concept)
        for value, void in ((VOID, True), (POSITIVE, False)):
            for annotation in annotations:
                if _is_void(annotation) == void:
                    mask[regions.fill(annotation["segmentation"], image.height, image.width)] = value
        return self._scan.void_transparent(image, mask)

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """Over the annotations that the mask is drawn from, in any order, its size and, where it makes pixels void,
        the photograph's alpha."""
        drawn = sorted(json.dumps([a["segmentation"], _is_void(a)], sort_keys=True) for a in self._of(image, concept))
        alpha = image.digest if image.id in self._scan.transparent else ""
        text = json.dumps([image.height, image.width, drawn, alpha])
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def _of(self, image: ImageRef, concept: str) -> list[Record]:
        _ = self._scan
        return [a for a in self._annotations[image.id] if a["category_id"] in self._categories[concept]]

    @cached_property
    def _scan(self) -> Scan:
        scan = Scan()
        if not self._parameters.root.is_dir():
            scan.issues.append(Issue(shown(self._parameters.root), "is no folder: check `root`"))
            return scan
        tables, issues = _read(self._file)
        scan.issues += issues
        if issues:
            return scan
        self._resolve_concepts(tables["categories"], scan)
        records = self._place_images(tables["images"], scan)
        self._place_annotations(tables, records, scan)
        if not self._images.is_dir():
            scan.issues.append(Issue(shown(self._images), "is no folder: check `root` and `images` below it"))
            return scan
        absent = [path.relative_to(self._images).as_posix() for path in scan.paths.values() if not path.is_file()]
        if absent:
            what = files.first_of(absent, len(scan.paths), "photographs that the instances file names", "are missing")
            scan.issues.append(Issue(shown(self._images), what))
            scan.paths = {name: path for name, path in scan.paths.items() if path.is_file()}
        self._compare_sizes(scan, records)
        scan.groups, issues = assign(
            self._parameters.groups, self._parameters.root, self._images, list(scan.paths), records
        )
        scan.issues += issues
        return scan

    def _resolve_concepts(self, categories: Sequence[Record], scan: Scan) -> None:
        names: dict[str, set[int]] = {}
        for category in categories:
            names.setdefault(category["name"], set()).add(category["id"])
        ids = {category["id"] for category in categories}
        chosen: dict[str, set[int]] = {}
        for concept, wanted in self._parameters.concepts.items():
            chosen[concept] = set()
            for one in wanted:
                found = names.get(one, set()) if isinstance(one, str) else {one} & ids
                chosen[concept] |= found
                if found:
                    continue
                near = get_close_matches(str(one), names, 1)
                advice = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none'}"
                what = f"has no category {one!r} (concept {concept!r}): {advice}"
                scan.issues.append(Issue(shown(self._file), what))
        self._categories = chosen

    def _place_images(self, images: Sequence[Record], scan: Scan) -> dict[str, Record]:
        records: dict[str, Record] = {}
        for record in images:
            name = without_suffix(record["file_name"])
            if name in records:
                what = f"images {records[name]['id']} and {record['id']} have the same file {record['file_name']!r}"
                scan.issues.append(Issue(shown(self._file), what))
                continue
            records[name] = record
            scan.paths[name] = self._images / PurePosixPath(record["file_name"])
        if not images:
            scan.issues.append(Issue(shown(self._file), "lists no images"))
        return records

    def _place_annotations(
        self, tables: Mapping[str, Sequence[Record]], records: Mapping[str, Record], scan: Scan
    ) -> None:
        by_id = {record["id"]: (name, record) for name, record in records.items()}
        listed = {record["id"] for record in tables["images"]}
        categories = {category["id"] for category in tables["categories"]}
        used = set[int]().union(*self._categories.values())
        annotations: dict[str, list[Record]] = {name: [] for name in records}
        homeless: list[str] = []
        nameless: list[str] = []
        broken: list[str] = []
        for annotation in tables["annotations"]:
            number, image, category = annotation["id"], annotation["image_id"], annotation["category_id"]
            if image not in listed:
                homeless.append(f"annotation {number} names image {image}")
            if category not in categories:
                nameless.append(f"annotation {number} names category {category}")
            if image not in by_id or category not in used:
                continue
            name, record = by_id[image]
            try:
                regions.check(annotation.get("segmentation"), record["height"], record["width"])
            except ValueError as error:
                broken.append(f"annotation {number} {error}")
                continue
            annotations[name].append(annotation)
        self._annotations = annotations
        total = len(tables["annotations"])
        for bad, is_wrong in (
            (homeless, "name an image that is not listed"),
            (nameless, "name a category that is not listed"),
            (broken, "have a segmentation that cannot be drawn"),
        ):
            if bad:
                scan.issues.append(Issue(shown(self._file), files.first_of(bad, total, "annotations", is_wrong)))

    def _compare_sizes(self, scan: Scan, records: Mapping[str, Record]) -> None:
        differ: list[str] = []
        for name, header in scan.read_headers(self._images).items():
            record = records[name]
            size = f"{record['width']}x{record['height']}"
            if isinstance(header, UnreadableImageError):
                # It will be skipped when it is opened; until then its record says how large it was.
                scan.sizes[name] = record["height"], record["width"]
            elif header.size != size:
                differ.append(_difference(scan.paths[name].name, header, size))
        if differ:
            what = files.first_of(differ, len(scan.paths), "photographs", "differ in size from their record")
            scan.issues.append(Issue(shown(self._images), what))


def _difference(name: str, header: Header, size: str) -> str:
    turned = " after its EXIF orientation" if header.turned else ""
    return f"{name} is {header.size}{turned}, its record says {size}"


def _is_void(annotation: Record) -> bool:
    return bool(annotation.get("iscrowd", 0)) or bool(annotation.get("ignore", 0))


_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "categories": {"id": (int,), "name": (str,)},
    "images": {"id": (int, str), "file_name": (str,), "height": (int,), "width": (int,)},
    "annotations": {"id": (int, str), "image_id": (int, str), "category_id": (int,)},
}


def _read(path: Path) -> tuple[dict[str, list[Record]], list[Issue]]:
    """The three tables of an instances file, each record with the fields that are needed, ids unique."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        return {}, [Issue(shown(path), f"cannot be read ({error.strerror}): `annotations` starts from `root`")]
    except json.JSONDecodeError as error:
        return {}, [Issue(f"{shown(path)}:{error.lineno}:{error.colno}", f"is not JSON: {error.msg}")]
    except UnicodeDecodeError:
        return {}, [Issue(shown(path), "is not UTF-8: save it as UTF-8")]
    if not isinstance(content, dict):
        return {}, [Issue(shown(path), "is no instances file: it takes {images, annotations, categories}")]
    tables: dict[str, list[Record]] = {}
    issues: list[Issue] = []
    for table, fields in _FIELDS.items():
        records = content.get(table)
        if not isinstance(records, list):
            issues.append(Issue(shown(path), f"has no list {table!r}"))
            continue
        tables[table] = records
        bad = [
            f"{table}[{number}]{_named(record)}, {key!r}"
            for number, record in enumerate(records)
            for key in [_unfit(record, fields)]
            if key is not None
        ]
        if bad:
            what = files.first_of(bad, len(records), table, "lack a field or have one of another type")
            issues.append(Issue(shown(path), what))
            continue
        twice = [f"{key} ({times} times)" for key, times in Counter(r["id"] for r in records).items() if times > 1]
        if twice:
            issues.append(Issue(shown(path), f"{len(twice)} ids of {table} are not unique; the first: {twice[0]}"))
    return tables, issues


def _unfit(record: Any, fields: Mapping[str, tuple[type, ...]]) -> str | None:
    """The first field that the record lacks or that is of another type."""
    for key, types in fields.items():
        value = record.get(key) if isinstance(record, dict) else None
        if type(value) not in types or value == "" or (key in ("height", "width") and value < 1):  # type: ignore[operator]
            return key
    return None


def _named(record: Any) -> str:
    return f" (id {record['id']})" if isinstance(record, dict) and "id" in record else ""
