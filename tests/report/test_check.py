from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from probekit.api import NEGATIVE, POSITIVE, VOID, Affine, Grid, ProbekitError
from probekit.report.check import check
from probekit.report.preview import BLUE, ORANGE, Labelled, draw_preview
from probekit.testing.fakes import DiscSource, TinyBackbone


def rolled(method, pixels):
    """The photograph moved so many (x, y) pixels to the right and down; masks stay."""

    def moved(self, image):
        return np.roll(method(self, image), pixels[::-1], axis=(0, 1))

    return moved


def test_aligned_labels_pass(spec, told):
    assert check(spec(), (), None, True, None, told) == 0
    assert "No shift fits better" in told.text
    assert told.text.count("average precision between groups") == 2


@pytest.mark.parametrize(
    ("moved", "words"),
    [((-8, 0), "1 cell right"), ((8, 0), "1 cell left"), ((0, -8), "1 cell down")],
)
def test_a_misplaced_mask_is_found_with_its_direction(spec, told, monkeypatch, moved, words):
    monkeypatch.setattr(DiscSource, "open", rolled(DiscSource.open, moved))
    path = spec(data="{use: discs, with: {groups: 24, images: 1, radius: 14.0}}")
    assert check(path, (), None, True, None, told) == 1
    warnings = [line for line in told.lines if line.startswith("WARNING")]
    assert warnings == [f"WARNING  tiny body · {concept}: labels fit better {words}" for concept in ("disc", "square")]


def test_a_network_that_moves_its_features_is_found_and_the_other_is_not(spec, told, monkeypatch):
    prepare = TinyBackbone.prepare

    def padded_before(self, image):
        moved = np.roll(image, (8, 8), axis=(0, 1)) if self._parameters.width == 6 else image
        return prepare(self, moved)

    monkeypatch.setattr(TinyBackbone, "prepare", padded_before)
    path = spec(
        data="{use: discs, with: {groups: 24, images: 1, radius: 14.0}}",
        backbones="{sound: {use: tiny, layers: [body]}, moved: {use: tiny, layers: [body], with: {width: 6}}}",
    )
    assert check(path, (), None, True, None, told) == 1
    warnings = [line for line in told.lines if line.startswith("WARNING")]
    assert warnings
    assert all("moved body" in line and "left" in line and "up" in line for line in warnings)
    offsets = {line.split()[0]: line for line in told.lines if " px of cells of " in line}
    x, y = (float(found) for found in re.findall(r"[xy] ([+-]\d+\.\d) px", offsets["moved"]))
    assert x == pytest.approx(8, abs=2)
    assert y == pytest.approx(8, abs=2)
    assert "half a cell or more" in offsets["moved"]
    assert "half a cell or more" not in offsets["sound"]


def test_held_out_test_groups_are_not_probed(spec, told, monkeypatch):
    opened = set()
    render = DiscSource.open
    path = spec(split="{scheme: holdout, test: 0.4, validation: 0.2}")

    def noted(self, image):
        opened.add(image.group)
        return render(self, image)

    check(path, (), None, False, None, told)
    monkeypatch.setattr(
        "probekit.runner.dataset._in_threads",
        lambda work, images, *_: [work(image) if work.__name__ == "label" else None for image in images],
    )
    monkeypatch.setattr("probekit.report.check._offset_lines", lambda *_: [])
    monkeypatch.setattr(DiscSource, "open", noted)
    check(path, (), None, True, 100, told)
    assert len(opened) == 6


def test_counts_are_those_of_the_masks(spec, told):
    check(spec(data="{use: discs, with: {groups: 4, images: 1}}"), (), None, False, None, told)
    line = next(line for line in told.lines if line.startswith("disc"))
    name, cells, positive, share, _, groups, between, void, outside = line.split()
    assert (name, groups, void, outside) == ("disc", "4", "0", "0")
    assert int(cells) + int(between) == 4 * 12 * 16
    assert float(share) == pytest.approx(100 * int(positive) / int(cells), abs=0.01)


def test_pictures_of_every_concept_and_a_page_that_shows_them(spec, told, tmp_path):
    folder = tmp_path / "pictures"
    check(spec(), (), folder, False, 3, told)
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert len(pictures) == 6
    page = (folder / "index.html").read_text()
    assert sorted(set(re.findall(r'src="([^"]+)"', page))) == pictures
    assert str(tmp_path) not in page
    assert not (tmp_path / ".probekit-store").exists()
    first = {path.name: path.read_bytes() for path in folder.glob("*")}
    check(spec(), (), folder, False, 3, told)
    assert {path.name: path.read_bytes() for path in folder.glob("*")} == first


def test_no_images_is_an_error(spec, told):
    with pytest.raises(ProbekitError, match="--images"):
        check(spec(), (), None, False, 0, told)


def reference(values):
    return Labelled("reference grid", Grid(*values.shape, Affine(16.0, 16.0), *values.shape), values)


def hue(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.all(np.asarray(picture) == colour, axis=2)


def test_a_picture_marks_positive_and_void_cells_where_they_are():
    photograph = np.full((160, 240, 3), 128, np.uint8)
    mask = np.zeros((160, 240), np.uint8)
    mask[32:48, 64:96] = POSITIVE
    plain = np.full((10, 15), NEGATIVE, np.int8)
    empty = draw_preview("t", photograph, np.zeros_like(mask), [reference(plain)])
    values = plain.copy()
    values[2, 4:6] = POSITIVE
    values[7, 9] = VOID
    shown = draw_preview("t", photograph, mask, [reference(values)])
    assert shown.size == empty.size
    scale, top = (shown.width - 32) / 240, 76 + 20
    different = np.any(np.asarray(shown) != np.asarray(empty), axis=2)[top : top + round(160 * scale)]
    rows, columns = np.nonzero(different)
    cells = {(int(r / scale // 16), int((c - 16) / scale // 16)) for r, c in zip(rows, columns, strict=True)}
    around = {(r + i, c + j) for r, c in ((2, 4), (2, 5), (7, 9)) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert {(2, 4), (2, 5), (7, 9)} <= cells <= around
    legend_only = hue(empty, ORANGE).sum(), hue(empty, BLUE).sum()
    assert hue(shown, ORANGE).sum() > legend_only[0]
    assert hue(shown, BLUE).sum() > legend_only[1]
