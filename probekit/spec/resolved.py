"""A spec after validation: every entry with its plugin and typed parameters, and ways to write it down again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeGuard, TypeVar

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from yaml.emitter import Emitter
from yaml.representer import SafeRepresenter
from yaml.serializer import Serializer

from probekit.api import BackbonePlugin, Descriptor, Issue, LabelSourcePlugin, ParameterError, Parameters, ProbePlugin
from probekit.plugins import Plugin
from probekit.spec.models import DType, Experiment
from probekit.spec.places import Document, Key, dotted, issue
from probekit.spec.yaml import SpecResolver

D_co = TypeVar("D_co", bound=Descriptor, covariant=True)


@dataclass(frozen=True)
class Use(Generic[D_co]):
    """An entry of the spec.

    Attributes:
        name: the entry's own (under ``backbones`` and ``probes``, of one of several label sources); the plugin's for
            ``data`` and ``controls``.
        section: the entry's path in the spec, as :meth:`Resolved.locate` takes it.
        plugin: the descriptor and its distribution; ``plugin.load()`` imports the class.
        parameters: what stands under ``with``, validated.
    """

    name: str
    section: Key
    plugin: Plugin[D_co]
    parameters: Parameters


@dataclass(frozen=True)
class BackboneUse(Use[BackbonePlugin]):
    """A backbone; ``device`` and ``dtype`` are the experiment's where the entry has none. ``batch_size`` is the plan's
    to choose where it is none. ``control``: never ranked, by its descriptor."""

    layers: tuple[str, ...]
    device: str
    dtype: DType
    batch_size: int | None

    @property
    def control(self) -> bool:
        """The plugin says that this is no model but a control."""
        return self.plugin.descriptor.control


@dataclass(frozen=True)
class ProbeUse(Use[ProbePlugin]):
    """A probe family; ``upstream`` is the entry under ``probes`` that is fitted before, or none."""

    upstream: str | None


@dataclass(frozen=True)
class Resolved:
    """An experiment, ready to plan.

    Attributes:
        experiment: the file's own values, defaults filled.
        path: the spec's file as it was named.
        folder: its folder, absolute.
        store: the store's folder, absolute.
        data: the label source, or each of a list of them.
        backbones: in the spec's order.
        controls: control plugins named under ``controls``, with their default parameters and layers, by plugin name.
        twins: ``controls`` names ``twins``.
        probes: in an order in which each comes after its upstream, otherwise the spec's.
        document: the data and places as they were read.
    """

    experiment: Experiment
    path: Path
    folder: Path
    store: Path
    data: tuple[Use[LabelSourcePlugin], ...]
    backbones: Mapping[str, BackboneUse]
    controls: Mapping[str, BackboneUse]
    twins: bool
    probes: Mapping[str, ProbeUse]
    document: Document = field(repr=False, compare=False)

    @property
    def lists_sources(self) -> bool:
        """``data`` is a list, so that concepts are ``source/concept``."""
        return self.data[0].section != ("data",)

    def at(self, path: Key, what: str) -> Issue:
        """``what`` is wrong with the key at ``path`` (``("split", "folds")``), with its place."""
        return issue(self.document.of_value(path), path, what)

    def locate(self, section: Key, error: ParameterError) -> Issue:
        """A plugin's error with its place.

        Args:
            section: the ``section`` of the entry that the plugin was made for (``("backbones", "sam")``).
            error: ``("layers", i)`` of a backbone names the entry's layer; all else is read below ``with``.
        """
        if section[0] == "controls":
            return self.at(section, str(error))
        of_entry = section[0] == "backbones" and error.path[:1] == ("layers",) and len(error.path) == 2
        return self.at((*section, *error.path) if of_entry else (*section, "with", *error.path), error.what)

    def dump(self, folder: Path) -> str:
        """The spec as YAML to be kept in ``folder``: all defaults filled, each plugin as ``distribution/name``.

        It can be run from where it lies, and goes on to when a tree that holds ``folder`` and the data is moved: paths
        are written relative to ``folder``, except those that the user gave as absolute or that share nothing with it.
        What was set by ``--set`` is part of it.
        """
        tree = self._tree(lambda path, key: self._given(key) or _relative(path, folder))
        return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)

    def canonical(self, folder: Path) -> dict[str, Any]:
        """What decides the results, as JSON values, to compare with another spec of the run in ``folder``.

        Paths are relative to ``folder`` however they were written, so a spec, the same spec with absolute paths, and
        what ``dump(folder)`` wrote are equal. What changes how fast a run goes, or whether it may, and not what comes
        out is left out: ``threads``, ``store``, ``allow_circular``, and each backbone's ``batch_size``.
        """
        tree = self._tree(lambda path, key: _relative(path, folder))
        for key in ("threads", "store", "allow_circular"):
            tree.pop(key, None)
        for entry in tree["backbones"].values():
            entry.pop("batch_size", None)
        return tree

    def _given(self, key: Key) -> str | None:
        """The text at ``key`` if the user gave it as an absolute path."""
        value: Any = self.document.data
        for part in key:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return str(value) if isinstance(value, str) and Path(value).is_absolute() else None

    def _tree(self, write: Callable[[Path, Key], str]) -> dict[str, Any]:
        tree: dict[str, Any] = {
            key: value for key, value in _plain(self.experiment, (), write).items() if value is not None
        }
        sources = [self._entry(use, {}, write) for use in self.data]
        named = [{"name": use.name} | source for use, source in zip(self.data, sources, strict=True)]
        tree["data"] = named if self.lists_sources else sources[0]
        tree["backbones"] = {name: self._backbone(use, write) for name, use in self.backbones.items()}
        qualified = {use.section: use.plugin.qualified for use in self.controls.values()}
        tree["controls"] = [qualified.get(("controls", i), name) for i, name in enumerate(self.experiment.controls)]
        tree["probes"] = {name: self._entry(self.probes[name], {}, write) for name in self.experiment.probes}
        tree["store"]["path"] = write(self.store, ("store", "path"))
        return tree

    def _backbone(self, use: BackboneUse, write: Callable[[Path, Key], str]) -> dict[str, Any]:
        own: dict[str, Any] = {"layers": list(use.layers), "device": use.device, "dtype": use.dtype}
        return self._entry(use, own | ({} if use.batch_size is None else {"batch_size": use.batch_size}), write)

    def _entry(self, use: Use[Any], own: dict[str, Any], write: Callable[[Path, Key], str]) -> dict[str, Any]:
        parameters = _plain(use.parameters, (*use.section, "with"), write)
        return {"use": use.plugin.qualified, **own} | ({"with": parameters} if parameters else {})


def _plain(value: Any, key: Key, write: Callable[[Path, Key], str]) -> Any:
    """JSON values; models by their aliases, paths as ``write`` has them."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            field.alias or name: _plain(getattr(value, name), (*key, field.alias or name), write)
            for name, field in fields.items()
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(item, (*key, str(name)), write) for name, item in value.items()}
    if isinstance(value, Path):
        return write(value, key)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, AbstractSet):
        return sorted(_plain(item, key, write) for item in value)
    if isinstance(value, Sequence):
        return [_plain(item, (*key, i), write) for i, item in enumerate(value)]
    return value if value is None or isinstance(value, bool | int | float) else to_jsonable_python(value)


def _relative(path: Path, folder: Path) -> str:
    """``path`` as seen from ``folder``; absolute where they share no more than the root.

    A plain name gets ``./`` before it, so that a file called ``random`` is not read as a keyword.
    """
    if not path.is_absolute():
        return path.as_posix()
    base = folder.resolve()
    target = Path(os.path.normpath(path))
    if target.parts[:2] != base.parts[:2]:
        return target.as_posix()
    text = Path(os.path.relpath(target, base)).as_posix()
    return text if "/" in text or text in (".", "..") else f"./{text}"


class _Dumper(Emitter, Serializer, SafeRepresenter, SpecResolver):
    """Writes what the spec's reader reads back as the same values."""

    def __init__(self, stream: Any, **options: Any) -> None:
        layout = {key: options[key] for key in ("width", "allow_unicode", "indent", "line_break", "canonical")}
        Emitter.__init__(self, stream, **layout)
        Serializer.__init__(self)
        SafeRepresenter.__init__(self, sort_keys=False)
        SpecResolver.__init__(self)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Emitted plainly, Unicode's own line breaks would be read back as a newline or a space.
        style = '"' if any(c in data for c in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        short = all(item is None or isinstance(item, str | int | float) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=short)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        return super().represent_mapping(tag, mapping, flow_style=not mapping)


_Dumper.add_representer(str, _Dumper.represent_str)


class Change(NamedTuple):
    """A key that differs; ``old`` or ``new`` is none where the key is not set there."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.old is None or self.new is None:
            return f"{self.key} {'is new' if self.old is None else 'is gone'}"
        return f"{self.key} was {_brief(self.old)}, is {_brief(self.new)}"


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two :meth:`Resolved.canonical`: the deepest keys, those of ``old`` first."""
    return list(_changes(old, new, ()))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], path: Key) -> Iterator[Change]:
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changes(before, after, (*path, key))
        elif _are_entries(before) and _are_entries(after) and len(before) == len(after):
            for i, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from _changes(one, other, (*path, key, i))
        elif before != after or type(before) is not type(after):
            yield Change(dotted((*path, key)), before, after)


def _are_entries(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    """A list of mappings, whose elements are compared key by key."""
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _brief(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
