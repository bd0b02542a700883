"""What a spec may say under ``with`` for the label source ``sam-masks``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from probekit.api import Parameters, SpecPath
from probekit_sam.parameters import SamParameters


class Span(Parameters):
    """From ``min`` to ``max``, both included; what is left out has no bound."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _some_bound(self) -> Span:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies within."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Rule(Parameters):
    """Which of the generator's masks belong to a concept: those that lie within every span."""

    area: Span | None = Field(default=None, description="pixels of the photograph")
    share: Span | None = Field(default=None, description="area as a share of the photograph, 0 to 1")
    roundness: Span | None = Field(default=None, description="4 pi area / perimeter^2; 1 for a disc, .87 for a square")
    stability: Span | None = Field(default=None, description="the generator's stability score, 0 to 1")
    predicted_iou: Span | None = Field(default=None, description="the model's own estimate of a mask's quality")

    @model_validator(mode="after")
    def _some_rule(self) -> Rule:
        if not any(span is not None for _, span in self):
            raise ValueError("an empty rule takes every mask; give a span of area, share, roundness, ...")
        return self


class GroupTable(Parameters):
    """A CSV file below ``root`` with one row an image: the columns of its file name or stem, its group, and the
    group's group."""

    file: Path
    image: str = "image"
    group: str
    outer: str | None = None


class GroupPattern(Parameters):
    """A regular expression, searched in the stem of the file or in its folder below ``images``.

    The group is what the part named ``group`` matches, else the first parenthesis, else the whole match; a part named
    ``outer`` gives the group's group.
    """

    stem: str | None = None
    folder: str | None = None

    @field_validator("stem", "folder")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _one_of_them(self) -> GroupPattern:
        if (self.stem is None) == (self.folder is None):
            raise ValueError(_ASK)
        return self


_ASK = (
    "say which images must not be split apart: {file: CSV, group: COLUMN}, {folder: PATTERN}, {stem: PATTERN}, "
    "or `each` where every image stands alone"
)


def _form(value: Any) -> str:
    if isinstance(value, GroupTable) or (isinstance(value, dict) and "file" in value):
        return "table"
    return "pattern" if isinstance(value, dict | GroupPattern) else "each"


# One form is picked by its keys first, so that a typing error is reported against that form alone.
Groups = Annotated[
    Annotated[GroupTable, Tag("table")]
    | Annotated[GroupPattern, Tag("pattern")]
    | Annotated[Literal["each"], Tag("each")],
    Discriminator(_form),
]


class Generator(Parameters):
    """Options of segment-anything's automatic mask generator; its own defaults."""

    points_per_side: int = Field(default=32, gt=0, description="prompts along each side of the image")
    points_per_batch: int = Field(
        default=64, gt=0, description="prompts at once; a matter of memory, not of the result"
    )
    pred_iou_thresh: float = Field(default=0.88, ge=0, description="masks that the model rates lower are dropped")
    stability_score_thresh: float = Field(
        default=0.95, ge=0, le=1, description="masks that are less stable are dropped"
    )
    stability_score_offset: float = Field(
        default=1.0, gt=0, description="shift of the cut by which stability is measured"
    )
    box_nms_thresh: float = Field(default=0.7, ge=0, le=1, description="of two boxes that overlap more, one is dropped")
    crop_n_layers: int = Field(default=0, ge=0, description="rounds over smaller crops, for small things")
    crop_n_points_downscale_factor: int = Field(default=1, gt=0, description="fewer prompts a side with each round")


class SamMasksParameters(SamParameters):
    """Photographs, the model that makes the masks, and the rules that make them concepts."""

    root: SpecPath = Field(description="the folder that the other paths start from")
    images: Path = Field(default=Path("images"), description="the folder of photographs, below root")
    groups: Groups = Field(description="which images must not be split apart; the forms are those of `masks`")
    concepts: dict[str, Rule] = Field(min_length=1, description="name: the rule that its masks meet")
    generator: Generator = Field(default_factory=Generator, description="options of the mask generator")
    device: str = Field(
        default="cpu", description="where the masks are made: cpu, cuda, cuda:1; not part of their identity"
    )
