"""The reference names every plugin and every parameter, and every experiment that the pages show is valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from probekit.api import Descriptor
from probekit.plugins import Plugin, load_plugins
from probekit.spec import load_experiment
from probekit.spec.models import Experiment

ROOT = Path(__file__).parents[2]
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
PAGES = [ROOT / "README.md", *REFERENCE, *sorted((ROOT / "docs" / "tutorial").glob("*.md"))]
OURS = [plugin for plugin in load_plugins().all if (ROOT / "plugins" / plugin.distribution).is_dir()]
KEYS = {field.alias or name for name, field in Experiment.model_fields.items()}
REST = {
    "data": "data: {use: nursery}",
    "backbones": "backbones: {plain: {use: pixels}}",
    "probes": "probes: {l1: {use: l1-path}}",
}


def sections(page: str) -> Iterator[tuple[str, str]]:
    """(heading, text up to the next heading of its level or above) of a Markdown page."""
    headings = list(re.finditer(r"^(#+) (.*)$", page, re.MULTILINE))
    for i, heading in enumerate(headings):
        ends = (later.start() for later in headings[i + 1 :] if len(later[1]) <= len(heading[1]))
        yield heading[2], page[heading.end() : next(ends, len(page))]


def examples() -> Iterator[object]:
    """Every YAML block of the pages that is an experiment or top-level keys of one."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.finditer(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            keys = set(yaml.safe_load(block[1]))
            if keys <= KEYS:
                line = text.count("\n", 0, block.start()) + 2
                yield pytest.param(block[1], keys, id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("plugin", OURS, ids=lambda plugin: plugin.qualified)
def test_a_plugin_and_all_its_parameters_are_described(plugin: Plugin[Descriptor]) -> None:
    name, model = plugin.descriptor.name, plugin.descriptor.parameters
    pages = {path.name: path.read_text("utf-8") for path in REFERENCE}
    found = {
        file: "\n".join(text for heading, text in sections(page) if heading.startswith(f"`{name}`"))
        for file, page in pages.items()
    }
    found = {file: text for file, text in found.items() if text}
    assert len(found) == 1, f"one page has a heading that starts with `{name}`"
    ((file, text),) = found.items()
    missing = [key for key in model.model_fields if f"`{key}`" not in text]
    # What stands below a parameter may be described elsewhere on the page, by example.
    below = {key for part in model.model_json_schema().get("$defs", {}).values() for key in part.get("properties", {})}
    code = " ".join(re.findall(r"^```.*?^```|`[^`\n]+`", pages[file], re.MULTILINE | re.DOTALL))
    missing += sorted(key for key in below if not re.search(rf"\b{key}\b", code))
    assert missing == [], f"parameters of {name} that {file} does not name"


def test_every_kind_of_plugin_is_looked_at() -> None:
    assert {plugin.kind for plugin in OURS} == {"backbone", "label source", "probe"}


@pytest.mark.parametrize(("text", "keys"), list(examples()))
def test_an_example_is_valid(text: str, keys: set[str], tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    if "probekit" not in keys:
        text = "\n".join(["probekit: 1", *(line for key, line in REST.items() if key not in keys), text])
    spec.write_text(text, "utf-8")
    load_experiment(spec)
