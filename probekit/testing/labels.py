"""What every label source must keep, as a test class: subclass :class:`LabelSourceContract` in a plugin's own tests."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from probekit.api import NEGATIVE, POSITIVE, VOID, ImageRef, LabelSource

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class LabelSourceContract(ABC):
    """The tests that a label source must pass. Keep the images few and small::

    class TestTiny(LabelSourceContract):
        def make(self, folder, cache):
            write_three_small_images(folder)  # the same at every call
            return Tiny(TinyParameters(root=folder), cache=cache, seed=0)

        def make_altered(self, folder, cache):
            write_three_small_images(folder)
            paint_over(folder / "one.png")
            return Tiny(TinyParameters(root=folder), cache=cache, seed=0)
    """

    @abstractmethod
    def make(self, folder: Path, cache: Path) -> LabelSource:
        """A source without faults, of at least two images; every concept is somewhere in it. Its input, if it has
        files, is written to ``folder``, which exists and is empty; ``cache`` does not exist."""

    def make_altered(self, folder: Path, cache: Path) -> LabelSource | None:
        """As :meth:`make`, with other pixels in a photograph and in a mask under the same ids; none where a source
        cannot have that."""
        return None

    @pytest.fixture
    def source(self, tmp_path: Path) -> LabelSource:
        """The source under test."""
        return self._made(tmp_path, "one")

    @pytest.fixture
    def again(self, tmp_path: Path) -> LabelSource:
        """The same made anew, elsewhere, with an empty cache."""
        return self._made(tmp_path, "another")

    def test_nothing_is_wrong_with_good_input(self, source: LabelSource) -> None:
        """``check`` is empty."""
        assert list(source.check()) == []

    def test_concepts_are_names(self, source: LabelSource) -> None:
        """At least one; none empty or there twice."""
        concepts = list(source.concepts)
        assert concepts
        assert all(isinstance(concept, str) and concept for concept in concepts)
        assert len(set(concepts)) == len(concepts)

    def test_images_are_sorted_and_unique(self, source: LabelSource) -> None:
        """By id; groups and ids are not empty."""
        images = _images(source)
        ids = [image.id for image in images]
        assert len(ids) >= 2, "the contract needs two images to compare"
        assert ids == sorted(set(ids))
        assert all(image.id and image.group for image in images)
        assert all(image.outer is None or image.outer for image in images)

    def test_an_outer_group_holds_whole_groups(self, source: LabelSource) -> None:
        """A group lies in one outer group."""
        outer: dict[str, set[str | None]] = {}
        for image in _images(source):
            outer.setdefault(image.group, set()).add(image.outer)
        assert all(len(found) == 1 for found in outer.values()), outer

    def test_photographs_are_rgb_of_the_size_that_was_said(self, source: LabelSource) -> None:
        """(height, width, 3) of uint8, writable, as torch wants arrays that it shares."""
        for image in _images(source):
            pixels = source.open(image)
            assert pixels.dtype == np.uint8
            assert pixels.shape == (image.height, image.width, 3)
            assert pixels.flags.writeable

    def test_masks_are_three_valued_of_the_same_size(self, source: LabelSource) -> None:
        """(height, width) of uint8 with no other values than three; every concept is in some image."""
        for concept in source.concepts:
            present = set[int]()
            for image in _images(source):
                mask = source.mask(image, concept)
                assert mask.dtype == np.uint8
                assert mask.shape == (image.height, image.width)
                present |= set(np.unique(mask).tolist())
            assert present <= {NEGATIVE, POSITIVE, VOID}
            assert POSITIVE in present, f"no pixel of {concept!r} in any image"

    def test_digests_are_sha256(self, source: LabelSource) -> None:
        """Of photographs and masks."""
        for image in _images(source):
            assert _DIGEST.fullmatch(image.digest), image.digest
            for concept in source.concepts:
                assert _DIGEST.fullmatch(source.mask_digest(image, concept)), (image.id, concept)

    def test_the_same_input_gives_the_same_everything(self, source: LabelSource, again: LabelSource) -> None:
        """Made anew in another folder: the same images, digests (no path goes into them), pixels and masks."""
        assert source.concepts == again.concepts
        assert source.provenance == again.provenance
        assert _images(source) == _images(source) == _images(again)
        for image in _images(source):
            assert np.array_equal(source.open(image), again.open(image)), image.id
            for concept in source.concepts:
                assert np.array_equal(source.mask(image, concept), again.mask(image, concept)), (image.id, concept)
                assert source.mask_digest(image, concept) == again.mask_digest(image, concept), (image.id, concept)

    def test_equal_digests_mean_equal_pixels(self, source: LabelSource) -> None:
        """Within a source: where pixels differ, so do digests."""
        images = _images(source)
        _distinct((image.digest, source.open(image)) for image in images)
        for concept in source.concepts:
            _distinct((source.mask_digest(image, concept), source.mask(image, concept)) for image in images)

    def test_other_pixels_have_other_digests(self, source: LabelSource, tmp_path: Path) -> None:
        """Under the same id: what was computed for the old pixels is never taken for the new ones."""
        altered = self._altered(tmp_path)
        before = {image.id: image for image in _images(source)}
        changed = {"photograph": 0, "mask": 0}
        for image in _images(altered):
            if image.id not in before:
                continue
            if not np.array_equal(source.open(before[image.id]), altered.open(image)):
                changed["photograph"] += 1
                assert image.digest != before[image.id].digest, image.id
            for concept in source.concepts:
                old, new = source.mask(before[image.id], concept), altered.mask(image, concept)
                if not np.array_equal(old, new):
                    changed["mask"] += 1
                    digest = source.mask_digest(before[image.id], concept)
                    assert altered.mask_digest(image, concept) != digest, (image.id, concept)
        assert all(changed.values()), f"make_altered has to change a photograph and a mask; changed: {changed}"

    def test_pixels_belong_to_the_caller(self, source: LabelSource) -> None:
        """Writing on an array does not show in the next one."""
        image, concept = _images(source)[0], source.concepts[0]
        pixels, mask = source.open(image), source.mask(image, concept)
        kept = pixels.copy(), mask.copy()
        pixels[:] = 255 - pixels
        if mask.flags.writeable:
            mask[:] = 2 - mask
        assert np.array_equal(source.open(image), kept[0])
        assert np.array_equal(source.mask(image, concept), kept[1])

    def test_threads_read_what_one_reads(self, source: LabelSource) -> None:
        """``open`` and ``mask`` from eight threads at once."""
        asked = [(image, concept) for image in _images(source) for concept in source.concepts] * 4

        def read(one: tuple[ImageRef, str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            return source.open(one[0]), source.mask(*one)

        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(read, asked))
        for one, (pixels, mask) in zip(asked, together, strict=True):
            assert np.array_equal(pixels, source.open(one[0]))
            assert np.array_equal(mask, source.mask(*one))

    def _made(self, folder: Path, name: str) -> LabelSource:
        (folder / name).mkdir()
        return self.make(folder / name, folder / f"cache-{name}")

    def _altered(self, folder: Path) -> LabelSource:
        (folder / "altered").mkdir()
        altered = self.make_altered(folder / "altered", folder / "cache-altered")
        if altered is None:
            pytest.skip("make_altered gives none")
        return altered


def _images(source: LabelSource) -> Sequence[ImageRef]:
    assert list(source.check()) == []
    return source.images()


def _distinct(found: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    seen: dict[str, NDArray[np.uint8]] = {}
    for digest, pixels in found:
        assert np.array_equal(seen.setdefault(digest, pixels), pixels), f"two contents have digest {digest}"
