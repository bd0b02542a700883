"""``coco``: what an instances file means, and what is refused in which words."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from probekit_masks.coco import CocoInstances
from probekit_masks.parameters import CocoParameters
from pydantic import ValidationError

from probekit.api import NEGATIVE, POSITIVE, VOID, LabelSource, ProbekitError, UnreadableImageError
from probekit.testing.labels import LabelSourceContract

HEIGHT, WIDTH = 10, 12

INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.png", "height": HEIGHT, "width": WIDTH, "location": "north", "site": 1},
        {"id": 3, "file_name": "deep/a.png", "height": HEIGHT, "width": WIDTH, "location": "south", "site": 2},
    ],
    "categories": [{"id": 1, "name": "pothole"}, {"id": 2, "name": "crack"}, {"id": 9, "name": "lane"}],
    "annotations": [
        {"id": 10, "image_id": 7, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]], "iscrowd": 0},
        {
            "id": 11,
            "image_id": 7,
            "category_id": 1,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [30, 40, 50]},
            "iscrowd": 1,
        },
        {"id": 12, "image_id": 7, "category_id": 2, "segmentation": [[6, 6, 9, 6, 9, 9, 6, 9]], "ignore": 1},
        {"id": 13, "image_id": 3, "category_id": 2, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "T1T1`1"}},
        {"id": 14, "image_id": 3, "category_id": 9, "segmentation": []},
    ],
}


def pixels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_set(root: Path, instances: Any = INSTANCES) -> Path:
    (root / "images" / "deep").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(0)).save(root / "images" / "b.png")
    Image.fromarray(pixels(1)).save(root / "images" / "deep" / "a.png")
    Image.fromarray(pixels(2)).save(root / "images" / "unlisted.png")
    text = instances if isinstance(instances, str) else json.dumps(instances)
    (root / "instances.json").write_text(text)
    return root


def coco(root: Path, **parameters: Any) -> CocoInstances:
    given: dict[str, Any] = {
        "root": root,
        "annotations": "instances.json",
        "concepts": {"pothole": "pothole", "damage": [1, "crack"]},
        "groups": {"field": "location", "outer": "site"},
    }
    return CocoInstances(CocoParameters.model_validate(given | parameters), cache=root / "cache", seed=0)


def problems(root: Path, instances: Any = INSTANCES, **parameters: Any) -> list[str]:
    write_set(root, instances)
    return [str(issue).replace(f"{root}/", "") for issue in coco(root, **parameters).check()]


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The good file with one thing changed."""
    instances = deepcopy(INSTANCES)
    place: Any = instances
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return instances


class TestCoco(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> LabelSource:
        return coco(write_set(folder))

    def make_altered(self, folder: Path, cache: Path) -> LabelSource | None:
        write_set(folder, changed("annotations", 0, "segmentation", to=[[1, 1, 6, 1, 6, 4, 1, 4]]))
        Image.fromarray(pixels(5)).save(folder / "images" / "b.png")
        return coco(folder)


def test_images_are_those_that_have_a_record(tmp_path: Path) -> None:
    images = coco(write_set(tmp_path)).images()
    assert [(i.id, i.group, i.outer) for i in images] == [("b", "north", "1"), ("deep/a", "south", "2")]


def test_instances_crowds_and_ignored_regions(tmp_path: Path) -> None:
    made = coco(write_set(tmp_path))
    b, a = made.images()
    crowd = np.repeat([False, True, False], [30, 40, 50]).reshape(WIDTH, HEIGHT).T
    expected = np.where(crowd, VOID, NEGATIVE)
    expected[1:4, 1:5] = POSITIVE
    assert (crowd[1:4, 1:5]).any(), "the test wants a positive annotation that overlaps a crowd"
    assert np.array_equal(made.mask(b, "pothole"), expected)
    ignored = expected == NEGATIVE
    ignored[:6] = ignored[9:] = ignored[:, :6] = ignored[:, 9:] = False
    expected[ignored] = VOID
    assert np.array_equal(made.mask(b, "damage"), expected)
    assert not made.mask(a, "pothole").any()
    runs = np.repeat([NEGATIVE, POSITIVE, NEGATIVE], [36, 36, 48]).reshape(WIDTH, HEIGHT).T
    assert np.array_equal(made.mask(a, "damage"), runs)


def test_a_digest_follows_what_is_drawn_and_nothing_else(tmp_path: Path) -> None:
    made = coco(write_set(tmp_path))
    b, a = made.images()

    def digests(instances: Any) -> tuple[str, str, str]:
        other = coco(write_set(tmp_path, instances))
        return other.mask_digest(b, "pothole"), other.mask_digest(b, "damage"), other.mask_digest(a, "damage")

    before = digests(INSTANCES)
    reordered = changed("annotations", to=INSTANCES["annotations"][::-1])
    assert digests(reordered) == before
    assert digests(changed("annotations", 0, "id", to=99)) == before
    ignored = digests(changed("annotations", 2, "ignore", to=0))
    assert ignored[0] == before[0]
    assert ignored[1] != before[1]
    assert ignored[2] == before[2]


def test_groups_of_all_kinds(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "groups.csv").write_text("file,place\nb.png,x\ndeep/a.png,y\n")
    table = {"file": "groups.csv", "image": "file", "group": "place"}
    assert [i.group for i in coco(tmp_path, groups=table).images()] == ["x", "y"]
    assert [i.group for i in coco(tmp_path, groups={"stem": "."}).images()] == ["b", "a"]
    assert [i.group for i in coco(tmp_path, groups="each").images()] == ["b", "deep/a"]
    assert problems(tmp_path, groups={"field": "place"}) == [
        "images  2 of 2 image records have no text or number in field 'place'; the first: b"
    ]
    with pytest.raises(ValidationError, match="say which images must not be split apart"):
        coco(tmp_path, groups=None)


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ('{"images": [],\n "annotations": [1,,2]}', ["instances.json:2:20  is not JSON: Expecting value"]),
        ("[]", ["instances.json  is no instances file: it takes {images, annotations, categories}"]),
        (
            {"images": []},
            ["instances.json  has no list 'categories'", "instances.json  has no list 'annotations'"],
        ),
        (
            changed("images", 0, "height", to="10"),
            [
                "instances.json  1 of 2 images lack a field or have one of another type; "
                "the first: images[0] (id 7), 'height'"
            ],
        ),
        (
            changed("annotations", 3, to=5),
            [
                "instances.json  1 of 5 annotations lack a field or have one of another type; "
                "the first: annotations[3], 'id'"
            ],
        ),
        (
            changed("annotations", 3, "id", to=10),
            ["instances.json  1 ids of annotations are not unique; the first: 10 (2 times)"],
        ),
        (changed("images", 0, "id", to=3), ["instances.json  1 ids of images are not unique; the first: 3 (2 times)"]),
        (
            changed("images", 0, "file_name", to="deep/a.png"),
            [
                "instances.json  images 7 and 3 have the same file 'deep/a.png'",
            ],
        ),
        (
            changed("annotations", 1, "image_id", to=8),
            [
                "instances.json  1 of 5 annotations name an image that is not listed; "
                "the first: annotation 11 names image 8"
            ],
        ),
        (
            changed("annotations", 1, "category_id", to=4),
            [
                "instances.json  1 of 5 annotations name a category that is not listed; "
                "the first: annotation 11 names category 4"
            ],
        ),
        (
            changed("annotations", 1, "segmentation", "counts", to=[30, 40, 51]),
            [
                "instances.json  1 of 5 annotations have a segmentation that cannot be drawn; the first: "
                "annotation 11 has run lengths that add up to 121, not to 10 x 12 = 120"
            ],
        ),
        (
            changed("annotations", 0, "segmentation", to=[]),
            [
                "instances.json  1 of 5 annotations have a segmentation that cannot be drawn; the first: "
                "annotation 10 has no segmentation"
            ],
        ),
        (
            changed("images", 1, "file_name", to="deep/z.png"),
            ["images  1 of 2 photographs that the instances file names are missing; the first: deep/z.png"],
        ),
        (
            changed("categories", 1, "name", to="cracks"),
            ["instances.json  has no category 'crack' (concept 'damage'): did you mean 'cracks'?"],
        ),
    ],
)
def test_each_fault_has_its_line(tmp_path: Path, instances: Any, expected: list[str]) -> None:
    assert problems(tmp_path, instances) == expected


def test_all_faults_at_once(tmp_path: Path) -> None:
    instances = changed("annotations", 1, "image_id", to=8)
    instances["images"][0]["width"] = 13
    instances["images"].append({"id": 8000, "file_name": "gone.jpg", "height": 4, "width": 4})
    instances["annotations"][3]["segmentation"]["counts"] = "T1"
    assert problems(tmp_path, instances, concepts={"hole": [5, "crack"]}) == [
        "instances.json  has no category 5 (concept 'hole'): it has pothole, crack, lane",
        "instances.json  1 of 5 annotations name an image that is not listed; the first: annotation 11 names image 8",
        "instances.json  1 of 5 annotations have a segmentation that cannot be drawn; the first: "
        "annotation 13 has run lengths that add up to 36, not to 10 x 12 = 120",
        "images  1 of 3 photographs that the instances file names are missing; the first: gone.jpg",
        "images  1 of 2 photographs differ in size from their record; the first: b.png is 12x10, its record says 13x10",
    ]
    with pytest.raises(ProbekitError, match=r"gone\.jpg"):
        coco(tmp_path).images()


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path, annotations="none.json") == [
        "none.json  cannot be read (No such file or directory): `annotations` starts from `root`"
    ]
    assert problems(tmp_path, images="none") == ["none  is no folder: check `root` and `images` below it"]
    assert [str(issue) for issue in coco(tmp_path / "none").check()] == [
        f"{tmp_path / 'none'}  is no folder: check `root`"
    ]


def test_undecodable_photographs_have_the_size_of_their_record(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "images" / "b.png").write_bytes(b"")
    made = coco(tmp_path)
    assert made.check() == []
    b = made.images()[0]
    assert (b.height, b.width) == (HEIGHT, WIDTH)
    with pytest.raises(UnreadableImageError, match=r"images/b\.png "):
        made.open(b)


def test_transparent_pixels_are_void(tmp_path: Path) -> None:
    write_set(tmp_path)
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :3] = 0
    Image.fromarray(np.dstack([pixels(0), alpha])).save(tmp_path / "images" / "b.png")
    made = coco(tmp_path)
    mask = made.mask(made.images()[0], "pothole")
    assert (mask[:, :3] == VOID).all()
    assert (mask[1:4, 3:5] == POSITIVE).all()
