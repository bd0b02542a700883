"""From a file and ``--set`` to a resolved experiment, or to every error at once with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from probekit.api import BackbonePlugin, Descriptor, LabelSourcePlugin, Parameters, ProbekitError
from probekit.plugins import Plugin, PluginError, Plugins, load_plugins, nearest
from probekit.spec.messages import describe, faults
from probekit.spec.models import Entry, Experiment
from probekit.spec.overrides import apply_overrides
from probekit.spec.places import Document, Issues, Key
from probekit.spec.resolved import BackboneUse, ProbeUse, Resolved, Use
from probekit.spec.yaml import read_file

D = TypeVar("D", bound=Descriptor)

STORE = ".probekit-store"
TWINS = "twins"


def load_experiment(path: str | Path, overrides: Sequence[str] = (), *, plugins: Plugins | None = None) -> Resolved:
    """Reads, changes, validates and resolves a spec. No torch, no file but the spec is opened.

    Args:
        path: the experiment file; messages show it as it is given here.
        overrides: ``dotted.key=value``, in order; relative paths in them start from the working directory.
        plugins: all that are installed, unless given.

    Raises:
        ProbekitError: everything that is wrong, each at ``file:line:column`` or the ``--set`` that caused it.
    """
    issues = Issues()
    document = read_file(Path(path), issues)
    apply_overrides(document, overrides, Path.cwd(), issues)
    loading = _Loading(document, load_plugins() if plugins is None else plugins, issues)
    resolved = loading.resolve(Path(path))
    if issues or resolved is None:
        raise ProbekitError(issues.sorted())
    return resolved


class _Loading:
    def __init__(self, document: Document, plugins: Plugins, issues: Issues) -> None:
        self.document, self.plugins, self.issues = document, plugins, issues
        self.raw = document.data
        self.found: dict[Key, tuple[Plugin[Any], Parameters | None]] = {}

    def resolve(self, path: Path) -> Resolved | None:
        self._version()
        self.raw.setdefault("name", path.stem)
        self._entries()
        experiment = self._experiment()
        controls = self._controls()
        upstreams = self._upstreams()
        if experiment is None:
            return None
        backbones = self._backbones(experiment)
        if self.issues:
            return None
        folder = path.absolute().parent
        probes = {
            name: ProbeUse(name, section, *self._pair(section), upstreams[name])
            for name in experiment.probes
            for section in [("probes", name)]
        }
        return Resolved(
            experiment=experiment,
            path=path,
            folder=folder,
            store=(experiment.store.path or folder / STORE).absolute(),
            data=self._sources(experiment),
            backbones=backbones,
            controls={
                name: BackboneUse(
                    name, section, plugin, parameters, plugin.descriptor.default_layers, experiment.device,
                    experiment.dtype, None,
                )
                for name, (section, plugin, parameters) in controls.items()
            },
            twins=TWINS in experiment.controls,
            probes=_upstream_first(probes),
            document=self.document,
        )  # fmt: skip

    def _pair(self, section: Key) -> tuple[Plugin[Any], Parameters]:
        plugin, parameters = self.found[section]
        assert parameters is not None  # or there is an issue, and this is not reached
        return plugin, parameters

    def _section(self, key: str) -> dict[str, Any]:
        given = self.raw.get(key)
        return given if isinstance(given, dict) else {}

    def _wrong(self, path: Key, what: str, *, of_key: bool = False) -> None:
        place = self.document.of_key(path) if of_key else self.document.of_value(path)
        self.issues.add(place, path, what)

    def _version(self) -> None:
        version = self.raw.get("probekit")
        if "probekit" not in self.raw:
            self.issues.add(self.document.root, ("probekit",), "is required: the first line is 'probekit: 1'")
            self.raw["probekit"] = 1
        elif isinstance(version, bool) or version != 1:
            self._wrong(("probekit",), f"this version reads schema 1, given {describe(version)}")
            raise ProbekitError(self.issues.sorted())
        elif next(iter(self.raw)) != "probekit" and self.document.keys[("probekit",)].line is not None:
            self._wrong(("probekit",), "must be the first key", of_key=True)

    def _experiment(self) -> Experiment | None:
        try:
            return Experiment.model_validate(self.raw)
        except ValidationError as error:
            for fault in faults(error, Experiment, self.raw):
                self._wrong(fault.path, self._misplaced(fault.path) or fault.what, of_key=fault.of_key)
            return None

    def _misplaced(self, path: Key) -> str | None:
        """A plugin's parameter that stands beside ``with`` rather than below it."""
        plugin, _ = self.found.get(path[:-1], (None, None))
        if plugin is None or path[-1] not in plugin.descriptor.parameters.model_fields:
            return None
        known = ("name", "use", "with", "layers", "device", "dtype", "batch_size")
        return None if path[-1] in known else "unknown key here: the plugin's parameters stand under 'with'"

    def _entries(self) -> None:
        """Looks every plugin up and validates what stands under ``with``, whatever else is wrong."""
        data = self.raw.get("data")
        sources: dict[Key, Any] = {("data",): data}
        if isinstance(data, list):
            sources = {("data", i): entry for i, entry in enumerate(data)}
        for section, entry in sources.items():
            self._entry(section, entry, self.plugins.label_source)
        for key, find in (("backbones", self.plugins.backbone), ("probes", self.plugins.probe)):
            for name, entry in self._section(key).items():
                self._entry((key, name), entry, find)

    def _entry(self, section: Key, entry: Any, find: Callable[[str], Plugin[Any]]) -> None:
        use = entry.get("use") if isinstance(entry, Mapping) else None
        if not isinstance(use, str) or not use:
            return
        try:
            plugin = find(str(use))
        except PluginError as error:
            self._wrong((*section, "use"), str(error))
            return
        given = entry.get("with")
        given = {} if given is None else given
        parameters = None
        if isinstance(given, dict):
            model = plugin.descriptor.parameters
            try:
                parameters = model.model_validate(given)
            except ValidationError as error:
                for fault in faults(error, model, given):
                    self._wrong((*section, "with", *fault.path), fault.what, of_key=fault.of_key)
        self.found[section] = plugin, parameters
        descriptor = plugin.descriptor
        if isinstance(descriptor, BackbonePlugin) and not (entry.get("layers", []) != [] or descriptor.default_layers):
            what = f"name at least one; 'probekit plugins {descriptor.name}' says which there are"
            self._wrong((*section, "layers"), what, of_key=True)

    def _sources(self, experiment: Experiment) -> tuple[Use[LabelSourcePlugin], ...]:
        if isinstance(experiment.data, Entry):
            plugin, parameters = self._pair(("data",))
            return (Use(plugin.descriptor.name, ("data",), plugin, parameters),)
        return tuple(
            Use(entry.called, ("data", i), *self._pair(("data", i))) for i, entry in enumerate(experiment.data)
        )

    def _backbones(self, experiment: Experiment) -> dict[str, BackboneUse]:
        uses = {}
        for name, entry in experiment.backbones.items():
            section: Key = ("backbones", name)
            plugin, parameters = self.found.get(section, (None, None))
            if plugin is None:
                continue
            layers = entry.layers or plugin.descriptor.default_layers
            if parameters is not None:
                uses[name] = BackboneUse(
                    name, section, plugin, parameters, layers, entry.device or experiment.device,
                    entry.dtype or experiment.dtype, entry.batch_size,
                )  # fmt: skip
        return uses

    def _controls(self) -> dict[str, tuple[Key, Plugin[BackbonePlugin], Parameters]]:
        """The control plugins that ``controls`` names."""
        named: dict[str, tuple[Key, Plugin[BackbonePlugin], Parameters]] = {}
        given = self.raw.get("controls")
        controls: list[Any] = given if isinstance(given, list) else []
        for i, name in enumerate(controls):
            section: Key = ("controls", i)
            if not isinstance(name, str) or name == TWINS or name in controls[:i]:  # the model reports what repeats
                continue
            try:
                plugin = self.plugins.backbone(str(name))
                parameters = plugin.descriptor.parameters.model_validate({})
            except PluginError as error:
                near = nearest(name, [TWINS])
                self._wrong(section, f"no control named {str(name)!r}{near}" if near else str(error))
            except ValidationError:
                self._wrong(section, f"{str(name)!r} needs parameters: name it under backbones, with them")
            else:
                bare = plugin.descriptor.name
                if not plugin.descriptor.control:
                    known = ", ".join([TWINS, *sorted({p.descriptor.name for p in self._all_controls()})])
                    self._wrong(section, f"{str(name)!r} is no control ({known}): name it under backbones")
                elif not plugin.descriptor.default_layers:
                    self._wrong(section, f"{str(name)!r} has no default layers: name it under backbones, with layers")
                elif bare in named:
                    self._wrong(section, f"a second control {bare!r}: keep one of them")
                elif bare in self._section("backbones"):
                    self._wrong(section, f"an entry under backbones has the name {bare!r} too: rename that one")
                else:
                    named[bare] = section, plugin, parameters
        return named

    def _all_controls(self) -> list[Plugin[BackbonePlugin]]:
        return [plugin for plugin in self.plugins.backbones if plugin.descriptor.control]

    def _upstreams(self) -> dict[str, str | None]:
        """Which probe each probe builds on; wrong names and circles are reported."""
        probes = self._section("probes")
        names = list(probes)
        upstreams: dict[str, str | None] = {}
        paths: dict[str, Key] = {}
        for name in names:
            plugin, parameters = self.found.get(("probes", name), (None, None))
            key = plugin.descriptor.upstream if plugin is not None else None
            upstreams[name] = None
            if plugin is None or key is None:
                continue
            alias = plugin.descriptor.parameters.model_fields[key].alias or key
            given = (probes[name].get("with") or {}) if parameters is None else {alias: getattr(parameters, key)}
            upstream = given.get(alias) if isinstance(given, dict) else None
            if not isinstance(upstream, str):
                continue
            paths[name] = ("probes", name, "with", alias)
            upstreams[name] = upstream
            if upstream not in names:
                others = [other for other in names if other != name]
                hint = nearest(str(upstream), others) or f"; there are: {', '.join(others) or 'no others'}"
                self._wrong(paths[name], f"no entry {str(upstream)!r} under probes{hint}")
                upstreams[name] = None
        for name in names:
            way = [name]
            while (following := upstreams[way[-1]]) is not None and following not in way:
                way.append(following)
            if following == name:
                circle = " -> ".join([*way, name])
                self._wrong(
                    paths[name], f"probes that wait for each other: {circle}" if len(way) > 1 else "names itself"
                )
        return upstreams


def _upstream_first(probes: dict[str, ProbeUse]) -> dict[str, ProbeUse]:
    """The same, each after its upstream."""
    ordered: dict[str, ProbeUse] = {}
    while len(ordered) < len(probes):
        for name, use in probes.items():
            if name not in ordered and (use.upstream is None or use.upstream in ordered):
                ordered[name] = use
    return ordered
