"""Whether tests of pairs of channels keep their level, and find what is there, among cells that depend on one another.

    uv run python benchmarks/interactions.py [--repetitions N]

N draws (400) a setting: 60 cells a group, channels like a network's (correlated, rectified), groups that differ in what
they show, in prevalence and, ``unequal``, in size and in what each channel means. One pair a draw counts for the level,
with its binomial 99 % interval (Clopper and Pearson); all 15 pairs of six channels for whether any q is at most .05.
``cells`` is the same test on the same data with the cells dealt to groups at random, as if they were independent.
Exit status 1 where an interval lies above .05.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from scipy.stats import beta

from probekit.compare.interactions import LEVEL, pair_tests
from probekit.sampling.seeds import generator

Drawn = tuple[Any, Any, Any, Any]


def draw(rng: np.random.Generator, groups: int, k: int, unequal: bool, product: float) -> Drawn:
    """z, y, weights and groups; the product is that of the first two channels."""
    sizes = 60 * np.exp(rng.standard_normal(groups) - 0.5) if unequal else rng.integers(30, 90, groups)
    group = np.repeat(np.arange(groups), np.maximum(4, sizes).astype(int))
    n, own = len(group), 0.6 if unequal else 0.3
    z = np.sqrt(own) * rng.standard_normal((groups, k))[group] + np.sqrt(1 - own) * rng.standard_normal((n, k))
    z = np.maximum(z @ (np.eye(k) + 0.3 * rng.standard_normal((k, k))), -0.3)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    slopes = 1.5 * rng.standard_normal(k) + (0.5 if unequal else 0.0) * rng.standard_normal((groups, k))
    margin = (
        (z * slopes[group]).sum(axis=1) / np.sqrt(k) - 1 + (2 if unequal else 1) * rng.standard_normal(groups)[group]
    )
    y = (rng.random(n) < 1 / (1 + np.exp(-margin - product * z[:, 0] * z[:, 1]))).astype(np.int8)
    positives = min(max(1, int(y.sum())), n - 1)
    return z, y, np.where(y == 1, n / (2 * positives), n / (2 * (n - positives))), group


def main() -> int:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description="Level and power of the tests of pairs of channels.")
    arguments.add_argument("--repetitions", type=int, default=400)
    repetitions: int = arguments.parse_args().repetitions
    print("groups            channels   p <= .05 [99 %]        any q <= .05   cells: p <= .05   product .5: found")
    failed = False
    for unequal in (False, True):
        for groups in (12, 30, 100):
            for k in (6, 30):
                counts = np.zeros(4, dtype=int)
                for repetition in range(repetitions):
                    rng = generator(0, "interactions", groups, k, int(unequal), repetition)
                    z, y, weights, group = draw(rng, groups, k, unequal, 0.0)
                    tests = pair_tests(z, y, weights, group, np.arange(6))
                    counts[0] += tests.p[0] <= LEVEL
                    counts[1] += (tests.q <= LEVEL).any()
                    counts[2] += pair_tests(z, y, weights, rng.permutation(group), np.arange(2)).p[0] <= LEVEL
                    counts[3] += pair_tests(*draw(rng, groups, k, unequal, 0.5), np.arange(6)).q[0] <= LEVEL
                low = beta.ppf(0.005, counts[0], repetitions - counts[0] + 1) if counts[0] else 0.0
                high = beta.ppf(0.995, counts[0] + 1, repetitions - counts[0])
                failed |= bool(low > LEVEL)
                shares = counts / repetitions
                print(
                    f"{groups:4d} {'unequal' if unequal else 'alike':10s} {k:9d}"
                    f"   {shares[0]:.3f} [{low:.3f}, {high:.3f}]"
                    f"  {shares[1]:14.3f} {shares[2]:17.3f} {shares[3]:19.3f}",
                    flush=True,
                )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
