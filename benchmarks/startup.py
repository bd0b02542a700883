"""What it costs to ask: ``probekit --help`` and ``probekit plugins`` as whole processes, over bare Python.

    uv run python benchmarks/startup.py [--rounds N] [--json]

Each round runs all three in turn; medians of wall seconds, and their difference to ``python -c pass``. Goals: under
0.15 and 0.6 s over bare Python.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "--help": [sys.executable, "-m", "probekit.cli", "--help"],
    "plugins": [sys.executable, "-m", "probekit.cli", "plugins"],
}
GOALS = {"--help": 0.15, "plugins": 0.6}


def measure(rounds: int) -> dict[str, float]:
    """Median wall seconds of each command, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    medians = measure(options.rounds)
    rows = [
        {
            "command": name,
            "seconds": round(medians[name], 3),
            "over_python": round(medians[name] - medians["python"], 3),
            "goal": goal,
        }
        for name, goal in GOALS.items()
    ]
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        print(f"bare Python {medians['python']:.3f} s, medians of {options.rounds}")
        for row in rows:
            print(f"probekit {row['command']:<8} {row['over_python']:.3f} s over it (goal: under {row['goal']} s)")


if __name__ == "__main__":
    main()
