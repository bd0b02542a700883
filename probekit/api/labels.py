"""The contract of a label source: images with groups, and masks that answer a binary question at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from probekit.api.errors import Issue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEGATIVE, POSITIVE, VOID = 0, 1, 2
"""The values of a mask. Void pixels are neither: unlabelled, ambiguous, a crowd."""


@dataclass(frozen=True)
class ImageRef:
    """One image of a label source.

    Attributes:
        id: unique, stable, readable: the stem of the file.
        group: images of one group are never split apart.
        height, width: in pixels, after EXIF orientation.
        digest: ``sha256:<hex>`` over what the pixels come from (the file's bytes; a rendered scene's parameters).
        outer: the group of groups (a road of stretches), or none.
    """

    id: str
    group: str
    height: int
    width: int
    digest: str
    outer: str | None = None


@dataclass(frozen=True)
class Provenance:
    """Who made the labels.

    Attributes:
        made_by: people, a model, or a renderer that knows the truth.
        family: of the model (``sam``), for the guard against probing a model with its own labels.
        detail: for people: the licence, the weights' digest, the rule.
    """

    made_by: Literal["people", "model", "renderer"]
    family: str | None = None
    detail: str = ""


class UnreadableImageError(Exception):
    """Raised by ``open`` for a photograph that cannot be decoded; it is skipped, counted and listed."""


class LabelSource(Protocol):
    """Images and, per concept, masks.

    The constructor is called as ``Class(parameters, cache=folder, seed=seed)``; ``cache`` is a folder (it may not exist
    yet) that outlives the run, for what is made once (rendered scenes, a model's masks): write there by temporary name
    and rename.
    """

    @property
    def concepts(self) -> Sequence[str]:
        """The questions, in the order in which tables show them."""

    @property
    def provenance(self) -> Provenance:
        """Who made the masks."""

    def check(self) -> Sequence[Issue]:
        """All that is wrong with the files (missing ones, sizes that differ, a table that does not name an image),
        without decoding pixels. Empty where nothing is. No torch."""

    def images(self) -> Sequence[ImageRef]:
        """All images, sorted by id. Called after ``check`` found nothing."""

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Decodes one photograph: (height, width, 3) RGB. Thread-safe. Raises :class:`UnreadableImageError`."""

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """One mask at original resolution: (height, width) of ``NEGATIVE``, ``POSITIVE``, ``VOID``. Thread-safe."""

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """``sha256:<hex>`` over what this mask comes from."""
