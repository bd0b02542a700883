"""Finished runs set against one another, from their folders alone: no store, no plugin, no network.

Two runs compare on the images and the reference grid that both have in common: all of them, or nothing. Scores are
taken again on the cells that all models of both could see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from probekit.api import FULL, POSITIVE, VOID, Issue, ProbekitError
from probekit.compare.chance import Pairing
from probekit.compare.repairing import repair
from probekit.compare.standing import differences
from probekit.evaluate.intervals import Replicates
from probekit.evaluate.paired import ranked_pair, swap_test
from probekit.runner.comparisons.matches import SampledLayer, Selection, match_rows
from probekit.runner.comparisons.sampled import SampledCells, read_cells, read_features
from probekit.runner.comparisons.subspaces import subspace_rows
from probekit.runner.folder import display
from probekit.runner.records import OBSERVED
from probekit.runner.replicates import precision_replicates
from probekit.runner.run import Run
from probekit.runner.scoring import ReferenceCells
from probekit.runner.tables import write_table
from probekit.sampling.seeds import generator

Row = dict[str, Any]

Layer = tuple[str, str]
"""(backbone, layer)."""


@dataclass(frozen=True)
class Across:
    """What several runs say of one another; backbones are named ``RUN/BACKBONE``.

    Attributes:
        matches, subspaces, differences: rows of the tables of that name, for pairs of models of different runs.
        notes: what could not be compared, and why.
    """

    matches: list[Row] = field(default_factory=list)
    subspaces: list[Row] = field(default_factory=list)
    differences: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare_runs(runs: Sequence[Run], draws: int = 999, seed: int = 0) -> Across:
    """Every two runs, model by model.

    Args:
        draws: groups are re-paired at random so often for ``matches``; 0 leaves these out.

    Raises:
        ProbekitError: two runs of one name, or runs of other images, groups or another grid: a line each.
    """
    names = [run.path.absolute().name for run in runs]
    issues = [
        Issue(display(run.path), f"a second run named {name}: their models could not be told apart")
        for place, (run, name) in enumerate(zip(runs, names, strict=True))
        if name in names[:place]
    ]
    sides = [_Side(name, run) for name, run in zip(names, runs, strict=True)]
    for other in sides[1:]:
        issues += _what_differs(sides[0], other)
    if issues:
        raise ProbekitError(issues)
    found = Across()
    for one, other in combinations(sides, 2):
        _compare(one, other, draws, seed, found)
    return found


class _Side:
    """One of the runs."""

    def __init__(self, name: str, run: Run) -> None:
        self.name = name
        self.run = run
        self.folder = run.path

    @cached_property
    def cells(self) -> SampledCells:
        return read_cells(self.folder)

    @cached_property
    def layers(self) -> list[Layer]:
        """Of the models; no controls."""
        networks = self.run.info["backbones"].items()
        return [(name, layer) for name, about in networks if not about["control"] for layer in about["layers"]]

    def labels(self, concept: str) -> NDArray[np.int8]:
        """Of every reference cell."""
        return np.asarray(pq.read_table(self.folder / "cells.parquet", columns=[f"label {concept}"]).column(0))

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Of every reference cell, the index in ``run.json``'s ``groups``."""
        column = pq.read_table(self.folder / "cells.parquet", columns=["group"], read_dictionary=["group"])["group"]
        encoded = column.unify_dictionaries().combine_chunks()
        place = {name: number for number, name in enumerate(self.run.info["groups"])}
        number = np.array([place[name] for name in encoded.dictionary.to_pylist()], dtype=np.int64)
        return np.asarray(number[encoded.indices.to_numpy()])

    def finals(self, concept: str) -> dict[Layer, list[Row]]:
        """The channels of each layer's final fit ``k95``, or ``chosen``."""
        by_fit = {str(name): of for name, of in self.run.channels.groupby("fit_id")}
        found = {}
        for layer in self.layers:
            unit = (*layer, concept, self.probe, "0", OBSERVED)
            names = ["|".join((*unit, label, "final")) for label in ("k95", "chosen")]
            rows = next((by_fit[name] for name in names if name in by_fit), None)
            found[layer] = [] if rows is None else cast(list[Row], rows.to_dict("records"))
        return found

    def ranked(self, concept: str) -> list[Layer]:
        """The layers of models that may be ranked."""
        models = self.run.models
        models = models[(models["concept"] == concept) & models["rank"].notna()]
        return list(zip(models["backbone"], models["layer"], strict=True))

    @property
    def probe(self) -> str:
        """That is reported."""
        return str(self.run.info["reported_probe"])

    def margins(self, layer: Layer, concept: str) -> dict[int, NDArray[np.float32]]:
        """Repeat -> pooled margins of the reported point at every reference cell."""
        probe, found = self.probe, {}
        for path in sorted((self.folder / "scores").glob("*.safetensors")):
            with safe_open(path, framework="numpy") as file:
                names = json.loads(file.metadata()["points"])
                for rung in (FULL, "chosen"):
                    places = [
                        place
                        for place, name in enumerate(names)
                        if (of := name.split("|"))[:4] == [*layer, concept, probe] and of[6] == rung
                    ]
                    if places:
                        found[int(names[places[0]].split("|")[4])] = file.get_slice("margins")[places[0]]
                        break
        return found

    def named(self, backbone: str) -> str:
        return f"{self.name}/{backbone}"


def _what_differs(one: _Side, other: _Side) -> Iterator[Issue]:
    """Why two runs cannot be compared; nothing where they can."""
    a, b = one.run.info, other.run.info
    where = f"{display(one.folder)}, {display(other.folder)}"
    grids = [info["spec"]["evaluation"]["grid"] for info in (a, b)]
    if grids[0] != grids[1]:
        yield Issue(where, f"their reference grids differ: cells of {grids[0]} px and of {grids[1]} px")
        return
    if set(a["images"]) != set(b["images"]):
        common = len(set(a["images"]) & set(b["images"]))
        yield Issue(
            where, f"their images differ: {len(a['images'])} and {len(b['images'])}, of which {common} are in both"
        )
        return
    same = all(
        np.array_equal(getattr(one.cells, of), getattr(other.cells, of)) for of in ("row", "column", "image", "group")
    )
    if a["images_digest"] != b["images_digest"] or not same or one.cells.images != other.cells.images:
        what = "their images have the same names, and differ in content, tiles or groups"
        yield Issue(where, what)


def _compare(one: _Side, other: _Side, draws: int, seed: int, found: Across) -> None:
    concepts = [concept for concept in one.run.info["concepts"] if concept in other.run.info["concepts"]]
    if not concepts:
        found.notes.append(f"{one.name} and {other.name} have no concept in common")
    labels: dict[str, NDArray[np.int8]] = {}
    for concept in concepts:
        a, b = one.labels(concept), other.labels(concept)
        known = (a != VOID) & (b != VOID)
        apart = int((a[known] != b[known]).sum())
        if apart:
            found.notes.append(
                f"{concept}: {one.name} and {other.name} label {apart:,} of {int(known.sum()):,} cells otherwise; "
                "their scores are not compared"
            )
        else:
            labels[concept] = np.where(known, a, VOID)
    if concepts and one.probe != other.probe:
        found.notes.append(
            f"{one.name} reports the probe {one.probe}, {other.name} {other.probe}: what differs may be the probes; "
            "differences name that of backbone_a"
        )
    for concept, agreed in labels.items():
        found.differences.extend(_differences(one, other, concept, agreed, seed, found.notes))
    sides = [(one, _layers(one, concepts)), (other, _layers(other, concepts))]
    cells = one.cells
    if draws:
        rng = generator(seed, "re-pairing")
        paired = repair(cells.image, cells.group, cells.row, cells.column, rng=rng, draws=draws)
        for (_, from_), (_, to) in permutations(sides, 2):
            for b_layer in to:
                pairing = Pairing(b_layer.features, paired)
                for a_layer in from_:
                    found.matches.extend(match_rows(a_layer, b_layer, pairing))
    features = {(of.backbone, of.layer): of.features for _, layers in sides for of in layers}
    finals: dict[tuple[str, str, str], Sequence[Mapping[str, Any]]] = {
        (side.named(layer[0]), layer[1], concept): rows
        for side, _ in sides
        for concept in concepts
        for layer, rows in side.finals(concept).items()
    }
    seen = [np.where(other.cells.labels[concept] == VOID, VOID, cells.labels[concept]) for concept in concepts]
    if concepts:
        sampled = ReferenceCells(np.stack(seen), cells.group)
        for row in subspace_rows(features, finals, sampled, concepts, cells.groups, seed):
            if row["backbone_a"].partition("/")[0] != row["backbone_b"].partition("/")[0]:
                found.subspaces.append(row)


def _layers(side: _Side, concepts: Sequence[str]) -> list[SampledLayer]:
    finals = {concept: side.finals(concept) for concept in concepts}
    return [
        SampledLayer(
            side.named(layer[0]),
            layer[1],
            features,
            {
                concept: Selection([row["channel"] for row in rows], [row["coefficient"] for row in rows])
                for concept in concepts
                if (rows := finals[concept][layer])
            },
        )
        for layer, features in read_features(side.folder, side.layers).items()
    ]


def _differences(
    one: _Side, other: _Side, concept: str, labels: NDArray[np.int8], seed: int, notes: list[str]
) -> Iterator[Row]:
    """Scores of every two models that may be ranked, on the cells that both runs could see.

    A score is the mean of all its repeats; p is of the repeats that both have, and a note is added where that is less.
    """
    models = [(side, layer, side.margins(layer, concept)) for side in (one, other) for layer in side.ranked(concept)]
    kept = labels != VOID
    for _, _, margins in models:
        for row in margins.values():
            kept &= ~np.isnan(row)
    y = (labels[kept] == POSITIVE).astype(np.int8)
    numbers, group = np.unique(one.group[kept], return_inverse=True)
    positives = np.bincount(group[y == 1], minlength=len(numbers))
    cut = [
        (side, layer, {repeat: row[kept] for repeat, row in margins.items()})
        for side, layer, margins in models
        if margins
    ]
    scored = [(*of, _score(list(of[2].values()), y, group, len(numbers))) for of in cut]
    scored.sort(key=lambda of: (-of[3].value, of[0].name, of[1]))
    p: dict[tuple[int, int], float] = {}
    for i, j in combinations(range(len(scored)), 2):
        (a, _, of_a, _), (b, _, of_b, _) = scored[i], scored[j]
        if a is b:
            continue
        common = sorted(of_a.keys() & of_b.keys())
        if of_a.keys() != of_b.keys():
            (first, firsts), (second, seconds) = sorted([(a.name, len(of_a)), (b.name, len(of_b))])
            note = (
                f"{concept}: scores are means over repeats, {firsts} in {first} and {seconds} in {second}; "
                f"p is of the {len(common)} that both have"
            )
            if note not in notes:
                notes.append(note)
        pairs = [ranked_pair(of_a[repeat], of_b[repeat], y, group, len(numbers)) for repeat in common]
        p[i, j] = swap_test(pairs, generator(seed, "swap test", concept)) if pairs else float("nan")
    for d in differences([of[3] for of in scored], p, positives):
        (a, a_layer, *_), (b, b_layer, *_) = scored[d.one], scored[d.other]
        yield {
            "concept": concept,
            "probe": a.probe,
            "backbone_a": a.named(a_layer[0]),
            "layer_a": a_layer[1],
            "backbone_b": b.named(b_layer[0]),
            "layer_b": b_layer[1],
            "difference": d.difference.value,
            "lo": d.difference.lo,
            "hi": d.difference.hi,
            "p": d.p,
            "p_holm": d.p_holm,
            "smallest_difference": d.smallest,
            "established": d.established if d.p is not None else None,
            "reason": d.difference.reason,
        }


def _score(
    margins: Sequence[NDArray[np.float32]], y: NDArray[np.int8], group: NDArray[np.int64], n_groups: int
) -> Replicates:
    """Average precision, the mean over repeats."""
    return Replicates.mean([precision_replicates(row, y, group, n_groups) for row in margins])


def write_across(found: Across, folder: Path) -> None:
    """The three tables, into a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("matches", "subspaces", "differences"):
        write_table(folder, name, getattr(found, name))
