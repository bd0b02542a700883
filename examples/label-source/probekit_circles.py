"""The label source ``circles``: photographs in folders, and a table of circles that somebody clicked."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probekit.api import (
    ImageRef,
    Issue,
    LabelSourcePlugin,
    Parameters,
    Provenance,
    SpecPath,
    UnreadableImageError,
    hookimpl,
)


class CircleParameters(Parameters):
    """Where ``images/GROUP/*.png`` and ``circles.csv`` are (columns image, x, y, radius; an image is GROUP/STEM)."""

    root: SpecPath
    concept: str = "circle"


@hookimpl
def probekit_label_sources() -> Iterable[LabelSourcePlugin]:
    """``circles``."""
    return [LabelSourcePlugin("circles", "circles in a table", f"{__name__}:Circles", CircleParameters)]


class Circles:
    """A pixel is positive where its centre lies in a circle; the group of an image is its folder."""

    provenance = Provenance("people", detail="circles")

    def __init__(self, parameters: CircleParameters, *, cache: Path, seed: int) -> None:
        self.concepts = (parameters.concept,)
        self._table = parameters.root / "circles.csv"
        found = (parameters.root / "images").glob("*/*.png")
        self._files = {f"{file.parent.name}/{file.stem}": file for file in found}
        self._circles: dict[str, list[tuple[float, ...]]] = {}

    def check(self) -> Sequence[Issue]:
        """Reads the table and the photographs' headers; each thing that is wrong is one issue, at its place."""
        if not self._table.is_file():
            return [Issue(str(self._table), "there is no such table")]
        issues = [Issue(str(file), "is no image") for file in self._files.values() if not _is_image(file)]
        circles: dict[str, list[tuple[float, ...]]] = {name: [] for name in self._files}
        with self._table.open(encoding="utf-8", newline="") as stream:
            for line, row in enumerate(csv.DictReader(stream), 2):
                try:
                    circles[row["image"]].append(tuple(float(row[key]) for key in ("x", "y", "radius")))
                except (KeyError, TypeError, ValueError):
                    issues.append(Issue(f"{self._table}:{line}", "needs image (one that is there), x, y and radius"))
        self._circles = circles
        return issues

    def images(self) -> Sequence[ImageRef]:
        """The size is in the file's header, the digest that of its bytes."""
        refs = []
        for name, file in sorted(self._files.items()):
            with Image.open(file) as image:
                refs.append(ImageRef(name, file.parent.name, image.height, image.width, _digest(file.read_bytes())))
        return refs

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """A copy that belongs to the caller."""
        try:
            with Image.open(self._files[image.id]) as opened:
                return np.array(opened.convert("RGB"))
        except OSError as error:
            raise UnreadableImageError(str(error)) from error

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """The union of the image's circles: 1 in one of them, else 0; nothing is void."""
        y, x = np.ogrid[: image.height, : image.width]
        mask = np.zeros((image.height, image.width), dtype=np.uint8)
        for circle_x, circle_y, radius in self._circles[image.id]:
            mask[(x + 0.5 - circle_x) ** 2 + (y + 0.5 - circle_y) ** 2 <= radius**2] = 1
        return mask

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """Of all that a mask depends on."""
        return _digest(repr((image.height, image.width, self._circles[image.id])).encode())


def _is_image(file: Path) -> bool:
    try:
        Image.open(file).close()
    except OSError:
        return False
    return True


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
