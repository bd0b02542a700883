"""Image files: finding them, reading size and kind from the header alone, decoding them upright."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from probekit.api import Issue, UnreadableImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
# Pictures that a folder may hold and that would else be passed over without a word.
FOREIGN = (".avif", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".ppm", ".tga")

# Pillow warns of a "decompression bomb" at 89 million pixels, which every orthomosaic has. 4.3 thousand million (a
# square of 65536) is the limit here; past twice that Pillow refuses, and the photograph counts as undecodable.
LARGEST = 2**32
Image.MAX_IMAGE_PIXELS = LARGEST

_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA = 274, 258, 262, 277, 338
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What a file says of itself before a pixel is decoded.

    Attributes:
        height, width: after EXIF orientation.
        format: ``JPEG``, ``MPO`` (a JPEG of several pictures), ``PNG``, ``TIFF``, ``WEBP``.
        mode: Pillow's name for the bands.
        bits: of a band.
        alpha: some pixels may be transparent.
        unnamed_bands: bands beside colour that are not alpha, such as near infrared.
        turned: the orientation tag asks for a turn or a flip.
    """

    height: int
    width: int
    format: str
    mode: str
    bits: int
    alpha: bool
    unnamed_bands: int
    turned: bool

    @property
    def size(self) -> str:
        """``1024x640``: width before height, as people say it."""
        return f"{self.width}x{self.height}"


def shown(path: Path) -> str:
    """A path as the user would open it: from the working directory where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def find(folder: Path, without: Collection[Path] = ()) -> tuple[dict[str, Path], list[Issue]]:
    """All image files below a folder by id: the path below the folder, without its suffix.

    Args:
        folder: searched with its subfolders; names that begin with a dot are passed over.
        without: folders below it that hold something else.
    """
    if not folder.is_dir():
        return {}, [Issue(shown(folder), "is no folder: check `root` and the path below it")]
    found: dict[str, Path] = {}
    twice: list[str] = []
    foreign: list[Path] = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts) or any(path.is_relative_to(other) for other in without):
            continue
        if path.suffix.lower() in FOREIGN and path.is_file():
            foreign.append(below)
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        name = below.with_suffix("").as_posix()
        if name in found:
            twice.append(f"{found[name].name} and {path.name}")
        found.setdefault(name, path)
    issues = []
    if twice:
        issues.append(
            Issue(shown(folder), f"{len(twice)} stems are there twice; the first: {twice[0]}. Keep one of each")
        )
    if foreign:
        what = f"{len(foreign)} files are of a kind that is not read; the first: {foreign[0]}"
        issues.append(Issue(shown(folder), f"{what}. Convert them to JPEG, PNG, TIFF or WebP"))
    if not found and not foreign:
        issues.append(Issue(shown(folder), "holds no image (JPEG, PNG, TIFF, WebP)"))
    return found, issues


def read_header(path: Path) -> Header:
    """Size and kind of an image file; decodes no pixel.

    Raises:
        UnreadableImageError: the header cannot be read.
    """
    with _opened(path) as image:
        width, height = image.size
        bits, unnamed = 8, 0
        alpha = image.has_transparency_data
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            tags = image.tag_v2
            # Taken from the tags: whether ``size`` is already turned depends on Pillow's version.
            width, height = tags[256], tags[257]
            bits = max(_tuple(tags.get(_BITS, 1)))
            colours = {2: 3, 5: 4, 6: 3, 8: 3}.get(tags.get(_PHOTOMETRIC, 0), 1)
            beside = int(tags.get(_SAMPLES, 1)) - colours
            alpha = beside == 1 and _tuple(tags.get(_EXTRA, ())) in ((1,), (2,))
            unnamed = 0 if alpha else max(beside, 0)
        elif image.format == "PNG":
            with path.open("rb") as file:
                bits = file.read(25)[24]
        elif image.mode.startswith(("I", "F")):
            bits = 32
        orientation = _orientation(image)
        if orientation >= 5:
            width, height = height, width
        kind = image.format or ""
        return Header(height, width, kind, image.mode, bits, alpha, unnamed, orientation in _TURNS)


def read_headers(paths: Iterable[Path]) -> dict[Path, Header | UnreadableImageError]:
    """The headers of many files, or why they cannot be read, in order."""

    def header(path: Path) -> Header | UnreadableImageError:
        try:
            return read_header(path)
        except UnreadableImageError as error:
            return error

    paths = list(paths)
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(paths, pool.map(header, paths), strict=True))


def read_photograph(path: Path) -> NDArray[np.uint8]:
    """Decodes a photograph: (height, width, 3) RGB, upright. Grey, palette, CMYK and YCbCr are converted by Pillow
    without colour profiles; of several pictures in a file the first is read; alpha is dropped (:func:`read_alpha`).

    Raises:
        UnreadableImageError: it cannot be decoded to the end.
    """
    with _opened(path) as image:
        turn = _turn(image)
        if image.mode == "P":
            return _pixels(image.convert("RGBA").convert("RGB"), turn)
        return _pixels(image.convert("RGB"), turn)


def read_alpha(path: Path) -> NDArray[np.uint8]:
    """Decodes a photograph's alpha band: (height, width), upright.

    Raises:
        UnreadableImageError: it cannot be decoded to the end.
    """
    with _opened(path) as image:
        turn = _turn(image)
        return _pixels(image.convert("RGBA").getchannel("A"), turn)


def read_values(path: Path) -> NDArray[np.integer[Any]]:
    """Decodes a mask as numbers, upright: (height, width) for one band (a palette's indices, 0 and 255 for one bit),
    (height, width, 3) for colour.

    Raises:
        UnreadableImageError: it cannot be decoded to the end.
    """
    with _opened(path) as image:
        turn = _turn(image)
        if image.mode == "1":
            return _pixels(image.convert("L"), turn)
        return _pixels(image, turn)


def read_colours(path: Path) -> NDArray[np.integer[Any]]:
    """As :func:`read_values`, with a palette's colours in place of its indices."""
    with _opened(path) as image:
        turn = _turn(image)
        if image.mode == "P":
            return _pixels(image.convert("RGBA").convert("RGB"), turn)
        return _pixels(image.convert("L") if image.mode == "1" else image, turn)


def digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def digests(paths: Iterable[Path]) -> dict[Path, str]:
    """The digests of many files, read side by side. Nothing is cached: a digest that trusts a file's date would
    outlive a change of its pixels, and hashing costs a small part of decoding."""
    paths = list(paths)
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(paths, pool.map(digest, paths), strict=True))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("is no JPEG, PNG, TIFF or WebP that can be read") from error
    # What a decoder raises on a broken file is not limited to one family: OSError, SyntaxError, struct.error ...
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(f"cannot be decoded ({reason})") from error


def _orientation(image: Image.Image) -> int:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(_ORIENTATION, 1))
    # The base class's method: that of PNG decodes all pixels in search of a chunk that may follow them. A PNG's
    # orientation counts where it stands before the pixels, where writers put it.
    return int(Image.Image.getexif(image).get(_ORIENTATION, 1))


def _turn(image: Image.Image) -> Image.Transpose | None:
    # To be asked before the pixels are loaded. Pillow turns TIFF by itself, then.
    return None if isinstance(image, TiffImagePlugin.TiffImageFile) else _TURNS.get(_orientation(image))


def _pixels(image: Image.Image, turn: Image.Transpose | None) -> NDArray[np.uint8]:
    return np.array(image if turn is None else image.transpose(turn))


def _tuple(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)  # type: ignore[call-overload]


def first_of(bad: Mapping[str, str] | Sequence[str], total: int, what: str, is_wrong: str, advice: str = "") -> str:
    """One line for many: ``4 of 286 masks differ ...; the first: ...``.

    Args:
        bad: for each that is wrong, how to show it.
        total: of how many.
        what: plural.
        is_wrong: the verb and what follows.
        advice: what to do.
    """
    first = next(iter(bad.values() if isinstance(bad, Mapping) else bad))
    return f"{len(bad)} of {total} {what} {is_wrong}; the first: {first}" + (f". {advice}" if advice else "")
