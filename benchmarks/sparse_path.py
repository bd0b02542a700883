"""How fast the sparse path is, and how near to the best, beside what one would use instead.

    uv run --group bench python benchmarks/sparse_path.py [--rows N] [--channels P] [--concepts M] [--workload]
        [--peers adelie,liblinear,skglm,lbfgs,recipe] [--grid L3|L5] [--out-of-core] [--device D] [--json]

Correlated features with a planted support, made from ``--seed``. Grid L3 is lambda = 1e-1, 1e-2, 1e-3 of

    (1/n) sum_i s_i log(1 + exp(-y_i (z_i . w + b))) + lambda ||w||_1,   z standardised, s class-balanced, b free;

L5 goes on to 1e-4 and 1e-5. Each solver runs in a process of its own, one after another, with ``--threads`` threads.
Not on the clock: reading the data, imports and compilation, and the standardised copy that every peer needs and ours
does not. All answers are judged alike, by the relative duality gap in float64 (log 2 is 1): ``max_gap`` is the worst
point's, ``certified`` whether it is at most 1e-6. ``ratio_to_ours`` is over our seconds for the same grid.

- ours: certified at 1e-6; with ``--concepts M`` all in one batch, and once more one concept alone, which is what the
  peers solve. ``--out-of-core``: from eight memory-mapped files; peers load them.
- adelie: float32, tol 1e-4, two lambdas a decade on the way down, no early exit, a standardised Fortran copy (twice as
  fast as its own lazy standardisation), one thread or all, whichever is faster on the first grid.
- liblinear (scikit-learn): tol 1e-4, from 200,000 rows 1e-3, intercept_scaling 100, intercept made exact for judging.
- skglm: has no class weights; it solves the unweighted problem at the same lambdas and is judged by that. L3 only.
- lbfgs (scikit-learn): the grid "L2", refits with a ridge of 1e-3 on our top 5, 10, 20, 50, 100 and all channels at
  lambda 1e-3, at the loosest tolerance that reaches our objective to 1e-6; the search for it is not on the clock.
- recipe: liblinear at C = 0.001, 0.01, 0.1, 1, 10 (lambda = 1 / (C n)), ranking by |w| at C = 0.1, six lbfgs refits at
  C = 1, scikit-learn's defaults otherwise; ours does the same five lambdas and six refits. Its gap is the worst of all.

``--workload``: 40,000 x 1024, 40 lambdas from the largest useful one to 1e-3 of it, five folds of four concepts. Ours
solves the 20 problems in one batch, peers one by one; liblinear does a few points and is extrapolated: its name says.

``floor_seconds``: the least that the data allow, measured in the same run: four reads of X, five columns wide, and one
Gram of 64k rows for each lambda with more than 0.6 of the channels in its support. ``rss_mb`` is a process's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sparse_path_solvers
from rich.console import Console
from rich.table import Table
from sparse_path_data import Data, Floats, Problem, generate
from sparse_path_judge import Fits, judge, lambda_max

GRIDS = {"L3": [1e-1, 1e-2, 1e-3], "L5": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]}
PEERS = ("adelie", "liblinear", "skglm", "lbfgs", "recipe")
WIDTHS, RIDGE, RANKED_AT = (5, 10, 20, 50, 100), 1e-3, 1e-3
RECIPE_C, RECIPE_RANKED = (0.001, 0.01, 0.1, 1.0, 10.0), 2
RATIOS = np.geomspace(1, 1e-3, 40)
SAMPLED = slice(2, None, 5)  # of the 40 lambdas: what liblinear does of the workload, on one problem
TARGET = 1e-6
COLUMNS = {  # of the table
    "solver": "solver",
    "grid": "grid",
    "concepts": "concepts",
    "seconds": "seconds",
    "ratio_to_ours": "over ours",
    "max_gap": "gap",
    "certified": "cert.",
    "reads": "reads",
    "rss_mb": "MB",
    "floor_seconds": "floor s",
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class SolverError(Exception):
    """A solver's process failed; the message says why."""


@dataclass
class Bench:
    """One run: its options, data, the folder of its files, and our seconds by (grid, concepts)."""

    options: argparse.Namespace
    data: Data
    folder: Path
    our_seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    floor: Any = None

    def solve(self, solver: str, problems: list[Problem], **more: Any) -> Any:
        """Run one solver in a process of its own; its arrays."""
        options, out = self.options, self.folder / "result.npz"
        job = {
            "solver": solver,
            "task": "path",
            "data": str(self.data.folder),
            "problems": [asdict(problem) for problem in problems],
            "threads": options.threads,
            "repeats": options.repeats,
            "device": options.device,
            "out_of_core": options.out_of_core,
            "result": str(out),
        }
        (self.folder / "job.json").write_text(json.dumps({**job, **more}, default=lambda array: array.tolist()))
        say(f"{solver} ...")
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(options.threads))}
        command = [sys.executable, __file__, "--job", str(self.folder / "job.json")]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=options.timeout)
        except subprocess.TimeoutExpired:
            raise SolverError(f"longer than {options.timeout:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            cause = "killed; out of memory?" if done.returncode == -signal.SIGKILL else f"exit status {done.returncode}"
            raise SolverError(f"{last} ({cause})")
        with np.load(out) as found:
            result = {name: found[name] for name in found.files}
        if "note" in result:
            say(f"{solver}: {result['note']}")
        return result

    def line(self, name: str, grid: str, concepts: int, result: Any, gaps: Floats, **more: Any) -> dict[str, Any]:
        seconds, ours = float(more.get("seconds", result["seconds"])), self.our_seconds.get((grid, concepts))
        if not np.all(gaps <= TARGET) and np.any(result.get("claims", False) & (gaps > TARGET)):
            say(f"{name}, {grid}: certified by the solver, but the judge finds a gap of {gaps.max():.1e}")
        return {
            "solver": name,
            "rows": self.data.rows,
            "channels": self.data.channels,
            "concepts": concepts,
            "grid": grid,
            "seconds": round(seconds, 4),
            "ratio_to_ours": round(seconds / ours, 3) if ours else None,
            "max_gap": float(f"{gaps.max():.3g}"),
            "certified": bool(np.all(gaps <= TARGET)),
            "reads": int(result["reads"]) if "reads" in result else None,
            "rss_mb": round(float(result["rss"])),
            "floor_seconds": more.get("floor"),
        }

    def our_line(self, grid: str, concepts: int, result: Any, gaps: Floats, **more: Any) -> dict[str, Any]:
        self.our_seconds[grid, concepts] = float(result["seconds"])
        name = "ours (out of core)" if self.options.out_of_core else "ours"
        return self.line(name, grid, concepts, result, gaps, **more)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def grids_of(bench: Bench) -> Iterator[dict[str, Any]]:
    """L3 and L5, the L2 refits, the recipe."""
    options, data = bench.options, bench.data
    one, peers = [Problem()], options.peers
    grids = [options.grid] if options.grid else list(GRIDS)
    if not options.out_of_core:
        bench.floor = attempt(bench, "floor", one)
    path = None
    for grid in grids:
        for count in sorted({1, options.concepts}, reverse=True):
            problems = [Problem(concept) for concept in range(count)]
            path = bench.solve("ours", problems, lambdas=GRIDS[grid])
            _, gaps = judge(data, Fits(problems, path["w"], path["b"], path["lambdas"]))
            floor = None
            if bench.floor and count == 1:
                dense = ((path["w"][0] != 0).mean(1) > 0.6).sum()
                floor = round(float(bench.floor["seconds"] + dense * bench.floor["gram"]), 4)
            yield bench.our_line(grid, count, path, gaps, floor=floor)
    assert path is not None

    if "adelie" in peers:
        chosen: dict[str, Any] = {}
        for grid in grids:
            if result := attempt(bench, "adelie", one, lambdas=[GRIDS[grid]], **chosen):
                chosen = {"peer_threads": int(result["peer_threads"])}
                fits = Fits(one, result["w"], result["b"], np.array([GRIDS[grid]]))
                yield bench.line("adelie", grid, 1, result, judge(data, fits)[1])
    if "liblinear" in peers:  # every lambda is a solve of its own: the short grid is the beginning of the long one
        lambdas = [GRIDS[grids[-1]]]
        if result := attempt(bench, "liblinear", one, lambdas=lambdas):
            fits = Fits(one, result["w"], result["b"], np.array(lambdas), free_intercept=False)
            gaps = judge(data, fits)[1]
            for grid in grids:
                size = len(GRIDS[grid])
                yield bench.line("liblinear", grid, 1, result, gaps[:, :size], seconds=result["each"][0, :size].sum())
    if "skglm" in peers and "L3" in grids and (result := attempt(bench, "skglm", one, lambdas=[GRIDS["L3"]])):
        fits = Fits([Problem(balanced=False)], result["w"], result["b"], np.array([GRIDS["L3"]]))
        yield bench.line("skglm (no class weights)", "L3", 1, result, judge(data, fits)[1])
    if "lbfgs" in peers:
        yield from refits(bench, path["w"][0, GRIDS[grids[-1]].index(RANKED_AT)])
    if "recipe" in peers:
        yield from recipe(bench)


def attempt(bench: Bench, solver: str, problems: list[Problem], **more: Any) -> Any:
    """A peer's result, or None after one line that says why there is none."""
    try:
        return bench.solve(solver, problems, **more)
    except SolverError as error:
        say(f"{solver} failed: {error}")
        return None


def widths_of(channels: int) -> list[int]:
    return [width for width in WIDTHS if width < channels] + [channels]


def ridge_fits(w: Floats, b: Floats, order: Any, widths: list[int], ridge: float) -> Fits:
    allowed = np.zeros(w.shape, bool)
    for i, width in enumerate(widths):
        allowed[0, i, order[:width]] = True
    return Fits([Problem()], w, b, np.full(b.shape, ridge), ridge=True, channels=allowed)


def refits(bench: Bench, w: Floats) -> Iterator[dict[str, Any]]:
    order, widths = np.argsort(-np.abs(w), kind="stable"), widths_of(len(w))
    asked = {"order": order, "widths": widths, "ridge": RIDGE}
    result = bench.solve("ours", [Problem()], task="subsets", **asked)
    objectives, gaps = judge(bench.data, ridge_fits(result["w"], result["b"], order, widths, RIDGE))
    yield bench.our_line("L2", 1, result, gaps)
    if result := attempt(bench, "lbfgs", [Problem()], objectives=objectives[0], **asked):
        gaps = judge(bench.data, ridge_fits(result["w"], result["b"], order, widths, RIDGE))[1]
        yield bench.line("lbfgs", "L2", 1, result, gaps)


def recipe(bench: Bench) -> Iterator[dict[str, Any]]:
    lambdas = [1 / (c * bench.data.rows) for c in RECIPE_C]
    widths, ridge = widths_of(bench.data.channels), 1 / bench.data.rows
    asked = {"task": "recipe", "widths": widths, "ridge": ridge, "ranked_by": RECIPE_RANKED}

    def gaps_of(result: Any, free: bool) -> Floats:
        path = Fits([Problem()], result["w"], result["b"], np.array([lambdas]), free_intercept=free)
        after = ridge_fits(result["w2"], result["b2"], result["order"], widths, ridge)
        return np.concatenate([judge(bench.data, path)[1], judge(bench.data, after)[1]], axis=1)

    result = bench.solve("ours", [Problem()], lambdas=lambdas, **asked)
    del result["claims"]
    yield bench.our_line("recipe", 1, result, gaps_of(result, True))
    if result := attempt(bench, "recipe", [Problem()], lambdas=[lambdas], **asked):
        yield bench.line("recipe", "recipe", 1, result, gaps_of(result, False))


def workload(bench: Bench) -> Iterator[dict[str, Any]]:
    """Folds of concepts down one long path each."""
    options, data = bench.options, bench.data
    problems = [Problem(concept, fold) for fold in range(5) for concept in range(options.concepts)]
    result = bench.solve("ours", problems, ratios=RATIOS)
    gaps = judge(data, Fits(problems, result["w"], result["b"], result["lambdas"]))[1]
    yield bench.our_line("workload", options.concepts, result, gaps)
    lambdas = lambda_max(data, problems)[:, None] * RATIOS
    off = np.abs(result["lambdas"] / lambdas - 1).max()
    if off > 1e-4:
        say(f"ours: its lambdas differ from the judge's by up to {off:.1e} (relative)")
    if "adelie" in options.peers and (result := attempt(bench, "adelie", problems, lambdas=lambdas)):
        gaps = judge(data, Fits(problems, result["w"], result["b"], lambdas))[1]
        yield bench.line("adelie", "workload", options.concepts, result, gaps)
    if "liblinear" in options.peers:
        part = lambdas[:1, SAMPLED]
        if result := attempt(bench, "liblinear", problems[:1], lambdas=part):
            fits = Fits(problems[:1], result["w"], result["b"], part, free_intercept=False)
            name = f"liblinear (1 of {len(problems)} problems, {part.size} of {len(RATIOS)} lambdas, extrapolated)"
            seconds = float(result["seconds"]) * len(problems) * len(RATIOS) / part.size
            gaps = judge(data, fits)[1]
            yield bench.line(name, "workload", options.concepts, result, gaps, seconds=seconds)


def show(lines: list[dict[str, Any]]) -> None:
    if not lines:
        return
    table = Table(title=f"{lines[0]['rows']:,} rows x {lines[0]['channels']:,} channels")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="left" if heading in ("solver", "grid") else "right")
    for line in lines:
        cells = {**line, "max_gap": f"{line['max_gap']:.0e}", "certified": "yes" if line["certified"] else "no"}
        table.add_row(*("" if cells[key] is None else str(cells[key]) for key in COLUMNS))
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


def arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rows", type=int, help="50,000; 40,000 with --workload")
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--concepts", type=int, help="problems on the same rows: 1; 4 with --workload")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, or none")
    parser.add_argument("--grid", choices=list(GRIDS), help="one of both")
    parser.add_argument("--workload", action="store_true", help="40 lambdas, five folds, adelie and liblinear as peers")
    parser.add_argument("--out-of-core", action="store_true", help="ours from memory-mapped files")
    parser.add_argument("--device", default="cpu", help="ours and the floor; peers know only the CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="solves of which the fastest counts (recipe: one)")
    parser.add_argument("--timeout", type=float, help="seconds after which a solver is given up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a JSON object a line, no table")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.peers = [] if options.peers in ("", "none") else options.peers.split(",")
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    options.rows = options.rows or (40_000 if options.workload else 50_000)
    options.concepts = options.concepts or (4 if options.workload else 1)
    return options


def main() -> int:
    options = arguments()
    if options.job:
        sparse_path_solvers.run(options.job)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: temporary files go
    lines: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="sparse-path-") as temporary:
            folder = Path(temporary)
            say(f"making {options.rows:,} x {options.channels:,} features ...")
            shards = 8 if options.out_of_core else 1
            data = generate(folder, options.rows, options.channels, options.concepts, options.seed, shards)
            bench = Bench(options, data, folder)
            for line in workload(bench) if options.workload else grids_of(bench):
                lines.append(line)
                if options.json:
                    print(json.dumps(line), flush=True)
    except SolverError as error:
        say(f"ours failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        if not options.json:
            show(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
