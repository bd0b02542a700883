"""The estimators keep scikit-learn's contract, and find what scikit-learn's own solvers find."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from probekit_linear import SparseLogisticPath, SubsetLogistic
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

GRID = [0.1, 0.03, 0.01]


@pytest.fixture(scope="module")
def planted():
    """400 rows, 12 features of which 7, 2 and 9 matter, the most to the least; 27 % positive; 20 groups."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 12)) @ (np.eye(12) + 0.2) * np.geomspace(0.1, 30, 12) + 5
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    y = rng.random(400) < expit(2.4 * z[:, 7] - 1.7 * z[:, 2] + 1.2 * z[:, 9] - 1.5)
    return x, y.astype(int), np.repeat(np.arange(20), 20)


@parametrize_with_checks(
    [
        SparseLogisticPath(n_lambdas=6),
        SparseLogisticPath(n_lambdas=2, select="cv", cv=2),
        SubsetLogistic(order=SparseLogisticPath(n_lambdas=2)),
    ]
)
# scikit-learn's checks fit data that are separable, and one class that is next to nothing
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_contract(estimator, check):
    check(estimator)


def objective(z, y, s, w, b, penalty):
    return s @ np.logaddexp(0, -(2 * y - 1) * (z @ w + b)) / s.sum() + penalty


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 3.0}], ids=str)
def test_every_point_of_the_path_is_where_saga_ends(planted, class_weight):
    x, y, _ = planted
    path = SparseLogisticPath(lambdas=GRID, class_weight=class_weight).fit(x, y)
    assert path.certified_.all()
    z = StandardScaler().fit_transform(x)
    s = compute_sample_weight(class_weight, y)
    for i, strength in enumerate(path.lambdas_):
        # with weights that do not sum to n, scikit-learn's C is over their sum
        peer = LogisticRegression(l1_ratio=1, solver="saga", C=1 / (strength * s.sum()), tol=1e-9, max_iter=20_000)
        peer.fit(z, y, sample_weight=s)
        best = objective(z, y, s, peer.coef_[0], peer.intercept_[0], strength * np.abs(peer.coef_).sum())
        w, b = path.standardised_coef_path_[i], path.standardised_intercept_path_[i]
        assert objective(z, y, s, w, b, strength * np.abs(w).sum()) == pytest.approx(best, abs=1e-9)
        np.testing.assert_allclose(w, peer.coef_[0], atol=1e-4)
        np.testing.assert_allclose(x @ path.coef_path_[i] + path.intercept_path_[i], z @ w + b, atol=1e-9)


@pytest.mark.parametrize("ridge", [1.0, 1e-3])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_a_refit_is_where_lbfgs_ends(planted, k, ridge):
    x, y, _ = planted
    order = np.roll(np.arange(12), 5)
    ours = SubsetLogistic(order=order, n_features=k, ridge=ridge).fit(x, y)
    assert ours.certified_
    assert (ours.support_ == order[:k]).all()
    assert set(np.flatnonzero(ours.coef_[0])) <= set(order[:k])
    z = StandardScaler().fit_transform(x)[:, order[:k]]
    peer = LogisticRegression(C=1 / (ridge * len(y)), class_weight="balanced", tol=1e-10, max_iter=5000).fit(z, y)
    np.testing.assert_allclose(ours.standardised_coef_[0, order[:k]], peer.coef_[0], atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(x), peer.predict_proba(z), atol=1e-6)


def test_data_too_large_to_be_solved_to_the_last_digit_still_reach_the_target():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 30)).astype(np.float32)
    y = x[:, 0] - x[:, 1] + rng.normal(size=3000) > 1
    path = SparseLogisticPath(n_lambdas=4).fit(x, y)
    assert path.certified_.all()
    assert (path.gaps_ > 1e-12).any()
    assert SubsetLogistic(order=path.order_, n_features=2).fit(x, y).certified_
    assert set(path.order_[:2]) == {0, 1}


def test_units_and_offsets_of_features_change_nothing(planted):
    x, y, _ = planted
    one = SparseLogisticPath(n_lambdas=5).fit(x, y)
    other = SparseLogisticPath(n_lambdas=5).fit(x * np.geomspace(1e-3, 1e3, 12) - 7, y)
    np.testing.assert_allclose(one.lambdas_, other.lambdas_)
    np.testing.assert_allclose(one.standardised_coef_path_, other.standardised_coef_path_, atol=1e-6)


def test_lambda_max_is_where_the_first_feature_enters(planted):
    x, y, _ = planted
    largest = SparseLogisticPath(n_lambdas=1).fit(x, y).lambda_max_
    path = SparseLogisticPath(lambdas=[0.999 * largest, largest]).fit(x, y)
    assert np.count_nonzero(path.coef_path_[0]) == 0
    assert np.flatnonzero(path.coef_path_[1]).tolist() == [path.order_[0]]


@pytest.mark.parametrize("make", [lambda: SparseLogisticPath(lambdas=GRID), lambda: SubsetLogistic(order=range(12))])
def test_a_weight_counts_a_row_that_often_and_zero_is_no_row(planted, make):
    x, y, _ = planted
    times = np.random.default_rng(1).integers(0, 4, len(y))
    x = np.where(times[:, None] == 0, 1e6, x)
    weighted, repeated = make().fit(x, y, sample_weight=times), make().fit(x.repeat(times, axis=0), y.repeat(times))
    np.testing.assert_allclose(weighted.mean_, repeated.mean_)
    np.testing.assert_allclose(weighted.scale_, repeated.scale_)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6)
    scaled = make().fit(x, y, sample_weight=7.0 * times)
    np.testing.assert_allclose(scaled.coef_, weighted.coef_, rtol=1e-6)


def loss_of(y, score, weights, s):
    return -log_loss(y, expit(score), sample_weight=s)


def precision_of(y, score, weights, s):
    return average_precision_score(y, score, sample_weight=weights)


@pytest.mark.parametrize(("scoring", "of"), [("neg_log_loss", loss_of), ("average_precision", precision_of)])
def test_cross_validation_is_the_folds_one_by_one(planted, scoring, of):
    x, y, _ = planted
    weights = np.random.default_rng(5).uniform(0, 2, len(y))
    chosen = SparseLogisticPath(n_lambdas=6, select="cv", cv=3, scoring=scoring).fit(x, y, sample_weight=weights)
    s = weights / np.bincount(y, weights)[y]
    by_hand = np.empty((3, 6))
    for i, (train, held) in enumerate(StratifiedKFold(3).split(x, y)):
        fold = SparseLogisticPath(lambdas=chosen.lambdas_).fit(x[train], y[train], sample_weight=weights[train])
        for j in range(6):
            score = x[held] @ fold.coef_path_[j] + fold.intercept_path_[j]
            by_hand[i, j] = of(y[held], score, weights[held], s[held])
    np.testing.assert_allclose(chosen.scores_, by_hand, atol=1e-6)
    assert chosen.selected_ == by_hand.mean(axis=0).argmax()
    assert chosen.lambda_ == chosen.lambdas_[chosen.selected_]
    alone = SparseLogisticPath(n_lambdas=6).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(chosen.coef_, alone.coef_path_[[chosen.selected_]], atol=1e-6)


def test_with_groups_a_number_of_folds_keeps_them_whole(planted):
    x, y, groups = planted
    settings = {"n_lambdas": 3, "select": "cv"}
    grouped = SparseLogisticPath(cv=4, **settings).fit(x, y, groups=groups)
    same = SparseLogisticPath(cv=list(StratifiedGroupKFold(4).split(x, y, groups)), **settings).fit(x, y)
    np.testing.assert_array_equal(grouped.scores_, same.scores_)
    splitter = SparseLogisticPath(cv=GroupKFold(5), **settings).fit(x, y, groups=groups)
    same = SparseLogisticPath(cv=list(GroupKFold(5).split(x, y, groups)), **settings).fit(x, y)
    np.testing.assert_array_equal(splitter.scores_, same.scores_)


def test_groups_reach_fit_by_metadata_routing(planted):
    x, y, groups = planted
    with sklearn.config_context(enable_metadata_routing=True):
        path = SparseLogisticPath(n_lambdas=3, select="cv", cv=GroupKFold(3)).set_fit_request(groups=True)
        found = cross_validate(path, x, y, params={"groups": groups}, cv=GroupKFold(2), return_estimator=True)
    train = next(GroupKFold(2).split(x, y, groups))[0]
    alone = clone(path).fit(x[train], y[train], groups=groups[train])
    np.testing.assert_array_equal(found["estimator"][0].scores_, alone.scores_)


def test_the_point_that_predicts(planted):
    x, y, _ = planted
    last = SparseLogisticPath(lambdas=GRID).fit(x, y)
    assert last.selected_ == 2
    first = SparseLogisticPath(lambdas=GRID, select=-3).fit(x, y)
    assert (first.selected_, first.lambda_) == (0, 0.1)
    np.testing.assert_allclose(first.coef_[0], last.coef_path_[0], rtol=1e-6, atol=1e-9)
    between = SparseLogisticPath(lambdas=GRID, select=0.05).fit(x, y)
    assert between.lambdas_.tolist() == [0.1, 0.05, 0.03, 0.01]
    assert between.lambda_ == 0.05
    np.testing.assert_allclose(between.decision_function(x), x @ between.coef_[0] + between.intercept_[0])


def test_a_ranking_names_every_feature_once_and_the_planted_ones_first(planted):
    x, y, _ = planted
    for select in (0, "last"):
        path = SparseLogisticPath(n_lambdas=8, lambda_min_ratio=0.1, select=select).fit(x, y)
        assert sorted(path.order_) == list(range(12))
        assert set(path.order_[:3]) == {7, 2, 9}
    refit = SubsetLogistic(order=SparseLogisticPath(n_lambdas=8, lambda_min_ratio=0.1), n_features=3).fit(x, y)
    assert refit.support_.tolist() == path.order_[:3].tolist() == refit.path_.order_[:3].tolist()


def test_pipelines_grids_clones_and_pickles(planted):
    x, y, _ = planted
    names = np.array(["no", "yes"])[y]
    pipeline = make_pipeline(StandardScaler(), SubsetLogistic(order=SparseLogisticPath(n_lambdas=4)))
    grid = {"subsetlogistic__n_features": [1, 3], "subsetlogistic__order__lambda_min_ratio": [0.5, 0.01]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="roc_auc").fit(x, names)
    assert search.best_params_["subsetlogistic__n_features"] == 3
    found = search.best_estimator_
    assert found.classes_.tolist() == ["no", "yes"]
    assert set(found.predict(x)) == {"no", "yes"}
    copy = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copy.decision_function(x), found.decision_function(x))
    np.testing.assert_array_equal(clone(found).fit(x, names).decision_function(x), found.decision_function(x))


def test_frames_bring_names(planted):
    x, y, _ = planted
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(12)])
    path = SparseLogisticPath(lambdas=GRID).fit(frame, pd.Series(y, index=range(100, 500)))
    assert path.feature_names_in_.tolist() == list(frame)
    np.testing.assert_array_equal(path.coef_, SparseLogisticPath(lambdas=GRID).fit(x, y).coef_)
    with pytest.raises(ValueError, match="feature names"):
        path.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_halves_and_singles_are_read_as_they_are(planted, kind):
    x, y, _ = planted
    x = x.astype(kind)
    found, wide = SparseLogisticPath(lambdas=GRID).fit(x, y), SparseLogisticPath(lambdas=GRID).fit(x.astype(float), y)
    np.testing.assert_allclose(found.coef_, wide.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found.decision_function(x), found.decision_function(x.astype(float)))


def test_threads_change_nothing(planted):
    x, y, _ = planted
    one, two = (SparseLogisticPath(n_lambdas=4, select="cv", cv=2, n_jobs=jobs).fit(x, y) for jobs in (1, 2))
    np.testing.assert_array_equal(one.coef_path_, two.coef_path_)
    np.testing.assert_array_equal(one.scores_, two.scores_)


def test_points_that_miss_the_target_are_counted(planted):
    x, y, _ = planted
    with pytest.warns(ConvergenceWarning, match=r"of 3 points and \d of 6 of the folds missed the target") as caught:
        path = SparseLogisticPath(lambdas=GRID, tol=1e-300, select="cv", cv=2).fit(x, y)
    assert str(caught[0].message).startswith(f"{(~path.certified_).sum()} of 3")
    assert caught[0].filename == __file__
    assert (path.certified_ == (path.gaps_ <= 1e-300)).all()


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (SparseLogisticPath(n_lambdas=0), "n_lambdas is 0"),
        (SparseLogisticPath(lambda_min_ratio=1), "lambda_min_ratio is 1"),
        (SparseLogisticPath(lambdas=[]), "lambdas must be"),
        (SparseLogisticPath(lambdas=[0.1, -1]), "lambdas must be"),
        (SparseLogisticPath(select=40), "select is 40; the grid has 40"),
        (SparseLogisticPath(select=-0.1), "select is -0.1"),
        (SparseLogisticPath(select="best"), "select is 'best'"),
        (SparseLogisticPath(select=True), "select is True"),
        (SparseLogisticPath(scoring="f1"), "scoring is 'f1'"),
        (SparseLogisticPath(tol=0), "tol is 0"),
        (SparseLogisticPath(class_weight="even"), "class_weight is 'even'"),
        (SparseLogisticPath(class_weight={2: 1.0}), "classes that y does not hold"),
        (SubsetLogistic(n_features=13, order=range(12)), "n_features is 13; order names 12"),
        (SubsetLogistic(n_features=0), "n_features is 0"),
        (SubsetLogistic(ridge=0.0), r"ridge is 0\.0"),
        (SubsetLogistic(order=[0, 12]), "from 0 to 11"),
        (SubsetLogistic(order=[0, 0]), "at most once"),
        (SubsetLogistic(order="l1"), "a sequence of features' numbers"),
    ],
    ids=repr,
)
def test_parameters_out_of_range_are_named(planted, estimator, message):
    x, y, _ = planted
    with pytest.raises(ValueError, match=message):
        estimator.fit(x, y)


def test_folds_and_data_without_an_answer_are_refused(planted):
    x, y, _ = planted
    apart = [(np.flatnonzero(y == 1), np.flatnonzero(y == 0))]
    with pytest.raises(ValueError, match="fold 0 of cv trains on rows of one class"):
        SparseLogisticPath(select="cv", cv=apart).fit(x, y)
    without = [(np.arange(len(y)), np.flatnonzero(y == 0))]
    with pytest.raises(ValueError, match="fold 0 of cv holds out no row of class 1"):
        SparseLogisticPath(select="cv", cv=without, scoring="average_precision", n_lambdas=2).fit(x, y)
    with pytest.raises(ValueError, match="lambda_max is 0"):
        SparseLogisticPath().fit(np.ones((400, 2)), y)
    constant = SparseLogisticPath(lambdas=GRID).fit(np.ones((400, 2)), y)
    assert constant.certified_.all()
    np.testing.assert_allclose(constant.predict_proba(np.ones((1, 2))), 0.5)
