"""The table that a run ends with: how many channels each model needs, controls apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from probekit.runner.run import Run

_SHOWN_CHANNELS = 6


@dataclass(frozen=True)
class Model:
    """One line of the comparison: a layer of a backbone, for one concept.

    Attributes:
        score: test AP of the full probe (of the first probe's chosen point where the run has no full probe).
        f1, balanced_f1: of the same point, at natural prevalence, and as it would be at 50/50.
        k: share -> the fewest channels; none where undefined, with the reason in ``reasons``.
        beats_pixels: whether the full probe's AP is above that of image statistics; none where that was not run.
        chosen: probe -> test AP of what validation chose on its path, and the channels that uses (median over folds).
    """

    backbone: str
    layer: str
    channels: int
    control: bool
    score: float | None
    f1: float | None
    balanced_f1: float | None
    k: dict[float, int | None]
    reasons: tuple[str, ...]
    beats_pixels: bool | None
    chosen: dict[str, tuple[float | None, int]]


@dataclass(frozen=True)
class Comparison:
    """All lines of one concept, models by score, then controls by score."""

    concept: str
    probe: str
    models: tuple[Model, ...]
    controls: tuple[Model, ...]


def compare_models(run: Run) -> list[Comparison]:
    """The comparison of a run, a table a concept, in the concepts' order."""
    info = run.info
    probe = info["reported_probe"]
    repeats = info["repeats"]
    points = run.points
    mean = points[points["repeat"].isna()] if repeats > 1 else points
    rung = "full" if (mean.loc[mean["probe"] == probe, "rung"] == "full").any() else "chosen"
    results = run.results
    of_test = results[results["split"] == "test"]
    scores = of_test.set_index(["point_id", "sampling", "metric"])["value"]
    ks = run.k_at_tau
    ks = ks[ks["repeat"].isna()] if repeats > 1 else ks
    tables = []
    for concept in info["concepts"]:
        of = mean[(mean["concept"] == concept) & (mean["probe"] == probe) & (mean["rung"] == rung)]
        lines = [_model(row, mean, scores, ks, info) for row in of.to_dict("records")]
        pixels = next((line.score for line in lines if line.backbone == "pixels"), None)
        lines = [_against(line, pixels) for line in lines]
        lines.sort(key=lambda line: (-(line.score if line.score is not None else -1.0), line.backbone, line.layer))
        tables.append(
            Comparison(
                concept,
                probe,
                tuple(line for line in lines if not line.control),
                tuple(line for line in lines if line.control),
            )
        )
    return tables


def _model(
    row: dict[str, object], points: pd.DataFrame, scores: pd.Series, ks: pd.DataFrame, info: dict[str, object]
) -> Model:
    backbone, layer = str(row["backbone"]), str(row["layer"])
    own = ks[
        (ks["backbone"] == backbone)
        & (ks["layer"] == layer)
        & (ks["concept"] == row["concept"])
        & (ks["probe"] == row["probe"])
    ]
    described = info["backbones"][backbone]  # type: ignore[index]
    point = row["point_id"]
    beside = points[
        (points["backbone"] == backbone)
        & (points["layer"] == layer)
        & (points["concept"] == row["concept"])
        & (points["rung"] == "chosen")
    ]
    return Model(
        backbone,
        layer,
        int(described["layers"][layer]["channels"]),
        bool(described["control"]),
        _score(scores, point),
        _score(scores, point, metric="f1"),
        _score(scores, point, "balanced", "f1"),
        {float(tau): None if pd.isna(k) else int(k) for tau, k in zip(own["tau"], own["k"], strict=True)},
        tuple(dict.fromkeys(str(reason) for reason in own["reason"] if not pd.isna(reason))),
        None,
        {
            probe: (_score(scores, chosen), round(size))
            for probe, chosen, size in zip(beside["probe"], beside["point_id"], beside["n_channels"], strict=True)
        },
    )


def _score(
    scores: pd.Series, point: object, sampling: str = "natural", metric: str = "average_precision"
) -> float | None:
    score = scores.get((point, sampling, metric))
    return None if score is None or pd.isna(score) else float(score)


def _against(model: Model, pixels: float | None) -> Model:
    if pixels is None or model.score is None or model.backbone == "pixels":
        return model
    return replace(model, beats_pixels=model.score > pixels)


@dataclass(frozen=True)
class Ranked:
    """The channels that carry a concept in one layer.

    Attributes:
        label: which final fit this is: the rung that validation chose for 95 % of the full score, or ``chosen``.
        towards, against: (channel, coefficient, share of folds that selected it), by size.
    """

    backbone: str
    layer: str
    label: str
    size: int
    towards: tuple[tuple[int, float, float], ...]
    against: tuple[tuple[int, float, float], ...]


def ranked_channels(run: Run, concept: str, backbone: str, layer: str, shown: int = _SHOWN_CHANNELS) -> Ranked | None:
    """The signed channels of the sparse probe that a user takes away; none where the run has none."""
    points = run.points
    probe = run.info["reported_probe"]
    repeat = points["repeat"].min()
    finals = run.fits[run.fits["fold"] == -1]
    key = "|".join((backbone, layer, concept, probe, str(int(repeat)), "observed"))
    for label in ("k95", "chosen"):
        own = finals[finals["fit_id"] == f"{key}|{label}|final"]
        if own.empty:
            continue
        rows = run.channels[run.channels["fit_id"] == own["fit_id"].iloc[0]]
        rows = rows.reindex(rows["coefficient"].abs().sort_values(ascending=False, kind="stable").index)
        entries = list(zip(rows["channel"], rows["coefficient"], rows["folds"], strict=True))
        return Ranked(
            backbone,
            layer,
            label,
            len(entries),
            tuple((int(c), float(w), float(f)) for c, w, f in entries if w > 0)[:shown],
            tuple((int(c), float(w), float(f)) for c, w, f in entries if w < 0)[:shown],
        )
    return None
