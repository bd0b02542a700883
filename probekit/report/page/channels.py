"""Channel cards: what each of a probe's largest channels is, does and shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

from PIL import Image

from probekit.report.comparison import final_fit
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
from probekit.report.page.reader import DASH, Reader, model_of
from probekit.report.page.room import CARDS, allotted, cut
from probekit.report.page.sentences import counted
from probekit.report.pictures import exemplar_alt, exemplar_picture, has_picture

SHOWN = 6
"""Cards of a model and concept."""
_SIZE = 96
"""Pixels of an exemplar's side."""
_KINDS = {"highest": 3, "threshold": 2, "lowest": 1}
"""Exemplars of a kind that a card shows."""
_SUBSTITUTES = 3
_OUTER = 10
"""Outer groups whose scores stand above the cards; of more, half the lowest and half the highest."""


def channels(reader: Reader) -> Section | None:
    """Six cards a model and concept (its layer that validation chose), fewer where the page would become too large."""
    blocks: list[Block] = []
    counts = allotted(reader, CARDS, SHOWN)
    for row, count in counts:
        model = reader.row("models", row)
        where = {column: str(model[column]) for column in ("backbone", "layer", "concept")}
        found = _cards(reader, where, count) if count else None
        if found is not None:
            blocks.append(found)
    if not blocks:
        return None
    return Section(
        "channels", "What the channels show", tuple(blocks), _LEAD + cut(counts, SHOWN, "cards") + _absent(reader)
    )


def _absent(reader: Reader) -> str:
    pictures = reader.table("exemplars")["picture"].unique()
    if all(has_picture(reader.run, picture) for picture in pictures):
        return ""
    return " Photographs that are not in the run's folder (pictures/) are left out."


_LEAD = (
    "The channels with the largest coefficients, by model and concept; all are in channels.parquet. Inside and outside "
    "are means over positive and negative cells, selectivity their difference in standard deviations. On "
    "pictures the channel is orange above its mean outside and blue below, the concept is outlined, and a ring marks "
    "the cell whose value stands below."
)


def _cards(reader: Reader, where: dict[str, str], shown: int) -> Cards | None:
    final = final_fit(reader.run, *(where[name] for name in ("backbone", "layer", "concept")))
    if final is None:
        return None
    label, fit = final
    rows = reader.rows("channels", fit_id=fit)
    rows = rows.reindex(rows["coefficient"].abs().sort_values(ascending=False, kind="stable").index)
    own = {**where, "repeat": int(reader.table("points")["repeat"].min())}
    stability = next((row for row in reader.places("stability", **own) if _stable(reader, row) is not None), None)
    stable = None if stability is None else set(_stable(reader, stability) or ())
    cards = tuple(
        _card(reader, where, int(str(row)), int(entry["channel"]), stable)
        for row, entry in zip(rows.index[:shown], rows.to_dict("records"), strict=False)
    )
    what = "for 95 % of the full score on validation" if label == "k95" else "that validation chose"
    lead: Sentence = (*counted(reader.count("channels", fit_id=fit), "channel"), f" {what}.")
    if stability is not None:
        lead += _again(reader, stability)
    lead += (*_code(reader, own), *_left_out(reader, own))
    return Cards(f"{model_of(where)} · {where['concept']}", lead, cards) if cards else None


def _stable(reader: Reader, row: int) -> list[int] | None:
    found = reader.raw("stability", row, "stable")
    return None if found is None else [int(channel) for channel in found]


def _again(reader: Reader, row: int) -> Sentence:
    """How many channels are stable, and how many of these are expected to be false."""
    stable = _stable(reader, row) or []
    number = Value(str(len(stable)), str(len(stable)), f"stability {row} stable")
    bound = reader.at("stability", row, "bound", lambda value: f"{value:.1f}")
    false: Sentence = (", at most ", bound, " of them expected to be false") if stable and bound != DASH else ()
    return (" ", *counted(number, "is", "are"), " stable: halves of the groups select it again and again", *false, ".")


def _code(reader: Reader, own: dict[str, Any]) -> Iterator[Part]:
    """How much shorter each probe tells the labels: their description length."""
    rows = reader.places("codes", **own)
    for place, row in enumerate(rows):
        yield ", " if place else " An online code of the labels compresses them by "
        yield reader.at("codes", row, "compression", lambda value: f"{value:.2f}")
        yield f" ({reader.raw('codes', row, 'probe')})"
    if rows:
        yield "; one is knowing nothing."


def _left_out(reader: Reader, own: dict[str, Any]) -> Iterator[Part]:
    """The score on each outer group; of many the lowest and the highest."""
    rows = [row for row in reader.places("outer", **own) if reader.raw("outer", row, "value") is not None]
    rows.sort(key=lambda row: float(reader.raw("outer", row, "value")))
    shown = rows if len(rows) <= _OUTER else [*rows[: _OUTER // 2], *rows[-_OUTER // 2 :]]
    for place, row in enumerate(shown):
        yield ", " if place else " Left out one by one, fitted on all others, AP: "
        if shown is not rows and place == _OUTER // 2:
            yield "... "
        yield f"{reader.raw('outer', row, 'outer')} "
        yield reader.at("outer", row, "value")
    if rows:
        yield " (all in outer.parquet)." if shown is not rows else "."


def _card(reader: Reader, where: dict[str, str], row: int, channel: int, stable: set[int] | None) -> Card:
    weight = reader.raw("channels", row, "coefficient")
    towards = "of" if weight is None else "for" if weight > 0 else "against"
    title: Sentence = (
        *("Channel ", reader.at("channels", row, "channel", index)),
        Faint((f" {towards} {where['concept']}",)),
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
        own = own[[has_picture(reader.run, picture) for picture in own["picture"]]]
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
