"""Detections on photographs: best, median and worst image of each model and concept, chosen by rule."""

from __future__ import annotations

from probekit.report.digits import digits, whole
from probekit.report.page.channels import inline, size_of
from probekit.report.page.parts import Block, Picture, Pictures, Section, Sentence, Value
from probekit.report.page.reader import Reader, model_of
from probekit.report.page.room import PHOTOGRAPHS, allotted, cut
from probekit.report.pictures import KINDS, RULE, Detection, detections


def detected(reader: Reader) -> Section | None:
    """Three photographs a model and concept, fewer where the page would become too large."""
    blocks: list[Block] = []
    counts = allotted(reader, PHOTOGRAPHS, len(KINDS))
    for row, count in counts:
        model = reader.row("models", row)
        where = (str(model["backbone"]), str(model["layer"]), str(model["concept"]))
        found = detections(reader.run, *where, most=count) if count else []
        if found:
            pictures = tuple(_picture(one, where) for one in found)
            blocks.append(Pictures(pictures, f"{model_of(model)} · {where[2]}"))
    if blocks:
        lead = f"{RULE} Found cells are outlined solid, false ones dashed and hatched, missed ones dotted."
        return Section(_NAME, _TITLE, tuple(blocks), lead + cut(counts, len(KINDS), "photographs"))
    if not (reader.run.path / "sample" / "thumbnails").is_dir():
        return Section(_NAME, _TITLE, (), "The run's folder has no photographs (sample/thumbnails).")
    return None


_NAME, _TITLE = "detections", "On photographs"


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
