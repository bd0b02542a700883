"""What models share, what they add to one another, and what happens along a model's depth."""

from __future__ import annotations

from probekit.report.digits import chance, index, signed, signed_score, whole
from probekit.report.page.parts import Block, Cell, Column, Figure, Folded, Lines, Row, Section, Sentence, Table
from probekit.report.page.reader import Reader, model_of
from probekit.report.page.sentences import leads, matched
from probekit.report.page.tabled import CONCEPT, MODEL, Number, Pair, Words, present, tabulate, verdict, where_of

_A = Words("Of", lambda row: model_of(row, "_a"), strong=True)
_PAIR = ["backbone_a", "layer_a", "backbone_b", "layer_b", "concept"]


def _why(row: object) -> str:
    return present(row["reason"])  # type: ignore[index]


def depth(reader: Reader, figures: tuple[Figure, ...]) -> Section | None:
    """Every tapped layer: score, channels and cost."""
    layers = reader.table("depth")
    layers = layers[~layers["control"].astype(bool)]
    if layers.empty:
        return None
    table = tabulate(reader, "depth", layers, "Layers along each model's depth", _DEPTH)
    lead = "The layer of a model is chosen on validation; fronts are drawn on test and choose nothing."
    return Section("depth", "Depth and cost", (*figures, table), lead)


_DEPTH = (
    MODEL,
    CONCEPT,
    Number("Channels", "channels", whole),
    Number("AP", "score", lo="lo", hi="hi", help="on test, with its 95 % interval"),
    Number("Validation AP", "validation"),
    Number("k@95", "k95", whole),
    Number("Megaflops", "megaflops", whole, help="multiplications and additions up to the layer, for one image"),
    Words("Chosen", verdict("chosen", "yes", ""), help="of its model's layers, by validation", good="yes"),
    Words("Front: cost", verdict("front_cost", "yes", ""), help="no model of the run scores as high at less cost"),
    Words("Front: k", verdict("front_k", "yes", ""), help="no model of the run scores as high with fewer channels"),
)


def matches(reader: Reader, figures: tuple[Figure, ...]) -> Section | None:
    """Which channels of a model another has, what a linear map rebuilds, and what the other adds."""
    blocks: list[Block] = list(figures)
    found = reader.table("matches")
    if len(found):
        said = [
            matched(reader, dict(zip(_PAIR[:4], key[:4], strict=True)), str(key[4]))
            for key in dict.fromkeys(found[found["kind"].notna()][_PAIR].itertuples(index=False, name=None))
            if _of_leads(reader, key)
        ]
        blocks[:0] = [Lines(tuple(said))] if said else []
        blocks.append(_counts(reader))
        ones = found[found["kind"] == "one-to-one"]
        if len(ones):
            caption = "Channels that match one channel of another model"
            blocks.append(Folded(caption, (tabulate(reader, "matches", ones, caption, _ONES),)))
    subspaces, complements = reader.table("subspaces"), reader.table("complements")
    if len(subspaces):
        blocks.append(tabulate(reader, "subspaces", subspaces, "What a linear map rebuilds", _SUBSPACES))
    if len(complements):
        blocks.append(tabulate(reader, "complements", complements, "What one model adds to another", _COMPLEMENTS))
    lead = (
        "Selected channels of one model against all channels of another, over the same cells. Chance is what "
        "whole groups re-paired at random give, what the place in the image explains taken out before. A match is "
        "above it and explains a quarter of the channel's variance; at most 5 % of the matches of a pair and concept "
        "are expected to be false, and of the related channels likewise (Benjamini and Hochberg)."
    )
    return Section("matches", "Channels across models", tuple(blocks), lead) if blocks else None


def _of_leads(reader: Reader, key: tuple[object, ...]) -> bool:
    models = [reader.row("models", row) for row in leads(reader, str(key[4]))]
    names = {(model["backbone"], model["layer"]) for model in models}
    return (key[0], key[1]) in names and (key[2], key[3]) in names


def _counts(reader: Reader) -> Table:
    kinds = ("one-to-one", "one-to-many", "unmatched", None)
    columns = (
        Column("Of", number=False),
        Column("In", number=False),
        Column("Concept", number=False),
        Column("Selected"),
        Column("One to one", help="each other's nearest, above chance, at least a quarter of the variance"),
        Column("One to many", help="one or a few channels explain at least a quarter of it, above chance"),
        Column("Unmatched", help="neither, though it may be related by less"),
        Column("Not tested"),
    )
    rows = []
    for key in dict.fromkeys(reader.table("matches")[_PAIR].itertuples(index=False, name=None)):
        names = dict(zip(_PAIR, map(str, key), strict=True))
        counts = [reader.count("matches", **names), *(reader.count("matches", **names, kind=kind) for kind in kinds)]
        texts: list[Sentence] = [(model_of(names, "_a"),), (model_of(names, "_b"),), (names["concept"],)]
        cells = [Cell(text, key=str(text[0])) for text in texts]
        cells += [Cell((count,), key=float(count.full)) for count in counts]
        rows.append(Row(tuple(cells), where_of(names)))
    return Table("Selected channels of one model that another has", columns, tuple(rows))


_ONES = (
    Words("Channel of", lambda row: model_of(row, "_a"), strong=True),
    CONCEPT,
    Number("Channel", "channel", index),
    Number("Coefficient", "coefficient", signed),
    Words("Partner in", lambda row: model_of(row, "_b"), strong=True),
    Number("Partner", "partner", index),
    Number("r", "r", signed),
    Number("q", "q", chance),
)

_SUBSPACES = (
    _A,
    Words("From", lambda row: model_of(row, "_b"), strong=True),
    CONCEPT,
    Pair("Channels", ("channels_a", "channels_b"), whole, help="selected of each"),
    Number("R²", "r2", lo="lo", hi="hi", help="on groups that were left out, with its 95 % interval"),
    Number("CKA", "cka", help="unbiased and linear; the same both ways, never to be read alone"),
    Words("Remark", _why),
)

_COMPLEMENTS = (
    Words("To", lambda row: model_of(row, "_a"), strong=True),
    Words("Adds", lambda row: model_of(row, "_b"), strong=True),
    CONCEPT,
    Number("AP alone", "alone"),
    Number("AP of both", "joint"),
    Number("Gain", "gain", signed_score, lo="lo", hi="hi", help="with its 95 % interval"),
    Number("p", "p_holm", chance, help="of the swap test, adjusted for the pairs of the concept (Holm)"),
    Words("Verdict", verdict("established"), below=_why, good="established"),
)


def interactions(reader: Reader) -> Section | None:
    """Whether pairs of channels say more together."""
    table = reader.table("interactions")
    if table.empty:
        return None
    whole_rows = table[table["channel_i"].isna()]
    pairs = table[table["channel_i"].notna()].sort_values(["concept", "p"], kind="stable").groupby("concept").head(12)
    blocks: list[Block] = []
    if len(whole_rows):
        blocks.append(tabulate(reader, "interactions", whole_rows, "All products together", _TOGETHER))
    if len(pairs):
        caption = "The twelve pairs of a concept with the smallest p"
        blocks.append(Folded(caption, (tabulate(reader, "interactions", pairs, caption, _PRODUCTS),)))
    lead = "A product of two selected channels is added to the probe; q is adjusted for all pairs (Benjamini "
    "and Hochberg)."
    return Section("interactions", "Do channels work together?", tuple(blocks), lead)


_TOGETHER = (
    MODEL,
    CONCEPT,
    Number("AP alone", "alone"),
    Number("AP with products", "joint"),
    Number("Gain", "gain", signed_score, lo="lo", hi="hi", help="with its 95 % interval"),
    Number("p", "p_holm", chance, help="of the swap test, adjusted for the models of the concept (Holm)"),
    Words("Gain", verdict("established"), below=_why, good="established"),
)

_PRODUCTS = (
    MODEL,
    CONCEPT,
    Pair("Channels", ("channel_i", "channel_j"), index),
    Number("Weight", "weight", signed, help="of the product, on standardised features"),
    Number("p", "p", chance),
    Number("q", "q", chance),
)


def ablation(reader: Reader) -> Section | None:
    """What is lost without the selected channels."""
    table = reader.table("ablation")
    if table.empty:
        return None
    shown = tabulate(reader, "ablation", table, "Selected channels set to their mean in the forward pass", _ABLATION)
    lead = "A circuit is claimed only where the loss exceeds that of as many random channels of like variance."
    return Section("ablation", "Ablation", (shown,), lead)


_ABLATION = (
    MODEL,
    Words("Scored at", lambda row: str(row["later"])),
    CONCEPT,
    Number("Channels", "channels", whole),
    Number("Untouched", "score"),
    Number("Ablated", "ablated"),
    Number("Random ones", "random"),
    Number(
        "Difference", "difference", signed_score, lo="lo", hi="hi", help="random less ablated, with its 95 % interval"
    ),
    Number("p", "p_holm", chance, help="one-sided, adjusted for the rows of the concept (Holm)"),
    Words("Circuit", verdict("circuit", "established", "not established"), below=_why, good="established"),
)
