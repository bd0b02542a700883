"""Pydantic's errors in a spec's terms: which key or value, what was expected, what was given."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from probekit.api import ParameterError
from probekit.plugins import nearest
from probekit.spec.places import Key, listed

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "none_required": "nothing",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "union_tag_invalid": "{expected_tags}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with the value at ``path``, or with its key."""

    path: Key
    what: str
    of_key: bool = False


@dataclass
class _Error:
    details: ErrorDetails
    path: Key
    union: Key | None
    branch: str
    of_key: bool


def faults(error: ValidationError, model: type[BaseModel], data: Any) -> list[Fault]:
    """What pydantic found wrong, one fault a key or value; paths start at ``data``.

    The branches of a union are reported as one: by what they expect, or, where one of them got further into the value
    than the others, by that one.
    """
    found: list[Fault] = []
    unions: dict[Key, list[_Error]] = {}
    for details in error.errors(include_url=False):
        one = _locate(details, data)
        if one.union is None:
            found.append(_fault([one], model, data))
        else:
            unions.setdefault(one.union, []).append(one)
    for union, errors in unions.items():
        deep = [one for one in errors if len(one.path) > len(union)]
        if deep:
            branch = max(deep, key=lambda one: len(one.path)).branch
            found += [_fault([one], model, data) for one in deep if one.branch == branch]
        else:
            found.append(_fault(errors, model, data))
    return found


def _locate(details: ErrorDetails, data: Any) -> _Error:
    """Follows pydantic's location through the data; what leads nowhere there is the name of a union's branch."""
    path: list[str | int] = []
    union: Key | None = None
    branch, of_key = "", details["type"] in ("missing", "extra_forbidden")
    current = data
    loc = details["loc"]
    for i, part in enumerate(loc):
        if part == "[key]":
            of_key = True
        elif part in current if isinstance(current, Mapping) else _is_place(part, current):
            path.append(part)
            current = current[part]
        elif i == len(loc) - 1 and details["type"] == "missing":
            path.append(part)
        elif union is None:
            union, branch = tuple(path), str(part)
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        path += cause.path
    return _Error(details, tuple(path), union, branch, of_key)


def _is_place(part: str | int, value: Any) -> bool:
    return isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)


def _fault(errors: list[_Error], model: type[BaseModel], data: Any) -> Fault:
    one = errors[0]
    given = one.details["input"]
    for error in errors:
        kind, cause = error.details["type"], error.details.get("ctx", {}).get("error")
        if isinstance(cause, ParameterError):
            return Fault(error.path, cause.what)
        if kind in ("value_error", "assertion_error"):
            return Fault(error.path, str(cause) or "cannot be used", error.of_key)
    if one.details["type"] == "missing":
        return Fault(one.path, "is required", of_key=True)
    if one.details["type"] == "extra_forbidden":
        return Fault(one.path, unknown_key(str(one.path[-1]), known_keys(model, one.path[:-1], data)), of_key=True)
    if one.details["type"] == "union_tag_not_found":
        return Fault(one.path, "says not which kind it is: " + one.details["msg"])
    expected = [_expected(error.details) for error in errors]
    if None in expected:
        return Fault(one.path, f"{one.details['msg']}, given {describe(given)}", one.of_key)
    words = list(dict.fromkeys(word for words in expected for word in words or ()))
    if one.details["type"] == "union_tag_invalid":
        tag = one.details["ctx"]
        key, given = tag["discriminator"].strip("'"), tag["tag"]
        return Fault((*one.path, key), f"expected {listed(tag['expected_tags'].split(', '))}, given {given!r}")
    if one.details["type"].startswith("too_") and not given:
        return Fault(one.path, "is empty: name at least one")
    options = [word.strip("'") for word in words if word.startswith("'")]
    hint = nearest(given, options) if isinstance(given, str) else ""
    if not hint and isinstance(given, str) and set(words) <= {"a whole number", "a number", "true or false"}:
        hint = ": leave the quotes out" if re.fullmatch(r"[-+.0-9eE]+|true|false", given) else ""
    elif set(words) & {"text", "a path"} and isinstance(given, bool | int | float):
        hint = ": put it in quotes"
    return Fault(one.path, f"expected {listed(words)}, given {describe(given)}{hint}", one.of_key)


def _expected(details: ErrorDetails) -> list[str] | None:
    """What would have been right, in words; none where pydantic's own message has to do."""
    template = _EXPECTED.get(details["type"])
    if template is None:
        return None
    text = template.format(**details.get("ctx", {}))
    return re.findall("'[^']*'", text) or [text] if details["type"] in ("literal_error", "enum") else [text]


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The nearest known key, or all of them."""
    if not known:
        return "unknown key; nothing can be set here"
    near = [name for name in known if name != key]
    return "unknown key" + (nearest(key, near) or f"; what can be set: {', '.join(known)}")


def describe(value: Any) -> str:
    """A value as the user gave it: ``the text 'no'``, ``3``, ``a list``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {str(value)!r}" if len(value) <= 40 else f"the text {str(value)[:37]!r}..."
    if isinstance(value, int | float):
        return repr(value)
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else str(value)


def known_keys(model: type[BaseModel], path: Key, data: Any) -> list[str]:
    """The keys that may stand in the mapping at ``path``."""
    models = list(_models(model, path))
    value = data
    for part in path:
        value = value[part]
    fitting = [one for one in models if _fits(one, value)] or models
    return list(dict.fromkeys(field.alias or name for one in fitting for name, field in one.model_fields.items()))


def _fits(model: type[BaseModel], value: Any) -> bool:
    """The literals of the model (a union's discriminator) agree with what is given."""
    return all(
        value[field.alias or name] in get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and isinstance(value, Mapping) and (field.alias or name) in value
    )


def _models(annotation: Any, path: Key) -> Iterator[type[BaseModel]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _models(arguments[0], path)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _models(argument, path)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
        for name, field in annotation.model_fields.items():
            if path and (field.alias or name) == path[0]:
                yield from _models(field.annotation, path[1:])
    elif path and arguments:
        for argument in arguments[1:] if isinstance(path[0], str) else arguments:
            yield from _models(argument, path[1:])
