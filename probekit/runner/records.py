"""What a job found, as rows of the run's tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from probekit.api import FULL, Fit
from probekit.evaluate.description_length import CodeLength
from probekit.evaluate.interchangeable import Substitute
from probekit.runner.analyses.nulls import NotTested, NullDraw
from probekit.runner.analyses.outer import LeftOut
from probekit.runner.analyses.selections import Selections
from probekit.runner.assess import Assessed, Point, Rung
from probekit.runner.comparisons.interactions import Interactions
from probekit.runner.job import FINAL, FoldPath, JobInput, JobOutput, KeptFit
from probekit.runner.schemas import SCHEMAS

OBSERVED = "observed"
"""The condition of rows and labels as they are."""

Row = dict[str, Any]


def point_id(job: JobInput, probe: str, concept: int, rung: Rung | str) -> str:
    """Names a point within its run."""
    name = job.dataset.concepts[concept]
    return "|".join((job.backbone, job.layer, name, probe, str(job.repeat), OBSERVED, str(rung)))


def identity(job: JobInput, probe: str, concept: int) -> Row:
    """The columns that name a unit, save its fold."""
    return {
        "backbone": job.backbone,
        "layer": job.layer,
        "concept": job.dataset.concepts[concept],
        "probe": probe,
        "repeat": job.repeat,
        "condition": OBSERVED,
    }


def point_rows(job: JobInput, points: Sequence[Point]) -> Iterator[Row]:
    """Rows of ``points``."""
    for point in points:
        fits = [kept.fit for kept in point.kept.values()]
        ratios = [fit.choices["lambda_ratio"] for fit in fits if "lambda_ratio" in fit.choices]
        ks = {int(fit.choices["k"]) for fit in fits if "k" in fit.choices}
        yield {
            "point_id": point_id(job, point.probe, point.concept, point.rung),
            **identity(job, point.probe, point.concept),
            "rung": str(point.rung),
            "lambda_ratio": float(np.median(ratios)) if ratios else None,
            "k": ks.pop() if len(ks) == 1 else None,
            "n_channels": float(np.median([len(fit.support) for fit in fits])),
        }


def result_rows(job: JobInput, assessed: Assessed) -> Iterator[Row]:
    """Rows of ``results`` of one point: the test's scores, and the mean of the folds' validation AP."""
    point = assessed.point
    common = {
        "point_id": point_id(job, point.probe, point.concept, point.rung),
        "grid": "reference",
        "n_groups": len({int(g) for fold in job.folds for g in fold.test}),
    }
    for score in assessed.scores:
        value = _number(score.value)
        yield {**common, "split": "test", "sampling": score.sampling, "metric": score.metric, "value": value}
    validation = float(np.mean([kept.average_precision for kept in point.kept.values()]))
    yield {
        **common,
        "split": "validation",
        "sampling": "natural",
        "metric": "average_precision",
        "value": _number(validation),
        "n_groups": len({int(g) for fold in job.folds for g in fold.validation}),
    }


def group_rows(job: JobInput, assessed: Assessed) -> pa.Table:
    """``groups`` of one point, a row a group: built by columns, for the histograms are long."""
    n_groups = len(job.dataset.groups)
    name = point_id(job, assessed.point.probe, assessed.point.concept, assessed.point.rung)
    histograms = assessed.histograms
    lists = [pa.nulls(n_groups, pa.list_(pa.int32()))] * 2
    if histograms is not None:
        starts = pa.array(np.arange(n_groups + 1) * len(histograms.edges), pa.int32())
        lists = [
            pa.ListArray.from_arrays(starts, pa.array(counts.ravel().astype(np.int32)))
            for counts in (histograms.positives, histograms.negatives)
        ]
    columns = [
        pa.array([name] * n_groups),
        pa.array(job.dataset.groups),
        *(pa.array(column) for column in assessed.confusion.T),
        *(pa.array(column) for column in assessed.losses.T),
        *lists,
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMAS["groups"])


def replicate_rows(job: JobInput, assessed: Assessed) -> Iterator[Row]:
    """Rows of ``replicates`` of one point."""
    name = point_id(job, assessed.point.probe, assessed.point.concept, assessed.point.rung)
    for metric, deleted in assessed.deleted.items():
        yield {"point_id": name, "metric": metric, "deleted": deleted}


def reliability_rows(job: JobInput, assessed: Assessed) -> Iterator[Row]:
    """Rows of ``reliability`` of one point."""
    name = point_id(job, assessed.point.probe, assessed.point.concept, assessed.point.rung)
    for calibrated, seen in zip((False, True), assessed.reliability or (), strict=False):
        columns = seen.predicted, seen.observed, seen.cells, seen.positives
        for number, (predicted, observed, cells, positives) in enumerate(zip(*columns, strict=True)):
            yield {
                "point_id": name,
                "calibrated": calibrated,
                "bin": number,
                "predicted": float(predicted),
                "observed": float(observed),
                "cells": int(cells),
                "positives": int(positives),
            }


def outer_rows(job: JobInput, found: Iterable[LeftOut]) -> Iterator[Row]:
    """Rows of ``outer``."""
    for one in found:
        yield {
            **identity(job, one.probe, one.concept),
            "outer": one.outer,
            "value": None if one.value is None else _number(one.value),
            "cells": one.cells,
            "positives": one.positives,
            "groups": one.groups,
            "reason": one.reason,
        }


def null_rows(job: JobInput, nulls: Iterable[NullDraw | NotTested]) -> Iterator[Row]:
    """Rows of ``null_draws``."""
    for null in nulls:
        if isinstance(null, NotTested):
            for concept in range(len(job.dataset.concepts)):
                reason = {"condition": null.condition, "rung": FULL, "reason": null.reason}
                yield {**identity(job, null.probe, concept), **reason}
            continue
        yield {
            **identity(job, null.probe, null.concept),
            "condition": null.condition,
            "rung": str(null.rung),
            "draw": null.draw,
            "value": _number(null.score.value),
            "deleted": null.score.deleted,
        }


def selection_rows(job: JobInput, found: Iterable[Selections]) -> Iterator[Row]:
    """Rows of ``selections``: a half, or a fold's chosen fit, each."""
    for of in found:
        against = () if of.knockoffs is None else (of.knockoffs,)
        for kind, sets in (("half", of.selected), ("fold", of.by_fold), ("knockoffs", against)):
            for number, row in enumerate(sets):
                yield {
                    **identity(job, of.probe, of.concept),
                    "rung": of.rung,
                    "of": kind,
                    "number": number,
                    "channels": np.flatnonzero(row).tolist(),
                }


def code_rows(job: JobInput, codes: Mapping[tuple[str, int], CodeLength]) -> Iterator[Row]:
    """Rows of ``codes``."""
    for (probe, concept), code in codes.items():
        yield {
            **identity(job, probe, concept),
            "bits": code.bits,
            "uniform": code.uniform,
            "compression": code.compression,
            "plain": code.plain,
            "final": code.final,
            "portions": [portion.bits for portion in code.portions],
            "portions_uniform": [portion.uniform for portion in code.portions],
        }


def interaction_rows(job: JobInput, found: Iterable[Interactions]) -> Iterator[Row]:
    """Rows of ``interactions``: each pair's, then that of all pairs together."""
    for of in found:
        line = {"backbone": job.backbone, "layer": job.layer, "concept": job.dataset.concepts[of.concept]}
        if of.tests is not None:
            tests = of.tests.weight, of.tests.statistic, of.tests.p, of.tests.q
            for (i, j), *numbers in zip(of.channels.tolist(), *tests, strict=True):
                values = dict(zip(("weight", "statistic", "p", "q"), map(_number, numbers), strict=True))
                reason = "made of the channels and their squares" if values["p"] is None else None
                yield {**line, "channel_i": i, "channel_j": j, **values, "reason": reason}
        together, gain = of.together, of.together.gain
        yield {
            **line,
            "alone": together.alone,
            "joint": together.joint,
            "gain": None if gain is None else gain.value,
            "lo": None if gain is None else gain.lo,
            "hi": None if gain is None else gain.hi,
            "p_gain": together.p,
            "established": together.established,
            "reason": together.reason,
        }


def fit_rows(job: JobInput, output: JobOutput) -> Iterator[Row]:
    """Rows of ``fits``: each fold's fit of each rung, then the final fits."""
    for probe, paths in output.paths.items():
        for (fold, concept), path in paths.items():
            for place, kept in enumerate(path.kept):
                yield {
                    **_fit_row(job, probe, concept, fold, str(kept.fit.rung), kept.fit),
                    "chosen": place == path.chosen,
                    "validation_ap": _number(kept.average_precision),
                    "threshold": float(kept.threshold),
                    "margin_mean": kept.mean,
                    "margin_deviation": kept.deviation,
                    "rows": output.rows[fold, concept],
                }
        for concept, finals in output.finals[probe].items():
            first = paths[job.folds[0].index, concept]
            for label, (fit, threshold) in finals.items():
                yield {
                    **_fit_row(job, probe, concept, FINAL, label, fit),
                    "point_id": point_id(job, probe, concept, _rung_behind(first, label, len(fit.support))),
                    "label": label,
                    "chosen": label == "chosen",
                    "threshold": threshold,
                    "rows": output.rows[FINAL, concept],
                }


def fit_id(job: JobInput, probe: str, concept: int, fold: int, rung: str) -> str:
    """Names a fit within its run; the final fit of a label has the label for its rung."""
    return f"{point_id(job, probe, concept, rung)}|{'final' if fold == FINAL else fold}"


def channel_rows(job: JobInput, output: JobOutput, substitutes: Mapping[int, tuple[Substitute, ...]]) -> Iterator[Row]:
    """Rows of ``channels``: each final fit's ranking, with the share of folds that selected each channel, and the
    channels that may stand for it."""
    for probe, finals in output.finals.items():
        for concept, by_label in finals.items():
            paths = [output.paths[probe][fold.index, concept] for fold in job.folds]
            for label, (fit, _) in by_label.items():
                selected = [set(kept.fit.support.tolist()) for kept in _fold_fits(paths, label, by_label)]
                weights = _raw_weights(fit)
                for rank, channel in enumerate(fit.support.tolist(), start=1):
                    yield {
                        "fit_id": fit_id(job, probe, concept, FINAL, label),
                        "channel": channel,
                        "rank": rank,
                        "coefficient": float(fit.coefficient[rank - 1]),
                        "weight": weights.get(channel),
                        "folds": float(np.mean([channel in support for support in selected])),
                        "substitutes": [other.channel for other in substitutes.get(channel, ())],
                        "correlations": [other.r for other in substitutes.get(channel, ())],
                    }


def _fold_fits(paths: Sequence[FoldPath], label: str, finals: Mapping[str, Any]) -> list[KeptFit]:
    """The folds' fits that stand behind a final fit's label: for k90 ... the rung nearest to the final fit's own k, so
    that supports of one size are compared."""
    size = len(finals[label][0].support)
    found = [path.at(_rung_behind(path, label, size)) for path in paths]
    return [kept for kept in found if kept is not None]


def _rung_behind(path: FoldPath, label: str, size: int) -> Rung:
    """The rung of a path that stands behind a final fit: its label, or the one nearest in size."""
    if label in ("chosen", "full"):
        return cast("Rung", label)
    return min(path.kept, key=lambda kept: abs(len(kept.fit.support) - size)).fit.rung


def _raw_weights(fit: Fit) -> dict[int, float]:
    """The weight of each channel on raw features, for scorers that have one."""
    if fit.scorer.kind != "linear":
        return {}
    return dict(zip(fit.scorer.channels.tolist(), fit.scorer.arrays["weight"].tolist(), strict=True))


def _fit_row(job: JobInput, probe: str, concept: int, fold: int, rung: str, fit: Fit) -> Row:
    details = {key: value for key, value in fit.details.items() if key != "label"}
    return {
        "fit_id": fit_id(job, probe, concept, fold, rung),
        "point_id": point_id(job, probe, concept, rung),
        "fold": fold,
        "lambda": fit.lambda_,
        "lambda_ratio": fit.choices.get("lambda_ratio"),
        "C": fit.C,
        "ridge": fit.ridge,
        "epochs": int(fit.choices["epochs"]) if "epochs" in fit.choices else None,
        "n_channels": len(fit.support),
        "gap": fit.gap,
        "certified": fit.certified,
        "iterations": fit.iterations,
        "details": json.dumps(details, sort_keys=True) if details else None,
    }


def _number(value: float) -> float | None:
    """NaN is null: a score that is not defined."""
    return None if np.isnan(value) else float(value)
