"""JSON Schema of the experiment file, for editors: the installed plugins' parameters merged in by ``use``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from probekit.plugins import Plugin, Plugins
from probekit.spec.load import TWINS
from probekit.spec.models import BackboneEntry, Entry, Experiment, SourceEntry


def experiment_schema(plugins: Plugins) -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of an experiment file, given what is installed."""
    groups: list[tuple[str, type[Entry], Sequence[Plugin[Any]]]] = [
        ("data", Entry, plugins.label_sources),
        ("backbones", BackboneEntry, plugins.backbones),
        ("probes", Entry, plugins.probes),
    ]
    models = list(dict.fromkeys(p.descriptor.parameters for _, _, offered in groups for p in offered))
    wanted = [(model, "validation") for model in (Experiment, Entry, SourceEntry, BackboneEntry, *models)]
    references, merged = models_json_schema(wanted, by_alias=True)  # type: ignore[arg-type]
    definitions = merged["$defs"]

    def reference(model: Any) -> dict[str, Any]:
        return references[model, "validation"]

    schema = dict(definitions[reference(Experiment)["$ref"].rpartition("/")[2]])
    properties = schema["properties"] = dict(schema["properties"])
    for key, entry, offered in groups:
        cases = [_case(plugin, _names(plugin, offered), reference(plugin.descriptor.parameters)) for plugin in offered]
        use = {"use": {"enum": [name for plugin in offered for name in _names(plugin, offered)]}}
        definitions[f"{key}-entry"] = {"allOf": [reference(entry), {"properties": use}, *cases]}
        one = {"$ref": f"#/$defs/{key}-entry"}
        if key == "data":
            definitions["data-source"] = {"allOf": [reference(SourceEntry), {"properties": use}, *cases]}
            several = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/data-source"}}
            properties[key] = {"anyOf": [one, several], "description": properties[key]["description"]}
            continue
        properties[key] = properties[key] | {"additionalProperties": one}
        properties[key].pop("patternProperties", None)
    controls = [name for p in plugins.backbones if p.descriptor.control for name in _names(p, plugins.backbones)]
    properties["controls"] = properties["controls"] | {"items": {"enum": [TWINS, *controls]}}
    schema["required"] = [key for key in schema["required"] if key != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def _names(plugin: Plugin[Any], offered: Sequence[Plugin[Any]]) -> list[str]:
    """What may stand after ``use``: the bare name only where no other distribution claims it."""
    name = plugin.descriptor.name
    claims = sum(other.descriptor.name == name for other in offered)
    return [name, plugin.qualified] if claims == 1 else [plugin.qualified]


def _case(plugin: Plugin[Any], names: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
    needed = any(field.is_required() for field in plugin.descriptor.parameters.model_fields.values())
    then: dict[str, Any] = {"properties": {"with": parameters}} | ({"required": ["with"]} if needed else {})
    return {"if": {"properties": {"use": {"enum": names}}, "required": ["use"]}, "then": then}
