"""The folds' own fits on disk, beside a job's tables: what is done to a network after all jobs are done needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from probekit.api import FULL, Scorer
from probekit.evaluate.pooling import MarginScale
from probekit.runner.folder import write_atomically
from probekit.runner.job import JobInput, JobOutput, fits_by_label

FILE = "folds.safetensors"


@dataclass(frozen=True, eq=False)
class FoldFit:
    """What one fold found for one concept.

    Attributes:
        scorer: its full probe, or the chosen fit of a probe without one.
        scale: of the scorer's margins over the fold's training negatives.
        selected: the channels of its fit ``k95``, or of the chosen one where there is none, (k,).
    """

    scorer: Scorer
    scale: MarginScale
    selected: NDArray[np.int64]


def fold_fits(job: JobInput, output: JobOutput) -> tuple[str, dict[tuple[str, int], FoldFit]]:
    """The folds' fits of the probe that tables report (the first that has a full one, or the first): its name, and
    (concept, fold) -> the fit."""
    having = [name for name, paths in output.paths.items() if all(p.at(FULL) is not None for p in paths.values())]
    probe = having[0] if having else next(iter(output.paths))
    fits = {}
    for concept, name in enumerate(job.dataset.concepts):
        labelled = fits_by_label(job, output.paths[probe], concept)
        scoring, selecting = (labelled.get(label, labelled["chosen"]) for label in (FULL, "k95"))
        for fold, scored, selected in zip(job.folds, scoring, selecting, strict=True):
            scale = MarginScale(np.array([scored.mean]), np.array([scored.deviation]))
            fits[name, fold.index] = FoldFit(scored.fit.scorer, scale, selected.fit.support)
    return probe, fits


def write_fold_fits(folder: Path, probe: str, fits: Mapping[tuple[str, int], FoldFit]) -> None:
    """Keeps the folds' fits of a job in its folder."""
    header: list[dict[str, Any]] = []
    tensors: dict[str, NDArray[Any]] = {}
    for place, ((concept, fold), fit) in enumerate(fits.items()):
        scale = {"mean": float(fit.scale.mean[0]), "deviation": float(fit.scale.deviation[0])}
        header.append({"concept": concept, "fold": fold, "kind": fit.scorer.kind, **scale})
        arrays = {**fit.scorer.arrays, "channels": fit.scorer.channels, "selected": fit.selected}
        tensors |= {f"{place}.{key}": np.ascontiguousarray(of).reshape(np.shape(of)) for key, of in arrays.items()}
    content = save(tensors, {"about": json.dumps({"probe": probe, "fits": header}, sort_keys=True)})
    write_atomically(folder / FILE, content)


def read_fold_fits(folder: Path) -> tuple[str, Mapping[tuple[str, int], FoldFit]]:
    """What :func:`write_fold_fits` wrote."""
    fits = {}
    with safe_open(folder / FILE, framework="numpy") as file:
        about = json.loads(file.metadata()["about"])
        tensors: dict[int, dict[str, NDArray[Any]]] = {}
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            place, _, key = name.partition(".")
            tensors.setdefault(int(place), {})[key] = file.get_tensor(name)
    for place, entry in enumerate(about["fits"]):
        arrays = tensors[place]
        channels, selected = (np.asarray(arrays.pop(key), dtype=np.int64) for key in ("channels", "selected"))
        scale = MarginScale(np.array([entry["mean"]]), np.array([entry["deviation"]]))
        fits[entry["concept"], entry["fold"]] = FoldFit(Scorer(entry["kind"], channels, arrays), scale, selected)
    return about["probe"], fits
