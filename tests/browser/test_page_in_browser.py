"""The report of a run, opened in Chromium: silent, without requests, accessible, safe, usable by keyboard."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_fakes import copied, fill, renamed
from playwright.sync_api import sync_playwright

import probekit
from probekit.report.page import write_report
from probekit.runner.run import Run

pytestmark = pytest.mark.browser
AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
HOSTILE = "<img src=x onerror=alert(1)>"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "quickstart.yaml"
QUICK = (
    "data.with={flights: 12, scenes: 1, size: 384}",
    "split.folds=2",
    "sampling.per_class=400",
    "probes.l1.with.lambda_ratio={points: 3, min: 0.1}",
    "probes.topk.with.widths=4",
    "probes.topk.with.k=[5, all]",
    "probes.mlp.with.epochs=2",
    "controls=[pixels]",
    "nulls={random_channels: 2, permuted_labels: false, control_task: false}",
    "stability.pairs=0",
    "comparison.draws=19",
    "evaluation.description_length=false",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        assert "CI" not in os.environ, "CI must have Chromium: .ci/browser installs it"
        pytest.skip("needs Chromium (chromium-headless-shell on Debian, see .ci/browser)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, from the npm registry: the archive that was looked at, and no other."""
    if shutil.which("npm") is None:
        assert "CI" not in os.environ, "CI must have npm: .ci/browser installs it"
        pytest.skip("needs npm, which fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", AXE, "--ignore-scripts", "--silent"], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(archive) as files:
        script = files.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@pytest.fixture(scope="module")
def full(surveyed: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with rows in every table."""
    folder = tmp_path_factory.mktemp("full")
    return write_report(fill(copied(surveyed, folder / "run")), folder / "page.html")


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page and holds that it said nothing and asked for nothing but itself."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_page(path: Path, **how: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    assert said == []
    assert {url for url in asked if not url.startswith(("file:", "data:"))} == set()
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)
    for context in contexts:
        context.close()


def serious(page: Any, axe: str) -> list[tuple[str, str]]:
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(full: Path, opened: Callable[..., Any], axe: str, theme: str) -> None:
    page = opened(full, color_scheme=theme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert serious(page, axe) == []


def test_the_quickstart(opened: Callable[..., Any], axe: str, tmp_path: Path) -> None:
    run = probekit.run(EXAMPLE, [*QUICK, f"store.path={tmp_path / 'store'}"], out=tmp_path / "run")
    path = probekit.write_report(run)
    assert path == tmp_path / "run" / "report.html"
    page = opened(path, bypass_csp=True)
    assert page.locator("#found table").count() == 1
    assert page.locator("#curves svg").count() == 1
    assert page.locator("#detections img").count() > 0
    assert serious(page, axe) == []


def test_it_is_read_without_scripts(full: Path, opened: Callable[..., Any]) -> None:
    page = opened(full, java_script_enabled=False)
    assert page.locator("#found table tbody tr").first.is_visible()
    assert page.locator("figure.drawing svg").first.is_visible()
    assert page.locator("#found li").first.is_visible()
    assert not page.locator("#theme").is_visible()


def test_names_are_text(surveyed: Run, opened: Callable[..., Any], tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "run")
    run = fill(folder)
    names = {
        "disc": HOSTILE,
        "planted": f"{HOSTILE} model",
        "stem": f"</script>{HOSTILE}",
        run.info["groups"][0]: f"{HOSTILE} group",
        **{name: f'" onerror="alert(1)" {name}' for name in run.info["images"]},
    }
    page = opened(write_report(renamed(folder, names), tmp_path / "page.html"))
    assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0
    assert page.evaluate("[...document.images].every(one => one.getAttribute('src').startsWith('data:'))")
    assert page.get_by_role("heading", name=HOSTILE, exact=True).count() > 0
    models = page.locator("#found tbody").first.inner_text()
    assert f"{HOSTILE} model cells" in models
    assert f"tiny </script>{HOSTILE}" in models
    assert "onerror" in page.locator("#detections img").first.get_attribute("alt")


def test_rows_are_sorted_by_keyboard(full: Path, opened: Callable[..., Any]) -> None:
    page = opened(full)
    head = page.locator("#found th", has_text="AP").first
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    place = head.evaluate("one => one.cellIndex")
    keys = f"[...document.querySelector('#found tbody').rows].map(row => Number(row.cells[{place}].dataset.key))"
    assert page.evaluate(keys) == sorted(page.evaluate(keys), reverse=True)
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(keys) == sorted(page.evaluate(keys))


def test_the_first_stop_of_the_keyboard_leads_past_the_list_of_sections(full: Path, opened: Callable[..., Any]) -> None:
    page = opened(full)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#found"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0


def test_the_theme_is_kept(full: Path, opened: Callable[..., Any]) -> None:
    page = opened(full, color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").press("Enter")
    dark = page.evaluate(paper)
    assert dark != light
    other = opened(full, color_scheme="dark")
    assert other.evaluate(paper) == dark
    other.emulate_media(media="print")
    assert other.evaluate(paper) == light


@pytest.mark.parametrize("width", [380, 760, 1280])
def test_nothing_scrolls_sideways(full: Path, opened: Callable[..., Any], width: int) -> None:
    page = opened(full, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.querySelectorAll('figure.drawing svg')].every(one => one.clientWidth > 200)")


def test_long_names_break_rather_than_widen_a_phone(surveyed: Run, opened: Callable[..., Any], tmp_path: Path) -> None:
    folder = copied(surveyed, tmp_path / "run")
    fill(folder)
    names = {name: f"{name}_{'abcdefgh' * 7}" for name in ("disc", "planted", "stem")}
    page = opened(write_report(renamed(folder, names), tmp_path / "page.html"), viewport={"width": 380, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_what_is_folded_is_printed(full: Path, opened: Callable[..., Any]) -> None:
    page = opened(full)
    inside = (
        "[...document.querySelectorAll('details:not([open])')].map(one => one.lastElementChild)"
        ".filter(one => one.checkVisibility({contentVisibilityAuto: true})).length"
    )
    folded = page.locator("details:not([open])").count()
    assert folded > 3
    assert page.evaluate(inside) == 0
    page.emulate_media(media="print")
    page.wait_for_timeout(300)  # the style of the other medium
    assert page.evaluate(inside) == folded
