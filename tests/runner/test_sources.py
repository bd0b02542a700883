"""Several label sources over the same images, and models that would be probed with labels of their own kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import probekit
from probekit.api import ImageRef, Issue, ProbekitError, Provenance
from probekit.report.check import check
from probekit.report.forecast import print_plan
from probekit.runner.prepare import Prepared, data_digest, prepare
from probekit.runner.progress import Silent
from probekit.runner.record import circular_labels, circular_pairs
from probekit.runner.sources import CombinedSource, mark_circular, provenance_of, shared_concepts
from probekit.spec.load import load_experiment
from probekit.testing.fakes import DiscParameters, DiscSource, TinyBackbone
from probekit.testing.labels import LabelSourceContract

Spec = Callable[..., Path]

SIZE = "groups: 6, images: 2, height: 64, width: 80"
PEOPLE = f"{{name: people, use: odd, with: {{{SIZE}}}}}"
BY_TINY = f"{{name: tiny-masks, use: odd, with: {{{SIZE}, model: Tiny, concept: disc}}}}"
TWO = f"[{PEOPLE}, {BY_TINY}]"
BOTH = "{tiny: {use: tiny}, planted: {use: planted}, again: {use: tiny, layers: [stem]}}"


class Machine(DiscSource):
    """The discs of the same images, larger than they are, as a model of the family ``tiny`` would have them."""

    concepts = ("disc",)
    provenance = Provenance("model", "tiny", "grown")

    def mask(self, image: ImageRef, concept: str) -> Any:
        grown = super().mask(image, concept)
        grown[1:] |= grown[:-1].copy()
        return grown

    def mask_digest(self, image: ImageRef, concept: str) -> str:
        return self._digest(f"{image.id}/grown {concept}")


class Changed(DiscSource):
    """Images of another kind than those of :class:`DiscSource`."""

    def __init__(self, change: Callable[[Sequence[ImageRef]], Sequence[ImageRef]]) -> None:
        super().__init__(DiscParameters(groups=3))
        self.change = change

    def images(self) -> Sequence[ImageRef]:
        return self.change(super().images())


def issue(name: str, what: str) -> Issue:
    return Issue(name, what)


def combined(seed: int = 0) -> CombinedSource:
    size = DiscParameters(groups=2, images=1, height=40, width=48)
    return CombinedSource({"people": DiscSource(size, seed=seed), "tiny-masks": Machine(size, seed=seed)}, issue)


class TestCombined(LabelSourceContract):
    def make(self, folder: Path, cache: Path) -> CombinedSource:
        return combined()

    def make_altered(self, folder: Path, cache: Path) -> CombinedSource:
        return combined(seed=1)


def test_concepts_are_each_sources_own() -> None:
    source = combined()
    image = source.images()[1]
    assert source.concepts == ["people/disc", "people/square", "tiny-masks/disc"]
    people, machine = source.mask(image, "people/disc"), source.mask(image, "tiny-masks/disc")
    assert (people <= machine).all()
    assert (people < machine).any()
    assert provenance_of(source, "people/disc").made_by == "renderer"
    assert provenance_of(source, "tiny-masks/disc") == Machine.provenance
    assert (source.provenance.made_by, source.provenance.family) == ("model", "tiny")
    assert shared_concepts(source) == {"disc": {"people": "people/disc", "tiny-masks": "tiny-masks/disc"}}
    assert shared_concepts(DiscSource(DiscParameters())) == {}


def test_a_concept_may_hold_a_slash_of_its_own() -> None:
    class Nested(Machine):
        concepts = ("road/disc",)

        def mask(self, image: ImageRef, concept: str) -> Any:
            assert concept == "road/disc"
            return super().mask(image, "disc")

    source = CombinedSource({"a": Nested(DiscParameters()), "b": Nested(DiscParameters())}, issue)
    assert source.concepts == ["a/road/disc", "b/road/disc"]
    assert source.mask(source.images()[0], "b/road/disc").any()
    assert shared_concepts(source) == {"road/disc": {"a": "a/road/disc", "b": "b/road/disc"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda images: images[2:], ["lacks 2 images that people has, the first: g00-0"]),
        (
            lambda images: [*images[1:], replace(images[0], id="h")],
            ["lacks 1 image that people has, the first: g00-0", "has 1 image that people lacks, the first: h"],
        ),
        (
            lambda images: [replace(image, height=image.height + (i > 3)) for i, image in enumerate(images)],
            ["has other sizes than people for 2 images, the first: g02-0 (128 x 97 px, there 128 x 96 px)"],
        ),
        (
            lambda images: [replace(image, digest=f"{image.digest}{i > 4}") for i, image in enumerate(images)],
            ["has other pixels than people for 6 images, the first: g00-0"],
        ),
        (
            lambda images: [replace(image, group=image.id, outer="o") for image in images[:1]] + images[1:],
            ["has other groups than people for 1 image, the first: g00-0 (g00-0, there g00)"],
        ),
        (
            lambda images: [replace(image, outer="road") for image in images],
            ["has other outer groups than people for 6 images, the first: g00-0 (road, there None)"],
        ),
    ],
)
def test_sources_over_other_images_are_told_apart(change: Callable[..., Any], expected: list[str]) -> None:
    source = CombinedSource({"people": DiscSource(DiscParameters(groups=3)), "other": Changed(change)}, issue)
    found = source.check()
    assert [one.where for one in found] == ["other"] * len(expected)
    for one, what in zip(found, expected, strict=True):
        assert one.what.startswith(f"{what}. ")
    with pytest.raises(ProbekitError):
        source.images()


def test_faults_of_files_come_before_differences() -> None:
    class Faulty(DiscSource):
        def check(self) -> Sequence[Issue]:
            return [Issue("photos", "is no folder")]

        def images(self) -> Sequence[ImageRef]:
            raise AssertionError("not before check found nothing")

    source = CombinedSource({"a": Faulty(DiscParameters()), "b": Faulty(DiscParameters())}, issue)
    assert source.check() == [Issue("photos", "is no folder")]


def test_any_sources_mask_changes_the_datas_digest() -> None:
    class Other(Machine):
        def mask_digest(self, image: ImageRef, concept: str) -> str:
            return self._digest(f"{image.id}/other {concept}")

    size = DiscParameters(groups=2)
    digests = {
        data_digest(CombinedSource({"people": DiscSource(size), "machine": machine(size)}, issue))
        for machine in (Machine, Other, Machine)
    }
    assert len(digests) == 2


def lines(spec: Path, *overrides: str) -> list[str]:
    with pytest.raises(ProbekitError) as caught:
        prepare(load_experiment(spec, overrides))
    return [str(one) for one in caught.value.issues]


def prepared(spec: Path, *overrides: str) -> Prepared:
    return prepare(load_experiment(spec, overrides))


def test_a_model_is_not_probed_with_labels_of_its_own_family(experiment: Spec) -> None:
    spec = experiment(data=f"{{use: odd, with: {{{SIZE}, model: Tiny}}}}", backbones=BOTH, controls="[twins]")
    before = TinyBackbone.loads
    with pytest.raises(ProbekitError) as caught:
        probekit.run(spec)
    found = [str(one) for one in caught.value.issues]
    assert TinyBackbone.loads == before
    assert [line.partition("  ")[2].partition(":")[0] for line in found] == ["backbones.tiny", "backbones.again"]
    row = next(i for i, text in enumerate(spec.read_text().splitlines(), 1) if text.startswith("backbones"))
    for line in found:
        assert line.startswith(f"spec.yaml:{row}:")
        assert "(Tiny) made the labels of disc, square: its scores on them would be circular" in line
        assert "allow_circular: true" in line
    assert len({line.partition("  ")[0] for line in found}) == 2
    for command in (
        lambda: check(spec, (), None, False, None, Silent()),
        lambda: print_plan(spec, (), console=None, progress=Silent()),
    ):
        with pytest.raises(ProbekitError, match="circular"):
            command()


def test_other_families_and_random_weights_are_not_circular(experiment: Spec) -> None:
    data = f"{{use: odd, with: {{{SIZE}, model: tiny}}}}"
    found = prepared(experiment(data=data, backbones="{planted: {use: planted}}", controls="[twins, pixels]"))
    assert circular_pairs(found) == set()
    random = "{tiny: {use: tiny, with: {weights: random}}, planted: {use: planted}}"
    assert circular_labels(prepared(experiment(data=data, backbones=random))) == []
    people = prepared(experiment(backbones="{tiny: {use: tiny}}"))
    assert circular_pairs(people) == set()


@pytest.mark.parametrize(
    ("written", "of_backbone", "same"),
    [
        ("SAM", "sam", True),
        ("Faster R-CNN", "faster-rcnn-resnet50", True),
        ("faster_rcnn_resnet50", "faster-rcnn-resnet50", True),
        ("faster-rcnn-resnet50", "faster-rcnn", True),
        ("faster-rcnn-resnet50", "faster-rcnn-mobilenet-v3", False),
        ("vit", "vitamin", False),
        ("sam", "mobilesam", False),
        ("-", "sam", False),
    ],
)
def test_families_are_compared_as_people_write_them(
    experiment: Spec, written: str, of_backbone: str, same: bool
) -> None:
    data = f"{{use: odd, with: {{{SIZE}, model: '{written}'}}}}"
    backbones = f"{{planted: {{use: planted, with: {{kind: {of_backbone}}}}}}}"
    found = prepared(experiment(data=data, backbones=backbones, allow_circular="true"))
    assert bool(circular_pairs(found)) == same


def test_only_the_concepts_of_the_family_are_circular(experiment: Spec) -> None:
    spec = experiment(data=TWO, backbones=BOTH, controls="[twins]")
    found = lines(spec)
    assert len(found) == 2
    assert all("the labels of tiny-masks/disc:" in line for line in found)
    allowed = prepared(spec, "allow_circular=true")
    assert circular_pairs(allowed) == {("tiny", "tiny-masks/disc"), ("again", "tiny-masks/disc")}
    assert [line.partition(":")[0] for line in circular_labels(allowed)] == ["tiny", "again"]
    assert all("the labels of tiny-masks/disc were made by" in line for line in circular_labels(allowed))


def test_sources_that_differ_are_named_at_their_place(experiment: Spec) -> None:
    data = f"[{PEOPLE}, {{name: fewer, use: odd, with: {{{SIZE}, left_out: [g01, g02-1]}}}}]"
    (line,) = lines(experiment(data=data))
    assert line.startswith("spec.yaml:")
    assert "data[1]: lacks 3 images that people has, the first: g01-0" in line


def test_a_run_of_two_sources_says_whose_labels_are_whose(experiment: Spec) -> None:
    spec = experiment(data=TWO, backbones="{tiny: {use: tiny}}", controls="[pixels]", allow_circular="true")
    run = probekit.run(spec)
    concepts = ["people/disc", "people/square", "tiny-masks/disc"]
    assert run.info["concepts"] == concepts
    assert set(run.points["concept"]) == set(concepts)
    assert {name: made["made_by"] for name, made in run.info["label_provenance"].items()} == {
        "people/disc": "renderer",
        "people/square": "renderer",
        "tiny-masks/disc": "model",
    }
    assert run.info["circular"] == [["tiny", "tiny-masks/disc"]]
    assert [w for w in run.info["warnings"] if "circular" in w] == [
        "tiny: the labels of tiny-masks/disc were made by a model of its own family (Tiny): "
        "its scores on them are circular"
    ]
    for name in ("points", "results", "k_tau", "models"):
        rows = run.table(name)
        rows = rows if "concept" in rows else rows.merge(run.points[["point_id", "backbone", "concept"]], on="point_id")
        assert (rows["circular"] == ((rows["backbone"] == "tiny") & (rows["concept"] == "tiny-masks/disc"))).all()
        assert rows["circular"].any()
    cross = run.table("cross_label")
    assert set(zip(cross["trained_on"], cross["scored_on"], strict=True)) == {
        (one, other) for one in ("people", "tiny-masks") for other in ("people", "tiny-masks")
    }
    assert set(cross["backbone"]) == {"tiny", "pixels"}
    assert run.table("label_agreement")["iou"].tolist() == [1.0]
    labels = run.table("cells")
    assert (labels["label people/disc"] == labels["label tiny-masks/disc"]).all()
    for job in (run.path / "scorers").iterdir():
        assert len({path.name.partition(".")[0] for path in job.iterdir()}) == len(concepts)
    assert probekit.run(spec).info == run.info  # nothing was left to do


def test_check_and_plan_take_several_sources(experiment: Spec, tmp_path: Path) -> None:
    from rich.console import Console

    class Told(Silent):
        text = ""

        def say(self, text: str) -> None:
            self.text += text + "\n"

    told = Told()
    spec = experiment(data=TWO, backbones="{tiny: {use: tiny}}", allow_circular="true")
    assert check(spec, (), Path("pictures"), False, 2, told) == 0
    assert "note: tiny: the labels of tiny-masks/disc were made by" in told.text
    assert all(f"\n{name} " in told.text for name in ("people/disc", "people/square", "tiny-masks/disc"))
    assert len(list(Path("pictures").glob("*.png"))) == 2 * 3
    with (tmp_path / "plan.txt").open("w") as file:
        print_plan(spec, (), Console(file=file, width=200), Silent())
    text = (tmp_path / "plan.txt").read_text()
    assert "3 concepts" in text
    assert "tiny-masks/disc" in text


def test_every_line_that_uses_circular_labels_is_marked() -> None:
    pairs = {("tiny", "a/disc")}
    points = [
        {"point_id": "1", "backbone": "tiny", "concept": "a/disc"},
        {"point_id": "2", "backbone": "tiny", "concept": "b/disc"},
        {"point_id": "3", "backbone": "tiny random", "concept": "a/disc"},
    ]
    marked = list(mark_circular(points, pairs))
    assert [row["circular"] for row in marked] == [True, False, False]
    assert [{**row, "circular": None} for row in marked] == [{**row, "circular": None} for row in points]
    scores = [{"point_id": name, "value": 0.5} for name in "3121"]
    assert [row["circular"] for row in mark_circular(scores, pairs, marked)] == [False, True, False, True]
    differences = [
        {"concept": concept, "backbone_a": one, "backbone_b": other}
        for concept in ("a/disc", "b/disc")
        for one, other in (("tiny", "planted"), ("planted", "tiny"), ("planted", "other"))
    ]
    assert [row["circular"] for row in mark_circular(differences, pairs)] == [True, True, False, False, False, False]
