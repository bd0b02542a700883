"""Detections on photographs: best, median and worst image of each model and concept, chosen by rule."""

from __future__ import annotations

from probekit.report.digits import digits, whole
from probekit.report.page.channels import inline, size_of
from probekit.report.page.parts import Block, Picture, Pictures, Section, Sentence, Value
from probekit.report.page.reader import Reader, model_of
from probekit.report.page.sentences import leads
from probekit.report.pictures import RULE, Detection, detections


def detected(reader: Reader) -> Section | None:
    """Three photographs a model and concept."""
    blocks: list[Block] = []
    for concept in reader.concepts:
        for row in leads(reader, concept):
            model = reader.row("models", row)
            where = tuple(str(model[column]) for column in ("backbone", "layer", "concept"))
            found = detections(reader.run, *where)
            if found:
                pictures = tuple(_picture(one, where) for one in found)
                blocks.append(Pictures(pictures, f"{model_of(model)} · {concept}"))
    if not blocks:
        return None
    lead = f"{RULE} Found cells are outlined solid, false ones dashed and hatched, missed ones dotted."
    return Section("detections", "On photographs", tuple(blocks), lead)


def _picture(one: Detection, where: tuple[str, ...]) -> Picture:
    def number(name: str) -> Value:
        value = getattr(one, name)
        text = digits(value) if name == "f1" else whole(value)
        return Value(text, repr(value), f"picture {'|'.join(where)} {one.kind} {name}")

    caption: Sentence = (
        f"{one.kind}: F1 ",
        number("f1"),
        "; ",
        number("tp"),
        " found, ",
        number("fp"),
        " false, ",
        number("fn"),
        f" missed. {one.image}",
    )
    width, height = size_of(one.webp)
    return Picture(inline(one.webp), one.alt, caption, width, height)
