"""What a run found, in sentences: first what is established, then what is not, then what could not be tested.

They speak of one layer a backbone: the one that its validation chose, or the best where that was not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from probekit.report.digits import chance, whole
from probekit.report.page.parts import Faint, Part, Sentence, Strong, Value
from probekit.report.page.reader import Reader, model_of

SHARE = 0.95
"""The share of the full score that sentences speak of."""


def leads(reader: Reader, concept: str) -> list[int]:
    """Rows of ``models``: one layer a backbone, by score; controls are not spoken of."""
    models = reader.rows("models", concept=concept, control=False)
    models = models.sort_values(["score", "backbone", "layer"], ascending=[False, True, True], na_position="last")
    chosen = reader.rows("depth", concept=concept, chosen=True)
    wanted = dict(zip(chosen["backbone"], chosen["layer"], strict=True))
    found = []
    for backbone in models["backbone"].unique():
        own = models[models["backbone"] == backbone]
        if (own["layer"] == wanted.get(backbone)).any():
            own = own[own["layer"] == wanted[backbone]]
        found.append(int(own.index[0]))
    return sorted(found, key=list(models.index).index)


def answers(reader: Reader, concept: str) -> list[Sentence]:
    """All that the first screen says of a concept."""
    rows = leads(reader, concept)
    established, others = _differences(reader, concept, rows)
    said = [*_needs(reader, rows), *established, *others, *_shared(reader, concept, rows), *_below(reader, rows)]
    said += [*_untested(reader, rows), *_circular(reader, concept, rows)]
    return said


def _needs(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    """How few channels each model needs."""
    for row in rows:
        model = reader.row("models", row)
        where = {column: model[column] for column in ("backbone", "layer", "concept", "probe")}
        curve = reader.rows("k_tau", **where)
        curve = curve[(curve["tau"] - SHARE).abs() < 1e-9]
        curve = curve[curve["repeat"].isna()] if curve["repeat"].isna().any() else curve
        score = ("AP ", *reader.told("models", row, "score"))
        if curve.empty or reader.raw("k_tau", int(curve.index[0]), "k") is None:
            continue
        at = int(curve.index[0])
        interval = k_set(reader, at)
        yield (
            Strong(model_of(model)),
            " needs ",
            reader.at("k_tau", at, "k", whole),
            " of ",
            reader.at("models", row, "channels", whole),
            " channels ",
            *((*interval, " ") if interval else ()),
            "for 95 % of its own score on ",
            Strong(model["concept"]),
            " (",
            *score,
            ").",
        )


def k_set(reader: Reader, row: int) -> tuple[Part, ...]:
    """The confidence set of a row of ``k_tau``: its open ends say so."""
    low, high = reader.at("k_tau", row, "lo", whole), reader.at("k_tau", row, "hi", whole)
    if not isinstance(low, Value) or not isinstance(high, Value):
        return ()
    below = "<" if reader.raw("k_tau", row, "open_below") else ""
    above: tuple[str | Value, ...] = ("all]",) if reader.raw("k_tau", row, "open_above") else (high, "]")
    return (Faint((f"[{below}", low, ", ", *above)),)


def _differences(reader: Reader, concept: str, rows: list[int]) -> tuple[list[Sentence], list[Sentence]]:
    """The pairs of these models: those whose difference is established, and the others."""
    names = {model_of(reader.row("models", row)) for row in rows}
    established: list[Sentence] = []
    others: list[Sentence] = []
    for row in reader.places("differences", concept=concept):
        pair = reader.row("differences", row)
        one, other = model_of(pair, "_a"), model_of(pair, "_b")
        if one not in names or other not in names:
            continue
        value = reader.told("differences", row, "difference")
        verdict = reader.raw("differences", row, "established")
        groups = reader.at("models", rows[0], "positive_groups", whole)
        p = ("p ", *_p(reader.at("differences", row, "p_holm", chance)), ", ", groups, " groups with ", Strong(concept))
        if verdict is None:
            why = reader.raw("differences", row, "reason")
            others.append(
                (
                    "Whether ",
                    Strong(one),
                    " reads ",
                    Strong(concept),
                    " better than ",
                    Strong(other),
                    f" was not tested{f': {why}' if why else ''}.",
                )
            )
        elif verdict:
            better = (Strong(one), " reads ", Strong(concept), " better than ", Strong(other))
            established.append(
                (*better, ": the difference of AP is ", *value, " (", *p, ").", *_k_differs(reader, row))
            )
        else:
            said = ("That ", Strong(one), " reads ", Strong(concept), " better than ", Strong(other))
            least = reader.at("differences", row, "smallest_difference")
            power: Sentence = ("; so many groups would show ", least) if isinstance(least, Value) else ()
            others.append(
                (*said, " is not established: ", *value, " (", *p, *power, ").", *_k_differs(reader, row)),
            )
    return established, others


def _p(value: Part) -> Sentence:
    return (value,) if isinstance(value, Value) and value.text.startswith("<") else ("= ", value)


def _k_differs(reader: Reader, row: int) -> Sentence:
    differs = reader.raw("differences", row, "k_differs")
    if differs is None:
        return ()
    return (
        (" They need different numbers of channels.",)
        if differs
        else (" That they need different numbers of channels is not established.",)
    )


def _shared(reader: Reader, concept: str, rows: list[int]) -> Iterator[Sentence]:
    """What of a model's channels another has too."""
    for one, other in permutations(rows, 2):
        a, b = reader.row("models", one), reader.row("models", other)
        pair = {"backbone_a": a["backbone"], "layer_a": a["layer"], "backbone_b": b["backbone"], "layer_b": b["layer"]}
        found = reader.rows("matches", **pair, concept=concept)
        if found.empty:
            continue
        if found["reason"].notna().all():
            yield (f"What {model_of(a)} shares with {model_of(b)} was not tested: {found['reason'].iloc[0]}.",)
            continue
        yield matched(reader, pair, concept)


def matched(reader: Reader, pair: dict[str, str], concept: str) -> Sentence:
    """How many of a's selected channels have a counterpart among b's."""
    one, other = model_of(pair, "_a"), model_of(pair, "_b")
    return (
        "Of the ",
        reader.count("matches", **pair, concept=concept),
        " channels that ",
        Strong(one),
        " reads ",
        Strong(concept),
        " from, ",
        reader.count("matches", **pair, concept=concept, kind="one-to-one"),
        " match one channel of ",
        Strong(other),
        ", ",
        reader.count("matches", **pair, concept=concept, kind="one-to-many"),
        " are rebuilt by a few, ",
        reader.count("matches", **pair, concept=concept, kind="unmatched"),
        " are not found there (",
        reader.count("matches", **pair, concept=concept, kind="unmatched", related=True),
        " of these are related, weakly).",
    )


def _below(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    """Models that are not above what they were held against."""
    for row in rows:
        model = reader.row("models", row)
        if model["nulls"] != "not above":
            continue
        where = {column: model[column] for column in ("backbone", "layer", "concept")}
        parts: list[Part] = []
        for null in reader.places("nulls", **where, decides=True, above=False):
            value, name = reader.at("nulls", null, "value"), str(reader.raw("nulls", null, "null"))
            parts += [", " if parts else "", Strong(name), " (AP ", value, ")"]
        yield (
            Strong(model_of(model)),
            " (AP ",
            reader.at("models", row, "score"),
            ") is not above ",
            *parts,
            " on ",
            Strong(model["concept"]),
            ": it has no rank, and how few channels suffice is not defined.",
        )


def _untested(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    """Why there is no interval, no verdict, or no number of channels."""
    models = [reader.row("models", row) for row in rows]
    reasons = dict.fromkeys(
        str(reader.raw("models", row, "reason")) for row in rows if reader.raw("models", row, "reason")
    )
    if reasons:
        yield ("There are no intervals for ", Strong(models[0]["concept"]), f": {'; '.join(reasons)}.")
    for row, model in zip(rows, models, strict=True):
        if model["nulls"] == "not tested":
            yield (
                "Whether ",
                Strong(model_of(model)),
                " reads ",
                Strong(model["concept"]),
                " better than what it is held against was not tested (AP ",
                reader.at("models", row, "score"),
                "): it has no rank.",
            )


def _circular(reader: Reader, concept: str, rows: list[int]) -> Iterator[Sentence]:
    for row in rows:
        model = reader.row("models", row)
        if model["circular"]:
            yield (
                "The labels of ",
                Strong(concept),
                " were made by a model of the family of ",
                Strong(model_of(model)),
                ": its scores on them are circular.",
            )
