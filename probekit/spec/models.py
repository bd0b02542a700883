"""The experiment file as typed, frozen models. What stands under ``with`` belongs to the plugins and is theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from probekit.api import ParameterError, Parameters, SpecPath

_UNITS = {"": 1, "b": 1}
_UNITS |= {
    f"{prefix}{unit}": base**power
    for unit, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate(" kmgt")
    if power
}


def _bytes(value: Any) -> Any:
    """``20 GB`` as a number of bytes; anything else as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"expected bytes, as a whole number or like '20 GB' or '512 MiB', given {str(value)!r}")
    return round(float(match[1]) * _UNITS[match[2].lower()])


def _matching(pattern: str, expected: str) -> Any:
    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"expected {expected}, given {text!r}")
        return text

    return AfterValidator(check), Field(description=expected, json_schema_extra={"pattern": f"^({pattern})$"})


_NAME = "a name of letters, digits, '.', '_' and '-' (it names folders), at most 100 characters"
Name = Annotated[str, *_matching(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", _NAME)]
Device = Annotated[str, *_matching(r"auto|cpu|cuda(:[0-9]{1,3})?", "auto, cpu, cuda or cuda:N")]
Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(ge=1)]
DType = Literal["float32", "bfloat16", "float16"]
Share = Annotated[float, Field(gt=0, lt=1)]
With = Annotated[Mapping[str, Any], BeforeValidator(lambda value: {} if value is None else value)]


class Section(Parameters):
    """A mapping of the experiment file."""

    model_config = ConfigDict(allow_inf_nan=False)


class Entry(Section):
    """An entry that names a plugin, with its parameters."""

    use: str = Field(min_length=1, description="A plugin by name, or distribution/name where two claim the name.")
    with_: With = Field(default={}, alias="with", description="The plugin's own parameters.")


class SourceEntry(Entry):
    """One of several label sources over the same images."""

    name: Name | None = Field(
        default=None, description="Stands before its concepts (name/concept); the plugin's own name unless set."
    )

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.use.rpartition("/")[2]


class BackboneEntry(Entry):
    """A frozen network and the layers to read."""

    layers: tuple[str, ...] = Field(default=(), description="The plugin's default layers unless set.")
    device: Device | None = Field(default=None, description="The experiment's unless set.")
    dtype: DType | None = Field(default=None, description="The experiment's unless set.")
    batch_size: int | None = Field(
        default=None, ge=1, description="Images a forward pass; the plan's choice unless set."
    )

    @field_validator("layers")
    @classmethod
    def _distinct(cls, layers: tuple[str, ...]) -> tuple[str, ...]:
        return _no_repeats(layers)


class Labels(Section):
    """Which share of a cell's footprint makes it positive or negative; between the two it is void."""

    positive: float = Field(default=0.25, gt=0, le=1, description="At least this share is positive.")
    negative: float = Field(default=0.05, ge=0, lt=1, description="At most this share is negative.")

    @model_validator(mode="after")
    def _ordered(self) -> Labels:
        if self.negative >= self.positive:
            raise ParameterError(
                ("negative",), f"must be less than positive ({self.positive:g}), given {self.negative:g}"
            )
        return self


class _Whole(Section):
    """What folds take whole: the label source's groups, or blocks of the images that are larger than one."""

    scheme: str
    validation: Share = Field(
        default=0.2, description="The share of each fold's training groups that makes its choices."
    )
    by: Literal["groups", "blocks"] = Field(
        default="groups", description="Blocks: each image larger than one is divided, each of its blocks is a group."
    )
    size: int | None = Field(default=None, ge=1, description="A block's longest side, in original pixels.")
    buffer: int | None = Field(
        default=None, ge=0, description="Original pixels that lie at least between blocks of different parts of a fold."
    )

    @model_validator(mode="after")
    def _blocks(self) -> Self:
        for key, value in (("size", self.size), ("buffer", self.buffer)):
            if self.by == "blocks" and value is None:
                raise ParameterError((key,), "is required by blocks: a number of original pixels")
            if self.by == "groups" and value is not None:
                raise ParameterError((key,), "is of blocks, and groups are not divided: set split.by to blocks")
        return self


class GroupKFold(_Whole):
    """Folds of whole groups; test scores are pooled out of fold."""

    scheme: Literal["group-kfold"] = "group-kfold"
    folds: int = Field(default=5, ge=2)


class Holdout(_Whole):
    """One split of whole groups."""

    scheme: Literal["holdout"]
    test: Share = 0.2

    @model_validator(mode="after")
    def _some_left(self) -> Holdout:
        if self.validation + self.test >= 1:
            raise ParameterError(("test",), "validation and test together leave nothing to train on")
        return self


Split = Annotated[GroupKFold | Holdout, Field(discriminator="scheme")]


class Sampling(Section):
    """How many training rows are drawn; validation and test keep all cells, at natural prevalence."""

    per_class: int = Field(default=20_000, ge=1)


class Evaluation(Section):
    """The reference grid on which all models are scored."""

    grid: int = Field(default=16, ge=1, description="A cell's side, in original pixels.")
    deployment_prevalence: Share | None = Field(
        default=None, description="Where the scorer will be used: scores are given for it, too."
    )
    description_length: bool = Field(default=True, description="Labels are coded online, by every probe.")
    bootstrap: int = Field(
        default=0, ge=0, description="Resamples of the percentile bootstrap of groups, for comparison; 0 leaves it out."
    )


class Nulls(Section):
    """What a model's full probe must be above to be ranked, beside the controls."""

    random_channels: int = Field(default=20, ge=0, description="Draws at each listed k, over all repeats.")
    permuted_labels: bool = Field(default=True, description="Each image with the label map of another group's image.")
    control_task: bool = Field(default=True, description="Random labels of clusters of colour (Hewitt and Liang 2019).")


class Stability(Section):
    """Stability selection on complementary halves of the groups (Shah and Samworth 2013)."""

    pairs: int = Field(default=25, ge=0, description="Of halves; 0 leaves it out.")
    expected_false: float = Field(default=1.0, gt=0, description="The bound that the stable set keeps.")
    knockoffs: Share | None = Field(
        default=None, description="A rate of false discoveries: channels are also selected against knockoffs."
    )


class Comparison(Section):
    """How the models' channels are set against each other, and what each channel is shown by."""

    draws: int = Field(default=999, ge=0, description="Groups are re-paired at random so often; 0 leaves matching out.")
    complements: bool = Field(default=True, description="Joint probes: what one model's channels add to another's.")
    interactions: bool = Field(default=True, description="Whether products of channels add to the score.")
    exemplars: int = Field(default=3, ge=0, description="Images a channel and kind: highest, lowest, at the threshold.")


class Ablation(Section):
    """Selected channels set to their mean in the network's forward pass, and scored at later layers."""

    draws: int = Field(default=0, ge=0, description="Draws of as many other channels; 0 leaves ablation out.")
    images: int | None = Field(default=None, ge=1, description="So many test images; all unless set.")


class Store(Section):
    """Where features are kept, and how many bytes of them."""

    path: SpecPath | None = Field(default=None, description="'.probekit-store' beside the spec unless set.")
    budget: Bytes = Field(default=20 * 10**9, description="Bytes, or text like '20 GB'; above it the plan refuses.")


class Tile(Section):
    """Images larger than ``size`` are cut into tiles of it, in original pixels."""

    size: int = Field(ge=32)
    overlap: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _moves(self) -> Tile:
        if self.overlap >= self.size:
            raise ParameterError(("overlap",), f"must be less than size ({self.size}), given {self.overlap}")
        return self


class Experiment(Section):
    """One experiment file."""

    probekit: Literal[1] = Field(description="The version of this schema, and the file's first key.")
    name: Name = Field(description="Names the run's folder; the file's own name unless set.")
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    repeats: int = Field(default=1, ge=1, description="Seeded draws of training rows.")
    data: Entry | tuple[SourceEntry, ...] = Field(
        description="A label source, or a list of several over the same images: concepts are then name/concept."
    )
    allow_circular: bool = Field(
        default=False, description="A model may be probed with labels that a model of its family made, and is marked."
    )
    labels: Labels = Labels()
    split: Split = GroupKFold()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    nulls: Nulls = Nulls()
    stability: Stability = Stability()
    comparison: Comparison = Comparison()
    ablation: Ablation = Ablation()
    backbones: Mapping[Name, BackboneEntry] = Field(min_length=1)
    controls: tuple[str, ...] = Field(
        default=(), description="'twins' (each network with random weights) and control plugins' names; never ranked."
    )
    probes: Mapping[Name, Entry] = Field(min_length=1)
    device: Device = Field(default="auto", description="Resolved once and recorded.")
    dtype: DType = "float32"
    threads: int | None = Field(default=None, ge=1, description="CPU threads; all cores unless set.")
    store: Store = Store()
    tile: Tile | None = None
    limit: int | None = Field(
        default=None, ge=1, description="So many images, seeded, spread over groups and concepts."
    )
    strict: bool = Field(default=False, description="A photograph that cannot be decoded stops the run.")

    @model_validator(mode="before")
    @classmethod
    def _split_scheme(cls, data: Any) -> Any:
        """A split without a scheme is group-kfold."""
        if isinstance(data, dict) and isinstance(data.get("split"), dict) and "scheme" not in data["split"]:
            return data | {"split": {"scheme": "group-kfold"} | data["split"]}
        return data

    @field_validator("data")
    @classmethod
    def _distinct_sources(cls, data: Entry | tuple[SourceEntry, ...]) -> Entry | tuple[SourceEntry, ...]:
        if isinstance(data, Entry):
            return data
        if not data:
            raise ParameterError((), "is empty: name at least one")
        for i, entry in enumerate(data):
            if entry.called in [other.called for other in data[:i]]:
                raise ParameterError((i, "name"), f"a second label source {entry.called!r}: name it otherwise")
        return data

    @field_validator("controls")
    @classmethod
    def _distinct(cls, controls: tuple[str, ...]) -> tuple[str, ...]:
        return _no_repeats(controls)


def _no_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ParameterError((i,), f"{name!r} stands twice: keep one of them")
    return names
