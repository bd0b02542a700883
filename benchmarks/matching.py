"""Channel matching: what it costs, and whether it finds what two models share and nothing else.

    uv run python benchmarks/matching.py [--cells N]     1,024 x 2,048 channels over a million cells: seconds, memory
    uv run python benchmarks/matching.py --fdr [SEEDS]   planted truth: two simulated models over 200 seeds

The first streams float32 blocks of a few images' cells, and the bare BLAS product of blocks as large beside it in the
same run; memory is the process's largest resident set. The second prints, for each setting, how many of the shared
channels were matched, and the false discovery proportions of matches and of related channels over the seeds with 95 %
intervals (of unrelated models: the share of seeds with any). Exit status 1 where an interval is above the nominal .05.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import beta
from threadpoolctl import threadpool_limits

from probekit.compare.chance import against_chance
from probekit.compare.cross_products import CrossProducts, correlations
from probekit.compare.matching import MATCHED, decide, nearest
from probekit.compare.repairing import repair
from probekit.compare.standing import LEVEL
from probekit.sampling.seeds import generator

ROWS, COLUMNS = 12, 16
SELECTED, ALL_A, ALL_B, SHARED, WEAK = 40, 48, 64, 20, 30


@dataclass(frozen=True)
class Setting:
    """Two models on the same images.

    Attributes:
        shared: channels that both have under noise; of the second half b has mixtures.
        groups: of one to three images, 20 cells of each sampled.
        noise: deviation of each model's own part of a shared channel, relative to what is shared.
        trend: deviation of what the place alone gives each channel of either model, relative to the rest.
        smooth: deviation in cells of the fields' kernel.
        contrast: deviation of the logarithm of a factor that all channels of both models have in a group.
        most: images of the largest groups; the others have as many less as a Pareto distribution says.
        weak: the share of variance that other channels of both models have in common: related, but no match.
    """

    name: str
    shared: int = SHARED
    groups: int = 40
    noise: float = 0.5
    trend: float = 1.0
    smooth: float = 2.0
    contrast: float = 0.0
    most: int = 3
    weak: float = 0.0


SETTINGS = (
    Setting("20 shared"),
    Setting("20 shared, strong trend", trend=3.0),
    Setting("unrelated", shared=0),
    Setting("unrelated, strong trend", shared=0, trend=3.0),
    Setting("unrelated, rough", shared=0, smooth=0.5),
    Setting("unrelated, 20 groups", shared=0, groups=20),
    Setting("unrelated, contrast in common", shared=0, contrast=0.5),
    Setting("unrelated, groups of 1 to 40", shared=0, most=40),
    Setting("5 shared, 30 weakly related", shared=5, weak=0.15, trend=3.0),
)


@dataclass(frozen=True, eq=False)
class Cells:
    """Features of the sampled cells in both models, float32 (n, p), and where the cells lie, (n,)."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    image: NDArray[np.int64]
    group: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


def simulate(setting: Setting, seed: int) -> Cells:
    rng = generator(seed, "matching", setting.name)
    sizes = rng.integers(1, 4, setting.groups) if setting.most == 3 else 1 + 1.5 * rng.pareto(1.0, setting.groups)
    counts = np.minimum(sizes, setting.most).astype(np.int64)
    a, b, both = (_fields(rng, counts, p, setting.smooth) for p in (ALL_A, ALL_B, setting.shared))
    mixed = setting.shared // 2
    turn = np.linalg.qr(rng.standard_normal((setting.shared - mixed,) * 2))[0] if setting.shared else np.eye(0)
    a[..., : setting.shared] = both + setting.noise * a[..., : setting.shared]
    both[..., mixed:] = both[..., mixed:] @ turn
    b[..., : setting.shared] = both + setting.noise * b[..., : setting.shared]
    if setting.weak:
        weakly = slice(setting.shared, setting.shared + WEAK)
        common = _fields(rng, counts, WEAK, setting.smooth)
        for of in (a, b):
            of[..., weakly] = np.sqrt(1 - setting.weak) * of[..., weakly] + np.sqrt(setting.weak) * common
    if setting.contrast:
        contrast = np.exp(setting.contrast * rng.standard_normal(setting.groups))
        a, b = (of * np.repeat(contrast, counts)[:, None, None, None] for of in (a, b))
    y, x = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    horizon = np.tanh(4 * y + x)[..., None]
    a, b = (of + setting.trend * horizon * rng.standard_normal(of.shape[-1]) for of in (a, b))
    size = ROWS * COLUMNS
    drawn = np.concatenate([i * size + np.sort(rng.choice(size, 20, replace=False)) for i in range(counts.sum())])
    image, cell = np.divmod(drawn, size)
    one, other = (of.reshape(-1, of.shape[-1])[drawn].astype(np.float32) for of in (a, b))
    group = np.repeat(np.arange(setting.groups), counts)[image]
    return Cells(one, other, image, group, cell // COLUMNS, cell % COLUMNS)


def _fields(rng: np.random.Generator, counts: NDArray[np.int64], channels: int, smooth: float) -> NDArray[np.float64]:
    """Smooth fields of variance .6 and an effect of the group of variance .4, (images, rows, columns, channels)."""
    fields = rng.standard_normal((counts.sum(), ROWS, COLUMNS, channels))
    if not channels:
        return fields
    fields = gaussian_filter(fields, (0, smooth, smooth, 0))
    group = np.repeat(rng.standard_normal((len(counts), 1, 1, channels)), counts, axis=0)
    return np.asarray(np.sqrt(0.6) * fields / fields.std() + np.sqrt(0.4) * group)


def calls(setting: Setting, seed: int, draws: int = 999) -> tuple[int, int, int, int]:
    """How many of the shared channels of a are matched, and how many of the others (matches that are only related count
    as such: of the weakly related ones none may be matched); how many of the related channels are called related, and
    how many of the others."""
    cells, selected = simulate(setting, seed), np.arange(SELECTED)
    rng = generator(seed, "re-pairing")
    with threadpool_limits(1):
        pairing = repair(cells.image, cells.group, cells.row, cells.column, rng=rng, draws=draws)
        chance = against_chance(cells.a[:, selected], cells.b, pairing)
        near = nearest(correlations(cells.a, cells.b), selected)
    r = np.where(near.partner >= 0, chance.partial[selected, near.partner], 0.0)
    decided = decide(chance.p, chance.p_rebuilt, near.mutual, r, chance.r2, 1 / (1 + draws))
    matched, true = np.array([kind in MATCHED for kind in decided.kind]), selected < setting.shared
    weak = (selected < setting.shared + WEAK) & (setting.weak > 0)
    return (
        int(matched[true].sum()),
        int(matched[~true].sum()),
        int(decided.related[true | weak].sum()),
        int(decided.related[~(true | weak)].sum()),
    )


def discoveries(seeds: int, workers: int) -> bool:
    """Prints the table; whether no interval lies above the nominal rate."""
    print(
        f"{'setting':30} {'found: least':>12} {'mean':>6} {'19 or more':>11}   "
        "false discovery rate [95 %] of matches, and of related"
    )
    kept = True
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for setting in SETTINGS:
            found, false, *related = np.array(list(pool.map(partial(calls, setting), range(seeds), chunksize=5))).T
            rates = [false_rate(found, false), false_rate(related[0], related[1])]
            kept &= all(low <= LEVEL for _, low, _ in rates)
            of = " " * 31
            if setting.shared:
                enough = f"{(found >= 19).mean():11.1%}" if setting.shared == SHARED else " " * 11
                of = f"{found.min():12} {found.mean():6.2f} {enough}"
            shown = "  ".join(f"{rate:.3f} [{low:.3f}, {high:.3f}]" for rate, low, high in rates)
            print(f"{setting.name:30} {of}   {shown}", flush=True)
    return kept


def false_rate(found: NDArray[np.int64], false: NDArray[np.int64]) -> tuple[float, float, float]:
    """The mean over seeds of the share of calls that are false, with its 95 % interval: of a share of seeds (Clopper
    and Pearson) where it is 0 or 1 in each."""
    share, seeds = false / np.maximum(found + false, 1), len(found)
    rate = float(share.mean())
    if np.isin(share, (0, 1)).all():
        hits = int(share.sum())
        low = float(beta.ppf(0.025, hits, seeds - hits + 1)) if hits else 0.0
        return rate, low, float(beta.ppf(0.975, hits + 1, seeds - hits)) if hits < seeds else 1.0
    half = 1.96 * float(share.std(ddof=1)) / np.sqrt(seeds)
    return rate, max(0.0, rate - half), rate + half


def cost(cells: int) -> None:
    p_a, p_b, block = 1024, 2048, 700
    rng = np.random.default_rng(0)
    made = [rng.standard_normal((block, p), dtype=np.float32) for p in (p_a, p_b)]
    bare = 0.0
    first, second = (rng.standard_normal((2048, p), dtype=np.float32) for p in (p_a, p_b))
    products, taken = CrossProducts(p_a, p_b), 0.0
    for done in range(0, cells, 10 * 2048):
        size = min(10 * 2048, cells - done)
        start = time.perf_counter()
        for at in range(0, size, 2048):
            _ = first[: size - at].T @ second[: size - at]
        middle = time.perf_counter()
        for at in range(0, size, block):
            products.add(made[0][: size - at], made[1][: size - at])
        bare, taken = bare + middle - start, taken + time.perf_counter() - middle
    start = time.perf_counter()
    correlation = products.correlation()
    taken += time.perf_counter() - start
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{p_a} x {p_b} channels, {products.cells} cells: {taken:.1f} s, {resident / 1e6:.0f} MB resident at most")
    print(f"bare float32 products: {bare:.1f} s; ratio {taken / bare:.2f}; largest |r| {np.abs(correlation).max():.3f}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Channel matching: cost, and planted truth.")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--fdr", type=int, nargs="?", const=200, metavar="SEEDS")
    parser.add_argument("--workers", type=int, default=2)
    given: Any = parser.parse_args(arguments)
    if given.fdr:
        return 0 if discoveries(given.fdr, given.workers) else 1
    cost(given.cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
