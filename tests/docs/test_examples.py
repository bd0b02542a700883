"""The examples of the how-to pages keep the contracts, and the pages show them as they are."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from probekit.plugins import Candidate, load_plugins

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "write-a-backbone-plugin": ROOT / "examples" / "backbone-plugin",
    "write-a-probe-plugin": ROOT / "examples" / "probe-plugin",
    "write-a-label-source": ROOT / "examples" / "label-source",
}
sys.path[:0] = [str(PAGES["write-a-backbone-plugin"] / "src"), *(str(folder) for folder in PAGES.values())]


def module(file: Path) -> ModuleType:
    """A test file of an example, which lies in no package."""
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


for _folder in PAGES.values():
    for _file in sorted((_folder / "tests").glob("test_*.py")):
        # Their tests become tests of this module.
        _found = {name: value for name, value in vars(module(_file)).items() if name.lower().startswith("test")}
        assert _found
        assert not _found.keys() & globals().keys()
        globals().update(_found)


def blocks(page: str) -> Iterator[tuple[str | None, str]]:
    """The fenced blocks of a page: the file that one names (``title="..."``), if it does, and its text."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    for info, body in re.findall(r"^```(.*?)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        title = re.search(r'title="(.+?)"', info)
        yield (title.group(1) if title else None), body


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_its_files_as_they_are(page):
    shown = {name: body for name, body in blocks(page) if name is not None}
    assert shown
    for name, body in shown.items():
        assert (PAGES[page] / name).read_text(encoding="utf-8") == body, f"{page}.md: {name} differs from the file"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_leaves_no_file_of_its_example_out(page):
    folder = PAGES[page]
    files = (file for file in folder.rglob("*") if file.suffix in (".py", ".toml", ".yaml") and file.stat().st_size)
    hidden = {"__init__.py"}
    wanted = {file.relative_to(folder).as_posix() for file in files if file.name not in hidden}
    ours = {name for name in wanted if not re.search(r"(^|/)(\.|dist/|build/|runs/)", name)}
    assert ours == {name for name, _ in blocks(page)} - {None}


@pytest.mark.parametrize("page", PAGES)
def test_code_on_a_page_is_a_file(page):
    """Python, TOML and YAML that nobody runs would rot."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    loose = [line for line in re.findall(r"^```(?:python|toml|yaml).*$", text, re.MULTILINE) if "title=" not in line]
    assert loose == []


@pytest.mark.parametrize("name", ["probekit_gabor.plugin", "probekit_centroid", "probekit_circles"])
def test_the_example_is_admitted_as_a_plugin(name):
    admitted = load_plugins([Candidate("example", "1", "example", lambda: importlib.import_module(name))])
    assert admitted.failures == ()
    (plugin,) = admitted.all
    assert plugin.load().__module__.partition(".")[0] == name.partition(".")[0]
