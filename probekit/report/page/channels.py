"""Channel cards: what each of a probe's largest channels is, does and shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

from PIL import Image

from probekit.report.digits import index, signed
from probekit.report.page.parts import (
    Block,
    Card,
    Cards,
    Faint,
    Part,
    Picture,
    Pictures,
    Section,
    Sentence,
    Value,
)
from probekit.report.page.reader import Reader, model_of
from probekit.report.page.sentences import leads
from probekit.report.pictures import exemplar_alt, exemplar_picture

SHOWN = 6
"""Cards of a model and concept."""
_SIZE = 96
"""Pixels of an exemplar's side."""
_KINDS = {"highest": 3, "threshold": 2, "lowest": 1}
"""Exemplars of a kind that a card shows."""
_SUBSTITUTES = 3


def channels(reader: Reader) -> Section | None:
    """Six cards a model and concept: its layer that validation chose."""
    blocks: list[Block] = []
    for concept in reader.concepts:
        for row in leads(reader, concept):
            model = reader.row("models", row)
            found = _cards(reader, {column: str(model[column]) for column in ("backbone", "layer", "concept")})
            if found is not None:
                blocks.append(found)
    if not blocks:
        return None
    return Section("channels", "What the channels show", tuple(blocks), _LEAD)


_LEAD = (
    f"The {SHOWN} channels with the largest coefficients a model and concept; all are in channels.parquet. Inside and "
    "outside are means over positive and negative cells, selectivity their difference in standard deviations. On "
    "pictures the channel is orange above its mean outside and blue below, the concept is outlined, and a ring marks "
    "the cell whose value stands below."
)


def _cards(reader: Reader, where: dict[str, str]) -> Cards | None:
    final = final_fit(reader, where)
    if final is None:
        return None
    label, fit = final
    rows = reader.rows("channels", fit_id=fit)
    rows = rows.reindex(rows["coefficient"].abs().sort_values(ascending=False, kind="stable").index)
    stability = reader.rows("stability", **where)
    stable = set() if stability.empty else {int(channel) for channel in stability["stable"].iloc[0]}
    tested = not stability.empty
    cards = tuple(
        _card(reader, where, int(str(row)), int(entry["channel"]), stable if tested else None)
        for row, entry in zip(rows.index[:SHOWN], rows.to_dict("records"), strict=False)
    )
    what = "for 95 % of the full score on validation" if label == "k95" else "that validation chose"
    lead: Sentence = (reader.count("channels", fit_id=fit), f" channels {what}")
    return Cards(f"{model_of(where)} · {where['concept']}", lead, cards) if cards else None


def final_fit(reader: Reader, where: dict[str, str]) -> tuple[str, str] | None:
    """(label, fit) of the sparse final fit that ranks the channels of a model; none where it has none."""
    repeat = int(reader.table("points")["repeat"].min())
    key = "|".join((*where.values(), reader.run.info["reported_probe"], str(repeat), "observed"))
    for label in ("k95", "chosen"):
        if len(reader.rows("fits", fit_id=f"{key}|{label}|final", fold=-1)):
            return label, f"{key}|{label}|final"
    return None


def _card(reader: Reader, where: dict[str, str], row: int, channel: int, stable: set[int] | None) -> Card:
    towards = reader.raw("channels", row, "coefficient") > 0
    title: Sentence = (
        "Channel ",
        reader.at("channels", row, "channel", index),
        Faint((f" {'for' if towards else 'against'} {where['concept']}",)),
    )
    share = reader.at("channels", row, "folds", lambda value: f"{value * reader.folds:.0f} of {reader.folds}")
    facts: list[tuple[str, Sentence]] = [
        ("coefficient", (reader.at("channels", row, "coefficient", signed),)),
        ("folds", (share,)),
    ]
    for at in reader.places("profiles", **where, channel=channel):
        facts += [
            ("inside", (reader.at("profiles", at, "mean_inside", signed),)),
            ("outside", (reader.at("profiles", at, "mean_outside", signed),)),
            ("selectivity", (reader.at("profiles", at, "selectivity", signed),)),
            ("AP alone", (reader.at("profiles", at, "alone"),)),
        ]
    if stable is not None:
        facts.append(("stable", ("yes" if channel in stable else "no",)))
    others = tuple(_substitutes(reader, row))
    if others:
        facts.append(("or instead", others))
    for used_by in reader.rows("profiles", **where, channel=channel)["used_by"]:
        if used_by is not None and len(used_by):
            facts.append(("also for", (", ".join(map(str, used_by)),)))
    return Card(title, tuple(facts), tuple(_exemplars(reader, where, channel)), {**where, "channel": str(channel)})


def _substitutes(reader: Reader, row: int) -> Iterator[Part]:
    others, correlations = reader.raw("channels", row, "substitutes"), reader.raw("channels", row, "correlations")
    if others is None:
        return
    entries = list(zip(others, correlations, strict=True))
    for place, (other, r) in enumerate(entries[:_SUBSTITUTES]):
        if place:
            yield ", "
        yield Value(f"{'-' if r < 0 else ''}{int(other)}", str(int(other)), f"channels {row} substitutes {place}")
    if len(entries) > _SUBSTITUTES:
        yield Value(f" and {len(entries) - _SUBSTITUTES} more", str(len(entries)), f"channels {row} substitutes")


def _exemplars(reader: Reader, where: dict[str, str], channel: int) -> Iterator[Pictures]:
    rows = reader.rows("exemplars", **where, channel=channel)
    for kind, count in _KINDS.items():
        own = rows[rows["kind"] == kind].sort_values("number", kind="stable")[:count]
        if len(own):
            pictures = tuple(
                _exemplar(reader, int(str(at)), row) for at, row in zip(own.index, own.to_dict("records"), strict=True)
            )
            yield Pictures(pictures, "at the threshold" if kind == "threshold" else kind)


def _exemplar(reader: Reader, at: int, row: dict[Any, Any]) -> Picture:
    content = exemplar_picture(reader.run, row, _SIZE)
    value = reader.at("exemplars", at, "value", signed)
    return Picture(inline(content), exemplar_alt(reader.run, row), (value,), *size_of(content))


def inline(content: bytes) -> str:
    """A WebP picture as an address that needs no request."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def size_of(content: bytes) -> tuple[int, int]:
    """(width, height) of a picture."""
    with Image.open(io.BytesIO(content)) as picture:
        return picture.size
