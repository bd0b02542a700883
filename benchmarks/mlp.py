"""What it brings to train the problems of the shallow MLP side by side.

    uv run python benchmarks/mlp.py [--json] [--rounds N] [--problems N] [--rows N] [--channels N] [--epochs N]
        [--validation N] [--threads N]

Five folds of as many concepts as it takes (20 problems of 20,000 x 512 rows unless told otherwise), each trained for
the same number of epochs with a validation score after each, on rows that all share; the concepts of a fold share
validation rows. Three ways, each with all threads and one BLAS thread in each:

- *together*: one call with all problems, as a run makes it;
- *alone*: the same code, one problem a call, the calls in threads;
- *plain*: the loop that one writes with autograd and ``torch.optim.AdamW(fused=True)``, one problem a thread.

The three take turns in every round; the figures are medians over the rounds of wall seconds, and of the ratios within a
round. All must end at the same validation scores (to .01), or nothing is printed. Below 1, side by side is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from probekit_mlp.mlp import Mlp
from probekit_mlp.parameters import MlpParameters

from probekit.api import Problem, map_in_threads
from probekit.evaluate.scores import average_precision
from probekit.features.rows import MemoryRows

FOLDS = 5


@dataclass(frozen=True)
class Seen:
    rows: MemoryRows
    y: NDArray[np.int8]

    def average_precision(self, scores: NDArray[np.floating[Any]]) -> float:
        return average_precision(scores, self.y)


def make(problems: int, n: int, p: int, validation: int) -> tuple[MemoryRows, list[Problem]]:
    """Rectified rows, as networks give them, and questions that a weighted sum answers in part."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((p // 8, p)).astype(np.float32) / np.sqrt(p // 8)
    scale, shift = random.uniform(0.1, 3, (2, p)).astype(np.float32)

    def draw(count: int) -> NDArray[np.float32]:
        hidden = random.standard_normal((count, p // 8), dtype=np.float32)
        noise = random.standard_normal((count, p), dtype=np.float32)
        return np.asarray(np.maximum(hidden @ mixing + noise + shift - 1, 0) * scale)

    def ask(x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.int8]:
        one, two = weights @ (x / scale - 1).T
        score = one / one.std() + np.abs(two / two.std()) + 0.5 * random.standard_normal(len(x))
        return np.asarray(score > np.quantile(score, 0.8), dtype=np.int8)

    x, seen = draw(n), [draw(validation) for _ in range(FOLDS)]
    seen_rows, fold = [MemoryRows(part) for part in seen], random.integers(0, FOLDS, n)
    asked, out = [], []
    for _ in range(-(-problems // FOLDS)):
        weights = (random.standard_normal((2, p)) / np.sqrt(p)).astype(np.float32)
        asked.append((weights, ask(x, weights)))
    for i in range(problems):
        weights, y = asked[i // FOLDS]
        training = fold != i % FOLDS
        count = [int((training & (y == label)).sum()) for label in (0, 1)]
        balanced = np.where(training, sum(count) / (2 * np.array(count))[y], 0.0)
        mean, deviation = (f(x[training], axis=0, dtype=np.float64) for f in (np.mean, np.std))
        inner = Seen(seen_rows[i % FOLDS], ask(seen[i % FOLDS], weights))
        out.append(Problem(y, balanced, mean, np.where(deviation > 0, deviation, 1.0), i, inner))
    return MemoryRows(x), out


def plain(x: torch.Tensor, problem: Problem, parameters: MlpParameters) -> float:
    """Trains one problem; its last validation AP."""
    generator = torch.Generator().manual_seed(problem.seed)
    mean, scale = (torch.from_numpy(a.astype(np.float32)) for a in (problem.mean, problem.scale))
    weights = torch.from_numpy(problem.weights.astype(np.float32))
    y = torch.from_numpy(problem.y.astype(np.float32))
    rows = torch.from_numpy(np.flatnonzero(problem.weights > 0))
    widths = [x.shape[1], *parameters.hidden, 1]
    layers = []
    for i, (width, out) in enumerate(pairwise(widths)):
        drawn = torch.randn(out, width, generator=generator) * (2 / width if i < len(widths) - 2 else 1 / width) ** 0.5
        layers.append((drawn.requires_grad_(), torch.zeros(out, requires_grad=True)))
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight for weight, _ in layers], "weight_decay": parameters.weight_decay},
            {"params": [bias for _, bias in layers], "weight_decay": 0.0},
        ],
        lr=parameters.learning_rate,
        fused=True,
    )

    def margins(part: torch.Tensor) -> torch.Tensor:
        h = torch.nn.functional.linear(part.sub_(mean), layers[0][0] / scale, layers[0][1])
        for weight, bias in layers[1:]:
            h = torch.nn.functional.linear(torch.relu(h), weight, bias)
        return h[:, 0]

    validation, found = problem.validation, 0.0
    assert validation is not None
    for _ in range(parameters.epochs):
        order = rows[torch.randperm(len(rows), generator=generator)]
        for batch in torch.split(order, parameters.batch_size):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(margins(x[batch]), y[batch], weights[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            scores = [margins(torch.tensor(part)).double().numpy() for _, part in validation.rows.chunks(2048)]
        found = validation.average_precision(np.concatenate(scores))
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rows, problems = make(options.problems, options.rows, options.channels, options.validation)
    parameters = MlpParameters(epochs=options.epochs, patience=options.epochs)
    threads, x = options.threads, rows.torch("cpu")

    def ours(some: Sequence[Problem], threads: int) -> list[float]:
        paths = Mlp(parameters, device="cpu", threads=threads).fit(rows, some, None)
        return [path.fits[0].details["validation_average_precision"][-1] for path in paths]

    ways: dict[str, Callable[[], list[float]]] = {
        "together": lambda: ours(problems, threads),
        "alone": lambda: map_in_threads(lambda problem: ours([problem], 1)[0], problems, threads),
        "plain": lambda: map_in_threads(lambda problem: plain(x, problem, parameters), problems, threads),
    }
    map_in_threads(lambda problem: plain(x, problem, MlpParameters(epochs=1)), problems[:1], 1)  # imports the optimizer
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds):
        found = {}
        for name in list(ways)[turn % 3 :] + list(ways)[: turn % 3]:
            started = time.perf_counter()
            found[name] = ways[name]()
            seconds[name].append(time.perf_counter() - started)
        for name in ("alone", "plain"):
            np.testing.assert_allclose(found["together"], found[name], atol=0.01)
    return {
        "torch": torch.__version__,
        "threads": threads,
        "problems": len(problems),
        "rows": options.rows,
        "channels": options.channels,
        "epochs": options.epochs,
        "validation_rows": options.validation,
        "rounds": options.rounds,
        "validation_ap": [round(min(found["together"]), 3), round(max(found["together"]), 3)],
        "seconds": {name: round(statistics.median(times), 3) for name, times in seconds.items()},
        "together_over": {
            name: round(statistics.median(a / b for a, b in zip(seconds["together"], seconds[name], strict=True)), 3)
            for name in ("alone", "plain")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--validation", type=int, default=10000, help="validation rows of a fold")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    result = measure(parser.parse_args())
    if parser.parse_args().json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"{result['problems']} problems of {result['rows']} x {result['channels']} rows, {result['epochs']} epochs, "
        f"{result['validation_rows']} validation rows, {result['threads']} threads, torch {result['torch']}"
    )
    for name, value in result["seconds"].items():
        ratio = result["together_over"].get(name)
        print(f"{name:<9} {value:7.2f} s" + (f"   together / {name} {ratio:.2f}" if ratio is not None else ""))


if __name__ == "__main__":
    main()
