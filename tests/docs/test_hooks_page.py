"""The page of the hooks names every one of them, with what it returns, and no other."""

import inspect
import re
from pathlib import Path

import pluggy

from probekit.api import hooks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "hooks.md"


def specified() -> dict[str, str]:
    """Every hook and its signature, as pluggy sees them."""
    manager = pluggy.PluginManager("probekit")
    manager.add_hookspecs(hooks)
    names = list(vars(manager.hook))
    return {name: str(inspect.signature(getattr(hooks, name))) for name in names if not name.startswith("_")}


def test_every_hook_has_a_section_with_its_signature_and_no_other_has():
    text = PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+)(.*)`$", text, flags=re.MULTILINE))
    assert specified()
    signatures = {name: re.sub(r"'", "", signature) for name, signature in specified().items()}
    assert sections == signatures


def test_every_section_says_more_than_its_name():
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        assert len(section.split()) > 20, section
