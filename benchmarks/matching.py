"""Channel matching: what it costs, and whether it finds what two models share and nothing else.

    uv run python benchmarks/matching.py [--cells N]     1,024 x 2,048 channels over a million cells: seconds, memory
    uv run python benchmarks/matching.py --fdr [SEEDS]   planted truth: two simulated models over 200 seeds

The first streams float32 blocks of a few images' cells, and the bare BLAS product of blocks as large beside it in the
same run; memory is the process's largest resident set. The second prints, for each setting, how many of the shared
channels were found and the false discovery proportion over the seeds with its 95 % interval (of unrelated models: the
share of seeds with any match, Clopper and Pearson). Exit status 1 where an interval lies above the nominal .05.
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
from probekit.compare.matching import decide, nearest
from probekit.compare.repairing import repair
from probekit.compare.standing import LEVEL
from probekit.sampling.seeds import generator

ROWS, COLUMNS = 12, 16
SELECTED, ALL_A, ALL_B, SHARED = 40, 48, 64, 20


@dataclass(frozen=True)
class Setting:
    """Two models on the same images.

    Attributes:
        shared: channels that both have under noise; of the second half b has mixtures.
        groups: of one to three images, 20 cells of each sampled.
        noise: deviation of each model's own part of a shared channel, relative to what is shared.
        trend: deviation of what the place alone gives each channel of either model, relative to the rest.
        smooth: deviation in cells of the fields' kernel.
    """

    name: str
    shared: int = SHARED
    groups: int = 40
    noise: float = 0.5
    trend: float = 1.0
    smooth: float = 2.0


SETTINGS = (
    Setting("20 shared"),
    Setting("20 shared, strong trend", trend=3.0),
    Setting("unrelated", shared=0),
    Setting("unrelated, strong trend", shared=0, trend=3.0),
    Setting("unrelated, rough", shared=0, smooth=0.5),
    Setting("unrelated, 20 groups", shared=0, groups=20),
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
    counts = rng.integers(1, 4, setting.groups)
    a, b, both = (_fields(rng, counts, p, setting.smooth) for p in (ALL_A, ALL_B, setting.shared))
    mixed = setting.shared // 2
    turn = np.linalg.qr(rng.standard_normal((setting.shared - mixed,) * 2))[0] if setting.shared else np.eye(0)
    a[..., : setting.shared] = both + setting.noise * a[..., : setting.shared]
    both[..., mixed:] = both[..., mixed:] @ turn
    b[..., : setting.shared] = both + setting.noise * b[..., : setting.shared]
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


def calls(setting: Setting, seed: int, draws: int = 199) -> tuple[int, int]:
    """How many of the shared channels of a are matched, and how many of the others."""
    cells, selected = simulate(setting, seed), np.arange(SELECTED)
    rng = generator(seed, "re-pairing")
    with threadpool_limits(1):
        pairing = repair(cells.image, cells.group, cells.row, cells.column, rng=rng, draws=draws)
        chance = against_chance(cells.a[:, selected], cells.b, pairing)
        near = nearest(correlations(cells.a, cells.b), selected)
    matched = decide(chance.p, chance.p_rebuilt, near.mutual, near.r, chance.r2).related
    return int(matched[: setting.shared].sum()), int(matched[setting.shared :].sum())


def discoveries(seeds: int, workers: int) -> bool:
    """Prints the table; whether no interval lies above the nominal rate."""
    print(f"{'setting':28} {'found: least':>13} {'mean':>6} {'19 or more':>11}   false discovery rate [95 %]")
    kept = True
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for setting in SETTINGS:
            found, false = np.array(list(pool.map(partial(calls, setting), range(seeds), chunksize=5))).T
            share = false / np.maximum(found + false, 1)
            rate = share.mean()
            if setting.shared:
                half = 1.96 * share.std(ddof=1) / np.sqrt(seeds)
                low, high = max(0.0, rate - half), rate + half
            else:
                hits = int((false > 0).sum())
                low = beta.ppf(0.025, hits, seeds - hits + 1) if hits else 0.0
                high = beta.ppf(0.975, hits + 1, seeds - hits) if hits < seeds else 1.0
            kept &= bool(low <= LEVEL)
            of = f"{found.min():13} {found.mean():6.2f} {(found >= 19).mean():11.1%}" if setting.shared else " " * 32
            print(f"{setting.name:28} {of}   {rate:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    return kept


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
