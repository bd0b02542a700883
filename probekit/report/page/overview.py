"""The comparison table of a concept, the models in pairs, and all that they were held against."""

from __future__ import annotations

from typing import Any

from probekit.report.comparison import missing_intervals, named
from probekit.report.digits import chance, signed_score, whole
from probekit.report.page.parts import Cell, Column, Folded, Row, Section, Sentence, Strong, Table
from probekit.report.page.reader import DASH, Reader, model_of
from probekit.report.page.sentences import by_score, counted, k_row, k_set
from probekit.report.page.tabled import CONCEPT, MODEL, Number, Pair, Words, number_key, present, tabulate, verdict

_SHARES = (0.9, 0.95, 0.99)


def comparison(reader: Reader, concept: str) -> Table:
    """All layers of all models by score, then controls, with how few channels suffice and what decides their rank."""
    models, controls = (list(by_score(reader, concept, control).index) for control in (False, True))
    reported = reader.run.info["reported_probe"]
    others = [probe for probe in reader.run.info["probes"] if probe != reported]
    top = _top(reader, [*models, *controls])
    columns = (
        Column("Model", number=False, help="a layer of a frozen network, and its channels"),
        Column("Rank", help="models whose difference is not established share one"),
        Column("AP", help="average precision on test, at natural prevalence, with its 95 % interval"),
        Column("95 %", number=False, help="the interval, drawn from 0 to the largest of the table", drawn=True),
        *(
            Column(f"k@{100 * share:.0f}", help=f"fewest channels for {100 * share:.0f} % of its own AP, and their set")
            for share in _SHARES
        ),
        Column("Nulls", number=False, help=_NULLS_HELP),
        *(Column(f"AP {probe}", help="of what validation chose for this probe, and its channels") for probe in others),
        Column("F1", help="at each fold's own threshold; below: at 50/50, as published recipes report it"),
    )
    return Table(
        f"{concept}: test AP of the {reported} probe on all channels, and how few channels suffice",
        columns,
        tuple(_row(reader, row, top, others) for row in models),
        tuple(_row(reader, row, top, others) for row in controls),
        note=_note(reader, concept),
    )


_NULLS_HELP = (
    "whether it is above permuted labels and all controls, by every probe (control · probe; a twin is the same network "
    "with random weights); below: what it is not shown to be above"
)


def _note(reader: Reader, concept: str) -> str:
    unit = "blocks of these images" if reader.run.info["spec"]["split"].get("by") == "blocks" else "groups like these"
    none, single = missing_intervals(reader.rows("models", concept=concept).to_dict("records"))
    told = [f"No intervals: {none}." if none is not None else f"Intervals speak for new {unit}."]
    told += [f"No interval for {name}: {why}." for name, why in single.items()]
    return " ".join([*told, "Sets of k hold all widths that the data do not exclude. Scores are out of sample."])


def _top(reader: Reader, rows: list[int]) -> float:
    values = [reader.raw("models", row, column) for row in rows for column in ("hi", "score")]
    return max((float(value) for value in values if value is not None), default=1.0) or 1.0


def _row(reader: Reader, row: int, top: float, others: list[str]) -> Row:
    model = reader.row("models", row)
    where = {column: str(model[column]) for column in ("backbone", "layer", "concept")}
    span = None
    low, at, high = (reader.raw("models", row, column) for column in ("lo", "score", "hi"))
    if at is not None:
        span = tuple(100 * (at if end is None else end) / top for end in (low, at, high))
    rank = reader.at("models", row, "rank", whole)
    name = named(where["backbone"], where["layer"], bool(model["control"]))
    cells = [
        Cell((Strong(name),), counted(reader.at("models", row, "channels", whole), "channel"), name),
        Cell((rank,) if rank != DASH else (), key=number_key(model["rank"])),
        Cell((reader.at("models", row, "score"),), reader.interval("models", row), number_key(model["score"])),
        Cell(span=span, key=number_key(model["score"])),
        *(_k(reader, where, str(model["probe"]), share) for share in _SHARES),
        _verdict(model),
        *(_chosen(reader, where, probe) for probe in others),
        _f1(reader, where, str(model["probe"])),
    ]
    return Row(tuple(cells), where)


def _verdict(model: dict[str, Any]) -> Cell:
    if model["control"]:
        return Cell(())
    tone = {"above": "good", "not above": "bad"}.get(str(model["nulls"]), "")
    below: Sentence = ()
    if model["not_above"] is not None and len(model["not_above"]):
        below = (", ".join(map(str, model["not_above"])),)
    words = [str(model["nulls"]), *(["circular"] if model["circular"] else [])]
    return Cell((", ".join(words),), below, str(model["nulls"]), tone=tone)


def _k(reader: Reader, where: dict[str, str], probe: str, share: float) -> Cell:
    row = k_row(reader, where, probe, share)
    if row is None:
        return Cell((DASH,))
    key = number_key(reader.raw("k_tau", row, "k"))
    return Cell((reader.at("k_tau", row, "k", whole),), k_set(reader, row), key)


def point_row(reader: Reader, where: dict[str, str], probe: str, rung: str) -> int | None:
    """The row of ``points`` that tables report: the mean over repeats where there are several."""
    points = reader.rows("points", **where, probe=probe, rung=rung, condition="observed")
    if reader.run.info["repeats"] > 1:
        points = points[points["repeat"].isna()]
    return None if points.empty else int(str(points.index[0]))


def result(reader: Reader, point: int, metric: str, sampling: str = "natural") -> int | None:
    """The row of ``results`` of a point's test score."""
    name = reader.raw("points", point, "point_id")
    found = reader.rows("results", point_id=name, split="test", sampling=sampling, metric=metric)
    return None if found.empty else int(str(found.index[0]))


def _chosen(reader: Reader, where: dict[str, str], probe: str) -> Cell:
    point = point_row(reader, where, probe, "chosen")
    row = None if point is None else result(reader, point, "average_precision")
    if point is None or row is None:
        return Cell((DASH,))
    size = reader.at("points", point, "n_channels", whole)
    key = number_key(reader.raw("results", row, "value"))
    return Cell((reader.at("results", row, "value"),), ("at ", size), key)


def _f1(reader: Reader, where: dict[str, str], probe: str) -> Cell:
    point = point_row(reader, where, probe, "full")
    point = point_row(reader, where, probe, "chosen") if point is None else point
    rows = [None if point is None else result(reader, point, "f1", sampling) for sampling in ("natural", "balanced")]
    if rows[0] is None:
        return Cell((DASH,))
    below: Sentence = () if rows[1] is None else (reader.at("results", rows[1], "value"), " at 50/50")
    return Cell((reader.at("results", rows[0], "value"),), below, number_key(reader.raw("results", rows[0], "value")))


def pairs(reader: Reader) -> Section | None:
    """Every pair of models that may be ranked, and every null."""
    differences = reader.table("differences")
    blocks: list[Table | Folded] = []
    if len(differences):
        blocks.append(tabulate(reader, "differences", differences, "Models in pairs", _PAIRS))
    for concept in reader.concepts:
        nulls = reader.rows("nulls", concept=concept)
        if len(nulls):
            caption = f"{concept}: what each model was held against"
            blocks.append(Folded(f"{caption} (all nulls)", (tabulate(reader, "nulls", nulls, caption, _NULLS),)))
    if not blocks:
        return None
    lead = "Models on the same groups, by the swap test; then each model against controls (control · probe) and nulls."
    return Section("pairs", "Differences and nulls", tuple(blocks), lead)


_PAIRS = (
    Words("Pair", lambda row: model_of(row, "_a"), below=lambda row: f"over {model_of(row, '_b')}", strong=True),
    CONCEPT,
    Number("Difference of AP", "difference", lo="lo", hi="hi", help="with its 95 % interval"),
    Number("Adjusted p", "p_holm", chance, help="of the swap test, adjusted for the pairs of the concept (Holm)"),
    Words("Verdict", verdict("established"), below=lambda row: present(row["reason"]), good="established"),
    Number("Would show", "smallest_difference", help="the difference that so many groups would show with power .8"),
    Pair("k@95", ("k_a", "k_b"), whole, help="channels that each needs for 95 % of its own score"),
    Words("k differs", verdict("k_differs"), good="established"),
)

_NULLS = (
    MODEL,
    Words("Held against", lambda row: str(row["null"])),
    Words("At", lambda row: str(row["rung"]), help="all channels, or so many drawn at random"),
    Number("Its AP", "score"),
    Number("AP of the null", "value"),
    Number("Difference", "difference", signed_score, lo="lo", hi="hi", help="with its 95 % interval"),
    Number("p", "p", chance, help="one-sided; not adjusted: it must be above each"),
    Words("Verdict", verdict("above", "above", "not shown"), below=lambda row: present(row["reason"]), bad="not shown"),
    Words("Decides", verdict("decides", "yes", "no"), help="whether it must be above to be ranked"),
)
