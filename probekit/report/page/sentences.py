"""What a run found, in sentences: first what is established, then what is not, then what could not be tested.

They speak of one layer a backbone: the one that its validation chose, or the best where that was not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pandas as pd

from probekit.report.comparison import final_fit, missing_intervals
from probekit.report.digits import chance, whole
from probekit.report.page.parts import Faint, Link, Part, Sentence, Strong, Value
from probekit.report.page.reader import Reader, model_of

SHARE = 0.95
"""The share of the full score that sentences speak of."""
MOST = 3
"""Models of which every two are spoken of; of more, the best against each other one."""

Names = tuple[str, str]


def by_score(reader: Reader, concept: str, control: bool) -> pd.DataFrame:
    """Rows of ``models`` as tables list them: by score, what has none last."""
    rows = reader.rows("models", concept=concept, control=control)
    return rows.sort_values(["score", "backbone", "layer"], ascending=[False, True, True], na_position="last")


def leads(reader: Reader, concept: str) -> list[int]:
    """Rows of ``models``: one layer a backbone, by score; controls are not spoken of."""
    models = by_score(reader, concept, control=False)
    chosen = reader.rows("depth", concept=concept, chosen=True)
    wanted = dict(zip(chosen["backbone"], chosen["layer"], strict=True))
    found = []
    for backbone in models["backbone"].unique():
        own = models[models["backbone"] == backbone]
        if (own["layer"] == wanted.get(backbone)).any():
            own = own[own["layer"] == wanted[backbone]]
        found.append(int(own.index[0]))
    return sorted(found, key=list(models.index).index)


def answers(reader: Reader, concept: str, anchor: str = "") -> list[Sentence]:
    """All that the first screen says of a concept.

    Args:
        anchor: begins the names of the run's sections.
    """
    rows = leads(reader, concept)
    if not rows:
        return [("The run has controls alone: nothing is ranked on ", Strong(concept), ".")]
    scored = [row for row in rows if reader.raw("models", row, "score") is not None]
    able = [row for row in scored if reader.raw("models", row, "nulls") != "not above"]
    pairs = _spoken_of(reader, able)
    return [
        *_needs(reader, able),
        *_differences(reader, concept, pairs),
        *_shared(reader, concept, pairs),
        *_elsewhere(reader, concept, able, anchor),
        *_below(reader, scored),
        *_reservations(reader, scored),
        *_gloss(reader, concept),
        *_without_interval(reader, concept, scored),
        *_without_score(reader, rows),
        *_circular(reader, rows),
    ]


def warned(reader: Reader, anchor: str = "") -> Sentence:
    """How many warnings the run gave and where they stand, after what else is said of it; nothing where it has none."""
    count = reader.warnings()
    return ("; ", Link(counted(count, "warning"), f"{anchor}warnings")) if count.full != "0" else ()


def counted(value: str | Value, one: str, many: str = "") -> tuple[str | Value, str]:
    """A number and its noun: one has no plural."""
    return value, f" {one if isinstance(value, Value) and value.full == '1' else many or f'{one}s'}"


def _spoken_of(reader: Reader, rows: list[int]) -> list[tuple[Names, Names]]:
    """Ordered pairs of (backbone, layer): all, or of many models the best one in each other's."""
    names = [(str(row["backbone"]), str(row["layer"])) for row in (reader.row("models", row) for row in rows)]
    return list(permutations(names, 2)) if len(names) <= MOST else [(names[0], other) for other in names[1:]]


def _needs(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    """How few channels each model needs."""
    for row in rows:
        model = reader.row("models", row)
        score = ("AP ", *reader.told("models", row, "score"))
        at = k_row(reader, model, str(model["probe"]), SHARE)
        if at is None or reader.raw("k_tau", at, "k") is None:
            why = _NO_CURVE if at is None else reader.raw("k_tau", at, "reason")
            yield (
                *(Strong(model_of(model)), " reads ", Strong(model["concept"]), " with ", *score),
                f"; how few channels suffice is not defined{f': {why}' if why else ''}.",
            )
            continue
        interval = k_set(reader, at)
        yield (
            *(Strong(model_of(model)), " needs ", reader.at("k_tau", at, "k", whole), " of "),
            *counted(reader.at("models", row, "channels", whole), "channel"),
            *((" ", *interval) if interval else ()),
            *(" for 95 % of its own score on ", Strong(model["concept"]), " (", *score, ")."),
        )


_NO_CURVE = "the run has no curve of four widths or more that ends in all channels"


def k_row(reader: Reader, model: dict[str, Any], probe: str, share: float) -> int | None:
    """The row of ``k_tau`` of a model, concept, probe and share of the full score; none where there is no curve."""
    rows = reader.rows("k_tau", **{column: model[column] for column in ("backbone", "layer", "concept")}, probe=probe)
    rows = rows[(rows["tau"] - share).abs() < 1e-9]
    return None if rows.empty else int(str(rows.index[0]))


def k_set(reader: Reader, row: int) -> tuple[Part, ...]:
    """The confidence set of a row of ``k_tau``: its open ends say so."""
    low, high = reader.at("k_tau", row, "lo", whole), reader.at("k_tau", row, "hi", whole)
    if not isinstance(low, Value) or not isinstance(high, Value):
        return ()
    below = "<" if reader.raw("k_tau", row, "open_below") else ""
    above: tuple[str | Value, ...] = ("all]",) if reader.raw("k_tau", row, "open_above") else (high, "]")
    return (Faint((f"[{below}", low, ", ", *above)),)


def _differences(reader: Reader, concept: str, pairs: list[tuple[Names, Names]]) -> list[Sentence]:
    """What is established of each pair, then what is not."""
    wanted = {frozenset(pair) for pair in pairs}
    established: list[Sentence] = []
    others: list[Sentence] = []
    for row in reader.places("differences", concept=concept):
        pair = reader.row("differences", row)
        if frozenset(((pair["backbone_a"], pair["layer_a"]), (pair["backbone_b"], pair["layer_b"]))) not in wanted:
            continue
        better = (
            Strong(model_of(pair, "_a")),
            " reads ",
            Strong(concept),
            " better than ",
            Strong(model_of(pair, "_b")),
        )
        value = reader.told("differences", row, "difference")
        verdict = reader.raw("differences", row, "established")
        if verdict is None:
            why = reader.raw("differences", row, "reason")
            others.append(("Whether ", *better, f" was not tested{f': {why}' if why else ''}."))
        elif verdict:
            p = _tested(reader, row, concept)
            established.append(
                (*better, ": the difference of AP is ", *value, " (", *p, ").", *_k_differs(reader, row))
            )
        else:
            p = _tested(reader, row, concept)
            least = reader.at("differences", row, "smallest_difference")
            power: Sentence = ("; so many groups would show ", least, " with power .8") if least != "-" else ()
            others.append(
                ("That ", *better, " is not established: ", *value, " (", *p, *power, ").", *_k_differs(reader, row))
            )
    return [*established, *others]


def _tested(reader: Reader, row: int, concept: str) -> Sentence:
    """The p of a pair, and on how many groups."""
    groups = reader.at("models", reader.places("models", concept=concept)[0], "positive_groups", whole)
    p = reader.at("differences", row, "p_holm", chance)
    return ("adjusted p ", *_p(p), ", ", *counted(groups, "group"), " with ", Strong(concept))


def _p(value: Part, equals: str = "= ") -> Sentence:
    return (value,) if isinstance(value, Value) and value.text.startswith("<") else (equals, value)


def _k_differs(reader: Reader, row: int) -> Sentence:
    differs = reader.raw("differences", row, "k_differs")
    if differs is None:
        return ()
    return (
        (" They need different numbers of channels.",)
        if differs
        else (" That they need different numbers of channels is not established.",)
    )


def _shared(reader: Reader, concept: str, pairs: list[tuple[Names, Names]]) -> Iterator[Sentence]:
    """What of a model's channels another has too."""
    for a, b in pairs:
        pair = dict(zip(("backbone_a", "layer_a", "backbone_b", "layer_b"), (*a, *b), strict=True))
        if len(reader.rows("matches", **pair, concept=concept)):
            yield matched(reader, pair, concept)


def matched(reader: Reader, pair: dict[str, str], concept: str) -> Sentence:
    """How many of a's selected channels have a counterpart among b's, and why of some it is not known."""
    one, other = Strong(model_of(pair, "_a")), Strong(model_of(pair, "_b"))
    values = {**pair, "concept": concept}
    untested = _reasons(reader, values)
    if len(reader.rows("matches", **values)) == len(reader.rows("matches", **values, kind=None)):
        return (
            "Which channels of ",
            one,
            " on ",
            Strong(concept),
            " ",
            other,
            " has too was not tested",
            *untested,
            ".",
        )
    final = final_fit(reader.run, pair["backbone_a"], pair["layer_a"], concept)
    kept = counted(reader.count("matches", **values), "channel")
    what = "for 95 % of the full score on validation" if final is None or final[0] == "k95" else "as validation chose"
    singles, several, rest, related, unknown = (
        reader.count("matches", **values, **of)
        for of in (
            {"kind": "one-to-one"},
            {"kind": "one-to-many"},
            {"kind": "unmatched"},
            {"kind": "unmatched", "related": True},
            {"kind": None},
        )
    )
    weakly: Sentence = (" (", related, " of them related, by less than a quarter of the variance)")
    return (
        *("The final fit of ", one, " on ", Strong(concept), " keeps ", *kept, f" {what}: "),
        *(*counted(singles, "matches", "match"), " a channel of ", other, " one to one, "),
        *(*counted(several, "is", "are"), " explained by a channel that is nearer to another, or by a few together, "),
        *(*counted(rest, "is", "are"), " unmatched", *(weakly if related.full != "0" else ())),
        *((", ", *counted(unknown, "was", "were"), " not tested", *untested) if unknown.full != "0" else ()),
        ".",
    )


def _reasons(reader: Reader, values: dict[str, str]) -> Sentence:
    """Why channels were not tested: each reason once, with how many where there are several."""
    rows = reader.rows("matches", **values, kind=None)
    reasons = [str(reason) for reason in dict.fromkeys(rows["reason"].dropna())]
    if len(reasons) == 1:
        return (f": {reasons[0]}",)
    parts: list[Part] = []
    for reason in reasons:
        count = reader.count("matches", **values, kind=None, reason=reason)
        parts += ["; " if parts else ": ", f"{reason} (", *counted(count, "channel"), ")"]
    return tuple(parts)


def _elsewhere(reader: Reader, concept: str, rows: list[int], anchor: str) -> Iterator[Sentence]:
    """Where the pairs are that are not spoken of."""
    if len(rows) <= MOST:
        return
    best = Strong(model_of(reader.row("models", rows[0])))
    parts: list[Part] = []
    if len(reader.rows("differences", concept=concept)):
        count = counted(reader.count("differences", concept=concept), "pair")
        parts.append(Link(("all ", *count, " of models"), f"{anchor}pairs"))
    if len(reader.rows("matches", concept=concept)):
        parts += [*([" and "] if parts else []), Link(("what every two models share",), f"{anchor}matches")]
    if parts:
        yield ("Only pairs of ", best, ", which scores highest, are spoken of here. Below: ", *parts, ".")


def _below(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    """Models that are not shown to be above what they were held against."""
    for row in rows:
        model = reader.row("models", row)
        if model["nulls"] != "not above":
            continue
        parts: list[Part] = []
        for null in reader.places("nulls", **_line(model), decides=True, above=False):
            name, p = Strong(str(reader.raw("nulls", null, "null"))), reader.at("nulls", null, "p", chance)
            value = reader.at("nulls", null, "value")
            parts += [", " if parts else "", name, " (AP ", value, "; one-sided p ", *_p(p, ""), ")"]
        yield (
            *(
                Strong(model_of(model)),
                " (AP ",
                reader.at("models", row, "score"),
                ") is not shown to be above ",
                *parts,
            ),
            *(" on ", Strong(model["concept"]), ": it has no rank, and how few channels suffice is not defined."),
        )


def _line(model: dict[str, Any]) -> dict[str, Any]:
    return {column: model[column] for column in ("backbone", "layer", "concept")}


def _reservations(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    """Ranks of models that were held against nothing, or could not be tested: neither passed nor failed."""
    for row in rows:
        model = reader.row("models", row)
        if model["nulls"] != "not tested":
            continue
        name, concept = Strong(model_of(model)), Strong(model["concept"])
        rank: Sentence = (": its rank is with that reservation.",) if model["rank"] is not None else (".",)
        untested = reader.rows("nulls", **_line(model), decides=True, above=None)
        if untested.empty:
            yield (name, " was held against no control and no permuted labels on ", concept, *rank)
            continue
        reasons = "; ".join(map(str, untested["reason"].dropna().unique()))
        parts: list[Part] = []
        for null in untested["null"]:
            parts += [", " if parts else "", Strong(str(null))]
        score = reader.at("models", row, "score")
        why = f" ({reasons})" if reasons else ""
        yield ("Whether ", name, " (AP ", score, ") is above ", *parts, " on ", concept, f" was not tested{why}", *rank)


def _gloss(reader: Reader, concept: str) -> Iterator[Sentence]:
    """What the names of nulls mean, where they are first named."""
    for each in reader.concepts:
        named = {
            str(null)
            for row in leads(reader, each)
            if reader.raw("models", row, "score") is not None
            and (model := reader.row("models", row))["nulls"] in ("not above", "not tested")
            for null in reader.rows("nulls", **_line(model), decides=True)["null"]
            if " · " in str(null)
        }
        if named:
            if each == concept:
                yield (_GLOSS,)
            return


_GLOSS = (
    "What models are held against is named control · probe: a control is never ranked (a twin is the same network with "
    "random weights), and every probe of the run reads it."
)


def _without_interval(reader: Reader, concept: str, rows: list[int]) -> Iterator[Sentence]:
    """Why there is no interval: of the concept, or of single models."""
    all_of_it, single = missing_intervals(reader.rows("models", concept=concept).to_dict("records"))
    if all_of_it is not None:
        yield ("There are no intervals for ", Strong(concept), f": {all_of_it}.")
    for row in rows:
        name = model_of(reader.row("models", row))
        if name in single:
            yield ("There is no interval for ", Strong(name), " on ", Strong(concept), f": {single[name]}.")


def _without_score(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    for row in rows:
        model = reader.row("models", row)
        if reader.raw("models", row, "score") is None:
            why = reader.raw("models", row, "reason")
            yield (
                Strong(model_of(model)),
                " has no score on ",
                Strong(model["concept"]),
                f"{f': {why}' if why else ''}.",
            )


def _circular(reader: Reader, rows: list[int]) -> Iterator[Sentence]:
    for row in rows:
        model = reader.row("models", row)
        if model["circular"]:
            yield (
                *("The labels of ", Strong(model["concept"]), " were made by a model of the family of "),
                *(Strong(model_of(model)), ": its scores on them are circular."),
            )
