"""Whose label map each image gets where labels are permuted: an image's of another group, each used once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit.api import ProbekitError
from probekit.sampling.seeds import generator

_ROUNDS = 32
"""So often all images are paired at random and may exchange donors: far more than it takes to mix them."""


@dataclass(frozen=True, eq=False)
class Donors:
    """Who gives whom a label map.

    Attributes:
        donor: index of each image's donor, (n,). A permutation unless there is a note.
        note: what had to be done where one group holds more than half of the images; else none.
    """

    donor: NDArray[np.int64]
    note: str | None


def assign_donors(ids: Sequence[str], groups: Sequence[str], sizes: Sequence[tuple[int, int]], seed: int) -> Donors:
    """Draws a donor of another group for every image, each donor once.

    Donors of the same size come first, then those that cover most. Where one group holds more than half of the images
    no such permutation exists: its images then use the others' label maps again, all of them about equally often, and
    as many of its own maps are not used; a note says so. (A map that is used twice may be met in training and in test
    at the same position: such a null is higher than it ought to be, never lower.)

    The draw depends on the ids and on who is with whom in a group, not on order or on the groups' names.

    Args:
        ids: of the images, all different.
        groups: of each image.
        sizes: (height, width) of each image.
        seed: of the run.

    Raises:
        ProbekitError: all images are in one group.
    """
    n = len(ids)
    if len(set(ids)) != n:
        raise ValueError("image ids must differ")
    if len(set(groups)) < 2:
        raise ProbekitError("permuted labels need images of at least two groups: all are in one. Another group column")
    order = np.array(sorted(range(n), key=lambda i: ids[i]), dtype=np.int64)
    draw = _Draw([groups[i] for i in order], [sizes[i] for i in order], generator(seed, "permuted labels"))
    note = draw.run()
    donor = np.empty(n, dtype=np.int64)
    donor[order] = order[draw.donor]
    return Donors(donor, note)


class _Draw:
    """The assignment while it is made; images in the order of their ids, ``donor`` -1 where there is none yet."""

    def __init__(self, groups: Sequence[str], sizes: Sequence[tuple[int, int]], rng: np.random.Generator) -> None:
        self.group, self.size = _numbered(groups), _numbered(sizes)
        self.extent = np.array(sizes, dtype=np.float64)
        self.donor = np.full(len(groups), -1, dtype=np.int64)
        self.rng = rng

    def run(self) -> str | None:
        """Fills ``donor``; returns a note where some are used again."""
        sizes = range(int(self.size.max()) + 1)
        left = self._rotate(np.concatenate([self._rotate(np.flatnonzero(self.size == size)) for size in sizes]))
        left = self._insert(left)
        again = len(left)
        self._use_again(left)
        self._mix()
        if not again:
            return None
        most = int(np.bincount(self.donor).max())
        n, largest = len(self.group), int(np.bincount(self.group).max())
        return (
            f"permuted labels: {largest} of {n} images are in one group, too many to give each another group's label "
            f"map once: the other groups' maps were used up to {most} times, {again} of the large group's not at all"
        )

    def _overlap(self, image: NDArray[np.int64], donor: NDArray[np.int64]) -> NDArray[np.float64]:
        """Common area over the larger area: 1 where sizes are equal."""
        a, b = self.extent[image], self.extent[donor]
        overlap: NDArray[np.float64] = np.minimum(a, b).prod(axis=-1) / np.maximum(a.prod(axis=-1), b.prod(axis=-1))
        return overlap

    def _rotate(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rotates images, sorted by group, by as many places as the largest group has: no step ends in the group where
        it began, as long as that group is at most half. What is above half is left out and returned."""
        if not len(images):
            return images
        place = self.rng.permutation(int(self.group.max()) + 1)
        images = images[np.lexsort((self.rng.random(len(images)), place[self.group[images]]))]
        counts = np.bincount(self.group[images])
        most, of_others = int(counts.max()), len(images) - int(counts.max())
        excess = np.flatnonzero(self.group[images] == counts.argmax())[of_others:][: max(most - of_others, 0)]
        rotated = np.delete(images, excess)
        self.donor[rotated] = np.roll(rotated, -min(most, of_others))
        return images[excess]

    def _insert(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of one group, each put between an image and its donor that are both of other groups, where it costs
        least. As many can be as keep the group at half of all; the others are returned."""
        for done, image in enumerate(images):
            has = np.flatnonzero(self.donor >= 0)
            given = self.donor[has]
            open_ = (self.group[has] != self.group[image]) & (self.group[given] != self.group[image])
            has, given = has[open_], given[open_]
            if not len(has):
                return images[done:]
            gain = self._overlap(image, given) + self._overlap(has, image) - self._overlap(has, given)
            best = has[np.lexsort((self.rng.random(len(has)), -np.round(gain, 9)))[0]]
            self.donor[image] = self.donor[best]
            self.donor[best] = image
        return images[:0]

    def _use_again(self, images: NDArray[np.int64]) -> None:
        """Gives each the donor that was used least; of those, the one of the most similar size."""
        if not len(images):
            return
        others = np.flatnonzero(self.group != self.group[images[0]])
        uses = np.bincount(self.donor[self.donor >= 0], minlength=len(self.donor))[others]
        for image in images:
            unlike = -np.round(self._overlap(image, others), 9)
            best = np.lexsort((self.rng.random(len(others)), unlike, uses))[0]
            self.donor[image] = others[best]
            uses[best] += 1

    def _mix(self) -> None:
        """Exchanges donors between random pairs, mostly of one size, where groups allow it and no overlap is lost: from
        cycles that send one group to the next to about any assignment."""
        n = len(self.donor)
        for turn in range(_ROUNDS):
            mixed = self.rng.permutation(n)
            if turn % 2:
                mixed = mixed[np.argsort(self.size[mixed], kind="stable")]
            a, b = mixed[: n // 2 * 2].reshape(-1, 2).T
            of_a, of_b = self.donor[a], self.donor[b]
            allowed = (self.group[a] != self.group[of_b]) & (self.group[b] != self.group[of_a])
            before = self._overlap(a, of_a) + self._overlap(b, of_b)
            allowed &= self._overlap(a, of_b) + self._overlap(b, of_a) >= before - 1e-9
            self.donor[a[allowed]], self.donor[b[allowed]] = of_b[allowed], of_a[allowed]


def _numbered(values: Sequence[Hashable]) -> NDArray[np.int64]:
    """Numbers by first appearance, so that names have no say."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
