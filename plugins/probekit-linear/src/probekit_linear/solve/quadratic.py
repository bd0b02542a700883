"""The L1-penalised quadratic, the inner problem of proximal Newton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky

from probekit_linear.solve.batch import Floats

Matrix = NDArray[np.floating]

STEPS = 40
"""Newton steps, and then"""
EPOCHS = 10
"""rounds of all coordinates, and that"""
ROUNDS = 6
"""times, before the inner problem is left as it is."""


def steepest(gradient: Floats, w: Floats, penalty: Floats) -> Floats:
    """The subgradient of smallest norm of a smooth function plus sum_j penalty_j |w_j|: zero exactly at the minimum."""
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - penalty, 0)
    return np.where(w != 0, gradient + penalty * np.sign(w), at_zero)


def lower_factor(H: Matrix) -> Matrix:
    """L of H = L L'. Where rounding made H indefinite, a growing share of its mean diagonal is added until it is not:
    the step gets shorter, and what it leads to stays the same."""
    share = 0.0
    scale = max(float(np.trace(H)) / len(H), 1e-12)
    while True:
        try:
            lower: Matrix = cholesky(
                H + H.dtype.type(share * scale) * np.eye(len(H), dtype=H.dtype) if share else H,
                lower=True,
                check_finite=False,
            )
        except LinAlgError:
            share = max(10 * share, 1e-6 if H.dtype == np.float32 else 1e-14)
        else:
            return lower


@dataclass(frozen=True)
class Factor:
    """A Cholesky factor of some rows and columns of a Gram matrix, for solving with nearly the same ones later."""

    gram: Matrix
    ridge: float
    active: NDArray[np.int64]
    lower: Matrix

    def leading(self, k: int) -> Factor:
        """Of the first k of them: a leading block of the factor is the factor of the leading block."""
        return self if k == len(self.active) else Factor(self.gram, self.ridge, self.active[:k], self.lower[:k, :k])


def factorise(gram: Matrix, ridge: float, active: NDArray[np.int64] | None = None) -> Factor:
    """The factor of some rows and columns (by default all) of a Gram matrix plus a ridge."""
    if active is None:
        active = np.arange(len(gram))
    block = gram[np.ix_(active, active)]
    block[np.diag_indices(len(active))] += gram.dtype.type(ridge)
    return Factor(gram, ridge, active, lower_factor(block))


class Quadratic:
    """u'Hu/2 with H a Gram matrix plus a ridge, corrected by what the last steps taught (BFGS updates).

    Args:
        gram: (k, k).
        pairs: steps and the changes of the gradient that they made, oldest first.
        factor: of an earlier solve; used where the Gram matrix is the same and the ridge within a tenth, else made
            anew. What was used last stays here.
        ridge: added to the diagonal.
    """

    def __init__(
        self, gram: Matrix, pairs: Sequence[tuple[Floats, Floats]], factor: Factor | None, ridge: float = 0.0
    ) -> None:
        self.gram = gram
        fits = factor is not None and factor.gram is gram and abs(factor.ridge - ridge) <= 0.1 * ridge
        self.factor = factor if fits else None
        self.ridge = factor.ridge if factor is not None and fits else ridge
        self._vectors = np.zeros((len(gram), 0))
        self._weights = np.zeros(0)
        for step, change in pairs:
            turned = self.times(step)
            model, real = float(step @ turned), float(step @ change)
            if real > 1e-3 * model > 0:
                sizes = np.array([np.linalg.norm(change), np.linalg.norm(turned)])  # out of the way of float32's range
                new = np.stack([change / sizes[0], turned / sizes[1]], axis=1)
                self._vectors = np.concatenate([self._vectors, new], axis=1)
                self._weights = np.concatenate([self._weights, [sizes[0] ** 2 / real, -(sizes[1] ** 2) / model]])

    def lend(self, factor: Factor) -> None:
        """A factor of this Gram matrix, with the ridge to go with it."""
        self.factor, self.ridge = factor, factor.ridge

    def times(self, v: Floats) -> Floats:
        """H v, in the precision of the Gram matrix: it serves differences of points, whose errors shrink with them."""
        used = np.flatnonzero(v)
        short = v.astype(self.gram.dtype)
        product = short[used] @ self.gram[used] if len(used) < len(v) // 4 else self.gram @ short
        return product + self.ridge * v + self._vectors @ (self._weights * (self._vectors.T @ v))

    def column(self, j: int) -> Floats:
        """H's column j."""
        out = self.gram[:, j] + self._vectors @ (self._weights * self._vectors[j])
        out[j] += self.ridge
        return np.asarray(out, dtype=np.float64)

    def solve(self, active: NDArray[np.int64], right: Floats) -> Floats:
        """H[active, active]^-1 right.

        With a factor at hand of the rows A0, what entered (E), what left (R) and the corrections V D V' are bordered
        onto it: [B W; W' K] (d, z) = (r, q), B = H[A0, A0], W = (H[A0, E], I_R, V_A0).
        """
        factor = self.factor
        if factor is not None:
            inside = np.zeros(len(self.gram), dtype=bool)
            inside[factor.active] = True
            wanted = np.zeros(len(self.gram), dtype=bool)
            wanted[active] = True
            changes = int((inside ^ wanted).sum())
        if factor is None or changes > max(16, len(active) // 24):
            factor = self.factor = factorise(self.gram, self.ridge, active)
            inside = wanted = np.zeros(len(self.gram), dtype=bool)
            entered = left = np.empty(0, dtype=np.int64)
        else:
            entered, left = np.flatnonzero(wanted & ~inside), np.flatnonzero(inside & ~wanted)
        base = factor.active
        e, r, v = len(entered), len(left), len(self._weights)
        full = np.zeros(len(self.gram))
        full[active] = right
        if e + r + v == 0:
            return self._back(full[base])
        border = np.zeros((len(base), e + r + v), dtype=self.gram.dtype)
        border[:, :e] = self.gram[entered][:, base].T
        border[np.searchsorted(base, left), e + np.arange(r)] = 1
        border[:, e + r :] = self._vectors[base]
        corner = np.zeros((e + r + v, e + r + v))
        corner[:e, :e] = self.gram[np.ix_(entered, entered)] + self.ridge * np.eye(e)
        corner[:e, e + r :] = self._vectors[entered]
        corner[e + r :, :e] = self._vectors[entered].T
        corner[np.arange(e + r, e + r + v), np.arange(e + r, e + r + v)] = -1 / self._weights
        solved = cho_solve((factor.lower, True), border, check_finite=False)
        alone = self._back(full[base])
        known = np.zeros(e + r + v)
        known[:e] = full[entered]
        with np.errstate(all="ignore"):
            schur = corner - (border.T @ solved).astype(np.float64)
            try:
                z = np.linalg.solve(schur, known - border.T.astype(np.float64) @ alone)
            except np.linalg.LinAlgError:
                z = np.full(e + r + v, np.nan)
        if not np.isfinite(z).all():
            if e + r:  # what changed is too much for this factor
                self.factor = None
            else:  # the corrections contradict one another
                self._vectors, self._weights = self._vectors[:, :0], self._weights[:0]
            return self.solve(active, right)
        full[base] = alone - solved @ z
        full[entered] = z[:e]
        return np.asarray(full[active])

    def _back(self, right: Floats) -> Floats:
        assert self.factor is not None
        size = float(np.abs(right).max(initial=0.0)) or 1.0  # float32 has a range
        out = cho_solve((self.factor.lower, True), (right / size).astype(self.gram.dtype), check_finite=False)
        return np.asarray(out.astype(np.float64) * size)


def minimise(H: Quadratic, gradient: Floats, penalty: Floats, w: Floats, start: Floats, tolerance: float) -> Floats:
    """min over u of gradient.(u - w) + (u - w)'H(u - w)/2 + sum_j penalty_j |u_j|.

    Active-set Newton: solve for the entries that are not zero or want to leave zero, with their signs fixed. Entries
    that would leave zero on the wrong side stay there. Of two points the better is taken: the whole step with what
    would change sign stopped at zero, or the minimum along the step, which is piecewise quadratic and always descends.
    Where that gets nowhere (a singular H lets a step run far, into one zero after another), coordinates are minimised
    one by one for a while.

    Args:
        gradient: at w, (k,).
        penalty: (k,), positive.
        w, start: (k,); where the model is made, and where to begin.
        tolerance: no entry of the subgradient exceeds it in the end.
    """
    u = start.copy()
    gradient = gradient + H.times(u - w) if (u != w).any() else gradient.copy()
    for turn in range(ROUNDS):
        if _newton(H, gradient, penalty, u, tolerance):
            break
        if turn < ROUNDS - 1 and _coordinates(H, gradient, penalty, u, tolerance):
            break
    return u


def _coordinates(H: Quadratic, gradient: Floats, penalty: Floats, u: Floats, tolerance: float) -> bool:
    """Coordinate descent on what is not zero or wants to leave it, u and its gradient in place; true where solved."""
    for _ in range(EPOCHS):
        slope = steepest(gradient, u, penalty)
        if float(np.abs(slope).max(initial=0.0)) <= tolerance:
            return True
        for j in np.flatnonzero((u != 0) | (slope != 0)):
            column = H.column(int(j))
            bend = column[j]
            if bend <= 0:
                continue
            wanted = u[j] - gradient[j] / bend
            new = np.sign(wanted) * max(abs(wanted) - penalty[j] / bend, 0.0)
            if new != u[j]:
                gradient += column * (new - u[j])
                u[j] = new
    return False


def _newton(H: Quadratic, gradient: Floats, penalty: Floats, u: Floats, tolerance: float) -> bool:
    """Active-set Newton, u and its gradient in place; true where solved."""
    for _ in range(STEPS):
        slope = steepest(gradient, u, penalty)
        if float(np.abs(slope).max(initial=0.0)) <= tolerance:
            return True
        fresh = H.factor is None
        step = _direction(H, slope, u)
        if step is None:
            return False
        active, direction = step
        here, pen = u[active], penalty[active]
        whole = np.zeros(len(u))
        whole[active] = direction
        turned = H.times(whole)
        if not fresh and float(np.abs(turned + slope)[active].max()) > 0.3 * float(np.abs(slope[active]).max()):
            H.factor = None  # bordering has lost too much
            continue
        along, bend = float(slope[active] @ direction), float(direction @ turned[active])
        if along >= 0 or bend <= 0:
            return False  # rounding
        length, value = _line_minimum(here, direction, pen, along, bend)
        sign = np.where(here != 0, np.sign(here), -np.sign(slope[active]))
        stopped = (here + direction) * sign <= 0
        if stopped.any():
            change = np.zeros(len(u))
            change[active] = np.where(stopped, -here, direction)
            moved = H.times(change)
            reached = float(gradient @ change) + float(change @ moved) / 2
            reached += float(pen @ (np.abs(here + change[active]) - np.abs(here)))
            if reached <= value:
                u[active] = np.where(stopped, 0.0, here + direction)
                gradient += moved
                continue
        if value >= 0:
            return False
        taken = here + length * direction
        # what arrives at zero but for rounding is zero
        taken[(here != 0) & (np.abs(taken) <= 1e-14 * np.abs(here))] = 0.0
        u[active] = taken
        gradient += length * turned
    return False


def _direction(H: Quadratic, slope: Floats, u: Floats) -> tuple[NDArray[np.int64], Floats] | None:
    """The entries that move and their Newton step; none where nothing descends."""
    active = np.flatnonzero((u != 0) | (slope != 0))
    attempt = 0
    while len(active):
        direction = -H.solve(active, slope[active])
        wrong = (u[active] == 0) & (direction * slope[active] >= 0)
        if not wrong.any():
            return active, direction
        entering = active[u[active] == 0]
        if attempt < 4:
            active = active[~wrong]
        elif attempt == 4:  # one alone leaves on the right side, if the others are where they belong
            active = active[(u[active] != 0) | (active == entering[np.argmax(np.abs(slope[entering]))])]
        else:
            active = active[u[active] != 0]
        attempt += 1
    return None


def _line_minimum(w: Floats, direction: Floats, penalty: Floats, slope: float, bend: float) -> tuple[float, float]:
    """Where along a step the objective is least, and its change there.

    Along the step the objective is a quadratic of slope ``slope`` < 0 and curvature ``bend``, plus a kink of
    2 penalty |direction| wherever an entry crosses zero.
    """
    crossing = np.flatnonzero(w * direction < 0)
    at = -w[crossing] / direction[crossing]
    order = np.argsort(at, kind="stable")
    at, kink = at[order], 2 * (penalty[crossing] * np.abs(direction[crossing]))[order]
    before = np.concatenate([[0.0], np.cumsum(kink)])  # what the kinks passed so far add to the slope
    left = slope + bend * at + before[:-1]  # the slope just before each kink
    stop = np.flatnonzero(left + kink >= 0)
    last = int(stop[0]) if len(stop) else len(at)
    length = float(at[last]) if last < len(at) and left[last] < 0 else -(slope + float(before[last])) / bend
    value = slope * length + bend * length**2 / 2 + float(kink[:last] @ (length - at[:last]))
    return length, value
