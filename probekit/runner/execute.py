"""From a spec to a finished run: resolve, label, extract, fit, assess, write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.api import Issue, ProbekitError
from probekit.features.store import Collection, Store
from probekit.runner.analyses.analyse import Analyses, Wanted, analyse
from probekit.runner.analyses.conditions import CONTROL_TASK, PERMUTED_LABELS, control_task, permuted_labels
from probekit.runner.assemble import assemble
from probekit.runner.assess import assess, points_of
from probekit.runner.blocks import block_notes, build_outer_folds, left_out_rows, with_buffer
from probekit.runner.clock import Clock
from probekit.runner.comparisons.ablation import require_editable
from probekit.runner.comparisons.everything import write_comparisons
from probekit.runner.dataset import Dataset, build_dataset
from probekit.runner.environment import environment
from probekit.runner.extraction import extract_network, layer_costs
from probekit.runner.folder import begin, display, held, read_state, write_atomically
from probekit.runner.hardware import limited_threads
from probekit.runner.job import JobInput, fit_job, open_job
from probekit.runner.predict import forecast, require_room
from probekit.runner.prepare import Prepared, build_folds, data_digest, prepare, weights_files
from probekit.runner.progress import Progress, Silent
from probekit.runner.record import circular_labels, concept_line, describe_network, headline, run_record
from probekit.runner.run import Run, load
from probekit.runner.schemas import SCHEMA_VERSION
from probekit.runner.scoring import ReferenceCells, common_cells, require_classes
from probekit.runner.shared_cells import write_shared_cells
from probekit.runner.write import write_job
from probekit.spec.load import load_experiment
from probekit.spec.models import Experiment
from probekit.spec.resolved import changed_keys


def run(
    spec: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Runs an experiment, or goes on with it where it stopped, or returns at once what is finished.

    Args:
        spec: the experiment file.
        overrides: ``dotted.key=value``, as after ``--set``.
        out: the run's folder; ``runs/NAME`` in the working directory unless given.
        replace: deletes a run of another spec in that folder.
        progress: told what is going on; silent unless given.

    Raises:
        ProbekitError: everything that is wrong with what the user gave.
    """
    shown = progress or Silent()
    resolved = load_experiment(spec, overrides)
    folder = Path(out) if out is not None else Path("runs") / resolved.experiment.name
    with held(folder), limited_threads(resolved.experiment.threads) as threads:
        prepared = prepare(resolved, threads)
        identity = {
            "schema_version": SCHEMA_VERSION,
            "spec": json.loads(json.dumps(resolved.canonical(folder))),
            "data": data_digest(prepared.source),
            "weights": weights_files(prepared),
            "environment": environment(resolved, prepared.networks),
        }
        state = begin(folder, identity, _changes(read_state(folder), identity), replace)
        if state is not None and state.get("complete"):
            shown.say(f"{display(folder)} is finished; nothing was left to do")
            return load(folder)
        write_atomically(folder / "spec.yaml", resolved.dump(folder).encode())
        _execute(prepared, folder, identity, threads, shown)
    return load(folder)


def _changes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """How a run's record differs from what is asked for now; versions matter only while it is not finished."""
    if old is None:
        return []
    if old.get("schema_version") != new["schema_version"]:
        return [f"its format was {old.get('schema_version')}, is {new['schema_version']}"]
    changes = [str(change) for change in changed_keys(old["spec"], new["spec"])]
    if not changes and old["data"] != new["data"]:
        changes.append("images, groups or masks are not those of the run")
    if not changes and old["weights"] != new["weights"]:
        names = ", ".join(name for name in new["weights"] if old["weights"].get(name) != new["weights"][name])
        changes.append(f"the weights of {names} are not those of the run")
    if not changes and not old.get("complete"):
        changes += [str(change) for change in changed_keys(old["environment"], new["environment"])]
    return changes


def _execute(prepared: Prepared, folder: Path, identity: Mapping[str, Any], threads: int, progress: Progress) -> None:
    """The work itself, in a folder that is held."""
    resolved, experiment = prepared.resolved, prepared.resolved.experiment
    clock = Clock()
    with clock.measured("labels", "reference grid"):
        dataset = build_dataset(prepared.source, experiment, threads, progress)
    folds = build_folds(resolved, dataset)
    units = len(prepared.jobs) * len(dataset.concepts) * len(prepared.probes) * len(folds[0])
    progress.say(headline(prepared, dataset, units))
    for concept, name in enumerate(dataset.concepts):
        progress.say(concept_line(name, dataset, concept))
    warnings = [*prepared.notes, *circular_labels(prepared)]
    warnings += block_notes(dataset, experiment, folds)
    warnings += [f"{name} skipped: {why}" for name, why in dataset.skipped]

    store = Store(resolved.store, experiment.store.budget)
    require_room(store, forecast(prepared, dataset, store))
    try:
        store.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProbekitError([Issue(display(store.path), f"cannot be used as the store: {error.strerror}")]) from None
    collections: dict[tuple[str, str], Collection] = {}
    described: dict[str, Any] = {}
    for network in prepared.networks:
        with clock.measured("features", network.name):
            extraction, weights = extract_network(network, dataset, experiment, store, threads, progress)
        for layer, collection in extraction.collections.items():
            collections[network.name, layer] = collection
        described[network.name] = describe_network(network, weights)
    costs = layer_costs(prepared.networks, dataset, experiment, collections, threads)
    require_editable(prepared, dataset, threads)
    cells = common_cells(dataset, collections.values())
    require_classes(resolved, dataset, cells, folds)

    outer = build_outer_folds(experiment, dataset)
    warnings += outer.skipped if outer is not None else ()
    conditions = _conditions(experiment, dataset, collections.values(), threads, clock)
    progress.start("Probes", ", ".join(entry.name for entry in prepared.probes), units, "units")
    for job in prepared.jobs:
        target = folder / "jobs" / job.name
        count = units // len(prepared.jobs)
        if target.is_dir():
            progress.advance(count, "kept from before")
            continue
        given = JobInput(
            job.backbone,
            job.layer,
            job.repeat,
            experiment.seed,
            experiment.sampling.per_class,
            dataset,
            cells,
            collections[job.backbone, job.layer],
            folds[job.repeat],
            prepared.probes,
            experiment.evaluation.deployment_prevalence,
            threads,
        )
        what, advance = (
            f"{job.backbone} {job.layer} {job.repeat}",
            partial(_advance, progress, f"{job.backbone} {job.layer}"),
        )
        with clock.measured("probes", what):
            opened = open_job(given)
            output = fit_job(opened, advance)
            assessed = list(assess(given, points_of(given, output)))
        analyses = Analyses()
        if not described[job.backbone]["control"]:
            wanted = Wanted(
                conditions,
                range(job.repeat, experiment.nulls.random_channels, experiment.repeats),
                experiment.stability.pairs if job.repeat == 0 else 0,
                experiment.stability.expected_false,
                experiment.stability.knockoffs,
                experiment.evaluation.description_length,
                outer if job.repeat == 0 else None,
                partial(with_buffer, dataset=dataset, experiment=experiment),
                experiment.comparison.interactions and job.repeat == 0,
            )
            with clock.measured("nulls", what):
                analyses = analyse(opened, output, wanted, advance)
        write_job(target, given, output, assessed, analyses, described[job.backbone])
    progress.finish()
    with clock.measured("cells", "for comparisons elsewhere"):
        write_shared_cells(folder, dataset, cells, collections)
    models = {layer: of for layer, of in collections.items() if not described[layer[0]]["control"]}
    write_comparisons(folder, prepared, dataset, cells, models, folds[0], threads, clock, progress)
    for other, _ in conditions.values():
        warnings += list(getattr(other.source, "notes", ()))
    record = {**identity, **run_record(prepared, dataset, cells, described), "warnings": warnings}
    if experiment.split.by == "blocks":
        record["left_out"] = left_out_rows(dataset, folds)
    assemble(folder, prepared.jobs, record, cells, _images(dataset), folds, costs, clock)


def _images(dataset: Dataset) -> NDArray[np.int32]:
    """The image of every reference cell, (cells,)."""
    numbers = np.empty(len(dataset.cuts), dtype=np.int32)
    for number, (_, places) in enumerate(dataset.by_image()):
        numbers[places] = number
    return np.repeat(numbers, np.diff(dataset.offsets))


def _conditions(
    experiment: Experiment, dataset: Dataset, collections: Iterable[Collection], threads: int, clock: Clock
) -> dict[str, tuple[Dataset, ReferenceCells]]:
    """The images with the labels of each null condition, and the cells that are scored under it."""
    made: dict[str, tuple[Dataset, ReferenceCells]] = {}
    for name, wanted, make in (
        (PERMUTED_LABELS, experiment.nulls.permuted_labels, permuted_labels),
        (CONTROL_TASK, experiment.nulls.control_task, control_task),
    ):
        if wanted:
            with clock.measured("nulls", name):
                other = make(dataset, experiment.seed, threads)
                made[name] = other, common_cells(other, collections)
    return made


def _advance(progress: Progress, where: str, count: int, what: str) -> None:
    progress.advance(count, f"{where} · {what}")
