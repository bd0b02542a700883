"""Several label sources over the same images as one, and which model would be probed with labels of its own kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import ImageRef, Issue, LabelSource, ProbekitError, Provenance
from probekit.plan.networks import Network


class CombinedSource:
    """Label sources over the same images as one source (:class:`probekit.api.LabelSource`).

    Its concepts are ``source/concept``, each answered by its own source; photographs are those of the first.

    Args:
        sources: by name, at least one; no name holds a ``/``.
        at: an issue at the place of a source's entry in the spec: its name and what is wrong.
    """

    def __init__(self, sources: Mapping[str, LabelSource], at: Callable[[str, str], Issue]) -> None:
        self._sources = dict(sources)
        self._at = at
        self._first = next(iter(self._sources))

    @property
    def concepts(self) -> Sequence[str]:
        """All of them, source by source."""
        return [f"{name}/{concept}" for name, source in self._sources.items() for concept in source.concepts]

    @property
    def provenance(self) -> Provenance:
        """Of all labels together: a model's where any are; each concept's own is :meth:`provenance_of`."""
        of = {name: source.provenance for name, source in self._sources.items()}
        made_by = next(kind for kind in ("model", "people", "renderer") if kind in [one.made_by for one in of.values()])
        families = {one.family for one in of.values() if one.made_by == made_by}
        detail = "; ".join(f"{name}: {one.detail or one.made_by}" for name, one in of.items())
        return Provenance(made_by, families.pop() if len(families) == 1 else None, detail)

    def provenance_of(self, concept: str) -> Provenance:
        """Who made the masks of one concept."""
        return self._sources[self.split(concept)[0]].provenance

    def split(self, concept: str) -> tuple[str, str]:
        """The source's name and the concept as the source calls it."""
        name, _, own = concept.partition("/")
        return name, own

    def check(self) -> Sequence[Issue]:
        """All that is wrong with any source's files; where nothing is, how its images differ from the first's."""
        issues = dict.fromkeys(issue for source in self._sources.values() for issue in source.check())
        return list(issues) or self._differences

    def images(self) -> Sequence[ImageRef]:
        """All images, sorted by id.

        Raises:
            ProbekitError: the sources do not have the same ones.
        """
        if self._differences:
            raise ProbekitError(self._differences)
        return self._images[self._first]

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Decodes one photograph: (height, width, 3) RGB."""
        return self._sources[self._first].open(image)

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """One mask of the concept's source, (height, width)."""
        name, own = self.split(concept)
        return self._sources[name].mask(image, own)

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """The digest that the concept's source gives."""
        name, own = self.split(concept)
        return self._sources[name].mask_digest(image, own)

    @cached_property
    def _images(self) -> Mapping[str, Sequence[ImageRef]]:
        return {name: source.images() for name, source in self._sources.items()}

    @cached_property
    def _differences(self) -> list[Issue]:
        (first, wanted), *others = self._images.items()
        return [self._at(name, what) for name, given in others for what in _differences(first, wanted, given)]


def _differences(first: str, wanted: Sequence[ImageRef], given: Sequence[ImageRef]) -> list[str]:
    """How one source's images differ from those of the first, a line for each way."""
    expected, found = {image.id: image for image in wanted}, {image.id: image for image in given}
    lacking, added = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    lines = [f"lacks {_images(len(lacking))} that {first} has, the first: {lacking[0]}"] if lacking else []
    lines += [f"has {_images(len(added))} that {first} lacks, the first: {added[0]}"] if added else []
    ways: tuple[tuple[str, Callable[[ImageRef], object]], ...] = (
        ("other sizes", lambda image: f"{image.width} x {image.height} px"),
        ("other pixels", lambda image: image.digest),
        ("other groups", lambda image: image.group),
        ("other outer groups", lambda image: image.outer),
    )
    seen: set[str] = set()
    for word, read in ways:
        differ = [key for key in sorted(expected.keys() & found.keys()) if read(expected[key]) != read(found[key])]
        new = [key for key in differ if key not in seen]
        seen |= set(new)
        if new:
            key = new[0]
            values = "" if word == "other pixels" else f" ({read(found[key])}, there {read(expected[key])})"
            lines.append(f"has {word} than {first} for {_images(len(new))}, the first: {key}{values}")
    return [f"{line}. Several label sources must share their images and groups" for line in lines]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def provenance_of(source: LabelSource, concept: str) -> Provenance:
    """Who made the labels of one concept."""
    return source.provenance_of(concept) if isinstance(source, CombinedSource) else source.provenance


def shared_concepts(source: LabelSource) -> dict[str, dict[str, str]]:
    """The concepts that several sources answer: as they call it -> source -> as the run calls it."""
    if not isinstance(source, CombinedSource):
        return {}
    found: dict[str, dict[str, str]] = {}
    for concept in source.concepts:
        name, own = source.split(concept)
        found.setdefault(own, {})[name] = concept
    return {own: by_source for own, by_source in found.items() if len(by_source) > 1}


def circular_concepts(source: LabelSource, networks: Iterable[Network]) -> dict[str, list[str]]:
    """Models -> the concepts whose labels a model of their own family made; models without such concepts are left out.

    A twin of the family, or an entry with random weights, knows nothing of what the family learned: they are no models.
    """
    makers = [(concept, provenance_of(source, concept)) for concept in source.concepts]
    found = {
        network.name: [concept for concept, made in makers if same_family(made, network.backbone.family)]
        for network in networks
        if network.kind == "model"
    }
    return {name: concepts for name, concepts in found.items() if concepts}


def same_family(made: Provenance, family: str) -> bool:
    """Whether labels were made by a model of a family, whatever its weights.

    People write families: ``Faster R-CNN`` is the one of ``faster-rcnn-resnet50``. Two names are one where one of them
    is how the other begins, in whole words.
    """
    if made.made_by != "model" or made.family is None:
        return False
    one, other = _beginnings(made.family), _beginnings(family)
    return bool(one and other) and (one[-1] in other or other[-1] in one)


def _beginnings(family: str) -> list[str]:
    """``faster-rcnn`` as ``faster``, ``fasterrcnn``."""
    return list(accumulate(re.findall(r"[^\W_]+", family.casefold())))


def mark_circular(
    rows: Iterable[Mapping[str, Any]], pairs: Collection[tuple[str, str]], points: Iterable[Mapping[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of a table with ``circular``: whether a backbone of theirs is circular for their concept.

    Args:
        rows: they name ``concept`` and ``backbone`` (or ``backbone_a``, ``backbone_b``), or a ``point_id`` alone.
        pairs: (backbone, concept), circular.
        points: the marked rows of ``points``, for rows that name nothing but their point.
    """
    of_point = {point["point_id"]: point["circular"] for point in points}
    for row in rows:
        names = [row[key] for key in ("backbone", "backbone_a", "backbone_b") if key in row]
        circular = any((name, row["concept"]) in pairs for name in names) if names else of_point[row["point_id"]]
        yield {**row, "circular": circular}
