"""The photographs of a label source: which there are, what is wrong with them, and their references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probekit.api import VOID, ImageRef, Issue, ProbekitError, UnreadableImageError
from probekit_masks import files
from probekit_masks.files import Header, shown
from probekit_masks.groups import Groups

_COLOURS = ("1", "L", "P", "RGB", "YCbCr", "CMYK", "LA", "PA", "RGBA", "RGBa")


@dataclass
class Scan:
    """All that the headers and tables say, and all that is wrong with them.

    Attributes:
        paths: image id -> file.
        sizes: image id -> (height, width), upright; known for undecodable photographs too, from their masks or records.
        transparent: photographs with an alpha band.
        groups: image id -> its group and the group of its group.
        issues: empty where all is well.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    transparent: set[str] = field(default_factory=set)
    groups: Groups = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)

    def read_headers(self, folder: Path) -> Mapping[str, Header | UnreadableImageError]:
        """Reads the photographs' headers; notes those that no model should be shown unasked."""
        by_path = files.read_headers(self.paths.values())
        headers = {name: by_path[path] for name, path in self.paths.items()}
        total = len(headers)
        bad: dict[tuple[str, str], list[str]] = {}
        for name, header in headers.items():
            if isinstance(header, UnreadableImageError):
                continue
            self.sizes[name] = header.height, header.width
            if header.alpha:
                self.transparent.add(name)
            reason = _refusal(header)
            if reason:
                bad.setdefault(reason, []).append(self.paths[name].name)
        for (is_wrong, advice), names in bad.items():
            self.issues.append(Issue(shown(folder), files.first_of(names, total, "photographs", is_wrong, advice)))
        broken = {n: f"{self.paths[n].name} {h}" for n, h in headers.items() if isinstance(h, UnreadableImageError)}
        if broken and len(broken) == total:
            self.issues.append(Issue(shown(folder), files.first_of(broken, total, "photographs", "cannot be read")))
        return headers

    def references(self) -> list[ImageRef]:
        """The images, sorted by id.

        Raises:
            ProbekitError: something is wrong; all of it.
        """
        if self.issues:
            raise ProbekitError(self.issues)
        digests = files.digests(self.paths.values())
        return [
            ImageRef(name, group, *self.sizes[name], digests[self.paths[name]], outer)
            for name in sorted(self.paths)
            for group, outer in [self.groups[name]]
        ]

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Decodes one photograph; errors name its file."""
        path = self.paths[image.id]
        try:
            return files.read_photograph(path)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{shown(path)} {error}") from error

    def void_transparent(self, image: ImageRef, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Sets the mask's pixels to void where the photograph is fully transparent: nobody photographed anything there.

        A photograph that cannot be decoded leaves the mask as it is; ``open`` says so and it is skipped.
        """
        if image.id in self.transparent:
            try:
                mask[files.read_alpha(self.paths[image.id]) == 0] = VOID
            except UnreadableImageError:
                return mask
        return mask


def _refusal(header: Header) -> tuple[str, str] | None:
    if header.bits > 8:
        advice = "Choose how to scale them and save them with 8 bits"
        return f"have {header.bits} bits a band", advice
    if header.unnamed_bands:
        advice = "Save the three bands that a model should see as RGB"
        return f"have {header.unnamed_bands} band(s) beside colour that are not alpha, such as near infrared", advice
    if header.mode not in _COLOURS:
        return f"are of mode {header.mode}", "Save them as RGB with 8 bits a band"
    return None
