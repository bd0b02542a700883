"""The table that a run ends with: how many channels each model needs, controls apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from probekit.evaluate.interchangeable import Substitute
from probekit.runner.run import Run

_SHOWN_CHANNELS = 6


@dataclass(frozen=True)
class KTau:
    """How few channels suffice for a share of the full score.

    Attributes:
        k: the estimate; none where undefined.
        lo, hi: ends of its confidence set; none where there is none.
        open_below, open_above: whether the set goes on below the curve's first width, or to all channels.
    """

    k: int | None
    lo: int | None
    hi: int | None
    open_below: bool
    open_above: bool


@dataclass(frozen=True)
class Null:
    """A model against one null; ``above`` is none where it could not be tested."""

    name: str
    rung: str
    score: float | None
    value: float | None
    p: float | None
    above: bool | None
    decides: bool


@dataclass(frozen=True)
class Model:
    """One line of the comparison: a layer of a backbone, for one concept.

    Attributes:
        score, lo, hi: test AP of the full probe (of the first probe's chosen point where the run has no full probe).
        rank: among the models that are above their nulls; those that cannot be told apart share one.
        f1, balanced_f1: of the same point, at natural prevalence, and as it would be at 50/50.
        k: share -> how few channels suffice.
        reason: why there is no interval, where there is none.
        reasons: why k is undefined, where it is.
        verdict: ``above``, ``not above``, ``not tested``; none for controls.
        not_above: the nulls that the model is not above.
        nulls: all that were run.
        circular: a model of the backbone's own family made the labels.
        chosen: probe -> test AP of what validation chose on its path, and the channels that uses (median over folds).
    """

    backbone: str
    layer: str
    channels: int
    control: bool
    score: float | None
    lo: float | None
    hi: float | None
    reason: str | None
    rank: int | None
    f1: float | None
    balanced_f1: float | None
    k: dict[float, KTau]
    reasons: tuple[str, ...]
    verdict: str | None
    not_above: tuple[str, ...]
    nulls: tuple[Null, ...]
    circular: bool
    chosen: dict[str, tuple[float | None, int]]


@dataclass(frozen=True)
class Difference:
    """Two models that may be ranked: their scores' difference, and whether their k differ."""

    one: str
    other: str
    value: float
    lo: float | None
    hi: float | None
    p: float | None
    smallest: float | None
    established: bool | None
    k_differs: bool | None


@dataclass(frozen=True)
class Comparison:
    """All lines of one concept, models by score, then controls by score.

    Attributes:
        groups, positive_groups: that were scored, and of these with a positive.
        reason: why no model has an interval; none where one has.
    """

    concept: str
    probe: str
    models: tuple[Model, ...]
    controls: tuple[Model, ...]
    differences: tuple[Difference, ...]
    groups: int
    positive_groups: int
    reason: str | None


def compare_models(run: Run) -> list[Comparison]:
    """The comparison of a run, a table a concept, in the concepts' order."""
    probe = run.info["reported_probe"]
    points = run.points
    points = points[points["repeat"].isna()] if run.info["repeats"] > 1 else points
    of_test = run.results[run.results["split"] == "test"]
    scores = of_test.set_index(["point_id", "sampling", "metric"])["value"]
    tables = []
    for concept in run.info["concepts"]:
        rows = run.models[run.models["concept"] == concept].to_dict("records")
        lines = [_model(row, points, scores, run) for row in rows]
        lines.sort(key=lambda line: (-(line.score if line.score is not None else -1.0), line.backbone, line.layer))
        tables.append(
            Comparison(
                concept,
                probe,
                tuple(line for line in lines if not line.control),
                tuple(line for line in lines if line.control),
                tuple(_difference(row) for row in _of(run.differences, concept=concept).to_dict("records")),
                int(rows[0]["groups"]),
                int(rows[0]["positive_groups"]),
                missing_intervals(rows)[0],
            )
        )
    return tables


def missing_intervals(rows: Sequence[Mapping[Any, Any]]) -> tuple[str | None, dict[str, str]]:
    """Why intervals are missing.

    Args:
        rows: of ``models``, of one concept.

    Returns:
        why no model has one (no control, where there are controls alone; none where one has), and, where some have,
        model or control -> why it has none.
    """
    ranked = [row for row in rows if not row["control"]] or rows
    if all(pd.isna(row["lo"]) for row in ranked):
        return "; ".join(dict.fromkeys(str(row["reason"]) for row in ranked if not pd.isna(row["reason"]))) or None, {}
    return None, {
        named(row["backbone"], row["layer"], bool(row["control"])): str(row["reason"])
        for row in rows
        if pd.isna(row["lo"]) and not pd.isna(row["reason"])
    }


def named(backbone: str, layer: str, control: bool = False) -> str:
    """A model as readers know it: image statistics have no layer worth a name."""
    return backbone if control and layer in ("cells", "map") else f"{backbone} {layer}"


def _of(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    kept = pd.Series(True, index=frame.index)
    for column, value in values.items():
        kept &= frame[column] == value
    return frame[kept]


def _model(row: dict[Any, Any], points: pd.DataFrame, scores: pd.Series, run: Run) -> Model:
    line = {column: str(row[column]) for column in ("backbone", "layer", "concept")}
    curve = _of(run.k_tau, **line, probe=row["probe"])
    own = _of(points, **line)
    reported = _of(own, probe=row["probe"])
    rung = "full" if (reported["rung"] == "full").any() else "chosen"
    point = _of(reported, rung=rung)["point_id"].iloc[0]
    beside = _of(own, rung="chosen")
    return Model(
        line["backbone"],
        line["layer"],
        int(row["channels"]),
        bool(row["control"]),
        _float(row["score"]),
        _float(row["lo"]),
        _float(row["hi"]),
        None if pd.isna(row["reason"]) or not pd.isna(row["lo"]) else str(row["reason"]),
        _int(row["rank"]),
        _score(scores, point, metric="f1"),
        _score(scores, point, "balanced", "f1"),
        {float(at["tau"]): _k_tau(at) for at in curve.to_dict("records")},
        tuple(dict.fromkeys(str(reason) for reason in curve["reason"] if not pd.isna(reason))),
        None if pd.isna(row["nulls"]) else str(row["nulls"]),
        () if row["not_above"] is None else tuple(map(str, row["not_above"])),
        tuple(_null(null) for null in _of(run.nulls, **line).to_dict("records")),
        bool(row["circular"]),
        {
            probe: (_score(scores, chosen), round(size))
            for probe, chosen, size in zip(beside["probe"], beside["point_id"], beside["n_channels"], strict=True)
        },
    )


def _k_tau(row: dict[Any, Any]) -> KTau:
    return KTau(_int(row["k"]), _int(row["lo"]), _int(row["hi"]), row["open_below"] is True, row["open_above"] is True)


def _null(row: dict[Any, Any]) -> Null:
    above = None if row["above"] is None or pd.isna(row["above"]) else bool(row["above"])
    return Null(
        str(row["null"]),
        str(row["rung"]),
        _float(row["score"]),
        _float(row["value"]),
        _float(row["p"]),
        above,
        bool(row["decides"]),
    )


def _difference(row: dict[Any, Any]) -> Difference:
    def known(value: Any) -> bool | None:
        return None if value is None or pd.isna(value) else bool(value)

    return Difference(
        f"{row['backbone_a']} {row['layer_a']}",
        f"{row['backbone_b']} {row['layer_b']}",
        float(row["difference"]),
        _float(row["lo"]),
        _float(row["hi"]),
        _float(row["p_holm"]),
        _float(row["smallest_difference"]),
        known(row["established"]),
        known(row["k_differs"]),
    )


def _float(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _int(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)


def _score(
    scores: pd.Series, point: object, sampling: str = "natural", metric: str = "average_precision"
) -> float | None:
    return _float(scores.get((point, sampling, metric)))


class Channel(NamedTuple):
    """A channel of a sparse probe: its coefficient, the share of folds that selected it, and what may stand for it."""

    channel: int
    coefficient: float
    folds: float
    substitutes: tuple[Substitute, ...]


@dataclass(frozen=True)
class Ranked:
    """The channels that carry a concept in one layer.

    Attributes:
        label: which final fit this is: the rung that validation chose for 95 % of the full score, or ``chosen``.
        towards, against: by size.
        stable: the channels that halves of the groups select again and again; none where that was not run.
        bound: on how many of these are expected to be false.
        bits: probe -> bits a label of its online code, 1 for knowing nothing.
        outer: outer group -> AP of the full probe there, fitted on all others.
    """

    backbone: str
    layer: str
    label: str
    size: int
    towards: tuple[Channel, ...]
    against: tuple[Channel, ...]
    stable: tuple[int, ...] | None
    bound: float | None
    bits: dict[str, float]
    outer: dict[str, float | None]


def final_fit(run: Run, backbone: str, layer: str, concept: str) -> tuple[str, str] | None:
    """(label, fit) of the sparse final fit that ranks the channels of a model; none where it has none."""
    repeat = str(int(run.points["repeat"].min()))
    key = "|".join((backbone, layer, concept, run.info["reported_probe"], repeat, "observed"))
    finals = set(run.fits[run.fits["fold"] == -1]["fit_id"])
    fits = ((label, f"{key}|{label}|final") for label in ("k95", "chosen"))
    return next((found for found in fits if found[1] in finals), None)


def ranked_channels(run: Run, concept: str, backbone: str, layer: str, shown: int = _SHOWN_CHANNELS) -> Ranked | None:
    """The signed channels of the sparse probe that a user takes away; none where the run has none."""
    final = final_fit(run, backbone, layer, concept)
    if final is None:
        return None
    label, fit = final
    rows = run.channels[run.channels["fit_id"] == fit]
    rows = rows.reindex(rows["coefficient"].abs().sort_values(ascending=False, kind="stable").index)
    entries = [
        Channel(
            int(row["channel"]),
            float(row["coefficient"]),
            float(row["folds"]),
            tuple(map(Substitute, map(int, row["substitutes"]), map(float, row["correlations"]))),
        )
        for row in rows.to_dict("records")
    ]
    where = {"backbone": backbone, "layer": layer, "concept": concept}
    stability = _of(run.table("stability"), **where, repeat=run.points["repeat"].min())
    known = not stability.empty and stability["stable"].iloc[0] is not None
    codes = _of(run.table("codes"), **where)
    bits = (codes["bits"] / codes["uniform"]).groupby(codes["probe"], sort=False).mean()
    outer = _of(run.table("outer"), **where)
    return Ranked(
        backbone,
        layer,
        label,
        len(entries),
        tuple(entry for entry in entries if entry.coefficient > 0)[:shown],
        tuple(entry for entry in entries if entry.coefficient < 0)[:shown],
        tuple(map(int, stability["stable"].iloc[0])) if known else None,
        _float(stability["bound"].iloc[0]) if known else None,
        {str(of): float(value) for of, value in bits.items()},
        {str(row["outer"]): _float(row["value"]) for row in outer.to_dict("records")},
    )
