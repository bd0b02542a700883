"""Description lengths of a job: every portion is coded by what was fitted on the groups before it, and on no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import probekit
from probekit.api import NEGATIVE, POSITIVE, Fit, Path, Problem, Rows, Scorer
from probekit.evaluate.description_length import CodeLength, label_bits
from probekit.features.rows import MemoryRows
from probekit.runner.analyses.coding import code_lengths
from probekit.runner.job import FoldPath, JobInput, JobOutput, KeptFit, OpenJob, ProbeEntry
from probekit.runner.rows import TrainingRows
from probekit.sampling.portions import portion_order
from probekit.sampling.splits import Fold

Spec = Callable[..., FilePath]


def scored(weight: Any, bias: float, **details: Any) -> Fit:
    w = np.asarray(weight, dtype=np.float64)
    channels = np.arange(len(w))
    scorer = Scorer("linear", channels, {"weight": w, "bias": np.array(bias)})
    return Fit(0, channels, w, scorer, choices={"ridge": 0.05}, details=details)


@dataclass
class Ridge:
    """A logistic probe by scikit-learn that keeps what it was asked."""

    name: str
    asked: list[tuple[Problem, Path | None]]
    calls: list[int]

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        above = upstream if upstream is not None else [None] * len(problems)
        self.calls.append(len(problems))
        self.asked += zip(problems, above, strict=True)
        return [self._fit(rows.numpy(), problem) for problem in problems]

    def _fit(self, x: Any, problem: Problem) -> Path:
        assert problem.finals is not None
        ((label, chosen),) = problem.finals.items()
        used = problem.weights > 0
        z = (x[used] - problem.mean) / problem.scale
        probe = LogisticRegression(C=1 / (chosen[0].choices["ridge"] * used.sum()), tol=1e-9, max_iter=1000)
        probe.fit(z, problem.y[used], problem.weights[used])
        w = probe.coef_[0] / problem.scale
        return Path((scored(w, float(probe.intercept_[0] - w @ problem.mean), label=label, of=self.name),))


def make_job(n_groups: int = 24, each: int = 30, concepts: int = 2, seed: int = 0) -> tuple[JobInput, TrainingRows]:
    """Two probes, one above the other, on rows whose first channels tell the concepts."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups, dtype=np.int32), each)
    y = (rng.random((concepts, len(group))) < 0.3).astype(np.int8)
    x = rng.standard_normal((len(group), 5)).astype(np.float32)
    x[:, :concepts] += 2 * y.T
    drawn = rng.random(y.shape) < 0.8
    names = tuple(f"g{i:03d}" for i in range(n_groups))
    dataset: Any = SimpleNamespace(concepts=("crack", "pothole")[:concepts], groups=names)
    cells: Any = SimpleNamespace(labels=np.where(y == 1, POSITIVE, NEGATIVE), group=group)
    folds: Any = [SimpleNamespace(index=fold) for fold in range(3)]
    probes: Any = [ProbeEntry(name, Ridge(name, [], []), above) for name, above in (("l1", None), ("top", "l1"))]  # type: ignore[arg-type]
    job = JobInput("sam", "neck", 0, 7, 1000, dataset, cells, None, folds, probes)  # type: ignore[arg-type]
    return job, TrainingRows(MemoryRows(x), np.zeros(len(group), np.int64), group, y, drawn)


def coded(job: JobInput, training: TrainingRows, apart: Any = tuple) -> dict[tuple[str, int], CodeLength]:
    fit = scored(np.zeros(training.rows.shape[1]), 0.0, label="chosen")
    concepts = range(len(job.dataset.concepts))
    path = FoldPath((KeptFit(fit, 0.5, 0.0, 0.0, 1.0),), 0)
    paths = {entry.name: {(fold.index, c): path for fold in job.folds for c in concepts} for entry in job.probes}
    finals = {entry.name: {c: {"chosen": (fit, 0.0)} for c in concepts} for entry in job.probes}
    return code_lengths(job, training, paths, finals, apart)


def asked(job: JobInput, name: str) -> list[tuple[Problem, Path | None]]:
    (probe,) = (entry.probe for entry in job.probes if entry.name == name)
    assert isinstance(probe, Ridge)
    return probe.asked


def test_every_portion_is_coded_by_the_fit_on_the_groups_before_it() -> None:
    job, training = make_job()
    found = coded(job, training)
    assert set(found) == {("l1", 0), ("l1", 1), ("top", 0), ("top", 1)}
    for concept in (0, 1):
        drawn, y = training.drawn[concept], training.y[concept]
        weights = training.weights(concept, np.arange(24))
        asks = [problem for problem, _ in asked(job, "l1") if (problem.y == y).all()]
        used = sorted((problem.weights > 0 for problem in asks), key=np.sum)
        before = [set(training.group[of]) for of in used]
        assert [len(groups) for groups in before] == [3, 6, 12]
        assert all(one < other for one, other in pairwise(before))
        for of, groups in zip(used, before, strict=True):
            assert (of == (drawn & np.isin(training.group, list(groups)))).all()
        bits = weights[used[0]].sum()
        ends = [*before[1:], set(range(24))]
        for problem in asks:
            of = problem.weights > 0
            assert problem.weights[of & (y == 1)].sum() == pytest.approx(of.sum() / 2)
            np.testing.assert_allclose(problem.mean, training.rows.numpy()[of].mean(axis=0), atol=1e-5)
            groups = set(training.group[of])
            here = drawn & np.isin(training.group, list(ends[before.index(groups)] - groups))
            x = training.rows.numpy()[here].astype(np.float64)
            scorer = Ridge("l1", [], [])._fit(training.rows.numpy(), problem).fits[0].scorer
            margins = x @ scorer.arrays["weight"] + scorer.arrays["bias"]
            bits += weights[here] @ label_bits(margins, y[here])
        assert found["l1", concept].plain == pytest.approx(bits, rel=1e-5)
        assert found["l1", concept].uniform == pytest.approx(drawn.sum())
        assert found["l1", concept].final == pytest.approx(drawn.sum())  # the final fit that was given knows nothing
        assert 1.3 < found["l1", concept].compression < 8


def test_a_probe_gets_the_paths_of_its_upstream_on_the_same_groups() -> None:
    job, training = make_job()
    found = coded(job, training)
    asks = list(zip(asked(job, "l1"), asked(job, "top"), strict=True))
    assert len(asks) == 6
    for (own, nothing), (other, above) in asks:
        assert nothing is None
        assert above is not None
        assert above.fits[0].details == {"label": "chosen", "of": "l1"}
        assert (own.weights == other.weights).all()
        expected = Ridge("l1", [], [])._fit(training.rows.numpy(), own).fits[0]
        np.testing.assert_array_equal(above.fits[0].coefficient, expected.coefficient)
        assert own.seed != other.seed
    assert found["l1", 0] == found["top", 0]
    assert job.probes[0].probe.calls == [3, 3]  # type: ignore[attr-defined]


def test_what_comes_later_changes_no_earlier_fit() -> None:
    job, training = make_job(concepts=1)
    clean = coded(job, training)["l1", 0]
    half = max((problem.weights > 0 for problem, _ in asked(job, "l1")), key=np.sum)
    turned = np.where(np.isin(training.group, training.group[half]), training.y, 1 - training.y).astype(np.int8)
    other, _ = make_job(concepts=1)
    poisoned = coded(other, replace(training, y=turned))["l1", 0]
    for (one, _), (two, _) in zip(asked(job, "l1"), asked(other, "l1"), strict=True):
        np.testing.assert_array_equal(one.weights, two.weights)
        np.testing.assert_array_equal(one.y[one.weights > 0], two.y[two.weights > 0])
    assert poisoned.portions[-1].plain > 2 * clean.portions[-1].plain
    assert poisoned.compression < 1 < clean.compression


def test_doubled_rows_cost_the_same_a_label() -> None:
    job, training = make_job()
    rows = MemoryRows(np.repeat(training.rows.numpy(), 2, axis=0))
    twice = TrainingRows(
        rows, *(np.repeat(of, 2, axis=-1) for of in (training.cut, training.group, training.y, training.drawn))
    )
    once, doubled = coded(job, training), coded(make_job()[0], twice)
    for key, code in once.items():
        assert doubled[key].uniform == pytest.approx(2 * code.uniform)
        assert doubled[key].per_label == pytest.approx(code.per_label, rel=1e-4)


def test_models_of_a_run_share_their_portions_and_repeats_do_not() -> None:
    def before(**other: Any) -> list[list[int]]:
        job, training = make_job()
        job = replace(job, **other)
        coded(job, training)
        return [np.flatnonzero(problem.weights).tolist() for problem, _ in asked(job, "l1")]

    first = before()
    assert before(backbone="faster-rcnn", layer="p2") == first
    assert before(repeat=1) != first
    assert before(seed=8) != first


def test_groups_renamed_in_order_change_nothing() -> None:
    job, training = make_job()
    renamed: Any = SimpleNamespace(concepts=job.dataset.concepts, groups=tuple(f"r{n}" for n in job.dataset.groups))
    assert coded(replace(job, dataset=renamed), training) == coded(job, training)


def test_concepts_with_too_few_groups_are_left_out() -> None:
    job, training = make_job(n_groups=3)
    assert coded(job, training) == {}
    assert asked(job, "l1") == []


def test_a_first_portion_that_must_take_all_groups_leaves_its_concept_out() -> None:
    job, training = make_job()
    last = portion_order(job.dataset.groups, np.ones(24, dtype=bool), job.seed, job.repeat, "crack")[-1]
    training.y[0] = (training.group != last) | training.y[0]
    job.cells.labels[0] = POSITIVE
    assert set(coded(job, training)) == {("l1", 1), ("top", 1)}


def test_a_buffer_keeps_rows_out_of_the_fits_but_not_out_of_the_code() -> None:
    job, training = make_job(concepts=1)
    whole = coded(job, training)["l1", 0]
    training.cut[:] = np.arange(len(training.cut)) % 3
    seen = []

    def apart(folds: Sequence[Fold]) -> list[Fold]:
        seen.extend((set(fold.train), set(fold.test)) for fold in folds)
        assert all(len(fold.validation) == 0 for fold in folds)
        return [replace(fold, left_out=np.array([0, 1, 2] if fold.index == 1 else [1])) for fold in folds]

    other, _ = make_job(concepts=1)
    apart_code = coded(other, training, apart)["l1", 0]
    assert [(len(train), len(test)) for train, test in seen] == [(3, 3), (6, 6), (12, 12)]
    assert all(train | test == after[0] for (train, test), after in pairwise(seen))
    used = [problem.weights > 0 for problem, _ in asked(other, "l1")]
    assert len(used) == 2  # nothing was left before the second portion
    assert not any((training.cut[of] == 1).any() for of in used)
    assert [portion.uniform for portion in apart_code.portions] == [portion.uniform for portion in whole.portions]
    assert apart_code.portions[1].bits == pytest.approx(apart_code.portions[1].uniform)
    assert apart_code.portions[2].bits < apart_code.portions[2].uniform


class _EnoughError(Exception):
    """The job was fitted; what a run does afterwards is not needed."""


PROBES = (
    "{l1: {use: l1-path, with: {lambda_ratio: {points: 5, min: 0.01}}}, "
    "topk: {use: l2-subsets, with: {rank_by: l1, k: [2], widths: 4, ridges: [0.1, 0.001]}}, "
    "products: {use: polynomial, with: {rank_by: l1, k: 3, ridges: [0.1, 0.001]}}, "
    "mlp: {use: mlp, with: {hidden: [4], epochs: 10}}}"
)


def test_a_planted_concept_is_short_and_labels_that_nothing_tells_are_not(
    experiment: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probekit.runner import execute

    found, real = [], execute.fit_job

    def record(opened: OpenJob, *rest: Any, **more: Any) -> JobOutput:
        found.append((opened, real(opened, *rest, **more)))
        raise _EnoughError

    monkeypatch.setattr(execute, "fit_job", record)
    data = "{use: odd, with: {groups: 24, images: 1, height: 64, width: 80, concept: disc}}"
    with pytest.raises(_EnoughError):
        probekit.run(experiment(data=data, probes=PROBES))
    ((opened, output),) = found
    true = code_lengths(opened.job, opened.training, output.paths, output.finals)
    assert set(true) == {(name, 0) for name in ("l1", "topk", "products", "mlp")}
    y = opened.training.y.copy()
    y[0, opened.training.drawn[0]] = np.random.default_rng(0).permutation(y[0, opened.training.drawn[0]])
    false = code_lengths(opened.job, replace(opened.training, y=y), output.paths, output.finals)
    for name in ("l1", "topk", "products"):
        code = true[name, 0]
        assert code.compression > 2
        assert code.portions[-1].bits < 0.3 * code.portions[-1].uniform
        assert code.final is not None
        assert code.final < 0.4 * code.uniform
        assert false[name, 0].compression < 1.05
    # Ten epochs of few rows teach a network little: it says less, but no nonsense.
    assert 0.9 < true["mlp", 0].compression < true["topk", 0].compression
