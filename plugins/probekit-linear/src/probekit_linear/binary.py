"""What the estimators share: binary targets, weights, a linear score, and checks of parameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from probekit_linear.arrays import Array, Floats, scores


class BinaryLogistic(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What both share: binary targets, weights, and a linear score of raw features."""

    class_weight: Mapping[Any, float] | str | None
    tol: float
    coef_: Floats
    intercept_: Floats
    classes_: Array

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def decision_function(self, X: ArrayLike) -> Floats:
        """The score x . coef_ + intercept_, summed in float64: (n,); positive where ``classes_[1]`` is predicted."""
        check_is_fitted(self)
        return scores(self._rows(X, reset=False), self.coef_, self.intercept_)[:, 0]

    def predict(self, X: ArrayLike) -> Array:
        """The likelier class of each row, (n,)."""
        positive = self.decision_function(X) > 0
        return np.asarray(self.classes_[positive.astype(np.intp)])

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of ``classes_``, (n, 2), as the weighted data have them: balanced classes, if those were."""
        score = self.decision_function(X)
        return np.column_stack([expit(-score), expit(score)])

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """Logarithms of :meth:`predict_proba`, finite where those are 0: (n, 2)."""
        score = self.decision_function(X)
        return np.column_stack([-np.logaddexp(0, score), -np.logaddexp(0, -score)])

    def _rows(self, X: ArrayLike, reset: bool) -> Array:
        kinds = (np.float64, np.float32, np.float16)
        return np.asarray(validate_data(self, X, dtype=kinds, order="C", reset=reset))

    def _data(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array, Floats]:
        """Rows (n, p), whether each is of ``classes_[1]`` (n,), and its weight (n,)."""
        kinds = (np.float64, np.float32, np.float16)
        x, y = validate_data(self, X, y, dtype=kinds, order="C")
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        self.classes_, label = np.unique(y, return_inverse=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        weights = np.asarray(_check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True))
        present = np.unique(label[weights > 0])
        if len(present) < 2:
            raise ValueError(f"the rows of positive weight are of {len(present)} class; two classes are needed")
        return x, label == 1, weights

    def _weigh(self, members: Floats, positive: Array) -> Floats:
        """Members' weights (m, n) times those of their classes, which every problem balances for itself."""
        mass = np.stack([members @ ~positive, members @ positive])
        if self.class_weight is None:
            factor = np.ones_like(mass)
        elif isinstance(self.class_weight, str) and self.class_weight == "balanced":
            factor = mass.sum(axis=0) / (2 * mass)
        elif isinstance(self.class_weight, Mapping):
            unknown = set(self.class_weight) - set(self.classes_.tolist())
            if unknown:
                raise ValueError(f"class_weight names classes that y does not hold: {sorted(map(repr, unknown))}")
            factor = np.ones_like(mass) * [[float(self.class_weight.get(name, 1.0))] for name in self.classes_.tolist()]
        else:
            raise ValueError(f"class_weight is {self.class_weight!r}; give 'balanced', a dict or None")
        return np.asarray(np.where(positive, factor[1][:, None], factor[0][:, None]) * members)


def real(value: object) -> bool:
    """Whether it is a number, and not True or False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def need_positive(name: str, value: object) -> None:
    """Raises ValueError unless a parameter is a finite number above 0."""
    if not (real(value) and 0 < float(value) < np.inf):  # type: ignore[arg-type]
        raise ValueError(f"{name} is {value!r}; give a positive number")


def need_integer(name: str, value: object) -> None:
    """Raises ValueError unless a parameter is a whole number above 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; give a whole number, 1 or more")


def warn_of_missed(gaps: Floats, of_folds: Floats, target: float) -> None:
    """Warns the caller of ``fit`` of points, (L,), and those of folds, (folds, L), that are above their target."""
    missed, also = int((gaps > target).sum()), int((of_folds > target).sum())
    if missed or also:
        folds = f" and {also} of {of_folds.size} of the folds" if of_folds.size else ""
        worst = max(gaps.max(), of_folds.max(initial=0.0))
        warnings.warn(
            f"{missed} of {gaps.size} points{folds} missed the target gap of {target:g} (the worst is {worst:.2g}); "
            "give stronger penalties, or a larger tol",
            ConvergenceWarning,
            stacklevel=3,
        )
