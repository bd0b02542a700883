"""The templates of pages: what they are given is escaped, whatever it is called."""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """The package's templates; a name that a template misspells is an error."""
    return Environment(
        loader=PackageLoader("probekit.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> str:
    """The text of a file beside the templates: our own style or script."""
    return (resources.files("probekit.report.page") / "templates" / name).read_text("utf-8")
