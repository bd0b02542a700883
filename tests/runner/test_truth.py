"""A run finds what was planted, nothing where there is nothing, and never learns from what it is tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit
from probekit.evaluate.scorer import evaluate_scorers, load_scorer
from probekit.features.store import CollectionKey, Store
from probekit.report.comparison import compare_models
from probekit.runner.job import JobInput, JobOutput, OpenJob, SelectionOnTestError, refuse_test
from probekit.runner.run import Run
from probekit.sampling.splits import Fold

Spec = Callable[..., Path]
TRUTH = 2


def planted(run: Run, **of: str) -> Any:
    points = run.points
    for column, value in of.items():
        points = points[points[column] == value]
    return points


def test_the_planted_channel_is_ranked_first_and_suffices(experiment: Spec) -> None:
    run = probekit.run(experiment())
    for concept, sign in (("disc", 1), ("square", -1)):
        for label in ("k90", "k95", "full"):
            final = run.fits[run.fits["fit_id"] == f"planted|cells|{concept}|topk|0|observed|{label}|final"]
            ranking = run.channels[run.channels["fit_id"] == final["fit_id"].item()].sort_values("rank")
            assert ranking["channel"].iloc[0] == TRUTH
            assert np.sign(ranking["coefficient"].iloc[0]) == sign
            assert ranking["folds"].iloc[0] == 1
    k95 = run.k_tau[(run.k_tau["probe"] == "topk") & (run.k_tau["tau"] == 0.95)]
    assert set(k95["k"]) <= {1, 2}
    assert set(k95["k_validation"]) <= {1, 2}
    assert (k95["full"] > 0.9).all()


def test_a_random_twin_is_never_ranked_and_knows_nothing(finished: Run) -> None:
    disc = compare_models(finished)[0]
    assert disc.concept == "disc"
    assert {line.backbone for line in disc.models} == {"planted", "tiny"}
    assert {line.backbone for line in disc.controls} == {"planted random", "tiny random", "pixels"}
    scores = {line.backbone: line.score for line in (*disc.models, *disc.controls)}
    assert scores["planted random"] is not None
    assert scores["planted"] is not None
    assert scores["planted random"] < 0.4 < 0.9 < scores["planted"]


def test_a_model_that_knows_something_is_above_its_nulls_and_ranked(surveyed: Run) -> None:
    models = surveyed.models[~surveyed.models["control"]]
    assert set(models["nulls"]) <= {"above", "not above"}
    assert (models.loc[models["backbone"] == "planted", "nulls"] == "above").all()
    for row in models.itertuples():
        nulls = surveyed.nulls[
            (surveyed.nulls["backbone"] == row.backbone) & (surveyed.nulls["concept"] == row.concept)
        ]
        deciding = nulls[nulls["decides"]]
        assert set(deciding["null"]) == {"permuted-labels", "twin · l1", "twin · topk"}
        assert (row.nulls == "above") == deciding["above"].astype(bool).all()
        assert sorted(row.not_above) == sorted(deciding.loc[~deciding["above"].astype(bool), "null"])
        assert np.isnan(row.rank) == (row.nulls == "not above")
        assert row.lo < row.score < row.hi
    drawn = surveyed.nulls[surveyed.nulls["null"] == "random-channels"]
    assert set(drawn["draws"]) == {4}
    assert set(drawn["rung"]) == {"2"}
    assert (drawn["value"] < drawn["score"]).all()


def test_a_model_that_is_not_above_its_nulls_gets_no_rank_and_no_k(experiment: Spec) -> None:
    """Every image has another's labels: there is nothing to know."""
    data = "{use: odd, with: {groups: 14, images: 1, height: 64, width: 80, shuffled: true, concept: disc}}"
    run = probekit.run(experiment(data=data, controls="[twins]"))
    (row,) = run.models[~run.models["control"]].itertuples()
    assert row.nulls == "not above"
    assert np.isnan(row.rank)
    assert len(row.not_above)
    curve = run.k_tau[run.k_tau["backbone"] == "planted"]
    assert len(curve)
    assert curve["k"].isna().all()
    assert curve["lo"].isna().all()
    assert curve["reason"].str.startswith("the full probe is not above").all()


def test_sets_of_k_hold_their_estimates(surveyed: Run) -> None:
    known = surveyed.k_tau.dropna(subset=["lo"])
    assert len(known)
    assert (known["lo"] <= known["k"]).all()
    assert (known["k"] <= known["hi"]).all()
    planted_k = known[(known["backbone"] == "planted") & (known["tau"] == 0.9) & (known["probe"] == "topk")]
    assert (planted_k["lo"] == 1).all()


def test_the_planted_channel_is_stable(surveyed: Run) -> None:
    table = surveyed.table("stability")
    stable = table[(table["backbone"] == "planted") & (table["concept"] == "disc")]
    assert all(TRUTH in row for row in stable["stable"])
    assert (stable["bound"] <= 1).all()
    assert stable["knockoffs"].notna().all()


def test_every_road_is_left_out_once(surveyed: Run) -> None:
    table = surveyed.table("outer")
    assert not table.duplicated(["backbone", "layer", "concept", "outer"]).any()
    assert set(table["outer"]) == {"road 0", "road 1", "road 2"}
    cells = surveyed.models.groupby("concept")["cells"].first()
    assert (table.groupby(["backbone", "concept"])["cells"].sum().groupby("concept").first() == cells).all()
    assert (table.groupby(["backbone", "concept"])["groups"].sum() == 16).all()
    assert (table.loc[table["backbone"] == "planted", "value"] > 0.7).all()


def test_calibration_helps_and_is_read_on_test(surveyed: Run) -> None:
    results = surveyed.results[surveyed.results["split"] == "test"].pivot_table(
        index="point_id", columns="metric", values="value", aggfunc="first"
    )
    known = results.dropna(subset=["brier"])
    assert {name.rpartition("|")[2] for name in known.index} == {"chosen", "full"}
    assert known["brier"].mean() < known["brier_before"].mean()
    assert (known["explained_deviance"] < 1).all()
    seen = surveyed.table("reliability")
    assert set(seen["point_id"]) <= set(surveyed.points["point_id"])
    assert (seen["observed"] * seen["cells"]).round(6).equals(seen["positives"].astype(float))


def test_labels_that_can_be_read_are_coded_in_fewer_bits(surveyed: Run) -> None:
    codes = surveyed.table("codes")
    assert (codes.loc[codes["backbone"] == "planted", "compression"] > 1.2).all()
    assert codes["bits"].gt(0).all()


def test_permuting_channels_permutes_the_ranking(experiment: Spec) -> None:
    order = [4, 2, 5, 0, 3, 1]
    one = probekit.run(experiment())
    two = probekit.run(experiment(backbones=f"{{planted: {{use: planted, with: {{order: {order}}}}}}}"), out="permuted")
    before, after = (run.channels.sort_values(["fit_id", "rank"], ignore_index=True) for run in (one, two))
    assert (before["fit_id"] == after["fit_id"]).all()
    assert [order[channel] for channel in after["channel"]] == before["channel"].tolist()
    np.testing.assert_allclose(after["coefficient"], before["coefficient"], atol=1e-4)
    np.testing.assert_allclose(two.results["value"], one.results["value"], atol=1e-3)


def test_labels_of_other_images_give_the_prevalence(experiment: Spec) -> None:
    data = "{use: odd, with: {groups: 6, images: 2, height: 64, width: 80, shuffled: true, concept: disc}}"
    run = probekit.run(experiment(data=data))
    full = planted(run, probe="topk", rung="full")["point_id"].item()
    scores = run.results[(run.results["point_id"] == full) & (run.results["split"] == "test")]
    natural = scores[scores["sampling"] == "natural"].set_index("metric")["value"]
    assert natural["average_precision"] < 3 * natural["prevalence"] < 0.5
    assert abs(natural["roc_auc"] - 0.5) < 0.2


@pytest.mark.parametrize("label", ["chosen", "full", "k90"])
def test_a_scorer_file_reproduces_the_probe_on_stored_features(
    experiment: Spec, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    jobs = recorded(monkeypatch)
    run = probekit.run(experiment())
    ((given, output),) = jobs
    (folder,) = (run.path / "scorers").iterdir()
    scorer, about = load_scorer(folder / f"disc.topk.{label}.safetensors")
    fit, threshold = output.finals["topk"][0][label]
    # The features as somebody else finds them: by what the file's header says of them.
    key = CollectionKey(about["weights_digest"], about["preprocessing"], about["layer"], "float32",
                        about["plugin"], about["adapter_version"])  # fmt: skip
    collection = Store(Path(".probekit-store")).collection(key)
    assert set(collection.images) == {cut.key for cut in given.dataset.cuts}
    features = np.concatenate([collection.read(image)[0] for image in sorted(collection.images)])
    margins = evaluate_scorers([scorer], features)[0]
    # On standardised features, as the probe was fitted.
    support, moments = fit.support, standardisation(given, output)
    z = (features[:, support] - moments[0][support]) / moments[1][support]
    expected = z @ fit.coefficient
    np.testing.assert_allclose(margins - margins[0], expected - expected[0], rtol=1e-4, atol=1e-4)
    row = run.fits[run.fits["fit_id"] == f"planted|cells|disc|topk|0|observed|{label}|final"]
    assert row["threshold"].item() == about["threshold"] == threshold
    assert 0 < (margins >= about["threshold"]).mean() < 0.3


def standardisation(job: JobInput, output: JobOutput) -> tuple[Any, Any]:
    """Mean and deviation over the final fit's rows: all that were drawn for discs."""
    from probekit.runner.rows import draw_training_rows, native_labels

    labels = native_labels(job.dataset, job.collection)
    key = (job.backbone, job.layer, job.repeat)
    rows = draw_training_rows(job.dataset, job.collection, labels, job.per_class, job.seed, key)
    drawn = rows.rows.numpy()[rows.drawn[0]].astype(np.float64)
    return drawn.mean(axis=0), drawn.std(axis=0)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[JobInput, JobOutput, OpenJob]]:
    """Every job that is fitted from now on, with what it found."""
    from probekit.runner import execute

    jobs, real = [], execute.fit_job

    def record(opened: OpenJob, advance: Any) -> JobOutput:
        output = real(opened, advance)
        jobs.append((opened.job, output))
        return output

    monkeypatch.setattr(execute, "fit_job", record)
    return jobs


def fits_of(output: JobOutput, fold: int) -> list[Any]:
    """All that a fold's fits and choices are, numbers and all."""
    found = []
    for probe, paths in output.paths.items():
        for (index, concept), path in paths.items():
            if index == fold:
                for kept in path.kept:
                    arrays = {name: np.asarray(value).tolist() for name, value in kept.fit.scorer.arrays.items()}
                    found.append(
                        (probe, concept, path.chosen, kept.fit.rung, kept.fit.support.tolist(), arrays,
                         kept.average_precision, kept.threshold, kept.mean, kept.deviation)
                    )  # fmt: skip
    return found


def alike(some: Any, others: Any) -> bool:
    """Equal, numbers to within what the solvers' certificates leave open: folds are solved in one batch."""
    if isinstance(some, (list, tuple)):
        same = isinstance(others, (list, tuple)) and len(some) == len(others)
        return same and all(alike(one, other) for one, other in zip(some, others, strict=True))
    if isinstance(some, dict):
        return some.keys() == others.keys() and all(alike(some[key], others[key]) for key in some)
    if isinstance(some, float):
        return isinstance(others, float) and some == pytest.approx(others, rel=1e-3, abs=1e-4)
    return bool(some == others)


def test_a_fold_knows_nothing_of_its_test_groups(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = recorded(monkeypatch)
    probes = (
        "{l1: {use: l1-path, with: {lambda_ratio: {points: 5, min: 0.01}}}, "
        "topk: {use: l2-subsets, with: {rank_by: l1, k: [2], widths: 4, ridges: [0.1, 0.001]}}, "
        "mlp: {use: mlp, with: {hidden: [4]}}}"
    )
    probekit.run(experiment(probes=probes))
    ((job, clean),) = jobs
    folds = job.folds
    groups = [job.dataset.groups[i] for i in folds[0].test]
    assert groups
    data = f"{{use: odd, with: {{groups: 6, images: 2, height: 64, width: 80, poisoned: {groups}}}}}"
    probekit.run(experiment(data=data, probes=probes), out="poisoned")
    _, poisoned = jobs[-1]
    for one, other in zip(fits_of(poisoned, 0), fits_of(clean, 0), strict=True):
        assert alike(one, other), (one, other)
    for fold in folds[1:]:  # which train or choose on these groups
        assert not alike(fits_of(poisoned, fold.index), fits_of(clean, fold.index))


def test_validation_groups_are_not_trained_on(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = recorded(monkeypatch)
    probekit.run(experiment())
    ((job, clean),) = jobs
    groups = [job.dataset.groups[i] for i in job.folds[0].validation]
    data = f"{{use: odd, with: {{groups: 6, images: 2, height: 64, width: 80, poisoned: {groups}}}}}"
    probekit.run(experiment(data=data), out="poisoned")
    _, poisoned = jobs[-1]
    for concept in (0, 1):
        for of, other in zip(clean.paths["l1"][0, concept].kept, poisoned.paths["l1"][0, concept].kept, strict=True):
            assert alike(of.fit.scorer.arrays["weight"].tolist(), other.fit.scorer.arrays["weight"].tolist())
            assert of.average_precision != other.average_precision


def test_a_choice_by_test_cells_is_refused() -> None:
    fold = Fold(0, np.array([0, 1]), np.array([2]), np.array([3]))
    refuse_test(fold, np.array([2, 2]))
    with pytest.raises(SelectionOnTestError, match="fold 0"):
        refuse_test(fold, np.array([2, 3]))


def test_a_run_whose_validation_holds_test_groups_stops(experiment: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    from probekit.runner import execute

    real = execute.build_folds

    def leaking(*given: Any) -> Any:
        return tuple(
            tuple(replace(fold, validation=np.append(fold.validation, fold.test[:1])) for fold in of_repeat)
            for of_repeat in real(*given)
        )

    monkeypatch.setattr(execute, "build_folds", leaking)
    with pytest.raises(SelectionOnTestError):
        probekit.run(experiment())
