"""Figures as text for a page and as files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import matplotlib

from probekit.api import Issue, ProbekitError
from probekit.report.figures.drawing import Drawing
from probekit.report.figures.style import PALETTE, plain, styled
from probekit.runner.folder import display

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_ROLES = {light: f"var(--{role}, {light})" for role, (light, _) in PALETTE.items()}
_ROOT = "stroke-linejoin: round; stroke-linecap: butt; font-variant-numeric: tabular-nums; font-family: "


def svg(drawing: Drawing) -> str:
    """A figure as an element of a page: it takes the page's width, its font and its colours (``PALETTE``).

    Every identifier begins with the drawing's name; text is text; nothing outside is referred to.
    """
    root = _tree(drawing)
    root.set("style", f"{_ROOT}inherit; width: 100%; height: auto")
    for element in root.iter():
        style = element.get("style")
        if style and element is not root:
            style = re.sub("#[0-9a-f]{6}", lambda found: _ROLES.get(found[0], found[0]), style)
            element.set("style", re.sub(" ?font-family: [^;]*;", "", style))
    return ElementTree.tostring(root, encoding="unicode")


def save(drawings: Iterable[Drawing], folder: Path, format: Literal["pdf", "svg", "png"]) -> list[Path]:  # noqa: A002
    """Writes each figure into a file of its own, in light colours and at the width that it was drawn for.

    Args:
        drawings: of one run.
        folder: is made where it is not there.

    Returns:
        The files, in the order of the drawings.

    Raises:
        ProbekitError: one cannot be written.
    """
    paths = []
    for drawing in drawings:
        paths.append(folder / f"{drawing.name}.{format}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _save(drawing, paths[-1], format)
        except OSError as error:
            raise ProbekitError([Issue(display(paths[-1]), f"cannot be written: {error.strerror}")]) from None
    return paths


def _save(drawing: Drawing, path: Path, format: Literal["pdf", "svg", "png"]) -> None:  # noqa: A002
    if format == "svg":
        root = _tree(drawing)
        root.set("style", f"{_ROOT}'DejaVu Sans', Verdana, sans-serif")
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
        path.write_text(text, encoding="utf-8")
        return
    title, said = plain(drawing.title), plain(drawing.description)
    if format == "pdf":
        about = {"Title": title, "Subject": said, "CreationDate": None, "ModDate": None}
    else:
        about = {"Title": title, "Description": said}
    with styled():
        drawing.figure.savefig(path, format=format, metadata=about)


def _tree(drawing: Drawing) -> ElementTree.Element:
    """matplotlib's SVG, cleaned: what it says of itself, rules for the whole page and its identifiers are gone."""
    text = io.StringIO()
    with styled(), matplotlib.rc_context({"svg.hashsalt": drawing.name}):
        drawing.figure.savefig(text, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(text.getvalue())
    for element in list(root):
        if element.tag == f"{_SVG}metadata" or element.find(f"{_SVG}style") is not None:
            root.remove(element)
    _identify(root, drawing.name)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.tail = None
        if element.tag not in ("text", "tspan", "title", "desc"):
            element.text = None
        for name in ("d", "x", "y", "transform"):
            if name in element.attrib:
                element.set(name, _shorter(element.attrib[name]))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
    _flatten(root)
    for name in ("width", "height", "version"):
        root.attrib.pop(name)
    root.attrib.update(
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "xmlns:xlink": "http://www.w3.org/1999/xlink",
            "role": "img",
            "aria-labelledby": f"{drawing.name}-title {drawing.name}-desc",
        }
    )
    for place, (tag, text_of) in enumerate((("title", drawing.title), ("desc", drawing.description))):
        said = ElementTree.Element(tag, {"id": f"{drawing.name}-{tag}"})
        said.text = plain(text_of)
        root.insert(place, said)
    return root


def _identify(root: ElementTree.Element, name: str) -> None:
    """Numbers the identifiers that are referred to, after the drawing's name, and drops all others."""
    used: dict[str, str] = {}
    for element in root.iter():
        for value in (element.get("clip-path", ""), element.get(_LINK, "")):
            found = re.search(r"#([\w.-]+)", value)
            if found:
                used.setdefault(found[1], f"{name}-{len(used) + 1}")
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in used:
            element.set("id", used[identifier])
        if "clip-path" in element.attrib:
            element.set(
                "clip-path", re.sub(r"#([\w.-]+)", lambda found: f"#{used[found[1]]}", element.attrib["clip-path"])
            )
        link = element.attrib.pop(_LINK, None)
        if link is not None:
            element.set("xlink:href", f"#{used[link[1:]]}")


def _flatten(element: ElementTree.Element) -> None:
    """Takes out groups that say nothing of what they hold."""
    held: list[ElementTree.Element] = []
    for child in element:
        _flatten(child)
        held += list(child) if child.tag == "g" and not child.attrib else [child]
    element[:] = held


def _shorter(numbers: str) -> str:
    """Coordinates to a hundredth of a point, on one line."""
    rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return " ".join(rounded.split())
