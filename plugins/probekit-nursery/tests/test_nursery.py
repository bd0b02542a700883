"""The label source: the contract, the cache, and what a scene does not depend on."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import probekit_nursery.source
import pytest
from PIL import Image
from probekit_nursery.parameters import NurseryParameters
from probekit_nursery.source import Nursery
from pydantic import ValidationError

from probekit.testing.labels import LabelSourceContract

SMALL = NurseryParameters(flights=2, scenes=2, size=128)


class TestNursery(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> Nursery:
        return Nursery(SMALL, cache=cache, seed=0)

    def make_altered(self, folder: Path, cache: Path) -> Nursery:
        return Nursery(SMALL, cache=cache, seed=1)


@pytest.fixture
def filled(tmp_path: Path) -> Nursery:
    source = Nursery(NurseryParameters(flights=1, scenes=1, size=128), cache=tmp_path, seed=0)
    source.open(source.images()[0])
    return source


def no_renderer(*_: Any) -> None:
    raise AssertionError("rendered again")


def test_a_scene_is_rendered_once(filled: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = filled.images()[0]
    kept = filled.open(image), filled.mask(image, "pot")
    monkeypatch.setattr(probekit_nursery.source, "render", no_renderer)
    again = Nursery(NurseryParameters(flights=3, scenes=1, size=128), cache=tmp_path, seed=0)
    assert np.array_equal(again.open(image), kept[0])
    assert np.array_equal(again.mask(image, "pot"), kept[1])
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".png", ".png"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(bytes(data))


def replace(file: Path) -> None:
    with Image.open(file) as picture:
        Image.new(picture.mode, picture.size).save(file)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("which", ["photograph", "mask"])
@pytest.mark.parametrize("damage", [cut, empty, flip, replace, remove])
def test_a_damaged_file_is_rendered_again(
    filled: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, damage: Callable[[Path], None]
) -> None:
    image = filled.images()[0]
    kept = filled.open(image), filled.mask(image, "pot")
    (file,) = (f for f in tmp_path.iterdir() if f.stem.endswith("pot") == (which == "mask"))
    bytes_before = file.read_bytes()
    damage(file)
    assert np.array_equal(filled.open(image), kept[0])
    assert np.array_equal(filled.mask(image, "pot"), kept[1])
    assert file.read_bytes() == bytes_before
    monkeypatch.setattr(probekit_nursery.source, "render", no_renderer)
    assert np.array_equal(filled.mask(image, "pot"), kept[1])


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = Nursery(NurseryParameters(flights=1, scenes=2, size=128), cache=tmp_path / "few", seed=4)
    many = Nursery(NurseryParameters(flights=12, scenes=3, size=128), cache=tmp_path / "many", seed=4)
    assert len(many.images()) == 36
    by_id = {image.id: image for image in many.images()}
    for image in few.images():
        assert by_id[image.id] == image
        assert np.array_equal(few.open(image), many.open(by_id[image.id]))


def test_ids_and_groups(tmp_path: Path) -> None:
    source = Nursery(NurseryParameters(), cache=tmp_path, seed=0)
    image = next(image for image in source.images() if image.id == "flight-03-scene-2")
    assert image.group == "flight-03"
    assert (image.height, image.width) == (768, 768)
    assert len({image.group for image in source.images()}) == 12
    assert source.provenance.made_by == "renderer"
    assert not any(tmp_path.iterdir()), "listing renders nothing"


def test_the_seed_of_the_parameters_goes_before_the_experiments(tmp_path: Path) -> None:
    own = Nursery(NurseryParameters(seed=5), cache=tmp_path, seed=0)
    handed = Nursery(NurseryParameters(), cache=tmp_path, seed=5)
    other = Nursery(NurseryParameters(), cache=tmp_path, seed=0)
    assert own.images() == handed.images()
    assert not {i.digest for i in own.images()} & {i.digest for i in other.images()}


@pytest.mark.parametrize("wrong", [{"flights": 0}, {"scenes": 0}, {"size": 64}, {"seed": -1}, {"pots": 3}])
def test_parameters_that_make_no_scenes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        NurseryParameters.model_validate(wrong)


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from probekit_nursery.plugin import probekit_label_sources as hook; "
        "assert [p.name for p in hook()] == ['nursery']; "
        "assert not {'torch', 'PIL', 'probekit_nursery.source'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
