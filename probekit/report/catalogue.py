"""``probekit plugins``: what is installed, what a plugin's parameters are, which layers a model has.

The list and the parameters import no torch; a model's layers need the plugin's own class.
"""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from probekit.api import Backbone, BackbonePlugin, Descriptor, ParameterError, Parameters, ProbekitError
from probekit.plugins import Plugin, Plugins, load_plugins, nearest

_WIDTH = 100


def print_plugins(plugins: Plugins | None = None) -> None:
    """Prints every plugin by kind, then those that were set aside with the reason."""
    plugins = load_plugins() if plugins is None else plugins
    rows = [
        (_kind(plugin), plugin.descriptor.name, f"{plugin.distribution} {plugin.version}", plugin.descriptor.summary)
        for plugin in plugins.all
    ]
    claims = [(plugin.kind, plugin.descriptor.name) for plugin in plugins.all]
    for line in _table(("kind", "name", "from", "what it is"), rows):
        print(line)
    for plugin in plugins.all:
        if claims.count((plugin.kind, plugin.descriptor.name)) > 1:
            print(f"{plugin.descriptor.name} is claimed twice: a spec writes `use: {plugin.qualified}`")
    if plugins.failures:
        print("\nset aside")
        for failure in plugins.failures:
            _say(str(failure), "  ")
    if not plugins.all and not plugins.failures:
        print("no plugin is installed: a distribution registers one by an entry point of the group probekit")


def print_plugin(name: str, plugins: Plugins | None = None) -> None:
    """Prints the parameters of every plugin of a name (bare or ``distribution/name``).

    Raises:
        ProbekitError: there is none.
    """
    plugins = load_plugins() if plugins is None else plugins
    found = plugins.named(name)
    if not found:
        raise ProbekitError(_unknown(name, plugins))
    for i, plugin in enumerate(found):
        if i:
            print()
        _print_one(plugin)


def print_layers(name: str, model: str, plugins: Plugins | None = None) -> None:
    """Prints the layers of a model of a backbone plugin, in the order of depth. No weights are read.

    Raises:
        ProbekitError: no such backbone, it has no parameter ``model``, or no such model.
    """
    plugins = load_plugins() if plugins is None else plugins
    plugin = plugins.backbone(name)
    backbone = _of_model(plugin, model)
    layers = backbone.layers
    rows = [
        (layer, f"{tap.channels}", "x".join(f"{step:g}" for step in dict.fromkeys(tap.stride)), tap.kind)
        for layer, tap in layers.items()
    ]
    print(f"{plugin.descriptor.name} {model}: {len(rows)} layers, in the order of depth")
    for line in _table(("layer", "channels", "stride", "kind"), rows, right=(1, 2)):
        print(line)


def _of_model(plugin: Plugin[BackbonePlugin], model: str) -> Backbone:
    parameters = plugin.descriptor.parameters
    where = f"probekit plugins {plugin.descriptor.name} --model {model}"
    if "model" not in parameters.model_fields:
        raise ProbekitError(f"{where}: {plugin.descriptor.name} has no parameter 'model'")
    values: dict[str, Any] = {"model": model}
    if "weights" in parameters.model_fields:
        values["weights"] = "random"  # shapes alone: nothing is looked for or fetched
    try:
        given = parameters.model_validate(values)
        backbone: Backbone = plugin.load()(given, seed=0)
        _ = backbone.layers
    except ValidationError as error:
        raise ProbekitError(f"{where}: {_faults(error, parameters)}") from None
    except ParameterError as error:
        raise ProbekitError(f"{where}: {error.what}") from None
    return backbone


def _faults(error: ValidationError, parameters: type[Parameters]) -> str:
    """Every fault in one line; where ``model`` is a choice and was not met, the nearest one too."""
    texts = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "missing":
            texts.append(f"{key} must be given too, in a spec")
        elif fault["type"] == "literal_error":
            known = re.findall(r"'([^']+)'", str(fault.get("ctx", {}).get("expected", "")))
            hint = nearest(str(fault["input"]), known)
            texts.append(f"no {key} {fault['input']!r}{hint} (there are: {', '.join(known)})")
        else:
            texts.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(texts)


def _unknown(name: str, plugins: Plugins) -> str:
    bare = name.rpartition("/")[2]
    for failure in plugins.failures:
        if bare in (failure.name, *failure.names):
            return str(failure)
    known = {plugin.descriptor.name for plugin in plugins.all} | {plugin.qualified for plugin in plugins.all}
    return f"no plugin named {name!r}{nearest(name, known)} (probekit plugins lists them)"


def _kind(plugin: Plugin[Descriptor]) -> str:
    control = isinstance(plugin.descriptor, BackbonePlugin) and plugin.descriptor.control
    return f"{plugin.kind} (control)" if control else plugin.kind


def _print_one(plugin: Plugin[Descriptor]) -> None:
    descriptor = plugin.descriptor
    print(f"{descriptor.name}  {_kind(plugin)}, from {plugin.distribution} {plugin.version}")
    _say(descriptor.summary, "  ")
    if isinstance(descriptor, BackbonePlugin) and descriptor.default_layers:
        _say(f"layers unless a spec names others: {', '.join(descriptor.default_layers)}", "  ")
    intro = inspect.cleandoc(descriptor.parameters.__doc__ or "").partition("\n\n")[0]
    rows = list(_parameters(descriptor.parameters))
    print("\n  no parameters" if not rows else "\n  under `with`:")
    if rows and not any(row[3] for row in rows):
        _say(" ".join(intro.replace("``", "").split()), "  ")
    for line in _table(("parameter", "type", "default", "what it is"), rows):
        print(f"  {line}".rstrip())
    if isinstance(descriptor, BackbonePlugin) and "model" in descriptor.parameters.model_fields:
        print(f"\n  layers of a model: probekit plugins {descriptor.name} --model MODEL")


def _parameters(model: type[Parameters], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(name, type, default, description) of each parameter; those of nested models by dotted names."""
    schema = model.model_json_schema(by_alias=True)
    documented = _documented(model)
    for name, field in model.model_fields.items():
        key = field.alias or name
        found = schema["properties"][key]
        nested = _nested(field.annotation)
        default = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
        shown = "required" if default is PydanticUndefined else "see below" if nested else _value(default)
        description = field.description or documented.get(name, "")
        kind = "mapping" if nested else _type(found, schema.get("$defs", {}), optional=default is None)
        yield f"{prefix}{key}", kind, shown, description
        if nested:
            yield from _parameters(nested, f"{prefix}{key}.")


def _nested(annotation: Any) -> type[Parameters] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Parameters) else None


def _documented(model: type[Parameters]) -> dict[str, str]:
    """Descriptions from the ``Attributes:`` of the model's docstrings."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        block = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for names, text in re.findall(r"^    ([\w, ]+): ((?:.+\n?)(?:^        .+\n?)*)", block, re.MULTILINE):
            for name in names.split(", "):
                texts[name] = " ".join(text.replace("``", "").split())
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def _value(value: Any) -> str:
    """A default as a spec would write it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return str(value) or "''"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, Sequence | set | frozenset):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any], optional: bool = False) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        branches = [one for one in branches if not (optional and one.get("type") == "null")]
        return " | ".join(dict.fromkeys(_type(one, definitions) for one in branches))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type(one, definitions) for one in schema['prefixItems'])}]"
        return f"list of {_type(schema.get('items', {}), definitions)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        of = _type(values, definitions) if isinstance(values, Mapping) and values else ""
        return f"mapping to {of}" if of and of != "anything" else "mapping"
    if kind == "null":
        return "null"
    if schema.get("format") in ("path", "file-path", "directory-path"):
        return "path"
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    return f"{_WORDS.get(str(kind), 'anything')} {bounds}".rstrip()


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Columns side by side; the last one, and others that are too wide, are wrapped."""
    if not rows:
        return
    width = min(_WIDTH, max(60, shutil.get_terminal_size((_WIDTH, 24)).columns)) - 4
    longest = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    widths = [min(length, 28 if i < len(heads) - 1 else length) for i, length in enumerate(longest)]
    widths[-1] = max(16, min(widths[-1], width - sum(widths[:-1]) - 2 * (len(heads) - 1)))
    for row in [heads, *rows]:
        cells = [textwrap.wrap(text, size) or [""] for text, size in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = [cell[i] if i < len(cell) else "" for cell in cells]
            shown = (
                f"{part:>{size}}" if column in right else f"{part:<{size}}"
                for column, (part, size) in enumerate(zip(parts, widths, strict=True))
            )
            yield "  ".join(shown).rstrip()


def _say(text: str, indent: str = "") -> None:
    print(textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))
