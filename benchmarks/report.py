"""Size of a run's page, the time that making it takes, and the time in which headless Chromium has it open.

    uv run python benchmarks/report.py RUN [--times N] [--json]

Made in a process that has everything imported, as at a run's end; opened by a fresh page each time: from the start of
navigation to the load event, and until all pictures are decoded. Medians.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from probekit.report.page import write_report
from probekit.runner.run import load

_DECODED = "Promise.all([...document.images].map(one => one.decode()))"
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def made(run: Path, page: Path, times: int) -> float:
    """Seconds to make the page."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        write_report(load(run), page)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def opened(page: Path, times: int) -> tuple[float, float]:
    """Seconds to the load event, and until every picture is decoded too."""
    path = next(found for name in ("chromium-headless-shell", "chromium") if (found := shutil.which(name)))
    loads, whole = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(times):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load")
            loads.append(tab.evaluate(_LOADED) / 1000)
            tab.evaluate(_DECODED)
            whole.append(time.perf_counter() - start)
            tab.close()
        browser.close()
    return statistics.median(loads), statistics.median(whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        seconds = made(options.run, page, options.times)
        load_seconds, whole_seconds = opened(page, options.times)
        found = {
            "megabytes": page.stat().st_size / 1e6,
            "made_s": seconds,
            "load_s": load_seconds,
            "with_pictures_s": whole_seconds,
        }
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{found['megabytes']:.2f} MB, made in {seconds:.2f} s")
        print(f"open in {load_seconds:.3f} s, {whole_seconds:.3f} s with every picture decoded")


if __name__ == "__main__":
    main()
