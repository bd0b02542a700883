"""Admission of plugins, one at a time, and typed look-ups.

A plugin whose import or hooks fail is set aside with the reason; it fails only the specs that use it. Listing imports
the plugins' own modules and nothing that they name by text.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import pluggy

from probekit.api import (
    BackbonePlugin,
    Descriptor,
    LabelSourcePlugin,
    Parameters,
    ProbekitError,
    ProbePlugin,
    hooks,
)

GROUP = "probekit"
"""The entry point group under which a distribution registers its plugin module."""

D = TypeVar("D", bound=Descriptor)
_D_co = TypeVar("_D_co", bound=Descriptor, covariant=True)

_KINDS: dict[str, tuple[str, type[Descriptor]]] = {
    "probekit_backbones": ("backbone", BackbonePlugin),
    "probekit_label_sources": ("label source", LabelSourcePlugin),
    "probekit_probes": ("probe", ProbePlugin),
}


class PluginError(ProbekitError):
    """No such plugin, or one that failed to load, or a name that two distributions claim: one line, in ``str``."""


@dataclass(frozen=True)
class Candidate:
    """What registers itself, before anything of it is imported.

    Attributes:
        distribution: the name on the package index.
        version: the distribution's.
        name: the entry point's.
        load: imports the plugin module.
    """

    distribution: str
    version: str
    name: str
    load: Callable[[], object]


@dataclass(frozen=True)
class Plugin(Generic[_D_co]):
    """An admitted descriptor and where it comes from."""

    descriptor: _D_co
    distribution: str
    version: str

    @property
    def qualified(self) -> str:
        """``distribution/name``, which no other plugin of its kind has."""
        return f"{self.distribution}/{self.descriptor.name}"

    @property
    def kind(self) -> str:
        """``backbone``, ``label source`` or ``probe``."""
        return next(kind for kind, type_ in _KINDS.values() if isinstance(self.descriptor, type_))

    def load(self) -> type[Any]:
        """Imports the class that the descriptor names; raises :class:`PluginError`."""
        return load_target(self.descriptor, self.distribution)


@dataclass(frozen=True)
class Failure:
    """A plugin that was set aside.

    Attributes:
        name: the entry point's.
        names: of the descriptors that it offered before it failed.
        reason: one line.
        traceback: for a log.
    """

    distribution: str
    version: str
    name: str
    names: tuple[str, ...]
    reason: str
    traceback: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} (from {self.distribution} {self.version}) failed to load: {self.reason}"


@dataclass(frozen=True)
class Plugins:
    """What is installed: ``all`` that was admitted, sorted by kind and name, and the ``failures``."""

    all: tuple[Plugin[Descriptor], ...]
    failures: tuple[Failure, ...] = ()

    @cached_property
    def backbones(self) -> tuple[Plugin[BackbonePlugin], ...]:
        """Every backbone, controls included."""
        return self._of(BackbonePlugin)

    @cached_property
    def label_sources(self) -> tuple[Plugin[LabelSourcePlugin], ...]:
        """Every label source."""
        return self._of(LabelSourcePlugin)

    @cached_property
    def probes(self) -> tuple[Plugin[ProbePlugin], ...]:
        """Every probe family."""
        return self._of(ProbePlugin)

    def backbone(self, name: str) -> Plugin[BackbonePlugin]:
        """The backbone ``name`` or ``distribution/name``; raises :class:`PluginError`."""
        return self._find(name, self.backbones, "backbone")

    def label_source(self, name: str) -> Plugin[LabelSourcePlugin]:
        """The label source ``name`` or ``distribution/name``; raises :class:`PluginError`."""
        return self._find(name, self.label_sources, "label source")

    def probe(self, name: str) -> Plugin[ProbePlugin]:
        """The probe family ``name`` or ``distribution/name``; raises :class:`PluginError`."""
        return self._find(name, self.probes, "probe")

    def named(self, name: str) -> tuple[Plugin[Descriptor], ...]:
        """Every plugin of that bare or qualified name, of whatever kind and distribution; empty where there is none."""
        return tuple(plugin for plugin in self.all if name in (plugin.descriptor.name, plugin.qualified))

    def _of(self, kind: type[D]) -> tuple[Plugin[D], ...]:
        return tuple(cast("Plugin[D]", plugin) for plugin in self.all if isinstance(plugin.descriptor, kind))

    def _find(self, name: str, offered: Sequence[Plugin[D]], kind: str) -> Plugin[D]:
        found = [plugin for plugin in offered if name in (plugin.descriptor.name, plugin.qualified)]
        if len(found) == 1:
            return found[0]
        if found:
            claims = " and ".join(plugin.distribution for plugin in found)
            raise PluginError(f"{name!r} is claimed by {claims}; write {' or '.join(p.qualified for p in found)}")
        distribution, _, bare = str(name).rpartition("/")
        for failure in self.failures:
            by_name = bare in (failure.name, *failure.names)
            if (by_name and distribution in ("", failure.distribution)) or distribution == failure.distribution:
                raise PluginError(str(failure))
        others = sorted({plugin.kind for plugin in self.named(name)})
        if others:
            raise PluginError(f"{name!r} is a {' and a '.join(others)}, not a {kind}")
        known = {p.descriptor.name for p in offered} | ({p.qualified for p in offered} if distribution else set())
        near = nearest(str(name), known)
        failed = ", ".join(f"{failure.name} (from {failure.distribution})" for failure in self.failures)
        aside = f"; failed to load: {failed}" if failed else ""
        raise PluginError(f"no plugin named {str(name)!r}{near} (probekit plugins lists them){aside}")


def discover() -> Iterator[Candidate]:
    """What the installed distributions register under the entry point group ``probekit``."""
    for entry in importlib.metadata.entry_points(group=GROUP):
        distribution = entry.dist
        yield Candidate(
            distribution.name if distribution else "unknown",
            distribution.version if distribution else "0",
            entry.name,
            entry.load,
        )


def load_plugins(candidates: Iterable[Candidate] | None = None) -> Plugins:
    """Admits each candidate (all that are installed unless given) on its own."""
    admitted: list[Plugin[Descriptor]] = []
    failures: list[Failure] = []
    for candidate in discover() if candidates is None else candidates:
        offered: list[Descriptor] = []
        try:
            _admit(candidate, offered)
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())
            failures.append(
                Failure(
                    candidate.distribution,
                    candidate.version,
                    candidate.name,
                    tuple(descriptor.name for descriptor in offered),
                    text if isinstance(error, _FaultyPluginError) else f"{type(error).__name__}: {text}",
                    traceback.format_exc(),
                )
            )
        else:
            admitted += [Plugin(one, candidate.distribution, candidate.version) for one in offered]
    admitted.sort(key=lambda plugin: (plugin.kind, plugin.descriptor.name, plugin.distribution))
    failures.sort(key=lambda failure: (failure.distribution, failure.name))
    return Plugins(tuple(admitted), tuple(failures))


class _FaultyPluginError(Exception):
    """A plugin that loads but does not keep to the contract."""


def _admit(candidate: Candidate, offered: list[Descriptor]) -> None:
    """Loads one plugin into a manager of its own; adds to ``offered`` as it goes."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hooks)
    plugin = candidate.load()
    manager.register(plugin, candidate.name)
    manager.check_pending()
    seen: set[tuple[str, str]] = set()
    if not manager.get_hookcallers(plugin):
        raise _FaultyPluginError(f"implements none of the hooks ({', '.join(_KINDS)})")
    for hook, (kind, expected) in _KINDS.items():
        caller = getattr(manager.hook, hook)
        answers = caller()
        for returned in answers or [None] * len(caller.get_hookimpls()):
            if isinstance(returned, Descriptor | str) or not isinstance(returned, Iterable):
                raise _FaultyPluginError(f"{hook} returned {_what(returned)}, not a list of {expected.__name__}")
            for descriptor in returned:
                if not isinstance(descriptor, expected):
                    raise _FaultyPluginError(
                        f"{hook} returned a list with {_what(descriptor)}, not {expected.__name__}"
                    )
                _check(descriptor, hook)
                if (kind, descriptor.name) in seen:
                    raise _FaultyPluginError(f"{hook} returned {descriptor.name!r} twice")
                seen.add((kind, descriptor.name))
                offered.append(descriptor)


def _what(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"[:80]


def _check(descriptor: Descriptor, hook: str) -> None:
    """A descriptor's own fields: they come from a stranger and are shown, written to files and imported."""
    for field, pattern, rule in (
        ("name", r"[a-z0-9]+(-[a-z0-9]+)*", "lower case, digits and dashes"),
        ("summary", r"[^\r\n]+", "one line"),
        ("target", r"[\w.]+:\w+", "'package.module:Class'"),
        ("version", r"[^\r\n]+", "text"),
    ):
        value = getattr(descriptor, field)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise _FaultyPluginError(f"{hook}: the {field} of {descriptor.name!r} must be {rule}, it is {value!r}")
    model = descriptor.parameters
    if not (isinstance(model, type) and issubclass(model, Parameters)):
        raise _FaultyPluginError(f"{hook}: the parameters of {descriptor.name!r} are no subclass of Parameters")
    if isinstance(descriptor, BackbonePlugin) and isinstance(descriptor.default_layers, str):
        raise _FaultyPluginError(f"{hook}: default_layers of {descriptor.name!r} must be a tuple")
    if isinstance(descriptor, ProbePlugin) and descriptor.upstream not in (None, *model.model_fields):
        raise _FaultyPluginError(f"{hook}: {descriptor.name!r} has no parameter {descriptor.upstream!r} (its upstream)")


def load_target(descriptor: Descriptor, distribution: str | None = None) -> type[Any]:
    """Imports the class that a descriptor names.

    Args:
        descriptor: of an admitted plugin.
        distribution: where it comes from, for the message and to find how a missing dependency is called.

    Raises:
        PluginError: a dependency is missing (the line names the command that installs it), or there is no such class.
    """
    module, _, name = descriptor.target.partition(":")
    who = f"plugin {descriptor.name!r}" + (f" (from {distribution})" if distribution else "")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not missing or module == missing or module.startswith(f"{missing}."):
            raise PluginError(f"{who} names {descriptor.target}, but there is no module {missing or module}") from error
        package = _requirement(missing.partition(".")[0], distribution)
        what = f"{who} needs the module {missing!r}, which is not installed: uv pip install {package!r}"
        raise PluginError(what) from error
    except AttributeError as error:
        if getattr(error, "name", None) != name:
            raise
        raise PluginError(f"{who} names {descriptor.target}, but {module} has no {name}") from error
    except ImportError as error:
        raise PluginError(f"{who} failed to load: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(found, type):
        raise PluginError(f"{who} names {descriptor.target}, which is no class")
    return found


_PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def _requirement(module: str, distribution: str | None) -> str:
    """The requirement of ``distribution`` that brings ``module``, or the package's likely name."""
    package = _PACKAGES.get(module, module.replace("_", "-"))
    try:
        wanted = importlib.metadata.requires(distribution) if distribution else None
    except importlib.metadata.PackageNotFoundError:
        wanted = None
    for requirement in wanted or ():
        text = requirement.partition(";")[0].strip()
        if re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") == package.lower():
            return text
    return package


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'sam'?"``, or nothing where no known name is near."""
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
