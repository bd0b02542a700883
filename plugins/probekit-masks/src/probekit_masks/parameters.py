"""What a spec may write under ``with`` for ``masks`` and ``coco``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from probekit.api import Parameters, Provenance, SpecPath

Name = Annotated[str, Field(min_length=1)]

ASK_FOR_GROUPS = (
    "say which images must not be split apart: {file: CSV, group: COLUMN}, {folder: PATTERN}, {stem: PATTERN}, "
    "or `each` where every image stands alone"
)


class GroupTable(Parameters):
    """A table with one row an image.

    Attributes:
        file: a csv below ``root``.
        image: the column that holds the image's id or file name.
        group: the column that holds its group.
        outer: the column that holds the group of its group, if there is one.
    """

    file: Path
    image: Name = "image"
    group: Name
    outer: Name | None = None


class GroupPattern(Parameters):
    """A regular expression, searched in the stem of the file or in its folder below ``images``.

    The group is what the part named ``group`` matches, else the first parenthesis, else the whole match; a part named
    ``outer`` gives the group of groups.
    """

    stem: Name | None = None
    folder: Name | None = None

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
            raise ValueError(ASK_FOR_GROUPS)
        return self


class GroupField(Parameters):
    """A field of the image's record in the annotation file, and one for the group of groups, if there is one."""

    field: Name
    outer: Name | None = None


def _form(value: Any) -> str:
    if isinstance(value, dict):
        return "table" if {"file", "image", "group"} & value.keys() else "field" if "field" in value else "pattern"
    if isinstance(value, GroupTable):
        return "table"
    return "pattern" if isinstance(value, GroupPattern) else "field" if isinstance(value, GroupField) else "each"


def _file_form(value: Any) -> str:
    return _form(value).replace("field", "pattern")


def _ask(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value != "each"):
        raise ValueError(ASK_FOR_GROUPS)
    return value


_Table = Annotated[GroupTable, Tag("table")]
_Pattern = Annotated[GroupPattern, Tag("pattern")]
_Field = Annotated[GroupField, Tag("field")]
_Each = Annotated[Literal["each"], Tag("each")]
_NOT_GIVEN: Any = None
# One form is picked by its keys first, so that an error is reported against that form alone.
FileGroups = Annotated[_Table | _Pattern | _Each, Discriminator(_file_form), BeforeValidator(_ask)]
RecordGroups = Annotated[_Table | _Pattern | _Field | _Each, Discriminator(_form), BeforeValidator(_ask)]


def _listed(value: Any) -> Any:
    if isinstance(value, list | tuple) and not value:
        raise ValueError("is empty: name at least one")
    return value if isinstance(value, list | tuple) else [value]


Indices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_listed, json_schema_input_type=int | list[int]),
]
Categories = Annotated[
    tuple[int | str, ...],
    BeforeValidator(_listed, json_schema_input_type=int | str | list[int | str]),
]


class MadeBy(Parameters):
    """Who made the masks: a probe of SAM on masks made by SAM is circular, and the core refuses it."""

    made_by: Literal["people", "model", "renderer"] = "people"
    family: Name | None = None
    detail: str = ""

    @model_validator(mode="after")
    def _family_of_a_model(self) -> MadeBy:
        if (self.made_by == "model") != (self.family is not None):
            raise ValueError("`family` (sam, mask-rcnn ...) goes with `made_by: model`, and with nothing else")
        return self

    def provenance(self) -> Provenance:
        """The same for the core."""
        return Provenance(self.made_by, self.family, self.detail)


class MaskParameters(Parameters):
    """Photographs below ``root / images``, and masks of the same stems.

    Attributes:
        root: the folder that the other paths start from.
        images: the folder of the photographs.
        concepts: concept -> folder of binary masks.
        threshold: binary masks with more than two values are refused unless this says from which value on a pixel is
            positive.
        masks: the folder of index masks, instead of ``concepts``.
        classes: concept -> the index, or the indices, that are positive; all others are negative.
        void: the index, or the indices, that are neither.
        groups: which images must not be split apart.
        provenance: who made the masks.
    """

    root: SpecPath
    images: Path = Path("images")
    concepts: dict[Name, Path] | None = Field(default=None, min_length=1)
    threshold: Annotated[int, Field(ge=1)] | None = None
    masks: Path | None = None
    classes: dict[Name, Indices] | None = Field(default=None, min_length=1)
    void: Indices | None = None
    groups: FileGroups = _NOT_GIVEN
    provenance: MadeBy = MadeBy()

    @model_validator(mode="after")
    def _one_form(self) -> MaskParameters:
        binary = self.concepts is not None
        if binary == (self.masks is not None) or (self.masks is None) != (self.classes is None):
            raise ValueError(
                "say where the masks are: `concepts: {NAME: FOLDER}` for binary masks, or "
                "`masks: FOLDER` and `classes: {NAME: INDEX}` for index masks"
            )
        if binary and self.void is not None:
            raise ValueError("`void` is an index of index masks: it goes with `masks` and `classes`")
        if not binary and self.threshold is not None:
            raise ValueError("`threshold` is for binary masks: it goes with `concepts`")
        for name, indices in (self.classes or {}).items():
            both = sorted(set(indices) & set(self.void or ()))
            if both:
                raise ValueError(f"index {both[0]} is both {name!r} and void")
        return self


class CocoParameters(Parameters):
    """Photographs below ``root / images``, and an instances file.

    Attributes:
        root: the folder that the other paths start from.
        images: the folder that the records' ``file_name`` starts from.
        annotations: the instances file, JSON.
        concepts: concept -> a category's name or id, or a list of them.
        groups: which images must not be split apart.
        provenance: who made the masks.
    """

    root: SpecPath
    images: Path = Path("images")
    annotations: Path
    concepts: Annotated[dict[Name, Categories], Field(min_length=1)]
    groups: RecordGroups = _NOT_GIVEN
    provenance: MadeBy = MadeBy()
