"""What the tests of the L1 path share: rows to fit, and a judge that shares no code with the solver."""

from __future__ import annotations

import numpy as np
from hypothesis import Phase
from probekit_linear.solve import lasso

RATIOS = (1.0, 0.5, 0.1, 0.01, 1e-3)
TARGET = 1e-6
# the same examples every time; a path that stalls takes long to shrink
ALIKE = {"deadline": None, "derandomize": True, "phases": (Phase.explicit, Phase.generate)}


def make_rows(n=400, p=15, seed=0, noise=1.0, share=0.3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, p)) + rng.standard_normal((n, 1))) * rng.uniform(0.1, 10, p) + rng.uniform(-5, 5, p)
    score = ((x - x.mean(0)) / x.std(0)) @ (rng.standard_normal(p) * (rng.random(p) < 0.4))
    y = (score + noise * rng.standard_normal(n) > np.quantile(score, 1 - share)).astype(np.int8)
    y[:2] = 0, 1
    return x.astype(dtype), y


def standard(x):
    return (x - x.mean(0)) / x.std(0)


def balanced(y):
    return np.where(y == 1, len(y) / (2 * (y == 1).sum()), len(y) / (2 * (y == 0).sum()))


class Judge:
    """One problem on a dense standardised copy, in long doubles: objective, gradient, and a dual point as it is."""

    def __init__(self, x, y, weights=None, factors=1.0, moments=None):
        s = balanced(y) if weights is None else np.asarray(weights)
        used = s > 0
        self.x, self.s = np.asarray(x)[used].astype(np.longdouble), s[used].astype(np.longdouble)
        self.s /= self.s.sum()
        self.sign, self.factors = np.where(y[used] == 1, 1.0, -1.0), factors
        share = self.s[self.sign > 0].sum()
        self.null = -share * np.log(share) - (1 - share) * np.log(1 - share)
        self.null_intercept = np.log(share) - np.log(1 - share)
        mean, scale = self.x.mean(0), self.x.std(0)
        varies = scale > 1e-9 * np.abs(mean)
        self.use(*((mean, np.where(varies, scale, 1.0)) if moments is None else moments))

    def use(self, mean, scale):
        self.mean, self.scale = mean, scale
        self.z = (self.x - mean) / scale

    def objective(self, w, b, lam):
        margin = self.sign * (self.z @ w + b)
        return self.s @ np.logaddexp(0, -margin) + (lam * self.factors * np.abs(w)).sum()

    def gradient(self, w, b):
        residual = -self.s * self.sign * np.exp(-np.logaddexp(0, self.sign * (self.z @ w + b)))
        return residual @ self.z, residual.sum()

    def lambda_max(self):
        return (np.abs(self.gradient(np.zeros(self.z.shape[1]), self.null_intercept)[0]) / self.factors).max()

    def gap(self, w, b, lam):
        """An upper bound of how far (w, b) is from the optimum, relative: its dual point is feasible to rounding."""
        margin = self.sign * (self.z @ w + b)
        a = np.exp(-np.logaddexp(0, margin))
        mass = {c: (self.s * a)[self.sign == c].sum() for c in (1, -1)}
        a *= np.where(self.sign > 0, min(mass.values()) / mass[1], min(mass.values()) / mass[-1])
        a /= max(1.0, (np.abs((self.s * a * self.sign) @ self.z) / (lam * self.factors)).max())
        inside = (a > 0) & (a < 1)
        part = a[inside]
        dual = self.s[inside] @ -(part * np.log(part) + (1 - part) * np.log1p(-part))
        return (self.objective(w, b, lam) - dual) / self.null


def check(found, j, judge, certified=True):
    """Every point of problem j is as near to the optimum as it says."""
    assert np.isfinite(found.coefficient).all()
    assert np.isfinite(found.intercept).all()
    assert np.abs((found.mean[j] - judge.mean) / judge.scale).max() < 1e-9
    np.testing.assert_allclose(found.scale[j], judge.scale.astype(float), rtol=1e-8)
    judge.use(found.mean[j], found.scale[j])  # where lambda is near rounding, a rounding of the rows is what decides
    for lam, w, b, gap, sure in zip(
        found.lambdas[j], found.coefficient[j], found.intercept[j], found.gap[j], found.certified[j], strict=True
    ):
        assert sure == (gap <= TARGET)
        if certified:
            assert sure, f"gap {gap:.1e} at lambda {lam:.1e}"
        if not np.isfinite(gap):
            continue
        # the product's bound is that of the same dual point, a little lower: never the better of the two
        tight = judge.gap(w, b, lam)
        assert tight <= gap + 1e-11
        if gap < 1e-3:
            assert gap <= 30 * tight + 1e-6  # but no idle bound
        # what moving one channel alone gains, by a bound of its curvature, cannot exceed what is left to gain
        of_w, of_b = judge.gradient(w, b)
        bend, penalty = np.maximum((judge.s @ judge.z**2) / 4, 1e-300), lam * judge.factors * np.ones_like(w)
        to = w - of_w / bend
        to = np.sign(to) * np.maximum(np.abs(to) - penalty / bend, 0)
        gain = -(of_w * (to - w) + bend / 2 * (to - w) ** 2 + penalty * (np.abs(to) - np.abs(w)))
        assert gain.max() <= gap * judge.null + 1e-11
        assert 2 * of_b**2 <= gap * judge.null + 1e-11


def same_within_certificates(judge, one, two):
    """Two fits of one problem differ by no more than their gaps allow."""
    for lam, w, b, gap, v, c, other in zip(
        one.lambdas[0], one.coefficient[0], one.intercept[0], one.gap[0], two.coefficient[0], two.intercept[0],
        two.gap[0], strict=True,
    ):  # fmt: skip
        assert abs(judge.objective(w, b, lam) - judge.objective(v, c, lam)) <= max(gap, other) * judge.null + 1e-12


def only(found, j):
    """Problem j of a batch, as a path of its own."""
    part = slice(j, j + 1)
    names = ("lambdas", "coefficient", "intercept", "gap", "certified", "iterations", "mean", "scale", "lambda_max")
    return lasso.LogisticPath(**{name: getattr(found, name)[part] for name in names}, reads=found.reads)


def bytes_of(found):
    return b"".join(
        np.ascontiguousarray(a).tobytes()
        for a in (found.coefficient, found.intercept, found.gap, found.mean, found.scale)
    )
