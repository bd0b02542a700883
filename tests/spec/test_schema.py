"""The JSON Schema names what the loader takes."""

from __future__ import annotations

import json

from probekit.spec import experiment_schema


def test_the_schema_is_json_and_every_reference_leads_somewhere(fakes) -> None:
    schema = json.loads(json.dumps(experiment_schema(fakes)))

    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    found = set(references(schema))
    assert found
    for reference in found:
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference
    assert set(schema["required"]) == {"probekit", "data", "backbones", "probes"}
    assert schema["additionalProperties"] is False


def test_each_plugins_parameters_stand_under_its_name(fakes) -> None:
    schema = experiment_schema(fakes)
    for section, names in (
        ("data", {"folders"}),
        ("backbones", {"net", "flat", "pixels", "needy"}),
        ("probes", {"path", "subsets"}),
    ):
        parts = schema["$defs"][f"{section}-entry"]["allOf"]
        offered = next(part["properties"]["use"]["enum"] for part in parts if "use" in part.get("properties", {}))
        assert {name for name in offered if "/" not in name} == names
        cases = {part["if"]["properties"]["use"]["enum"][0]: part["then"] for part in parts if "if" in part}
        assert set(cases) == names
        for case in cases.values():
            definition = schema["$defs"][case["properties"]["with"]["$ref"].removeprefix("#/$defs/")]
            assert definition["type"] == "object"
    subsets = next(p for p in schema["$defs"]["probes-entry"]["allOf"] if p.get("if", {}) and "subsets" in str(p["if"]))
    assert "rank_by" in schema["$defs"][subsets["then"]["properties"]["with"]["$ref"].rpartition("/")[2]]["properties"]
    assert schema["properties"]["backbones"]["additionalProperties"] == {"$ref": "#/$defs/backbones-entry"}
    assert schema["properties"]["controls"]["items"]["enum"] == [
        "twins",
        "needy",
        "probekit-fakes/needy",
        "pixels",
        "probekit-fakes/pixels",
    ]
