"""The label source: scenes rendered once, kept in the cache, read back from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from probekit.api import ImageRef, Issue, Provenance
from probekit_nursery.parameters import NurseryParameters
from probekit_nursery.render import RENDERER, render

CONCEPT = "pot"


class Nursery:
    """Rendered aerial photographs of a plant nursery. Groups are flights; the one concept is ``pot``.

    A pixel is positive where pot (wall, rim, inside, potting mixture) covers at least half of it and no leaf hides it;
    all others are negative, none is void. Pots cover 4 to 6 % of the pixels. What a scene shows depends on the seed,
    its flight, its number and its size alone, not on how many are asked for.
    """

    def __init__(self, parameters: NurseryParameters, *, cache: Path, seed: int) -> None:
        self._size = parameters.size
        self._seed = seed if parameters.seed is None else parameters.seed
        self._cache = cache
        self._places: dict[str, tuple[int, int]] = {}
        self._locks: dict[str, Lock] = {}
        references = []
        for flight in range(parameters.flights):
            for scene in range(parameters.scenes):
                group = f"flight-{flight:02d}"
                name = f"{group}-scene-{scene}"
                digest = _digest("image", self._seed, flight, scene, self._size)
                references.append(ImageRef(name, group, self._size, self._size, digest))
                self._places[name] = flight, scene
                self._locks[name] = Lock()
        self._images = tuple(sorted(references, key=lambda reference: reference.id))

    @property
    def concepts(self) -> Sequence[str]:
        """One: ``pot``."""
        return (CONCEPT,)

    @property
    def provenance(self) -> Provenance:
        """A renderer that knows the truth."""
        return Provenance("renderer", detail=f"rendered nursery scenes, renderer {RENDERER}, seed {self._seed}")

    def check(self) -> Sequence[Issue]:
        """Nothing can be wrong: there are no files to give."""
        return ()

    def images(self) -> Sequence[ImageRef]:
        """All scenes, sorted by id."""
        return self._images

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """The photograph, (size, size, 3) RGB, rendered if the cache does not hold it unharmed."""
        return self._scene(image)[0]

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """1 where pot is to be seen, else 0, (size, size)."""
        if concept != CONCEPT:
            raise KeyError(concept)
        return self._scene(image)[1]

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """Over the renderer's version and what it is asked for."""
        return _digest(concept, self._seed, *self._places[image.id], self._size)

    def _scene(self, image: ImageRef) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        stem = self._cache / f"{image.id}-{image.digest.removeprefix('sha256:')[:16]}"
        files = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + f"-{CONCEPT}.png")
        with self._locks[image.id]:
            photograph, mask = (_read(file) for file in files)
            if photograph is None or mask is None:
                scene = render(self._seed, *self._places[image.id], self._size)
                photograph, mask = scene.image, scene.mask.astype(np.uint8)
                self._cache.mkdir(parents=True, exist_ok=True)
                _write(files[0], photograph, Image.fromarray(photograph))
                _write(files[1], mask, Image.fromarray(mask * np.uint8(255)).convert("1"))
        return photograph, mask


def _digest(what: str, seed: int, flight: int, scene: int, size: int) -> str:
    asked = {"renderer": RENDERER, "what": what, "seed": seed, "flight": flight, "scene": scene, "size": size}
    return "sha256:" + hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _write(file: Path, pixels: NDArray[np.uint8], picture: Image.Image) -> None:
    """Writes a PNG that carries its pixels' digest, by temporary name and rename."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("sha256", hashlib.sha256(pixels.tobytes()).hexdigest())
    part = file.with_name(f"{file.stem}.{uuid4().hex}.part")
    try:
        with part.open("wb") as handle:
            picture.save(handle, "PNG", compress_level=1, pnginfo=notes)
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _read(file: Path) -> NDArray[np.uint8] | None:
    """The pixels of a file of ours; none where it is absent, cannot be read or holds other pixels than were written.

    None is no error: a scene can always be rendered again, byte for byte.
    """
    try:
        with Image.open(file, formats=("PNG",)) as picture:
            pixels = np.array(picture, np.uint8)
            noted = picture.info.get("sha256")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return pixels if noted == hashlib.sha256(pixels.tobytes()).hexdigest() else None
