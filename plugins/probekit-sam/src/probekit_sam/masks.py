"""The label source ``sam-masks``: masks that segment-anything made, kept, and chosen by rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probekit.api import (
    NEGATIVE,
    POSITIVE,
    VOID,
    ImageRef,
    Issue,
    ProbekitError,
    Provenance,
    UnreadableImageError,
    WeightsInfo,
)
from probekit_sam.label_parameters import Rule, SamMasksParameters
from probekit_sam.photographs import Photograph, decode, digest, scan, shown
from probekit_sam.regions import Region, read_regions, write_regions
from probekit_sam.weights import weights_info

if TYPE_CHECKING:
    from probekit_sam.generate import MaskMaker

_FORMAT = "1"
"""Part of every kept file's name: raise it whenever the same parameters give other masks or properties."""


class SamMasks:
    """segment-anything's masks as labels (:class:`probekit.api.LabelSource`).

    An image's masks are made when the first of them is asked for, and kept below ``cache``. A rule is applied to what
    is kept, so another rule makes no new masks. Pixels in no mask that meets a concept's rule are negative.
    """

    def __init__(self, parameters: SamMasksParameters, *, cache: Path, seed: int) -> None:
        self._parameters = parameters
        self._folder = cache / "sam-masks"
        self._seed = seed
        self._lock = Lock()
        self._maker: MaskMaker | None = None

    @property
    def concepts(self) -> Sequence[str]:
        """In the order of the spec."""
        return list(self._parameters.concepts)

    @property
    def provenance(self) -> Provenance:
        """The model that made the masks, its weights' digest, and the rules."""
        rules = "; ".join(f"{name}: {_words(rule)}" for name, rule in self._parameters.concepts.items())
        model = f"segment-anything {self._parameters.model}, {self._weights.digest}"
        return Provenance("model", "sam", f"{model}; {rules}")

    def check(self) -> Sequence[Issue]:
        """All that is wrong with the folder, the photographs' headers, the table of groups and the weights file."""
        weights = self._parameters.weights
        issues = list(self._scan[1])
        if isinstance(weights, Path) and not weights.is_file():
            issues.append(Issue(shown(weights), "is no file: it should hold segment-anything's weights"))
        return issues

    def images(self) -> Sequence[ImageRef]:
        """All images, sorted by id."""
        photographs, issues = self._scan
        if issues:
            raise ProbekitError(issues)
        return [
            ImageRef(name, one.group, one.height, one.width, digest(one.path), one.outer)
            for name, one in photographs.items()
        ]

    def open(self, image: ImageRef) -> NDArray[np.uint8]:
        """Decodes one photograph: (height, width, 3) RGB."""
        return decode(self._scan[0][image.id].path)

    def mask(self, image: ImageRef, concept: str) -> NDArray[np.uint8]:
        """One mask: positive in every mask that meets the rule. All void where the photograph cannot be decoded;
        ``open`` says so."""
        try:
            regions = self._regions(image)
        except UnreadableImageError:
            return np.full((image.height, image.width), VOID, np.uint8)
        mask = np.full((image.height, image.width), NEGATIVE, np.uint8)
        for region in regions:
            if _meets(self._parameters.concepts[concept], region, image):
                mask[region.mask(image.height, image.width)] = POSITIVE
        return mask

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        """Over the photograph, the model, the generator's options and the rule; makes no mask."""
        rule = self._parameters.concepts[concept].model_dump(exclude_none=True)
        return _digest([self._key(image), rule])

    @cached_property
    def _scan(self) -> tuple[dict[str, Photograph], list[Issue]]:
        return scan(self._parameters)

    @cached_property
    def _weights(self) -> WeightsInfo:
        return weights_info(self._parameters, self._seed)

    def _key(self, image: ImageRef) -> str:
        parameters = self._parameters
        generator = parameters.generator.model_dump(exclude={"points_per_batch"})
        sizes = [parameters.sizes.__dict__, parameters.image_size]
        return _digest([_FORMAT, image.digest, self._weights.digest, sizes, generator])

    def _regions(self, image: ImageRef) -> list[Region]:
        path = self._folder / f"{self._key(image).removeprefix('sha256:')}.safetensors"
        # One image at a time: the generator keeps the image that it works on.
        with self._lock:
            if not path.is_file():
                pixels = self.open(image)
                if self._maker is None:
                    from probekit_sam.generate import MaskMaker

                    self._maker = MaskMaker(self._parameters, self._seed)
                write_regions(path, self._maker.make(pixels))
        return read_regions(path, image.height, image.width)


def _meets(rule: Rule, region: Region, image: ImageRef) -> bool:
    values = {
        "area": region.area,
        "share": region.area / (image.height * image.width),
        "roundness": region.roundness,
        "stability": region.stability,
        "predicted_iou": region.predicted_iou,
    }
    return all(span is None or span.holds(values[name]) for name, span in rule)


def _words(rule: Rule) -> str:
    parts = []
    for name, span in rule:
        if span is not None:
            low = "" if span.min is None else f" from {span.min:g}"
            high = "" if span.max is None else f" to {span.max:g}"
            parts.append(f"{name}{low}{high}")
    return ", ".join(parts)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
