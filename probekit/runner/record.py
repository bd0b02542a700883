"""What ``run.json`` says of a run: its labels, its networks, what should give its reader pause."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from probekit.api import POSITIVE, VOID, WeightsInfo
from probekit.plan.networks import Network
from probekit.runner.dataset import Dataset
from probekit.runner.prepare import Prepared
from probekit.runner.scoring import ReferenceCells
from probekit.runner.sources import circular_concepts, provenance_of, shared_concepts


def headline(prepared: Prepared, dataset: Dataset, units: int) -> str:
    """What the run consists of, as a line for people."""
    experiment = prepared.resolved.experiment
    images = len({cut.image.id for cut in dataset.cuts})
    models = sum(not network.control for network in prepared.networks)
    controls = len(prepared.networks) - models
    return (
        f"{experiment.name} · {images} images, {len(dataset.groups)} groups · {len(dataset.concepts)} concepts · "
        f"{models} backbones, {controls} controls · {units} units in {len(prepared.jobs)} jobs"
    )


def concept_line(name: str, dataset: Dataset, concept: int) -> str:
    """What there is of a concept, as a line for people."""
    count = dataset.count(concept)
    judged = count.cells + count.between
    width = max(10, *map(len, dataset.concepts))
    return (
        f"{name:<{width}} positive cells {100 * count.positives / max(count.cells, 1):.1f} %  in "
        f"{count.groups_with_positives} groups    void {100 * count.between / max(judged, 1):.1f} %"
    )


def circular_labels(prepared: Prepared) -> list[str]:
    """Warns where a model is probed with labels that a model of its family made."""
    source = prepared.source
    lines = []
    for name, concepts in circular_concepts(source, prepared.networks).items():
        family = provenance_of(source, concepts[0]).family
        of = "its labels" if len(concepts) == len(source.concepts) else f"the labels of {', '.join(concepts)}"
        lines.append(f"{name}: {of} were made by a model of its own family ({family}): its scores on them are circular")
    return lines


def circular_pairs(prepared: Prepared) -> set[tuple[str, str]]:
    """(backbone, concept) of every result that is circular: labels that a model of the backbone's family made."""
    found = circular_concepts(prepared.source, prepared.networks)
    return {(name, concept) for name, concepts in found.items() for concept in concepts}


def describe_network(network: Network, weights: WeightsInfo) -> dict[str, Any]:
    """A network, with all that is needed to make its features again."""
    return {
        "kind": network.kind,
        "control": network.control,
        "of": network.of,
        "plugin": network.plugin.qualified,
        "adapter_version": network.plugin.descriptor.version,
        "family": network.backbone.family,
        "weights": {"kind": weights.kind, "digest": weights.digest, "source": weights.source},
        "preprocessing": json.loads(json.dumps(dict(network.backbone.preprocessing))),
        "device": network.device,
        "dtype": network.dtype,
        "layers": {
            name: {"channels": tap.channels, "stride": list(tap.stride), "kind": tap.kind}
            for name, tap in network.taps.items()
        },
    }


def run_record(
    prepared: Prepared, dataset: Dataset, cells: ReferenceCells, described: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``run.json`` says of a finished run."""
    provenances = {name: provenance_of(dataset.source, name) for name in dataset.concepts}
    sizes = {cut.image.id: [cut.image.height, cut.image.width] for cut in dataset.cuts}
    return {
        "name": prepared.resolved.experiment.name,
        "repeats": prepared.resolved.experiment.repeats,
        "concepts": list(dataset.concepts),
        "labels": {
            name: {
                "cells": count.cells,
                "positives": count.positives,
                "between": count.between,
                "unlabelled": count.unlabelled,
                "groups_with_positives": count.groups_with_positives,
                "scored_cells": int((cells.labels[concept] != VOID).sum()),
                "scored_positives": int((cells.labels[concept] == POSITIVE).sum()),
            }
            for concept, name in enumerate(dataset.concepts)
            for count in [dataset.count(concept)]
        },
        "label_provenance": {
            name: {"made_by": made.made_by, "family": made.family, "detail": made.detail}
            for name, made in provenances.items()
        },
        "shared_concepts": shared_concepts(dataset.source),
        "circular": sorted(map(list, circular_pairs(prepared))),
        "images": sorted(sizes),
        "sizes": [size for _, size in sorted(sizes.items())],
        "images_digest": _images_digest(dataset),
        "groups": list(dataset.groups),
        "skipped": dict(dataset.skipped),
        "reference_cells": cells.digest,
        "backbones": dict(described),
        "probes": [entry.name for entry in prepared.probes],
        "chosen_on": {
            "lambda, ridge, epochs, k of the scorers": "each fold's validation, by average precision",
            "threshold": "each fold's validation, by F1",
            "temperature, offset": "each fold's validation, by likelihood",
            "rows of the final fits": "all groups, at the folds' medians; no score is claimed from them",
            "k_tau": "estimated on test; selects nothing",
        },
    }


def _images_digest(dataset: Dataset) -> str:
    """Of the images' content and how they are cut: two runs with the same one have the same reference cells."""
    cuts = sorted([cut.image.id, cut.key, dataset.groups[cut.group]] for cut in dataset.cuts)
    return f"sha256:{hashlib.sha256(json.dumps(cuts).encode()).hexdigest()}"
