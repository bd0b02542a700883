"""Everything that can be known to be wrong before the first forward pass: files, layers, parameters, folds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probekit.api import NEGATIVE, POSITIVE, Issue, LabelSource, ParameterError, ProbekitError
from probekit.plan.networks import Network, build_networks
from probekit.plan.units import Job, build_jobs, check_widths
from probekit.plugins import PluginError
from probekit.runner.blocks import with_buffer
from probekit.runner.dataset import Dataset
from probekit.runner.hardware import resolve_device
from probekit.runner.job import ProbeEntry
from probekit.runner.sources import CombinedSource, circular_concepts, provenance_of
from probekit.sampling.splits import Fold, group_kfold, holdout, missing_classes
from probekit.spec.models import GroupKFold
from probekit.spec.resolved import Resolved


@dataclass(frozen=True)
class Prepared:
    """An experiment whose every part was found sound before the first forward pass."""

    resolved: Resolved
    source: LabelSource
    networks: tuple[Network, ...]
    probes: tuple[ProbeEntry, ...]
    jobs: tuple[Job, ...]
    notes: tuple[str, ...]


def prepare(resolved: Resolved, threads: int = 1) -> Prepared:
    """Everything that can be known to be wrong without reading weights or decoding an image, found at once.

    Raises:
        ProbekitError: all of it.
    """
    issues = _tile_issues(resolved)
    source: LabelSource | None = None
    networks: tuple[Network, ...] = ()
    sound = False
    try:
        source = build_source(resolved)
        wrong = source.check()
        issues += wrong
        sound = not wrong
    except ProbekitError as error:
        issues += error.issues
    try:
        networks = build_networks(with_devices(resolved))
    except ProbekitError as error:
        issues += error.issues
    if source is not None and sound:  # who made labels may be written in files that have to be there
        issues += _circular_issues(resolved, source, networks)
    probes: tuple[ProbeEntry, ...] = ()
    notes: list[str] = []
    try:
        probes = build_probes(resolved, threads)
        if networks:
            notes = check_widths(resolved, {entry.name: entry.probe for entry in probes}, networks)
    except ProbekitError as error:
        issues += error.issues
    if issues or source is None:
        raise ProbekitError(dict.fromkeys(issues))
    jobs = build_jobs(networks, resolved.experiment.repeats)
    return Prepared(resolved, source, networks, probes, jobs, tuple(notes))


def _tile_issues(resolved: Resolved) -> list[Issue]:
    tile, cell = resolved.experiment.tile, resolved.experiment.evaluation.grid
    split = resolved.experiment.split
    issues = []
    if split.size is not None and tile is None:
        what = "blocks are made of tiles, and images are not cut: set tile, as {size: 1024, overlap: 128}"
        issues.append(resolved.at(("split", "by"), what))
    elif split.size is not None and tile is not None and split.size < tile.size:
        what = f"blocks of {split.size} px cannot hold tiles of {tile.size} px: at least {tile.size}, or smaller tiles"
        issues.append(resolved.at(("split", "size"), what))
    if tile is not None and tile.overlap + cell > tile.size:
        what = f"tiles of {tile.size} px must leave a cell of {cell} px between overlaps: at most {tile.size - cell}"
        issues.append(resolved.at(("tile", "overlap"), what if cell <= tile.size else f"{what}; use larger tiles"))
    return issues


def _circular_issues(resolved: Resolved, source: LabelSource, networks: Sequence[Network]) -> list[Issue]:
    """Models whose own family made the labels that they would be probed with, unless the spec allows it."""
    if resolved.experiment.allow_circular:
        return []
    issues = []
    for name, concepts in circular_concepts(source, networks).items():
        labels = ", ".join(concepts[:4]) + (f" and {len(concepts) - 4} more" if len(concepts) > 4 else "")
        family = provenance_of(source, concepts[0]).family
        what = (
            f"a model of its own family ({family}) made the labels of {labels}: its scores on them would be circular. "
            "Take other labels, or set allow_circular: true to have every such result marked"
        )
        issues.append(resolved.at(resolved.backbones[name].section, what))
    return issues


def build_source(resolved: Resolved) -> LabelSource:
    """Constructs the label source; several are combined.

    Raises:
        ProbekitError: one of them, or several, cannot be made of their parameters.
    """
    sources: dict[str, LabelSource] = {}
    issues = []
    for use in resolved.data:
        cache = resolved.store / "labels" / use.plugin.qualified.replace("/", "-")
        try:
            sources[use.name] = use.plugin.load()(use.parameters, cache=cache, seed=resolved.experiment.seed)
        except ParameterError as error:
            issues.append(resolved.locate(use.section, error))
        except PluginError as error:
            issues.append(resolved.at((*use.section, "use"), str(error)))
    if issues:
        raise ProbekitError(issues)
    if not resolved.lists_sources:
        return sources[resolved.data[0].name]
    sections = {use.name: use.section for use in resolved.data}
    return CombinedSource(sources, lambda name, what: resolved.at(sections[name], what))


def build_probes(resolved: Resolved, threads: int = 1) -> tuple[ProbeEntry, ...]:
    """Constructs the probe families, upstream before downstream.

    Raises:
        ProbekitError: all that is wrong with their parameters.
    """
    device = resolve_device(resolved.experiment.device, str(resolved.at(("device",), "").where))
    entries, issues = [], []
    for name, use in resolved.probes.items():
        try:
            entries.append(
                ProbeEntry(name, use.plugin.load()(use.parameters, device=device, threads=threads), use.upstream)
            )
        except ParameterError as error:
            issues.append(resolved.locate(use.section, error))
        except PluginError as error:
            issues.append(resolved.at((*use.section, "use"), str(error)))
    if issues:
        raise ProbekitError(issues)
    return tuple(entries)


def with_devices(resolved: Resolved) -> Resolved:
    """The same, every backbone's device resolved: ``auto`` is what this machine has."""

    def resolve(section: tuple[str | int, ...], name: str) -> str:
        entry = resolved.document.data.get(str(section[0]))
        own = isinstance(entry, dict) and "device" in entry[section[1]]
        return resolve_device(name, str(resolved.at((*section, "device") if own else ("device",), "").where))

    return replace(
        resolved,
        backbones={n: replace(u, device=resolve(u.section, u.device)) for n, u in resolved.backbones.items()},
        controls={n: replace(u, device=resolve(u.section, u.device)) for n, u in resolved.controls.items()},
    )


def build_folds(resolved: Resolved, dataset: Dataset) -> tuple[tuple[Fold, ...], ...]:
    """The folds of every repeat.

    Raises:
        ProbekitError: a class is missing in some part of some fold, for every concept that lacks it.
    """
    experiment = resolved.experiment
    split = experiment.split
    counts = dataset.groups, dataset.cells_by_group(POSITIVE), dataset.cells_by_group(NEGATIVE)
    by_cut = dataset.cells_by_cut(POSITIVE), dataset.cells_by_cut(NEGATIVE)
    repeats = []
    issues: list[Issue] = []
    for repeat in range(experiment.repeats):
        folds: tuple[Fold, ...]
        if isinstance(split, GroupKFold):
            folds = group_kfold(
                *counts, folds=split.folds, validation=split.validation, seed=experiment.seed, repeat=repeat
            )
        else:
            folds = holdout(*counts, test=split.test, validation=split.validation, seed=experiment.seed, repeat=repeat)
        folds = with_buffer(folds, dataset, experiment)
        repeats.append(folds)
        where = resolved.at(("split",), "").where
        issues += missing_classes(folds, *by_cut, dataset.concepts, where=where, cuts=dataset.cut_groups)
        if issues:
            raise ProbekitError(issues)
    return tuple(repeats)


def data_digest(source: LabelSource) -> str:
    """One digest over every image, its group and its masks."""
    digest = hashlib.sha256()
    for image in source.images():
        masks = [source.mask_digest(image, concept) for concept in source.concepts]
        digest.update(json.dumps([image.id, image.group, image.outer, image.digest, masks]).encode())
    return f"sha256:{digest.hexdigest()}"


def weights_files(prepared: Prepared) -> dict[str, str]:
    """The digests of the networks' weights that are files of the user's, which may change under a spec that does not.

    Raises:
        ProbekitError: files that cannot be read, each at its place in the spec.
    """
    digests, issues = {}, []
    for network in prepared.networks:
        if network.kind != "model" or not isinstance(getattr(network.parameters, "weights", None), Path):
            continue
        try:
            digests[network.name] = network.backbone.weights().digest
        except ParameterError as error:
            issues.append(prepared.resolved.locate(prepared.resolved.backbones[network.name].section, error))
    if issues:
        raise ProbekitError(issues)
    return digests
