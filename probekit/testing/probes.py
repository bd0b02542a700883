"""What every probe family must keep, as a test class: subclass :class:`ProbeContract` in a plugin's own tests.

Also small stand-ins for what the core hands to a probe: :class:`ArrayRows`, :class:`ArrayValidation`,
:func:`make_problem`, and :func:`margins`, the plain evaluation of a scorer.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from probekit.api import FULL, Fit, Path, Probe, ProbePlugin, Problem, Scorer

if TYPE_CHECKING:
    import torch


class ArrayRows:
    """Rows that lie in memory: (n, p), made float32, C-contiguous and read-only."""

    def __init__(self, x: NDArray[Any]) -> None:
        self._x = np.array(x, dtype=np.float32, order="C")
        self._x.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int]:
        """(n rows, p channels)."""
        return self._x.shape[0], self._x.shape[1]

    def numpy(self) -> NDArray[np.float32]:
        """All rows."""
        return self._x

    def torch(self, device: str) -> torch.Tensor:
        """All rows on a device."""
        import torch

        return torch.from_numpy(self._x.copy()).to(device)

    def chunks(self, rows: int = 65536) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows in order, ``rows`` at a time."""
        for start in range(0, len(self._x), rows):
            part = self._x[start : start + rows]
            yield slice(start, start + len(part)), part


def average_precision(y: NDArray[Any], scores: NDArray[np.floating[Any]]) -> float:
    """AP: the sum over distinct thresholds of the recall gained times the precision there; ties enter together."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    positives = np.cumsum(y[order] == 1)[last]
    precision = positives / (np.flatnonzero(last) + 1)
    return float(np.sum(np.diff(positives, prepend=0) * precision) / positives[-1])


@dataclass(frozen=True)
class ArrayValidation:
    """Validation cells that lie in memory."""

    rows: ArrayRows
    y: NDArray[np.int8]

    def average_precision(self, scores: NDArray[np.floating[Any]]) -> float:
        """AP of scores (n validation rows,)."""
        return average_precision(self.y, scores)


def make_problem(
    x: NDArray[Any],
    y: NDArray[Any],
    training: NDArray[np.bool_],
    seed: int = 0,
    validation: ArrayValidation | None = None,
) -> Problem:
    """The problem of telling y on the training rows, as the core states it.

    Args:
        x: (n, p), y: (n,) of 0 and 1, training: (n,), both classes in it.
        seed: of the problem.
        validation: its inner validation.
    """
    x, y = np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.int8)
    n, positives = int(training.sum()), int(y[training].sum())
    weights = np.where(y == 1, n / (2 * positives), n / (2 * (n - positives))) * training
    mean = x[training].mean(axis=0, dtype=np.float64)
    scale = x[training].std(axis=0, dtype=np.float64)
    return Problem(y, weights, mean, np.where(scale > 0, scale, 1.0), seed, validation)


def margins(scorer: Scorer, x: NDArray[Any]) -> NDArray[np.float64]:
    """What a scorer gives raw rows (n, p), in float64: (n,)."""
    x, arrays = np.asarray(x, dtype=np.float64)[:, scorer.channels], scorer.arrays
    if scorer.kind == "mlp":
        depth = sum(name.startswith("weight_") for name in arrays)
        for i in range(depth):
            x = x @ arrays[f"weight_{i}"].T + arrays[f"bias_{i}"]
            x = np.maximum(x, 0) if i < depth - 1 else x
        return np.asarray(x[:, 0])
    out = x @ arrays["weight"] + arrays["bias"]
    if scorer.kind == "polynomial":
        pairs = arrays["pairs"]
        out = out + (x[:, pairs[:, 0]] * x[:, pairs[:, 1]]) @ arrays["products"]
    return np.asarray(out)


def build_probe(plugin: ProbePlugin, parameters: Mapping[str, Any]) -> Probe:
    """Constructs a probe as the core does: parameters validated, the class imported from the descriptor's target."""
    module, _, name = plugin.target.partition(":")
    made: Probe = getattr(importlib.import_module(module), name)(
        plugin.parameters.model_validate(dict(parameters)), device="cpu", threads=2
    )
    return made


def choose(path: Path, validation: ArrayValidation) -> Path:
    """Sets ``chosen`` to the fit of the best validation AP, the sparser of equals: what the core does."""
    x = validation.rows.numpy()
    scores = [validation.average_precision(margins(fit.scorer, x)) for fit in path.fits]
    return replace(path, chosen=int(np.argmax(scores)))


PLANTED = (2, 7, 9)
"""The channels that carry the concept of the contract's rows."""


class ProbeContract:
    """The tests that a probe family must pass, on small rows.

    Name the descriptor and parameters that make it quick; for a family with an ``upstream`` also that one's::

        class TestTopK(ProbeContract):
            plugin = l2_subsets_plugin  # the descriptor that the hook returns
            parameters = {"rank_by": "l1", "k": [2, 4, "all"], "widths": 4}
            upstream = (l1_path_plugin, {"lambda_ratio": {"points": 8, "min": 0.01}})
    """

    plugin: ClassVar[ProbePlugin]
    parameters: ClassVar[Mapping[str, Any]] = {}
    upstream: ClassVar[tuple[ProbePlugin, Mapping[str, Any]] | None] = None
    convex: ClassVar[bool] = True
    """The solution does not depend on a random start (so permuted channels give the same probe)."""
    tolerance: ClassVar[float] = 0.01
    """Between the margins of two solutions of one problem, as a share of their standard deviation."""

    n, p = 900, 12

    def _rows(self, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.bool_]]:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((self.n, self.p)) * rng.uniform(0.5, 3, self.p) + rng.uniform(-2, 2, self.p)
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        score = z[:, PLANTED[0]] * 2 - z[:, PLANTED[1]] * 1.6 + z[:, PLANTED[2]] * 1.3
        y = (score + rng.standard_normal(self.n) > 1.5).astype(np.int8)
        return x.astype(np.float32), y, rng.random(self.n) < 0.7

    def _problem(
        self, x: NDArray[Any], y: NDArray[Any], training: NDArray[np.bool_], seed: int = 0
    ) -> tuple[Problem, ArrayValidation]:
        validation = ArrayValidation(ArrayRows(x[~training]), y[~training])
        return make_problem(x, y, training, seed, validation), validation

    def _fit(
        self, x: NDArray[Any], problems: Sequence[tuple[Problem, ArrayValidation]]
    ) -> tuple[list[Path], list[Path] | None]:
        """The paths, and those of the upstream probe if there is one."""
        rows, stated = ArrayRows(x), [problem for problem, _ in problems]
        above = None
        if self.upstream is not None:
            solved = build_probe(*self.upstream).fit(rows, stated, None)
            above = [choose(path, validation) for path, (_, validation) in zip(solved, problems, strict=True)]
        return list(build_probe(self.plugin, self.parameters).fit(rows, stated, above)), above

    def _one(self, x: NDArray[Any], y: NDArray[Any], training: NDArray[np.bool_]) -> Path:
        return self._fit(x, [self._problem(x, y, training)])[0][0]

    def _assert_close(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
        # the spread of an almost empty fit is no yardstick: 0.1 is small for a margin
        assert np.abs(one - other).max() <= self.tolerance * max(float(one.std()), 0.1)

    def test_the_plan_is_what_fit_returns(self) -> None:
        """As many fits and rungs; candidates of a rung stand together; sparsest first, ``full`` last."""
        path = self._one(*self._rows())
        plan = build_probe(self.plugin, self.parameters).plan(self.p)
        rungs = [fit.rung for fit in path.fits]
        distinct = list(dict.fromkeys(rungs))
        assert len(path.fits) == plan.fits
        assert len(distinct) == plan.rungs
        assert sorted(rungs, key=distinct.index) == rungs
        numbers = [rung for rung in distinct if rung != FULL]
        assert numbers == sorted(numbers, key=int)
        assert FULL not in distinct[:-1]
        assert path.chosen is None

    def test_fits_are_well_formed(self) -> None:
        """Shapes, types and finite numbers; the support is within the scorer's channels; a gap has a verdict."""
        for fit in self._one(*self._rows()).fits:
            _assert_well_formed(fit, self.p)

    def test_coefficients_are_those_of_the_raw_scorer(self) -> None:
        """A linear scorer is its coefficients divided by the channels' scale, and its margins those of z."""
        x, y, training = self._rows()
        problem, _ = self._problem(x, y, training)
        for fit in self._one(x, y, training).fits:
            if fit.scorer.kind != "linear":
                continue
            weight = dict(zip(fit.scorer.channels.tolist(), fit.scorer.arrays["weight"].tolist(), strict=True))
            expected = fit.coefficient / problem.scale[fit.support]
            np.testing.assert_allclose([weight[c] for c in fit.support.tolist()], expected, rtol=1e-9, atol=1e-12)
            z = (x.astype(np.float64) - problem.mean) / problem.scale
            raw, standardised = margins(fit.scorer, x), z[:, fit.support] @ fit.coefficient
            np.testing.assert_allclose(raw - raw.mean(), standardised - standardised.mean(), atol=1e-8)

    def test_paths_are_aligned_with_problems(self) -> None:
        """Three problems on shared rows give what each gives alone."""
        x, y, training = self._rows()
        other = (x[:, 0] > x[:, 0].mean()).astype(np.int8)
        problems = [
            self._problem(x, y, training),
            self._problem(x, other, training, seed=1),
            self._problem(x, y, np.arange(self.n) % 3 > 0, seed=2),
        ]
        together, _ = self._fit(x, problems)
        assert len(together) == 3
        for path, problem in zip(together, problems, strict=True):
            alone = self._fit(x, [problem])[0][0]
            assert [fit.rung for fit in path.fits] == [fit.rung for fit in alone.fits]
            for one, two in zip(path.fits, alone.fits, strict=True):
                self._assert_close(margins(one.scorer, x), margins(two.scorer, x))

    def test_two_calls_give_equal_bytes(self) -> None:
        """Everything random comes from the problem's seed."""
        assert _bytes(self._one(*self._rows())) == _bytes(self._one(*self._rows()))

    def test_rows_without_weight_change_nothing(self) -> None:
        """Huge features and turned labels there."""
        x, y, training = self._rows()
        problem, validation = self._problem(x, y, training)
        poisoned, turned = x.copy(), y.copy()
        poisoned[~training] = 1e30
        turned[~training] = 1 - turned[~training]
        clean, _ = self._fit(x, [(problem, validation)])
        spoilt, _ = self._fit(poisoned, [(replace(problem, y=turned), validation)])
        assert _bytes(clean[0]) == _bytes(spoilt[0])

    def test_inputs_are_left_alone(self) -> None:
        """Arrays of a problem are the same afterwards."""
        x, y, training = self._rows()
        problem, validation = self._problem(x, y, training)
        arrays = (problem.y, problem.weights, problem.mean, problem.scale)
        before = [array.tobytes() for array in arrays]
        self._fit(x, [(problem, validation)])
        assert [array.tobytes() for array in arrays] == before

    def test_permuted_channels_permute_the_supports(self) -> None:
        """Same margins, same coefficients, other numbers."""
        x, y, training = self._rows()
        order = np.random.default_rng(5).permutation(self.p)
        path, permuted = self._one(x, y, training), self._one(x[:, order], y, training)
        if not self.convex:
            assert set(PLANTED) == {int(order[c]) for c in permuted.fits[-1].support[: len(PLANTED)]}
            return
        for fit, other in zip(path.fits, permuted.fits, strict=True):
            self._assert_close(margins(fit.scorer, x), margins(other.scorer, x[:, order]))
            one, two = np.zeros(self.p), np.zeros(self.p)
            one[fit.support] = fit.coefficient
            two[order[other.support]] = other.coefficient
            self._assert_close(one, two)

    def test_units_and_offsets_of_channels_do_not_matter(self) -> None:
        """Scaled and shifted channels give the same margins."""
        x, y, training = self._rows()
        moved = x * 2.0 ** (np.arange(self.p) % 5 - 2) + np.arange(self.p) * 4
        path, other = self._one(x, y, training), self._one(moved, y, training)
        for fit, shifted in zip(path.fits, other.fits, strict=True):
            self._assert_close(margins(fit.scorer, x), margins(shifted.scorer, moved.astype(np.float32)))

    def test_planted_channels_are_found(self) -> None:
        """The fit of the best validation AP has them on top, with their signs, and scores well."""
        x, y, training = self._rows()
        problem, validation = self._problem(x, y, training)
        paths, _ = self._fit(x, [(problem, validation)])
        path = choose(paths[0], validation)
        assert path.chosen is not None
        fit = path.fits[path.chosen]
        assert set(fit.support[:3].tolist()) == set(PLANTED)
        sign = dict(zip(fit.support.tolist(), np.sign(fit.coefficient).tolist(), strict=True))
        assert [sign[c] for c in PLANTED] == [1, -1, 1]
        assert validation.average_precision(margins(fit.scorer, validation.rows.numpy())) > 0.75

    def test_final_fits_are_one_a_label(self) -> None:
        """In the labels' order, with the rung of the first fit, the same choices where all folds chose the same."""
        x, y, training = self._rows()
        problem, validation = self._problem(x, y, training)
        paths, above = self._fit(x, [(problem, validation)])
        chosen = choose(paths[0], validation).chosen
        assert chosen is not None
        finals = {"full": [paths[0].fits[-1]] * 3, "chosen": [paths[0].fits[chosen]] * 2}
        upstream = None
        if self.upstream is not None and above is not None:
            ranking = above[0].fits[above[0].chosen or 0]
            of_above = replace(problem, validation=None, finals={"chosen": [ranking] * 3})
            upstream = build_probe(*self.upstream).fit(ArrayRows(x), [of_above], None)
        final = replace(problem, validation=None, finals=finals)
        path = build_probe(self.plugin, self.parameters).fit(ArrayRows(x), [final], upstream)[0]
        assert [fit.details["label"] for fit in path.fits] == ["full", "chosen"]
        for fit, folds in zip(path.fits, finals.values(), strict=True):
            _assert_well_formed(fit, self.p)
            assert fit.rung == folds[0].rung
            assert dict(fit.choices) == pytest.approx(dict(folds[0].choices))
            if self.convex:
                self._assert_close(margins(folds[0].scorer, x), margins(fit.scorer, x))

    def test_hard_inputs_give_finite_fits(self) -> None:
        """A constant channel, a twin of another, an opposite one; separable rows; a single positive row."""
        x, y, training = self._rows()
        x[:, 0], x[:, 1], x[:, 3] = 4.0, x[:, 2], -x[:, 2]
        separable = (x[:, 5] > np.quantile(x[:, 5], 0.8)).astype(np.int8)
        single = np.zeros(self.n, dtype=np.int8)
        single[np.flatnonzero(training)[0]] = single[np.flatnonzero(~training)[0]] = 1
        paths, _ = self._fit(x, [self._problem(x, labels, training) for labels in (y, separable, single)])
        for path in paths:
            for fit in path.fits:
                _assert_well_formed(fit, self.p)


def _assert_well_formed(fit: Fit, p: int) -> None:
    scorer = fit.scorer
    for channels in (fit.support, scorer.channels):
        assert channels.dtype == np.int64
        assert len(np.unique(channels)) == len(channels)
        assert np.all((channels >= 0) & (channels < p))
    assert set(fit.support.tolist()) <= set(scorer.channels.tolist())
    assert fit.coefficient.dtype == np.float64
    assert fit.coefficient.shape == fit.support.shape
    assert np.all(np.diff(np.abs(fit.coefficient)) <= 1e-12), "the support comes most important first"
    k = len(scorer.channels)
    shapes: dict[str, tuple[int, ...]] = {"weight": (k,), "bias": ()}
    if scorer.kind == "polynomial":
        pairs = scorer.arrays["pairs"]
        assert np.all((pairs >= 0) & (pairs < k))
        shapes |= {"pairs": (len(pairs), 2), "products": (len(pairs),)}
    elif scorer.kind == "mlp":
        widths = [k, *(len(scorer.arrays[f"bias_{i}"]) for i in range(len(scorer.arrays) // 2))]
        assert widths[-1] == 1
        shapes = {f"weight_{i}": (widths[i + 1], widths[i]) for i in range(len(widths) - 1)}
        shapes |= {f"bias_{i}": (widths[i + 1],) for i in range(len(widths) - 1)}
    assert {name: array.shape for name, array in scorer.arrays.items()} == shapes
    for name, array in scorer.arrays.items():
        assert array.dtype == (np.int64 if name == "pairs" else np.float64), name
        assert np.isfinite(array).all(), name
    assert np.isfinite(fit.coefficient).all()
    assert all(np.isfinite(value) for value in fit.choices.values())
    assert (fit.gap is None) == (fit.certified is None)
    assert fit.gap is None or np.isfinite(fit.gap)


def _bytes(path: Path) -> list[tuple[Any, ...]]:
    return [
        (
            fit.rung,
            fit.support.tobytes(),
            fit.coefficient.tobytes(),
            fit.scorer.kind,
            fit.scorer.channels.tobytes(),
            sorted((name, array.tobytes()) for name, array in fit.scorer.arrays.items()),
            sorted(fit.choices.items()),
            (fit.lambda_, fit.C, fit.ridge, fit.gap, fit.certified, fit.iterations),
            repr(fit.details),
        )
        for fit in path.fits
    ]
