"""The conformance contract of ``circles``, and what it says of a wrong table."""

import numpy as np
from PIL import Image
from probekit_circles import CircleParameters, Circles

from probekit.testing.labels import LabelSourceContract

HEADER = "image,x,y,radius\n"


def source(folder, cache=None, level=0, table="north/a,20,15.5,6\nsouth/b,9,30,8\nsouth/b,40,8,3\n"):
    for name in ("north/a", "south/b", "south/c"):
        file = folder / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([level, *name.encode()]).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    (folder / "circles.csv").write_text(HEADER + table)
    return Circles(CircleParameters(root=folder), cache=cache, seed=0)


class TestCircles(LabelSourceContract):
    def make(self, folder, cache):
        return source(folder, cache)

    def make_altered(self, folder, cache):
        return source(folder, cache, level=1, table="north/a,30,20,5\n")


def test_a_circle_has_its_area_and_its_place(tmp_path):
    circles = source(tmp_path)
    assert not circles.check()
    a, _, c = circles.images()
    rows, columns = np.nonzero(circles.mask(a, "circle"))
    assert abs(len(rows) - np.pi * 6**2) < 8
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == (20, 15.5)
    assert not circles.mask(c, "circle").any()


def test_a_file_that_is_no_image_is_named(tmp_path):
    circles = source(tmp_path)
    (tmp_path / "images" / "south" / "c.png").write_bytes(b"nothing")
    assert [issue.where.endswith("c.png") for issue in circles.check()] == [True]


def test_lines_that_cannot_be_used_are_named(tmp_path):
    issues = source(tmp_path, table="north/a,20,15,six\nnorth/a,20,15,6\nwest/z,1,2,3\n").check()
    assert [issue.where.rpartition(":")[2] for issue in issues] == ["2", "4"]
