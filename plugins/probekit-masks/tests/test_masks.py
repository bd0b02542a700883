"""``masks``: what is read, how, and what is refused in which words."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageFile
from probekit_masks.masks import MaskFolders
from probekit_masks.parameters import CocoParameters, MadeBy, MaskParameters
from pydantic import ValidationError

from probekit.api import NEGATIVE, POSITIVE, VOID, LabelSource, Parameters, ProbekitError, UnreadableImageError
from probekit.testing.labels import LabelSourceContract

HEIGHT, WIDTH = 24, 40


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, values: NDArray[Any] | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(path, **options)
    return path


def spot(row: int = 3, value: int = 255, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    mask[row : row + 8, 5:20] = value
    return mask


def three(root: Path) -> Path:
    """Photographs a, b, c, binary masks of two concepts, and a table: a and b are one group."""
    for place, name in enumerate("abc"):
        save(root / "images" / f"{name}.png", noise(place))
        save(root / "masks" / "hole" / f"{name}.png", spot(place))
        save(root / "masks" / "crack" / f"{name}.png", spot(place + 9, value=1))
    (root / "images.csv").write_text("image,part,road\na,p1,r1\nb,p1,r1\nc,p2,r2\n")
    return root


def source(root: Path, **parameters: Any) -> MaskFolders:
    given: dict[str, Any] = {"root": root, "groups": "each"} | parameters
    if "masks" not in given:
        given.setdefault("concepts", {"hole": "masks/hole", "crack": "masks/crack"})
    return MaskFolders(MaskParameters.model_validate(given), cache=root / "cache", seed=0)


def problems(root: Path, **parameters: Any) -> list[str]:
    return [str(issue).replace(f"{root}/", "") for issue in source(root, **parameters).check()]


def only_hole(root: Path, **parameters: Any) -> MaskFolders:
    return source(root, concepts={"hole": "masks/hole"}, **parameters)


class TestBinaryMasks(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> LabelSource:
        return source(three(folder), groups={"file": "images.csv", "group": "part", "outer": "road"})

    def make_altered(self, folder: Path, cache: Path) -> LabelSource | None:
        made = source(three(folder), groups={"file": "images.csv", "group": "part", "outer": "road"})
        save(folder / "images" / "b.png", noise(77))
        save(folder / "masks" / "hole" / "c.png", spot(11))
        return made


class TestIndexMasks(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> LabelSource:
        three(folder)
        for place, name in enumerate("abc"):
            save(folder / "index" / f"{name}.tif", np.maximum(spot(place, 7), spot(place + 9, 255)))
        return source(folder, masks="index", classes={"hole": [7, 8]}, void=255)

    def make_altered(self, folder: Path, cache: Path) -> LabelSource | None:
        made = self.make(folder, cache)
        save(folder / "images" / "a.png", noise(77))
        save(folder / "index" / "a.tif", spot(1, 8))
        return made


def test_groups_come_from_the_table(tmp_path: Path) -> None:
    three(tmp_path)
    images = source(
        tmp_path, groups={"file": "images.csv", "image": "image", "group": "part", "outer": "road"}
    ).images()
    assert [(i.id, i.group, i.outer, i.height, i.width) for i in images] == [
        ("a", "p1", "r1", HEIGHT, WIDTH),
        ("b", "p1", "r1", HEIGHT, WIDTH),
        ("c", "p2", "r2", HEIGHT, WIDTH),
    ]


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffimage;part\na.png;p1\nb.JPG;p1\nc;p2\nnot-here;p3\n",
        "part\timage\n\np1\ta\np1\tb\np2\t c \n",
        'image,part\r\n"a",p1\r\n"b",p1\r\nc,p2\r\n',
    ],
)
def test_tables_of_other_makes(tmp_path: Path, table: str) -> None:
    three(tmp_path)
    (tmp_path / "images.csv").write_bytes(table.encode())
    groups = {"file": "images.csv", "group": "part"}
    assert [image.group for image in source(tmp_path, groups=groups).images()] == ["p1", "p1", "p2"]


def test_all_that_is_wrong_with_a_table_has_its_line(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / "images.csv").write_text("image,part\na,p1\na,p2\n\nb,\nx,1,2\n")
    assert problems(tmp_path, groups={"file": "images.csv", "group": "part"}) == [
        "images.csv:3  names image 'a' again (line 2): keep one",
        "images.csv:5  column 'part' is empty",
        "images.csv:6  has 3 fields, the first line has 2",
        "images.csv  1 of 3 images are not in the table; the first: c. Add them to column 'image'",
    ]


def test_a_table_without_the_columns_names_near_ones(tmp_path: Path) -> None:
    three(tmp_path)
    assert problems(tmp_path, groups={"file": "images.csv", "image": "file", "group": "parts"}) == [
        "images.csv:1  has no column 'file' (`groups.image`): it has image, part, road",
        "images.csv:1  has no column 'parts' (`groups.group`): did you mean 'part'?",
    ]
    assert problems(tmp_path, groups={"file": "none.csv", "group": "part"}) == [
        "none.csv  cannot be read (No such file or directory): `groups.file` starts from `root`"
    ]


def test_groups_from_names(tmp_path: Path) -> None:
    for name in ("N1_f2_001", "N1_f2_002", "N2_f1_001"):
        save(tmp_path / "images" / name[:2] / f"{name}.png", noise(0))
        save(tmp_path / "masks" / "hole" / name[:2] / f"{name}.png", spot())

    def groups(**rule: str) -> list[tuple[str, str | None]]:
        return [(image.group, image.outer) for image in only_hole(tmp_path, groups=rule).images()]

    assert only_hole(tmp_path).images()[0].id == "N1/N1_f2_001"
    assert groups(stem=r"^[^_]+_[^_]+") == [("N1_f2", None), ("N1_f2", None), ("N2_f1", None)]
    assert groups(stem=r"_(f\d)_") == [("f2", None), ("f2", None), ("f1", None)]
    assert groups(stem=r"(?P<outer>N\d)_(f\d)") == [("f2", "N1"), ("f2", "N1"), ("f1", "N2")]
    assert groups(stem=r"(N\d)_(?P<group>f\d)") == [("f2", None), ("f2", None), ("f1", None)]
    assert groups(folder=".+") == [("N1", None), ("N1", None), ("N2", None)]
    assert problems(tmp_path, concepts={"hole": "masks/hole"}, groups={"stem": "N1"}) == [
        "images  1 of 3 images have a stem in which `groups.stem` finds nothing; the first: N2/N2_f1_001"
    ]


@pytest.mark.parametrize(
    ("wrong", "place", "message"),
    [
        ({}, ("groups",), "say which images must not be split apart"),
        ({"groups": "all"}, ("groups",), "say which images must not be split apart"),
        ({"groups": {}}, ("groups", "pattern"), "say which images must not be split apart"),
        ({"groups": {"stem": "("}}, ("groups", "pattern", "stem"), "is no regular expression"),
        ({"groups": {"file": "a.csv"}}, ("groups", "table", "group"), "Field required"),
        ({"groups": {"fle": "a.csv", "group": "x"}}, ("groups", "table", "fle"), "Extra inputs"),
        ({"groups": {"field": "x"}}, ("groups", "pattern", "field"), "Extra inputs"),
        ({"concepts": None}, (), "say where the masks are"),
        ({"masks": "m"}, (), "say where the masks are"),
        ({"concepts": None, "masks": "m"}, (), "say where the masks are"),
        ({"void": 255}, (), "it goes with `masks` and `classes`"),
        ({"concepts": None, "masks": "m", "classes": {"a": 1}, "threshold": 3}, (), "it goes with `concepts`"),
        ({"concepts": None, "masks": "m", "classes": {"a": [1, 2]}, "void": 2}, (), "index 2 is both 'a' and void"),
        ({"concepts": {}}, ("concepts",), "at least 1 item"),
        ({"provenance": {"made_by": "model"}}, ("provenance",), "goes with `made_by: model`"),
    ],
)
def test_parameters_that_make_no_sense(wrong: dict[str, Any], place: tuple[str, ...], message: str) -> None:
    given = {"root": "r", "concepts": {"hole": "m"}} | ({"groups": "each"} if wrong else {}) | wrong
    with pytest.raises(ValidationError) as caught:
        MaskParameters.model_validate(given)
    assert (place, True) in [(error["loc"], message in error["msg"]) for error in caught.value.errors()]


def test_provenance_travels(tmp_path: Path) -> None:
    assert source(tmp_path).provenance.made_by == "people"
    made = source(tmp_path, provenance={"made_by": "model", "family": "sam", "detail": "vit_b"}).provenance
    assert (made.made_by, made.family, made.detail) == ("model", "sam", "vit_b")


def test_names_and_sizes_that_do_not_match_are_all_reported(tmp_path: Path) -> None:
    three(tmp_path)
    save(tmp_path / "masks" / "hole" / "a.png", spot(height=12, width=20))
    save(tmp_path / "masks" / "hole" / "b.png", spot(height=40, width=24))
    save(tmp_path / "masks" / "hole" / "z.png", spot())
    (tmp_path / "masks" / "crack" / "c.png").unlink()
    assert problems(tmp_path, groups={"stem": "[ab]"}) == [
        "masks/hole  1 of 4 masks have no photograph; the first: z.png",
        "masks/hole  2 of 4 masks differ in size from their photograph; "
        "the first: a.png is 20x12, the photograph 40x24",
        "masks/crack  1 of 3 photographs have no mask; the first: c.png. "
        "Where there is nothing to mark, add a black one",
        "images  1 of 3 images have a stem in which `groups.stem` finds nothing; the first: c",
    ]


def test_images_of_a_faulty_source_are_refused(tmp_path: Path) -> None:
    three(tmp_path)
    (tmp_path / "masks" / "crack" / "c.png").unlink()
    with pytest.raises(ProbekitError, match="have no mask"):
        source(tmp_path).images()


def test_folders_that_are_not_there_or_empty(tmp_path: Path) -> None:
    assert problems(tmp_path / "none") == [f"{tmp_path / 'none'}  is no folder: check `root`"]
    three(tmp_path)
    (tmp_path / "empty").mkdir()
    assert problems(tmp_path, images="empty", concepts={"hole": "masks/holes"}) == [
        "empty  holds no image (JPEG, PNG, TIFF, WebP)",
        "masks/holes  is no folder: check `root` and the path below it",
    ]


def test_stems_that_are_there_twice_and_foreign_kinds(tmp_path: Path) -> None:
    three(tmp_path)
    save(tmp_path / "images" / "a.jpg", noise(1))
    save(tmp_path / "images" / "d.bmp", noise(1))
    (tmp_path / "images" / ".hidden.png").write_text("")
    (tmp_path / "images" / "notes.txt").write_text("")
    assert problems(tmp_path) == [
        "images  1 stems are there twice; the first: a.jpg and a.png. Keep one of each",
        "images  1 files are of a kind that is not read; the first: d.bmp. Convert them to JPEG, PNG, TIFF or WebP",
    ]


def test_masks_below_the_photographs_are_no_photographs(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(0))
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    assert [image.id for image in only_hole(tmp_path, images=".").images()] == ["a"]


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    shade = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shade[: HEIGHT // 2, : WIDTH // 2] = 250
    save(tmp_path / "images" / f"a.{suffix}", shade, exif=exif)
    # What the tag's definition says of the first row and column: which side of the upright picture they are.
    row_side, column_side = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    height, width = (HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT)
    save(tmp_path / "masks" / "hole" / "a.png", spot(height=height, width=width))
    made = only_hole(tmp_path)
    assert made.check() == []
    (image,) = made.images()
    assert (image.height, image.width) == (height, width)
    pixels = made.open(image)
    assert pixels.shape == (height, width, 3)
    sides = {row_side, column_side}
    rows = slice(None, height // 2) if "top" in sides else slice(height // 2, None)
    columns = slice(None, width // 2) if "left" in sides else slice(width // 2, None)
    assert pixels[rows, columns].mean() > 200
    assert pixels.mean() < 90


def test_a_turned_photograph_beside_an_unturned_mask_says_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    save(tmp_path / "images" / "a.jpg", noise(0), exif=exif)
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    assert problems(tmp_path, concepts={"hole": "masks/hole"}) == [
        "masks/hole  1 of 1 masks differ in size from their photograph; "
        "the first: a.png is 40x24, the photograph 24x40 after its EXIF orientation"
    ]


def test_a_mask_is_turned_by_its_own_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3
    save(tmp_path / "images" / "a.png", noise(0))
    save(tmp_path / "masks" / "hole" / "a.png", spot(), exif=exif)
    made = only_hole(tmp_path)
    assert np.array_equal(made.mask(made.images()[0], "hole"), np.rot90(spot(value=POSITIVE), 2))


GREY = noise(5)[:, :, 0]


@pytest.mark.parametrize(
    ("picture", "suffix", "expected"),
    [
        (Image.fromarray(GREY), "png", np.repeat(GREY[:, :, None], 3, axis=2)),
        (Image.fromarray(GREY > 127), "png", np.repeat((GREY > 127)[:, :, None] * np.uint8(255), 3, axis=2)),
        (Image.fromarray(noise(6)), "tif", noise(6)),
        (Image.fromarray(noise(6)).convert("CMYK"), "tif", noise(6)),
        (Image.fromarray(GREY // 8).convert("P"), "png", np.repeat(GREY[:, :, None] // 8, 3, axis=2)),
    ],
)
def test_colours_become_rgb(tmp_path: Path, picture: Image.Image, suffix: str, expected: NDArray[np.uint8]) -> None:
    save(tmp_path / "images" / f"a.{suffix}", picture)
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    made = only_hole(tmp_path)
    assert np.array_equal(made.open(made.images()[0]), expected)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparent_pixels_are_void(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :8] = 0
    alpha[:, 8:10] = 3
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    picture = np.dstack([noise(0), alpha])
    path = save(tmp_path / "images" / f"a.{suffix}", picture, **options)
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    made = only_hole(tmp_path)
    (image,) = made.images()
    assert np.array_equal(made.open(image), noise(0))
    expected = spot(value=POSITIVE)
    expected[:, :8] = VOID
    assert np.array_equal(made.mask(image, "hole"), expected)
    before = made.mask_digest(image, "hole")
    picture[:, 20:, 3] = 0
    save(path, picture, **options)
    again = only_hole(tmp_path)
    assert again.mask_digest(again.images()[0], "hole") != before


def test_a_palette_with_a_transparent_colour_is_void_there(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", Image.fromarray(GREY // 64).convert("P"), transparency=bytes([255, 0, 255]))
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    made = only_hole(tmp_path)
    (image,) = made.images()
    assert np.array_equal(made.mask(image, "hole") == VOID, GREY // 64 == 1)
    assert made.open(image).shape == (HEIGHT, WIDTH, 3)


def unnamed_band(path: Path) -> None:
    """A fourth band that the file does not call alpha, as near infrared is stored."""
    save(path, Image.merge("RGBX", [Image.fromarray(GREY)] * 4))


@pytest.mark.parametrize(
    ("write", "suffix", "message"),
    [
        (lambda p: save(p, GREY.astype(np.uint16) * 257), "png", "have 16 bits a band"),
        (lambda p: save(p, GREY.astype(np.uint16) * 257), "tif", "have 16 bits a band"),
        (lambda p: save(p, GREY.astype(np.float32)), "tif", "have 32 bits a band"),
        (unnamed_band, "tif", "have 1 band(s) beside colour that are not alpha, such as near infrared"),
        (lambda p: save(p, Image.fromarray(noise(0)).convert("LAB")), "tif", "are of mode LAB"),
    ],
)
def test_photographs_that_are_refused_by_name(tmp_path: Path, write: Any, suffix: str, message: str) -> None:
    three(tmp_path)
    for folder in ("hole", "crack"):
        save(tmp_path / "masks" / folder / "d.png", spot())
    write(tmp_path / "images" / f"d.{suffix}")
    (line,) = problems(tmp_path)
    assert line.startswith(f"images  1 of 4 photographs {message}; the first: d.{suffix}. ")


def test_sixteen_bits_of_colour_are_refused_too(tmp_path: Path) -> None:
    """Pillow would cut them to their upper halves without a word."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(WIDTH * 6) for _ in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    (line,) = problems(tmp_path, concepts={"hole": "masks/hole"})
    assert "have 16 bits a band" in line


def test_undecodable_photographs_are_left_to_the_core_to_skip(tmp_path: Path) -> None:
    three(tmp_path)
    save(tmp_path / "images" / "big.jpg", noise(3, 200, 300))
    cut = (tmp_path / "images" / "big.jpg").read_bytes()
    (tmp_path / "images" / "big.jpg").unlink()
    for name, content in (("d", cut[: len(cut) // 2]), ("e", b""), ("f", b"no picture at all")):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(content)
        for folder in ("hole", "crack"):
            save(tmp_path / "masks" / folder / f"{name}.png", spot(height=200, width=300))
    made = source(tmp_path)
    assert made.check() == []
    images = {image.id: image for image in made.images()}
    assert list(images) == ["a", "b", "c", "d", "e", "f"]
    for name in "def":
        assert (images[name].height, images[name].width) == (200, 300)
        with pytest.raises(UnreadableImageError, match=f"images/{name}.jpg "):
            made.open(images[name])
    assert made.open(images["a"]).shape == (HEIGHT, WIDTH, 3)


def test_photographs_none_of_which_can_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("no picture")
    save(tmp_path / "masks" / "hole" / "a.png", spot())
    assert problems(tmp_path, concepts={"hole": "masks/hole"}) == [
        "images  1 of 1 photographs cannot be read; the first: a.png is no JPEG, PNG, TIFF or WebP that can be read"
    ]


PALETTE = Image.fromarray(spot(value=1)).convert("P")
PALETTE.putpalette([255, 255, 255, 0, 0, 0])  # index 1 is black: colours count, not indices


@pytest.mark.parametrize(
    ("mask", "suffix", "inverted"),
    [
        (Image.fromarray(spot() > 0), "png", False),
        (Image.fromarray(spot() > 0), "tif", False),
        (Image.fromarray(spot(value=255)), "png", False),
        (Image.fromarray(spot(value=1)), "png", False),
        (Image.fromarray(spot(value=200).astype(np.uint16) * 300), "png", False),
        (Image.merge("RGB", [Image.fromarray(spot(value=v)) for v in (200, 0, 9)]), "png", False),
        (PALETTE, "png", True),
    ],
)
def test_binary_masks_of_many_makes(tmp_path: Path, mask: Image.Image, suffix: str, inverted: bool) -> None:
    save(tmp_path / "images" / "a.png", noise(0))
    save(tmp_path / "masks" / "hole" / f"a.{suffix}", mask)
    made = only_hole(tmp_path)
    assert made.check() == []
    expected = (spot() > 0) ^ inverted
    assert np.array_equal(made.mask(made.images()[0], "hole"), np.where(expected, POSITIVE, NEGATIVE))


def test_smoothed_masks_are_refused_unless_a_threshold_is_given(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0))
    mask = spot()
    mask[3] = 127
    mask[4] = 128
    save(tmp_path / "masks" / "hole" / "a.png", mask)
    made = only_hole(tmp_path)
    with pytest.raises(
        ProbekitError, match=r"hole/a\.png  a binary mask .* 3 besides 0 \(127, 128, 255\).*`threshold`"
    ):
        made.mask(made.images()[0], "hole")
    told = only_hole(tmp_path, threshold=128)
    assert np.array_equal(told.mask(told.images()[0], "hole"), mask >= 128)
    assert told.mask_digest(told.images()[0], "hole") != made.mask_digest(made.images()[0], "hole")


def test_two_colours_besides_black_are_not_taken_for_one(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0))
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[2:5, :, 0] = mask[7:9, :, 1] = 200
    save(tmp_path / "masks" / "hole" / "a.png", mask)
    made = only_hole(tmp_path)
    with pytest.raises(ProbekitError, match="this one has 2 besides 0"):
        made.mask(made.images()[0], "hole")


def test_index_masks(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0))
    values = np.random.default_rng(0).integers(0, 5, (HEIGHT, WIDTH)).astype(np.uint16)
    values[0] = 300
    save(tmp_path / "masks" / "a.png", values)
    made = source(tmp_path, masks="masks", classes={"crack": [2, 3], "hole": 300}, void=[0, 4])
    assert made.concepts == ["crack", "hole"]
    (image,) = made.images()
    void = np.isin(values, (0, 4))
    for concept, indices in (("crack", (2, 3)), ("hole", (300,))):
        expected = np.where(void, VOID, np.where(np.isin(values, indices), POSITIVE, NEGATIVE))
        assert np.array_equal(made.mask(image, concept), expected)
    palette = Image.fromarray((values % 5).astype(np.uint8)).convert("P")
    palette.putpalette([9, 9, 9] * 256)
    save(tmp_path / "masks" / "a.png", palette)
    made = source(tmp_path, masks="masks", classes={"crack": 2})
    assert np.array_equal(made.mask(made.images()[0], "crack"), values % 5 == 2)


def test_masks_that_are_refused_by_name(tmp_path: Path) -> None:
    three(tmp_path)
    save(tmp_path / "masks" / "hole" / "a.png", np.dstack([noise(0), GREY]))
    (tmp_path / "masks" / "hole" / "b.png").write_text("")
    index = tmp_path / "index"
    save(index / "a.jpg", spot())
    save(index / "b.png", noise(0))
    save(index / "c.png", spot())
    assert problems(tmp_path, concepts={"hole": "masks/hole"}) == [
        "masks/hole  1 of 3 masks have an alpha band; the first: a.png. Save them without",
        "masks/hole  1 of 3 masks cannot be read; the first: b.png is no JPEG, PNG, TIFF or WebP that can be read",
    ]
    assert problems(tmp_path, masks="index", classes={"hole": 255}) == [
        "index  1 of 3 masks are JPEG, which changes indices; the first: a.jpg. Use PNG or TIFF",
        "index  1 of 3 masks are of mode RGB with 8 bits; the first: b.png. Save them with one band",
    ]


def test_a_mask_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    three(tmp_path)
    path = save(tmp_path / "masks" / "hole" / "a.png", np.where(noise(1)[:, :, 0] > 99, np.uint8(255), np.uint8(0)))
    path.write_bytes(path.read_bytes()[:90])
    made = source(tmp_path)
    assert made.check() == []
    with pytest.raises(ProbekitError, match=r"hole/a\.png  mask cannot be decoded"):
        made.mask(made.images()[0], "hole")


def test_checking_decodes_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[274] = 6
    three(tmp_path)
    for suffix in ("jpg", "tif", "webp"):
        save(tmp_path / "images" / f"{suffix}.{suffix}", noise(0, WIDTH, HEIGHT), exif=exif)
        for folder in ("hole", "crack"):
            save(tmp_path / "masks" / folder / f"{suffix}.png", spot())

    decoded: list[str] = []
    load = ImageFile.ImageFile.load

    def noted(self: ImageFile.ImageFile) -> Any:
        decoded.append(str(self.filename))
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", noted)
    made = source(tmp_path)
    assert made.check() == []
    assert len(made.images()) == 6
    assert decoded == []
    made.open(made.images()[0])
    assert decoded


def test_large_photographs_are_no_bombs(tmp_path: Path) -> None:
    """Past Pillow's own limit, which is 89 million pixels for a warning and twice that for an error."""
    save(tmp_path / "images" / "a.png", Image.new("1", (20000, 10000)))
    save(tmp_path / "masks" / "hole" / "a.png", Image.new("1", (20000, 10000)))
    made = only_hole(tmp_path)
    assert made.check() == []
    assert (made.images()[0].height, made.images()[0].width) == (10000, 20000)


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, probekit_masks.plugin as p; p.probekit_label_sources(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "PIL", "probekit_masks.masks", "probekit_masks.coco"} & set(loaded)


def test_the_examples_of_the_reference_are_valid() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "label-sources.md"
    models: dict[str, type[Parameters]] = {"masks": MaskParameters, "coco": CocoParameters}
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    data = [example["data"] for example in examples if "data" in example]
    entries = [entry for of in data for entry in (of if isinstance(of, list) else [of])]
    used = [entry for entry in entries if entry["use"] in models]
    assert {entry["use"] for entry in used} == set(models)
    for entry in used:
        models[entry["use"]].model_validate(entry["with"])
    for example in examples:
        if "provenance" in example:
            MadeBy.model_validate(example["provenance"])


@pytest.mark.shared
def test_the_road_photographs(shared: Path) -> None:
    root = shared / "data" / "road-damage"
    made = source(
        root,
        images="images",
        concepts={"pothole": "masks/pothole", "crack": "masks/crack"},
        groups={"file": "images.csv", "image": "image", "group": "stretch"},
    )
    assert made.check() == []
    images = made.images()
    assert len(images) == 286
    assert len({image.group for image in images}) == 132
    with (root / "images.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    for image in images:
        row = rows[image.id]
        assert (image.group, image.width, image.height) == (row["stretch"], int(row["width"]), int(row["height"]))
        for concept in made.concepts:
            share = (made.mask(image, concept) == POSITIVE).mean()
            assert f"{share:.5f}" == row[f"{concept}_share"], (image.id, concept)
    assert made.open(images[0]).shape == (images[0].height, images[0].width, 3)
