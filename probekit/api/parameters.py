"""What a plugin's parameters are made of: the base model, and strings that name files.

A plugin declares its parameters as a subclass of :class:`Parameters`. The spec loader validates the mapping under
``with`` against it and reports each error at its line and column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema


def _strict_scalars(schema: Any) -> None:
    if isinstance(schema, list):
        for item in schema:
            _strict_scalars(item)
    elif isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for key, value in schema.items():
            if key not in ("default", "expected", "metadata", "serialization"):
                _strict_scalars(value)


class Parameters(BaseModel):
    """Base of every plugin's parameter model: frozen, unknown keys are errors, strings are not coerced to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Numbers and booleans are taken as they are written; lists still become tuples (pydantic's own ``strict``
        would refuse them)."""
        schema = handler(source)
        _strict_scalars(schema)
        return schema


class NoParameters(Parameters):
    """For a plugin that has none."""


class SpecString(str):
    """A string scalar of a spec that remembers the folder its relative paths start from.

    The loader makes every string of a file one of these (the file's folder) and every string of ``--set`` too (the
    working directory). Elsewhere it is a plain string.
    """

    base: Path

    def __new__(cls, text: str, base: Path) -> SpecString:
        """``text``, with the folder ``base``."""
        string = super().__new__(cls, text)
        string.base = base
        return string


def _resolve(value: Any) -> Any:
    if isinstance(value, SpecString):
        return value.base / str(value)
    return value


SpecPath = Annotated[Path, BeforeValidator(_resolve)]
"""A path parameter: relative to the file that names it, on the command line to the working directory."""


def _weights(value: Any) -> Any:
    return str(value) if str(value) in ("pretrained", "random", "bundled") else _resolve(value)


Weights = Annotated[Literal["pretrained", "random", "bundled"] | Path, BeforeValidator(_weights)]
"""A backbone's ``weights``: a keyword, or the path of a local file."""
