"""The networks of a run: each backbone of the spec, its random twin, and the controls, with their layers verified."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from probekit.api import Backbone, BackbonePlugin, Issue, Layer, ParameterError, Parameters, ProbekitError
from probekit.plugins import Plugin, PluginError
from probekit.spec.models import DType
from probekit.spec.resolved import BackboneUse, Resolved

Kind = Literal["model", "random", "twin", "control"]


@dataclass(frozen=True)
class Network:
    """One network that features are read from.

    Attributes:
        name: in tables; a twin's is its original's and ``random``.
        kind: ``model`` is ranked; ``random`` (an entry with random weights), ``twin`` and ``control`` are not.
        of: the original's name, for a twin.
        layers: the taps, in the spec's order.
    """

    name: str
    kind: Kind
    of: str | None
    plugin: Plugin[BackbonePlugin]
    parameters: Parameters
    backbone: Backbone
    layers: tuple[str, ...]
    device: str
    dtype: DType
    batch_size: int | None

    @property
    def control(self) -> bool:
        """It is never ranked."""
        return self.kind != "model"

    @property
    def taps(self) -> Mapping[str, Layer]:
        """The layers that are read, with their widths and strides."""
        layers = self.backbone.layers
        return {name: layers[name] for name in self.layers}


def build_networks(resolved: Resolved) -> tuple[Network, ...]:
    """Constructs every backbone, verifies its layers and adds twins and controls. No weights are read.

    Raises:
        ProbekitError: all that is wrong with any of them, each at its place in the spec.
    """
    issues: list[Issue] = []
    networks: list[Network] = []
    twins: list[Network] = []
    for use in [*resolved.backbones.values(), *resolved.controls.values()]:
        try:
            network = _build(use, resolved)
            issues += _layer_issues(network, use, resolved)
            twin = _twin(network, resolved) if network.kind == "model" and resolved.twins else None
        except ParameterError as error:
            issues.append(resolved.locate(use.section, error))
        except PluginError as error:
            where = use.section if use.section[0] == "controls" else (*use.section, "use")
            issues.append(resolved.at(where, str(error)))
        else:
            networks.append(network)
            twins += [twin] if twin else []
    names = [network.name for network in [*networks, *twins]]
    issues += [
        resolved.at(("backbones", name), "has the name of a twin; rename it")
        for name in {name for name in names if names.count(name) > 1}
    ]
    if issues:
        raise ProbekitError(issues)
    models = [network for network in networks if not network.control]
    return (
        *models,
        *(n for n in networks if n.kind == "random"),
        *twins,
        *(n for n in networks if n.kind == "control"),
    )


def _build(use: BackboneUse, resolved: Resolved) -> Network:
    parameters = use.parameters
    fields = type(parameters).model_fields
    if use.control and "cell" in fields and "cell" not in parameters.model_fields_set:
        # A control on the reference grid sees the cells that the models are scored on.
        parameters = parameters.model_copy(update={"cell": resolved.experiment.evaluation.grid})
    backbone: Backbone = use.plugin.load()(parameters, seed=resolved.experiment.seed)
    kind: Kind = "control" if use.control else "model"
    twin = None if use.control else backbone.twin()
    if twin is not None and _parameters(use.plugin, twin) == parameters:
        kind = "random"
    return Network(
        use.name, kind, None, use.plugin, parameters, backbone, use.layers, use.device, use.dtype, use.batch_size
    )


def _twin(network: Network, resolved: Resolved) -> Network | None:
    mapping = network.backbone.twin()
    if mapping is None:
        return None
    parameters = _parameters(network.plugin, mapping)
    backbone = network.plugin.load()(parameters, seed=resolved.experiment.seed)
    return Network(
        f"{network.name} random",
        "twin",
        network.name,
        network.plugin,
        parameters,
        backbone,
        network.layers,
        network.device,
        network.dtype,
        network.batch_size,
    )


def _parameters(plugin: Plugin[BackbonePlugin], mapping: Mapping[str, Any]) -> Parameters:
    return plugin.descriptor.parameters.model_validate(dict(mapping))


def _layer_issues(network: Network, use: BackboneUse, resolved: Resolved) -> list[Issue]:
    known = network.backbone.layers
    issues = []
    for i, layer in enumerate(network.layers):
        path = (*use.section, "layers", i) if use.section[0] == "backbones" else use.section
        try:
            known[layer]
        except ParameterError as error:
            issues.append(resolved.at(path, error.what))
        except KeyError:
            issues.append(resolved.at(path, f"{layer!r} is not a layer of {use.name}{_hint(layer, list(known))}"))
    return issues


def _hint(layer: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(layer, known, n=1)
    shown = ", ".join(known) if len(known) <= 8 else f"{', '.join(known[:4])} ... {', '.join(known[-3:])}"
    return f"{f'; did you mean {near[0]!r}?' if near else ''} (there are: {shown})"
