"""Scikit-learn estimators over the solvers: a sparse logistic path, and an L2 refit on the first k of a ranking.

They know arrays, and nothing of probekit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedGroupKFold, check_cv

from probekit_linear.arrays import Array, Floats, chunks, moments, scores
from probekit_linear.binary import BinaryLogistic, need_integer, need_positive, real, warn_of_missed
from probekit_linear.solve.batch import make_batch, signed_weights
from probekit_linear.solve.lasso import LogisticPath, lambda_max, solve_path
from probekit_linear.solve.ridge import ridge_subsets
from probekit_linear.solve.rows import RowSource
from probekit_linear.solve.workers import workers

SMALL = 2**16
"""Rows of at most so many entries are solved as far as float64 goes, whatever ``tol``: it takes milliseconds, and the
coefficients, known to the square root of the gap, are then those of repeated rows to seven digits."""


class SparseLogisticPath(BinaryLogistic):
    r"""L1-penalised logistic regression along a whole grid of lambdas, each point with a certificate.

    At every lambda it minimises, over w and b,

        (1 / sum_i s_i) sum_i s_i log(1 + exp(-y_i (z_i . w + b))) + lambda ||w||_1

    with y in {-1, 1}, z = (x - mean) / scale, which is never made, and b unpenalised. ``sample_weight`` counts rows:
    mean and scale are weighted by it, weight 2 is the row twice, weight 0 is no row; all times a constant change
    nothing. s is ``sample_weight`` times the weight of the row's class, which does not enter mean and scale. With all
    weights 1, lambda is 1 / (C n) of scikit-learn's ``LogisticRegression`` on standardised rows.

    Args:
        n_lambdas: points of the grid, evenly spaced in the logarithm, from one step below lambda_max to
        lambda_min_ratio: times lambda_max, the smallest lambda at which every coefficient is zero.
        lambdas: the grid itself instead, in any order.
        select: the point that predicts: "last" (the smallest lambda), its index on the descending grid (int), a lambda
            (float; added to the grid where it is not on it), or "cv": the best by cross-validation. Folds are solved
            on the lambdas of all rows, in one batch with them; each standardises and balances its own training rows.
        cv: of ``select="cv"``: how many stratified folds (5 by default), a splitter, or splits. With ``groups`` in
            ``fit``, a number means folds that keep groups whole.
        scoring: of ``select="cv"``, averaged over folds: "neg_log_loss", weighted by s as all rows have it, or
            "average_precision", weighted by ``sample_weight`` alone. Of equals the larger lambda is taken.
        class_weight: "balanced": both classes weigh the same; a dict from class to factor; None: 1 each.
        tol: target of the duality gap, relative to the objective at w = 0.
        n_jobs: threads (None: 1; -1: one a core). They change no result.
        device: where torch works, such as "cuda"; the rows are copied there. By default the CPU.

    Attributes:
        classes_: (2,); the score is that of the second.
        lambda_max_: float.
        lambdas_: (L,), descending.
        coef_path_, intercept_path_: on raw features, (L, p) and (L,).
        standardised_coef_path_, standardised_intercept_path_: w and b above, (L, p) and (L,).
        mean_, scale_: (p,); a constant feature has scale 1.
        gaps_: duality gap of each point, in float64, relative to the objective at w = 0: (L,).
        certified_: whether the gap is at most ``tol``: (L,). A ConvergenceWarning counts the points where it is not.
        selected_: index of the point that predicts.
        lambda_: its lambda.
        coef_, intercept_: its coefficients on raw features, (1, p) and (1,).
        order_: a ranking of all features, (p,): the support of the point that predicts, by \|w\|; then those that
            enter elsewhere on the path, in the order in which they do; then the others by the size of the loss's
            gradient at the point that predicts.
        scores_: with ``select="cv"``, of each fold and lambda: (folds, L); higher is better.
        n_reads_: passes over the rows that the solver made.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    def __init__(
        self,
        *,
        n_lambdas: int = 40,
        lambda_min_ratio: float = 1e-3,
        lambdas: ArrayLike | None = None,
        select: str | int | float = "last",
        cv: Any = None,
        scoring: str = "neg_log_loss",
        class_weight: Mapping[Any, float] | str | None = "balanced",
        tol: float = 1e-6,
        n_jobs: int | None = None,
        device: str | None = None,
    ) -> None:
        self.n_lambdas = n_lambdas
        self.lambda_min_ratio = lambda_min_ratio
        self.lambdas = lambdas
        self.select = select
        self.cv = cv
        self.scoring = scoring
        self.class_weight = class_weight
        self.tol = tol
        self.n_jobs = n_jobs
        self.device = device

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Solves the path on all rows and, with ``select="cv"``, on every fold in the same batch.

        Args:
            X: (n, p) dense; float16, float32 and float64 are read as they are.
            y: (n,), two classes.
            sample_weight: (n,), not negative.
            groups: (n,), of ``cv``; without ``select="cv"`` they say nothing.

        Raises:
            ValueError: parameters out of range; one class, or more than two; NaN or inf; a fold without both classes.
        """
        x, positive, weights = self._data(X, y, sample_weight)
        cross = self._checked()
        folds = list(self._splits(x, positive, groups)) if cross else []
        members = np.stack([weights, *(np.bincount(train, minlength=len(x)) * weights for train, _ in folds)])
        for i, (train, _) in enumerate(folds):
            if len(np.unique(positive[train][weights[train] > 0])) < 2:
                raise ValueError(f"fold {i} of cv trains on rows of one class; give fewer folds")
        s = self._weigh(members, positive)
        path = self._solve(x, positive, s, moments(x, members))
        raw = path.coefficient / path.scale[:, None, :]
        shift = path.intercept - np.einsum("mlp,mp->ml", raw, path.mean)
        self.lambda_max_, self.lambdas_ = float(path.lambda_max[0]), path.lambdas[0]
        self.standardised_coef_path_, self.standardised_intercept_path_ = path.coefficient[0], path.intercept[0]
        self.coef_path_, self.intercept_path_ = raw[0], shift[0]
        self.mean_, self.scale_ = path.mean[0], path.scale[0]
        self.gaps_, self.certified_, self.n_reads_ = path.gap[0], path.gap[0] <= self.tol, path.reads
        if cross:
            held = [
                self._score(positive[valid], scores(x, raw[i], shift[i], valid), weights[valid], s[0][valid], i - 1)
                for i, (_, valid) in enumerate(folds, start=1)
            ]
            self.scores_ = np.stack(held)
        self.selected_ = self._selected()
        self.lambda_ = float(self.lambdas_[self.selected_])
        self.coef_, self.intercept_ = self.coef_path_[[self.selected_]], self.intercept_path_[[self.selected_]]
        self.order_ = self._order(x, positive, s[0])
        warn_of_missed(path.gap[0], path.gap[1:], self.tol)
        return self

    def _checked(self) -> bool:
        """Whether folds choose the point, once the parameters are in range."""
        need_integer("n_lambdas", self.n_lambdas)
        if not (real(self.lambda_min_ratio) and 0 < self.lambda_min_ratio < 1):
            raise ValueError(f"lambda_min_ratio is {self.lambda_min_ratio!r}; give a number between 0 and 1")
        need_positive("tol", self.tol)
        if self.scoring not in ("neg_log_loss", "average_precision"):
            raise ValueError(f"scoring is {self.scoring!r}; give 'neg_log_loss' or 'average_precision'")
        if isinstance(self.select, str):
            if self.select not in ("last", "cv"):
                raise ValueError(f"select is {self.select!r}; give 'last', 'cv', an index or a lambda")
            return self.select == "cv"
        if not isinstance(self.select, Integral):
            need_positive("select", self.select)
        elif isinstance(self.select, bool):
            raise ValueError(f"select is {self.select!r}; give 'last', 'cv', an index or a lambda")
        return False

    def _splits(self, x: Array, positive: Array, groups: ArrayLike | None) -> Iterator[tuple[Array, Array]]:
        number = 5 if self.cv is None else self.cv
        if groups is not None and isinstance(number, Integral):
            splitter = StratifiedGroupKFold(int(number))
        else:
            splitter = check_cv(number, positive, classifier=True)
        return splitter.split(x, positive, groups)  # type: ignore[no-any-return]

    def _grid(self, largest: float) -> Floats:
        if self.lambdas is not None:
            grid = np.unique(np.asarray(self.lambdas, dtype=np.float64))[::-1]
            if np.ndim(self.lambdas) != 1 or grid.size == 0 or not (np.isfinite(grid).all() and (grid > 0).all()):
                raise ValueError("lambdas must be a sequence of finite positive numbers, one at least")
        elif largest > 0:
            grid = largest * self.lambda_min_ratio ** (np.arange(1, self.n_lambdas + 1) / self.n_lambdas)
        else:
            raise ValueError(
                "no feature varies with the classes, so lambda_max is 0 and there is no grid; give lambdas"
            )
        if not isinstance(self.select, str | Integral):
            grid = np.union1d(grid, [float(self.select)])[::-1]
        elif isinstance(self.select, Integral) and not -len(grid) <= self.select < len(grid):
            raise ValueError(f"select is {self.select}; the grid has {len(grid)} lambdas")
        return grid

    def _solve(self, x: Array, positive: Array, s: Floats, means: tuple[Floats, Floats]) -> LogisticPath:
        with workers(effective_n_jobs(self.n_jobs)) as work:
            batch = make_batch(RowSource(x, device=self.device), signed_weights(positive, s, len(x)), means, work)
            every = np.ones_like(batch.mean)
            largest = lambda_max(batch, every, work)
            # the mean of a constant feature is rounded, so that what should be 0 need not be
            grid = self._grid(float(largest[0]) if largest[0] > 1e-12 * batch.null[0] else 0.0)
            target = min(self.tol, 1e-12) if x.size <= SMALL else self.tol
            return solve_path(batch, np.tile(grid, (len(s), 1)), every, largest, target, work)

    def _score(self, positive: Array, score: Floats, weights: Floats, s: Floats, fold: int) -> Floats:
        """Of each lambda on the rows that a fold holds out, (L,)."""
        if self.scoring == "neg_log_loss":
            if not s.any():
                raise ValueError(f"fold {fold} of cv holds out no row of positive weight; give fewer folds")
            loss = np.logaddexp(0, np.where(positive[:, None], -score, score))
            return np.asarray(-(s @ loss) / s.sum())
        if not weights[positive].any():
            name = self.classes_.tolist()[1]
            raise ValueError(f"fold {fold} of cv holds out no row of class {name!r}; give fewer folds")
        return np.array([average_precision_score(positive, one, sample_weight=weights) for one in score.T])

    def _selected(self) -> int:
        count = len(self.lambdas_)
        if isinstance(self.select, str):
            return count - 1 if self.select == "last" else int(np.argmax(self.scores_.mean(axis=0)))
        if isinstance(self.select, Integral):
            return int(self.select) % count
        return int(np.flatnonzero(self.lambdas_ == self.select)[0])

    def _order(self, x: Array, positive: Array, s: Floats) -> NDArray[np.int64]:
        order: dict[int, None] = {}
        for w in (self.standardised_coef_path_[self.selected_], *self.standardised_coef_path_):
            by_size = np.argsort(-np.abs(w), kind="stable")
            order.update(dict.fromkeys(by_size[: np.count_nonzero(w)].tolist()))
        if len(order) < x.shape[1]:
            rest = s * (expit(scores(x, self.coef_, self.intercept_)[:, 0]) - positive)
            gradient = sum(rest[part] @ ((x[part] - self.mean_) / self.scale_) for part in chunks(x))
            order.update(dict.fromkeys(np.argsort(-np.abs(gradient), kind="stable").tolist()))
        return np.fromiter(order, dtype=np.int64, count=x.shape[1])


class SubsetLogistic(BinaryLogistic):
    r"""L2-penalised logistic regression on the first ``n_features`` of a ranking, with a certificate.

    It minimises the objective of :class:`SparseLogisticPath`, with the same weights, mean and scale, but for the
    penalty, (ridge / 2) ||w||^2, and w, which is zero outside the subset. With all weights 1, ridge is 1 / (C n) of
    scikit-learn's ``LogisticRegression`` on standardised rows.

    Args:
        order: features by number, most important first, each once, ``n_features`` at least; or a
            :class:`SparseLogisticPath`, of which a clone is fitted to the same rows and ranks them; None: one with
            this estimator's ``class_weight``, ``tol``, ``n_jobs`` and ``device``.
        n_features: how many of them to use; None: all that ``order`` names.
        ridge: positive.
        class_weight, tol, n_jobs, device: as in :class:`SparseLogisticPath`.

    Attributes:
        classes_: (2,); the score is that of the second.
        coef_, intercept_: on raw features, (1, p), zero outside the subset, and (1,).
        standardised_coef_, standardised_intercept_: w and b above, (1, p) and (1,).
        mean_, scale_: (p,); a constant feature has scale 1.
        order_: the ranking, as far as ``order`` gives it.
        support_: the subset, its first ``n_features``.
        path_: the fitted path that ranked, where one did.
        gap_: duality gap, in float64, relative to the objective at w = 0.
        certified_: whether it is at most ``tol``; a ConvergenceWarning says where it is not.
        n_reads_: passes over the rows that the refit made.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    def __init__(
        self,
        *,
        order: ArrayLike | SparseLogisticPath | None = None,
        n_features: int | None = None,
        ridge: float = 1e-2,
        class_weight: Mapping[Any, float] | str | None = "balanced",
        tol: float = 1e-6,
        n_jobs: int | None = None,
        device: str | None = None,
    ) -> None:
        self.order = order
        self.n_features = n_features
        self.ridge = ridge
        self.class_weight = class_weight
        self.tol = tol
        self.n_jobs = n_jobs
        self.device = device

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Ranks the features where ``order`` does not, and fits the first ``n_features``.

        Args:
            X: (n, p) dense; float16, float32 and float64 are read as they are.
            y: (n,), two classes.
            sample_weight: (n,), not negative.
            groups: (n,), for the path that ranks; with a ranking in ``order`` they say nothing.

        Raises:
            ValueError: parameters out of range; one class, or more than two; NaN or inf; an order that is none.
        """
        x, positive, weights = self._data(X, y, sample_weight)
        need_positive("tol", self.tol)
        need_positive("ridge", self.ridge)
        if self.n_features is not None:
            need_integer("n_features", self.n_features)
        if self.order is None or isinstance(self.order, SparseLogisticPath):
            settings = {name: getattr(self, name) for name in ("class_weight", "tol", "n_jobs", "device")}
            path = SparseLogisticPath(**settings) if self.order is None else clone(self.order)
            self.path_ = path.fit(x, self.classes_[positive.astype(np.intp)], weights, groups)
            self.order_ = path.order_
        else:
            self.order_ = _ranking(self.order, x.shape[1])
        k = len(self.order_) if self.n_features is None else int(self.n_features)
        if k > len(self.order_):
            raise ValueError(f"n_features is {k}; order names {len(self.order_)} features")
        self.support_ = self.order_[:k]
        members = weights[None]
        found = ridge_subsets(
            x,
            positive,
            self._weigh(members, positive),
            order=self.order_,
            k=np.array([k]),
            ridges=np.array([self.ridge]),
            moments=moments(x, members),
            target=min(self.tol, 1e-18) if x.size <= SMALL else self.tol,
            threads=effective_n_jobs(self.n_jobs),
            device=self.device,
        )
        self.mean_, self.scale_ = found.mean[0], found.scale[0]
        self.standardised_coef_ = np.zeros((1, x.shape[1]))
        self.standardised_coef_[0, self.support_] = found.coefficient[0][0, 0]
        self.standardised_intercept_ = found.intercept[0, 0]
        self.coef_ = self.standardised_coef_ / self.scale_
        self.intercept_ = self.standardised_intercept_ - self.coef_ @ self.mean_
        self.gap_, self.n_reads_ = float(found.gap[0, 0, 0]), found.reads
        self.certified_ = self.gap_ <= self.tol
        warn_of_missed(found.gap[0, 0], np.empty((0, 1)), self.tol)
        return self


def _ranking(order: ArrayLike, p: int) -> NDArray[np.int64]:
    ranking = np.asarray(order)
    if ranking.ndim != 1 or ranking.size == 0 or not np.issubdtype(ranking.dtype, np.integer):
        raise ValueError("order must be a sequence of features' numbers, a SparseLogisticPath or None")
    if ranking.min() < 0 or ranking.max() >= p or len(np.unique(ranking)) < len(ranking):
        raise ValueError(f"order must name features from 0 to {p - 1}, each at most once")
    return ranking.astype(np.int64)
