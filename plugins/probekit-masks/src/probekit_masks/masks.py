"""``masks``: photographs with a folder of binary masks a concept, or with a folder of index masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, VOID, ImageRef, Issue, ProbekitError, Provenance, UnreadableImageError
from probekit_masks import files
from probekit_masks.files import Header, shown
from probekit_masks.groups import assign
from probekit_masks.parameters import MaskParameters
from probekit_masks.photographs import Scan

_ONE_BAND = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


class MaskFolders:
    """The label source ``masks`` (:class:`probekit.api.LabelSource`).

    A mask belongs to the photograph with the same path below its folder, suffix aside. Binary: black is negative,
    any one other value or colour is positive. Index: see :class:`probekit_masks.parameters.MaskParameters`.
    """

    def __init__(self, parameters: MaskParameters, *, cache: Path, seed: int) -> None:
        self._parameters = parameters
        self._images = parameters.root / parameters.images
        folders = parameters.concepts or dict.fromkeys(parameters.classes or {}, parameters.masks or Path())
        self._folders = {concept: parameters.root / folder for concept, folder in folders.items()}
        self._masks: dict[Path, dict[str, Path]] = {}

    @property
    def concepts(self) -> Sequence[str]:
        """In the order of the spec."""
        return list(self._folders)

    @property
    def provenance(self) -> Provenance:
        """As the spec says; people unless it says otherwise."""
        return self._parameters.provenance.provenance()

    def check(self) -> Sequence[Issue]:
        """All that is wrong with folders, names, sizes, kinds and the table of groups."""
        return list(self._scan.issues)

    def images(self) -> Sequence[ImageRef]:
        """All images, sorted by id."""
        return self._scan.references()

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Decodes one photograph: (height, width, 3) RGB."""
        return self._scan.open(image)

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """One mask, (height, width) of ``NEGATIVE``, ``POSITIVE``, ``VOID``.

        Raises:
            ProbekitError: the file cannot be decoded, or a binary mask has values that nobody gave a meaning.
        """
        path = self._path(image, concept)
        try:
            mask = self._binary(path) if self._parameters.classes is None else self._index(path, concept)
        except UnreadableImageError as error:
            raise ProbekitError([Issue(shown(path), f"mask {error}")]) from error
        return self._scan.void_transparent(image, mask)

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """Over the mask's file, what its values mean and, where it makes pixels void, the photograph's alpha."""
        parameters = self._parameters
        meaning = (parameters.classes or {}).get(concept), parameters.void, parameters.threshold
        alpha = image.digest if image.id in self._scan.transparent else ""
        text = f"{files.digest(self._path(image, concept))} {meaning} {alpha}"
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def _path(self, image: ImageRef, concept: str) -> Path:
        _ = self._scan
        return self._masks[self._folders[concept]][image.id]

    def _binary(self, path: Path) -> NDArray[np.uint8]:
        values = files.read_colours(path)
        threshold = self._parameters.threshold
        if threshold is not None:
            brightest = values.max(axis=2) if values.ndim == 3 else values
            return np.where(brightest >= threshold, POSITIVE, NEGATIVE).astype(np.uint8)
        if values.ndim == 3:
            # A colour as one number, so that two colours are not taken for one.
            values = values.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        positive = values != 0
        others = values[positive]
        if others.size and (others != others[0]).any():
            several = np.unique(others).tolist()
            listed = ", ".join(map(str, several[:3])) + (" ..." if len(several) > 3 else "")
            what = (
                f"a binary mask has 0 and one other value, this one has {len(several)} besides 0 ({listed}): set "
                "`threshold` if its edges were smoothed, `masks` and `classes` if they are indices"
            )
            raise ProbekitError([Issue(shown(path), what)])
        return np.where(positive, POSITIVE, NEGATIVE).astype(np.uint8)

    def _index(self, path: Path, concept: str) -> NDArray[np.uint8]:
        values = files.read_values(path)
        mask = np.full(values.shape, NEGATIVE, np.uint8)
        mask[np.isin(values, (self._parameters.classes or {})[concept])] = POSITIVE
        if self._parameters.void is not None:
            mask[np.isin(values, self._parameters.void)] = VOID
        return mask

    @cached_property
    def _scan(self) -> Scan:
        scan = Scan()
        folders = list(dict.fromkeys(self._folders.values()))
        root = self._parameters.root
        if not root.is_dir():
            scan.issues.append(Issue(shown(root), "is no folder: check `root`"))
            return scan
        below = [folder for folder in folders if folder != self._images and folder.is_relative_to(self._images)]
        scan.paths, issues = files.find(self._images, without=below)
        scan.issues += issues
        photographs = scan.read_headers(self._images)
        for folder in folders:
            inside = [other for other in folders if other != folder and other.is_relative_to(folder)]
            self._masks[folder], issues = files.find(folder, without=inside)
            scan.issues += issues
            if self._masks[folder] and scan.paths:
                self._compare(folder, scan, photographs)
        unsized = [path.name for name, path in scan.paths.items() if name not in scan.sizes]
        if unsized and not scan.issues:
            what = files.first_of(unsized, len(scan.paths), "photographs", "cannot be read, nor can any of their masks")
            scan.issues.append(Issue(shown(self._images), what))
        scan.groups, issues = assign(self._parameters.groups, root, self._images, list(scan.paths))
        scan.issues += issues
        return scan

    def _compare(self, folder: Path, scan: Scan, photographs: Mapping[str, Header | UnreadableImageError]) -> None:
        """Notes what is wrong with one folder of masks beside the photographs."""
        masks = self._masks[folder]
        by_path = files.read_headers(masks.values())
        alone = [path.name for name, path in scan.paths.items() if name not in masks]
        idle = [path.name for name, path in masks.items() if name not in scan.paths]
        differ: list[str] = []
        refused: dict[tuple[str, str], list[str]] = {}
        for name, path in masks.items():
            header, photograph = by_path[path], photographs.get(name)
            if isinstance(header, UnreadableImageError):
                refused.setdefault(("cannot be read", ""), []).append(f"{path.name} {header}")
                continue
            reason = _refusal(header, index=self._parameters.classes is not None)
            if reason:
                refused.setdefault(reason, []).append(path.name)
            if isinstance(photograph, UnreadableImageError):
                # It will be skipped when it is opened; until then its masks say how large it was.
                scan.sizes.setdefault(name, (header.height, header.width))
            elif photograph is not None and header.size != photograph.size:
                turned = " after its EXIF orientation" if photograph.turned else ""
                differ.append(f"{path.name} is {header.size}, the photograph {photograph.size}{turned}")
        found: list[tuple[list[str], int, str, str, str]] = [
            (alone, len(scan.paths), "photographs", "have no mask", "Where there is nothing to mark, add a black one"),
            (idle, len(masks), "masks", "have no photograph", ""),
            (differ, len(masks), "masks", "differ in size from their photograph", ""),
            *((names, len(masks), "masks", *reason) for reason, names in refused.items()),
        ]
        scan.issues += [Issue(shown(folder), files.first_of(*one)) for one in found if one[0]]


def _refusal(header: Header, *, index: bool) -> tuple[str, str] | None:
    if header.mode in ("LA", "PA", "RGBA", "RGBa"):
        return "have an alpha band", "Save them without"
    if index and header.format in ("JPEG", "MPO"):
        return "are JPEG, which changes indices", "Use PNG or TIFF"
    if header.mode in _ONE_BAND or (
        header.mode == "RGB" and header.bits == 8 and not header.unnamed_bands and not index
    ):
        return None
    return f"are of mode {header.mode} with {header.bits} bits", "Save them with one band"
