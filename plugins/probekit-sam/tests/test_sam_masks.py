"""segment-anything's masks as labels: made once, chosen by rules, with their provenance."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from probekit_sam.generate import MaskMaker
from probekit_sam.label_parameters import SamMasksParameters
from probekit_sam.masks import SamMasks
from probekit_sam.plugin import probekit_label_sources
from probekit_sam.regions import Region, perimeter, read_regions, write_regions
from pydantic import ValidationError
from segment_anything.utils.amg import mask_to_rle_pytorch, rle_to_mask

from probekit.api import NEGATIVE, POSITIVE, VOID, ParameterError, ProbekitError, SpecString, UnreadableImageError
from probekit.testing.backbones import photograph
from probekit.testing.labels import LabelSourceContract

SMALL = {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0], "image_size": 32, "weights": "random"}
FEW = {"points_per_side": 2, "pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and threads that wait for each other on a busy machine cost much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_photographs(folder: Path, first_seed: int = 0) -> None:
    for i, (height, width) in enumerate(((40, 61), (55, 40), (40, 61))):
        road = folder / "images" / f"road{i % 2}"
        road.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(height, width, first_seed + i)).save(road / f"photo.{i}.png")


def source(folder: Path, cache: Path, **given: object) -> SamMasks:
    values = {
        **SMALL,
        "root": folder,
        "groups": {"folder": ".*"},
        "generator": FEW,
        "concepts": {"thing": {"area": {"min": 1}}},
        **given,
    }
    return SamMasks(SamMasksParameters.model_validate(values), cache=cache, seed=0)


class TestSamMasks(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> SamMasks:
        write_photographs(folder)
        return source(folder, cache)

    def make_altered(self, folder: Path, cache: Path) -> SamMasks:
        write_photographs(folder, first_seed=7)
        return source(folder, cache)


def test_a_rule_changes_no_mask_and_makes_none_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path)
    first = source(tmp_path, tmp_path / "cache")
    images = first.images()
    wanted = {image.id: first.mask(image, "thing") for image in images}
    kept = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(kept) == len(images)
    monkeypatch.setattr(MaskMaker, "__init__", lambda *_: pytest.fail("the model was loaded again"))
    areas = [region.area for path in kept for region in _regions(path)]
    middle = float(np.median(areas))
    small = {"area": {"max": middle}}
    second = source(tmp_path, tmp_path / "cache", concepts={"small": small, "thing": {"area": {"min": 1}}})
    for image in images:
        np.testing.assert_array_equal(second.mask(image, "thing"), wanted[image.id])
        assert second.mask_digest(image, "small") != second.mask_digest(image, "thing")
        assert second.mask_digest(image, "thing") == first.mask_digest(image, "thing")
    assert sorted((tmp_path / "cache").rglob("*")) == sorted({*kept, kept[0].parent})


def _regions(path: Path) -> list[Region]:
    for size in ((40, 61), (55, 40)):
        try:
            return read_regions(path, *size)
        except ProbekitError:
            continue
    raise AssertionError(path)


def test_other_weights_photographs_or_options_make_other_masks(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    sources = [
        source(tmp_path, tmp_path / "cache"),
        source(tmp_path, tmp_path / "cache", generator={**FEW, "points_per_side": 1}),
        source(tmp_path, tmp_path / "cache", depth=2),
        SamMasks(source(tmp_path, tmp_path / "cache")._parameters, cache=tmp_path / "cache", seed=1),
    ]
    image = sources[0].images()[0]
    for one in sources:
        one.mask(image, "thing")
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == len(sources)
    assert len({one.mask_digest(image, "thing") for one in sources}) == len(sources)
    batches = source(tmp_path, tmp_path / "cache", generator={**FEW, "points_per_batch": 3}, device="cpu")
    assert batches.mask_digest(image, "thing") == sources[0].mask_digest(image, "thing")


def test_each_span_of_a_rule_decides(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    made = source(tmp_path, tmp_path / "cache")
    image = made.images()[0]
    regions = MaskMaker(made._parameters, 0).make(made.open(image))
    assert len(regions) > 1
    for name in ("area", "share", "roundness", "stability", "predicted_iou"):
        values = [
            region.area / (image.height * image.width) if name == "share" else getattr(region, name)
            for region in regions
        ]
        for bound in ("min", "max"):
            limit = float(np.nanmedian(values))
            one = source(tmp_path, tmp_path / "cache", concepts={"x": {name: {bound: limit}}})
            wanted = np.full((image.height, image.width), NEGATIVE)
            for value, region in zip(values, regions, strict=True):
                if value >= limit if bound == "min" else value <= limit:
                    wanted[region.mask(image.height, image.width)] = POSITIVE
            np.testing.assert_array_equal(one.mask(image, "x"), wanted, err_msg=f"{name} {bound}")


def test_no_mask_that_meets_a_rule_leaves_the_image_negative(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    none = source(tmp_path, tmp_path / "cache", generator={**FEW, "pred_iou_thresh": 1e9})
    too_large = source(tmp_path, tmp_path / "cache", concepts={"x": {"share": {"min": 1.5}}})
    image = none.images()[0]
    assert not none.mask(image, "thing").any()
    assert not too_large.mask(image, "x").any()


def test_provenance_names_the_model_its_digest_and_the_rules(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    provenance = source(tmp_path, tmp_path, concepts={"pot": {"area": {"min": 100, "max": 5e3}}}).provenance
    assert (provenance.made_by, provenance.family) == ("model", "sam")
    assert "vit_b" in provenance.detail
    assert "seed 0" in provenance.detail
    assert provenance.detail.endswith("pot: area from 100 to 5000")


def test_groups_come_from_a_table_the_folder_the_stem_or_each_image(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    lines = ["image,stretch,road", "road0/photo.0.png,a,A", "road1/photo.1,b,B", "road0/photo.2,a,A"]
    (tmp_path / "images.csv").write_text("\n".join(lines))
    table = {"file": "images.csv", "group": "stretch", "outer": "road"}
    forms = {
        "table": (table, [("a", "A"), ("a", "A"), ("b", "B")]),
        "folder": ({"folder": "road([0-9])"}, [("0", None), ("0", None), ("1", None)]),
        "stem": ({"stem": r"(?P<outer>photo)\.(?P<group>.)"}, [("0", "photo"), ("2", "photo"), ("1", "photo")]),
        "each": ("each", [(name, None) for name in ("road0/photo.0", "road0/photo.2", "road1/photo.1")]),
    }
    for name, (form, wanted) in forms.items():
        images = source(tmp_path, tmp_path, groups=form).images()
        assert [(image.group, image.outer) for image in images] == wanted, name


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    (tmp_path / "images" / "no.jpg").write_text("no picture")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "images" / "deep.png")
    (tmp_path / "images.csv").write_text("image,stretch\nroad0/photo.0,a\nroad0/photo.0,b\nroad1/photo.1,\n")
    table = {"file": "images.csv", "group": "stretch"}
    made = source(tmp_path, tmp_path, groups=table, weights=tmp_path / "sam.pth")
    issues = [str(issue) for issue in made.check()]
    assert len(issues) == 5, issues
    for part in (
        "no.jpg  cannot be read",
        "deep.png  is of mode I;16",
        "images.csv:3",
        "images.csv:4",
        "sam.pth  is no file",
    ):
        assert any(part in issue for issue in issues), (part, issues)
    with pytest.raises(ProbekitError):
        made.images()
    (tmp_path / "images.csv").write_text("image,way\n")
    assert "has no column 'stretch'" in str(source(tmp_path, tmp_path, groups=table).check()[-1])
    (tmp_path / "images.csv").write_text("image,stretch\nroad0/photo.0,a\n")
    assert "does not name 4 of 5" in str(source(tmp_path, tmp_path, groups=table).check()[-1])
    assert "is no folder" in str(source(tmp_path / "elsewhere", tmp_path).check()[0])


def test_exif_orientation_is_honoured_and_a_cut_file_is_void(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    upright = photograph(24, 40)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(upright)).save(tmp_path / "images" / "turned.png", exif=exif)
    Image.fromarray(np.rot90(upright)).save(tmp_path / "images" / "turned too.tif", exif=exif)
    Image.fromarray(upright).save(tmp_path / "images" / "cut.png")
    whole = (tmp_path / "images" / "cut.png").read_bytes()
    (tmp_path / "images" / "cut.png").write_bytes(whole[: len(whole) // 2])
    made = source(tmp_path, tmp_path / "cache", groups="each")
    cut, *both = made.images()
    for turned in both:
        assert (turned.height, turned.width) == (24, 40)
        np.testing.assert_array_equal(made.open(turned), upright)
    with pytest.raises(UnreadableImageError, match=r"cut\.png cannot be decoded"):
        made.open(cut)
    assert (made.mask(cut, "thing") == VOID).all()


def test_a_damaged_file_and_a_device_that_is_not_there_are_said_so(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    made = source(tmp_path, tmp_path / "cache")
    image = made.images()[0]
    made.mask(image, "thing")
    path = next((tmp_path / "cache").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ProbekitError, match="is damaged"):
        made.mask(image, "thing")
    with pytest.raises(ParameterError, match="device: 'cuda:99'"):
        source(tmp_path, tmp_path / "other", device="cuda:99").mask(image, "thing")


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_run_lengths_are_segment_anythings_and_come_back(mask: np.ndarray) -> None:
    rle = mask_to_rle_pytorch(torch.from_numpy(mask)[None])[0]
    region = Region(np.array(rle["counts"]), float(mask.sum()), perimeter(mask), 1.0, 1.0)
    np.testing.assert_array_equal(region.mask(*mask.shape), mask)
    np.testing.assert_array_equal(region.mask(*mask.shape), rle_to_mask(rle))


def test_regions_are_written_and_read_back_none_too(tmp_path: Path) -> None:
    regions = [Region(np.array([2, 3, 1]), 3.0, 7.5, 0.9, float("nan")), Region(np.array([0, 6]), 6.0, 9.0, 0.5, 0.25)]
    for kept in (regions, []):
        write_regions(tmp_path / "r.safetensors", kept)
        found = read_regions(tmp_path / "r.safetensors", 2, 3)
        assert [repr(region) for region in found] == [repr(region) for region in kept]
    assert [path.name for path in tmp_path.iterdir()] == ["r.safetensors"]


@pytest.mark.parametrize("radius", [10, 25, 60])
def test_a_disc_is_round_a_square_less_a_bar_not(radius: int) -> None:
    y, x = np.mgrid[-70:71, -70:71]
    disc, square, bar = (
        x**2 + y**2 <= radius**2,
        np.maximum(abs(x), abs(y)) <= radius,
        (abs(x) <= radius) & (abs(y) <= 2),
    )

    def roundness(mask: np.ndarray) -> float:
        return Region(np.empty(0), float(mask.sum()), perimeter(mask), 1, 1).roundness

    assert perimeter(disc) == pytest.approx(2 * math.pi * radius, rel=0.04)
    assert roundness(disc) == pytest.approx(1, abs=0.07)
    assert roundness(square) == pytest.approx(0.87, abs=0.03)
    assert roundness(bar) < 0.7
    ring = disc & ~(x**2 + y**2 <= (radius / 2) ** 2)
    assert roundness(ring) == pytest.approx(1 / 3, abs=0.04)  # 3/4 of the area, 3/2 of the outline
    assert perimeter(np.zeros((3, 3), bool)) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"concepts": {}}, "at least 1"),
        ({"concepts": {"x": {}}}, "an empty rule takes every mask"),
        ({"concepts": {"x": {"area": {}}}}, "give min, max or both"),
        ({"concepts": {"x": {"area": {"min": 3, "max": 2}}}}, "min 3 is above max 2"),
        ({"concepts": {"x": {"round": {"min": 3}}}}, "round"),
        ({"groups": "road"}, "each"),
        ({"groups": {"stem": "("}}, "is no regular expression"),
        ({"groups": {}}, "must not be split apart"),
        ({"generator": {"min_mask_region_area": 3}}, "min_mask_region_area"),
    ],
)
def test_parameters_that_cannot_work_are_refused(tmp_path: Path, given: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source(tmp_path, tmp_path, **given)


def test_paths_start_from_the_file_that_names_them(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    made = source(tmp_path, tmp_path, root=SpecString(".", tmp_path))
    assert len(made.images()) == 3


def test_listing_and_checking_import_no_torch(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    code = f"""
import sys
from pathlib import Path
import probekit_sam.plugin as plugin
assert "torch" not in sys.modules and "PIL" not in sys.modules
from probekit_sam.masks import SamMasks
p = plugin.probekit_label_sources()[0].parameters.model_validate(
    {{"root": Path({str(tmp_path)!r}), "groups": "each", "concepts": {{"x": {{"area": {{"min": 1}}}}}}}})
s = SamMasks(p, cache=Path("cache"), seed=0)
assert not s.check() and len(s.images()) == 3 and s.provenance and s.mask_digest(s.images()[0], "x")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert probekit_label_sources()[0].name == "sam-masks"
