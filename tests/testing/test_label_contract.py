"""The contract of label sources passes a good one, and every fault that it is there for is found."""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probekit.api import ImageRef, Issue, LabelSource, Provenance
from probekit.testing.labels import LabelSourceContract


def digest_of(*parts: object) -> str:
    return f"sha256:{hashlib.sha256(repr(parts).encode()).hexdigest()}"


class Squares:
    """Grey noise with a bright square, held in memory."""

    concepts: Sequence[str] = ("square",)
    provenance = Provenance("renderer")

    def __init__(self, shade: int = 200) -> None:
        self.shade = shade

    def check(self) -> Sequence[Issue]:
        return []

    def images(self) -> Sequence[ImageRef]:
        return [ImageRef(f"im{i}", f"g{i % 2}", 20 + i, 30, digest_of(i, self.shade), f"r{i % 2}") for i in range(4)]

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        values = np.random.default_rng(int(image.id[2:])).integers(
            0, 99, (image.height, image.width, 3), dtype=np.uint8
        )
        values[2:9, 3:12] = self.shade
        return values

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[2:9, 3 : 12 + (self.shade != 200)] = 1
        return mask

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        return digest_of(image.height, self.shade)


class TestSquares(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> LabelSource:
        return Squares()

    def make_altered(self, folder: Path, cache: Path) -> LabelSource | None:
        return Squares(shade=201)


def failing(make: Callable[[], LabelSource], altered: Callable[[], LabelSource], tmp_path: Path) -> set[str]:
    """The names of the contract's tests that fail for a source."""

    class Contract(LabelSourceContract):
        def make(self, folder: Path, cache: Path) -> LabelSource:
            return make()

        def make_altered(self, folder: Path, cache: Path) -> LabelSource | None:
            return altered()

    failed = set()
    for name, test in inspect.getmembers(LabelSourceContract, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        (tmp_path / name).mkdir()
        given: dict[str, Any] = {"source": make(), "again": make(), "tmp_path": tmp_path / name}
        wanted = [parameter for parameter in inspect.signature(test).parameters if parameter != "self"]
        try:
            test(Contract(), **{parameter: given[parameter] for parameter in wanted})
        except (AssertionError, ValueError):
            failed.add(name)
    return failed


class Complaining(Squares):
    def check(self) -> Sequence[Issue]:
        return [Issue("here", "something")]


class Nameless(Squares):
    concepts = ("square", "square")


class Unsorted(Squares):
    def images(self) -> Sequence[ImageRef]:
        return list(reversed(super().images()))


class Straddling(Squares):
    def images(self) -> Sequence[ImageRef]:
        return [replace(image, outer=f"r{i}") for i, image in enumerate(super().images())]


class Turned(Squares):
    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        return super().open(image).transpose(1, 0, 2)


class Frozen(Squares):
    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        pixels = super().open(image)
        pixels.flags.writeable = False
        return pixels


class Loud(Squares):
    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        return super().mask(image, concept) * 255


class Empty(Squares):
    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        return super().mask(image, concept) * 0


class Undigested(Squares):
    def mask_digest(self, image: ImageRef, concept: str) -> str:
        return "1"


class Restless(Squares):
    def __init__(self, shade: int = 200) -> None:
        super().__init__(shade)
        self.token = id(self)

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        return digest_of(image.height, self.token)


class SameDigest(Squares):
    def images(self) -> Sequence[ImageRef]:
        return [replace(image, digest=digest_of(0, self.shade)) for image in super().images()]


class Stale(Squares):
    def images(self) -> Sequence[ImageRef]:
        return [replace(image, digest=digest_of(image.id)) for image in super().images()]


class Lending(Squares):
    def __init__(self, shade: int = 200) -> None:
        super().__init__(shade)
        self.lent: dict[str, NDArray[np.uint8]] = {}

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        return self.lent.setdefault(image.id, super().open(image))


class MainThreadOnly(Squares):
    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        pixels = super().open(image)
        return pixels if threading.current_thread() is threading.main_thread() else pixels[:, ::-1].copy()


FAULTS = [
    (Complaining, "test_nothing_is_wrong_with_good_input"),
    (Nameless, "test_concepts_are_names"),
    (Unsorted, "test_images_are_sorted_and_unique"),
    (Straddling, "test_an_outer_group_holds_whole_groups"),
    (Turned, "test_photographs_are_rgb_of_the_size_that_was_said"),
    (Frozen, "test_photographs_are_rgb_of_the_size_that_was_said"),
    (Loud, "test_masks_are_three_valued_of_the_same_size"),
    (Empty, "test_masks_are_three_valued_of_the_same_size"),
    (Undigested, "test_digests_are_sha256"),
    (Restless, "test_the_same_input_gives_the_same_everything"),
    (SameDigest, "test_equal_digests_mean_equal_pixels"),
    (Stale, "test_other_pixels_have_other_digests"),
    (Lending, "test_pixels_belong_to_the_caller"),
    (MainThreadOnly, "test_threads_read_what_one_reads"),
]


@pytest.mark.parametrize(("source", "test"), FAULTS)
def test_a_fault_fails_its_test(source: type[Squares], test: str, tmp_path: Path) -> None:
    assert test in failing(source, lambda: source(shade=201), tmp_path)


def test_every_test_of_the_contract_can_fail() -> None:
    assert {test for _, test in FAULTS} == {name for name in dir(LabelSourceContract) if name.startswith("test_")}
