"""The claims of ``validity.py`` that need fits, each repetition on new groups with correlated channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from probekit_linear import logistic_path, ridge_subsets
from scipy.special import ndtri
from validity_data import PROMISES, Cells, Floats, Ints, Population, Tally, scored, true_precision

from probekit.evaluate.intervals import NARROW, Replicates, effective_number, jackknife_interval
from probekit.evaluate.knockoffs import antisymmetric, draw_knockoffs, knockoff_selection
from probekit.evaluate.pooling import margin_scale
from probekit.evaluate.stability import Assumption, complementary_halves, selection_frequencies, stable_set
from probekit.sampling.rows import fold_weights
from probekit.sampling.splits import group_kfold, has_both

CORRELATION = 0.7


def one_factor(p: int) -> Floats:
    """A root of the covariance of channels that all correlate by .7, (p, p)."""
    return _root(np.full((p, p), CORRELATION) + (1 - CORRELATION) * np.eye(p))


def blocks(p: int, size: int) -> Floats:
    """A root of the covariance of channels that correlate by .7 within blocks, (p, p)."""
    return np.asarray(np.kron(np.eye(p // size), one_factor(size)), dtype=np.float64)


def neighbours(p: int) -> Floats:
    """A root of the covariance of channels of which neighbours correlate by .7, (p, p)."""
    return _root(CORRELATION ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))))


def _root(covariance: Floats) -> Floats:
    return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


# -- the interval of a fitted probe, scored out of fold

P, REPEATS, FOLDS, RIDGE = 20, 2, 5, 0.01


@dataclass(frozen=True)
class Fitted:
    """A score with its interval, effective groups, and the mean over its fits of what they score on endless groups."""

    value: float
    lo: float
    hi: float
    effective: float
    worth: float


def fitted_score(population: Population, groups: int, rng: np.random.Generator) -> Fitted | None:
    """L2 probes on all channels, two repeats of five folds, pooled out of fold; none where there is no interval."""
    root = one_factor(P)
    cells = population.draw(groups, rng)
    best = np.concatenate([np.linspace(1, 0.2, 5), np.zeros(P - 5)])
    best *= 2.0 / np.linalg.norm(np.linalg.solve(root, best))  # the best probe separates by 2
    own = 1 + population.spread * rng.standard_normal(groups)
    x = population.channels(cells, root, rng) + (cells.y * own[cells.group])[:, None] * best
    ids = [str(i) for i in range(groups)]
    counts = cells.positives[:, None], cells.negatives[:, None]
    scores, worth = [], []
    for repeat in range(REPEATS):
        folds = group_kfold(ids, *counts, folds=FOLDS, validation=0.2, seed=int(rng.integers(2**31)), repeat=repeat)
        if not all(has_both(fold, *counts).all() for fold in folds):
            return None
        member = np.array([np.isin(cells.group, fold.train) for fold in folds])
        weights = np.array([fold_weights(cells.y, of) for of in member])
        found = ridge_subsets(x, cells.y, weights, order=np.arange(P), k=[P], ridges=[RIDGE])
        w = found.coefficient[0][:, 0] / found.scale
        margins = x @ w.T + (found.intercept[:, 0, 0] - (w * found.mean).sum(axis=1))
        pooled = np.empty(len(x), dtype=np.float32)
        for i, fold in enumerate(folds):
            test = np.isin(cells.group, fold.test)
            scale = margin_scale(margins[member[i], i][None], cells.y[member[i]])
            pooled[test] = scale.apply(margins[test, i][None])[0]
            deviation = np.linalg.norm(root.T @ w[i])
            worth.append(true_precision(population.prevalence, float(w[i] @ best / deviation), population.spread))
        scores.append(scored(pooled, cells))
    score = Replicates.mean(scores)
    known = jackknife_interval(score.value, score.deleted, cells.positives)
    if known.lo is None or known.hi is None:
        return None
    return Fitted(score.value, known.lo, known.hi, effective_number(cells.positives), float(np.mean(worth)))


def fitted(groups: int, found: list[Fitted | None]) -> Iterator[Tally]:
    """Two truths: what probes fitted to so many groups score on average, and what those score that were fitted."""
    known = [one for one in found if one is not None and (groups < NARROW or one.effective >= 15)]
    if not known:
        return
    truth, pooled = (float(np.mean([getattr(one, name) for one in known])) for name in ("worth", "value"))
    of_any = sum(one.lo <= truth <= one.hi for one in known)
    of_these = sum(one.lo <= one.worth <= one.hi for one in known)
    note = f"true AP {truth:.3f} +- {np.std([one.worth for one in known]):.3f}, pooled {pooled:.3f}"
    yield "fitted AP, of the procedure", "", len(known), of_any, note
    yield "fitted AP, of these fits", "", len(known), of_these, ""


# -- stability selection

CHANNELS, PAIRS, TARGET = 60, 20, PROMISES["a false stable channel"][0]
SIGNALS = np.array([0, 4, 8, 12])
SELECTED = 0.5
"""The share of lambda_max that selects."""

ASSUMPTIONS: tuple[Assumption, ...] = ("none", "unimodal", "r-concave")


@dataclass(frozen=True, eq=False)
class Stable:
    """How often halves selected each channel, and by assumption the stable set."""

    frequencies: Floats
    sets: dict[str, NDArray[np.bool_]]


def stability(population: Population, block: int, groups: int, rng: np.random.Generator) -> Stable | None:
    """L1 fits on halves of the groups at one share of lambda_max; none where the groups cannot be halved."""
    root = blocks(CHANNELS, block)
    x, y, cells = _asked(population, root, SIGNALS, groups, rng)
    ids = [str(i) for i in range(groups)]
    positives = np.bincount(cells.group[y == 1], minlength=groups)
    if (positives > 0).sum() < 4:
        return None
    halves = complementary_halves(ids, positives, PAIRS, int(rng.integers(2**31)))
    weights = np.array([fold_weights(y, half[cells.group]) for half in halves])
    path = logistic_path(x, y, weights, ratios=[SELECTED], target=1e-4)
    frequencies = selection_frequencies(path.coefficient[:, 0] != 0)
    return Stable(frequencies, {of: stable_set(frequencies, PAIRS, TARGET, of).selected for of in ASSUMPTIONS})


def stable(groups: int, found: list[Stable | None]) -> Iterator[Tally]:
    """False is what the bound speaks of: channels that a half selects no more often than at random (q / p)."""
    known = [one for one in found if one is not None]
    if not known:
        return
    frequencies = np.mean([one.frequencies for one in known], axis=0)
    noise = np.ones(CHANNELS, dtype=bool)
    noise[SIGNALS] = False
    low = noise & (frequencies <= frequencies.mean())
    for assumption in ASSUMPTIONS:
        sets = [one.sets[assumption] for one in known]
        false = [int((selected & low).sum()) for selected in sets]
        true, others = (float(np.mean([(s & of).sum() for s in sets])) for of in (~noise, noise & ~low))
        note = (
            f"{np.mean(false):.3f} false of {low.sum()}; {true:.1f} of {len(SIGNALS)} true; "
            f"{others:.2f} of {(noise & ~low).sum()} correlated with a true one; q {frequencies.sum():.1f}"
        )
        yield "a false stable channel", assumption, len(sets), sum(f > 0 for f in false), note


def _asked(
    population: Population, root: Floats, signals: Ints, groups: int, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int8], Cells]:
    """Rows, and a concept that some channels tell of: probit, with a part that groups share."""
    cells = population.draw(groups, rng)
    x = population.channels(cells, root, rng)
    effect = np.zeros(len(root))
    effect[signals] = np.where(np.arange(len(signals)) % 2, -1.0, 1.0)
    latent = x @ effect + 0.5 * rng.standard_normal(groups)[cells.group] + rng.standard_normal(len(x))
    deviation = np.sqrt(np.linalg.norm(root.T @ effect) ** 2 + 1.25)
    return x, (latent > -ndtri(population.prevalence) * deviation).astype(np.int8), cells


# -- knockoffs

KNOWN, RATE = 30, PROMISES["false among knockoffs"][0]
TELLING = np.arange(0, KNOWN, 4)


def knockoffs(population: Population, by_group: bool, groups: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of false among the selected channels, and of the telling ones that are selected."""
    x, y, cells = _asked(population, neighbours(KNOWN), TELLING, groups, rng)
    copies = draw_knockoffs(x, cells.group if by_group else None, int(rng.integers(2**31)))
    path = logistic_path(np.hstack([x, copies]), y, ratios=[0.1], target=1e-4)
    selected = knockoff_selection(antisymmetric(path.coefficient[0, 0]), RATE)
    telling = np.isin(np.arange(KNOWN), TELLING)
    return float((selected & ~telling).sum() / max(1, selected.sum())), float(selected[telling].mean())


def discoveries(groups: int, found: list[tuple[float, float]]) -> Iterator[Tally]:
    false, power = np.array(found).T
    yield "false among knockoffs", "", len(found), float(false.sum()), f"power {power.mean():.2f}"
