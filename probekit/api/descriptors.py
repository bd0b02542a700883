"""What a plugin's hooks return: small frozen descriptors that cost nothing to list, validate or document."""

from __future__ import annotations

from dataclasses import dataclass

from probekit.api.parameters import NoParameters, Parameters


@dataclass(frozen=True)
class Descriptor:
    """What the core knows of a plugin before it imports anything of it.

    Attributes:
        name: what a spec writes after ``use:``; lower case, digits, dashes.
        summary: one line for ``probekit plugins``.
        target: ``"package.module:Class"``, imported only when a run needs it.
        parameters: the model of what stands under ``with``. Its module must not import torch.
        version: the adapter's version. It is part of every store key and every run's record: raise it whenever the
            same parameters give other numbers.
    """

    name: str
    summary: str
    target: str
    parameters: type[Parameters] = NoParameters
    version: str = "1"


@dataclass(frozen=True)
class BackbonePlugin(Descriptor):
    """A frozen network behind an adapter; ``target`` is a :class:`probekit.api.Backbone`.

    Attributes:
        control: this backbone is a control by nature (image statistics, position): never ranked, and a spec may name
            it under ``controls`` without an entry under ``backbones``.
        default_layers: used where a spec lists none.
    """

    control: bool = False
    default_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelSourcePlugin(Descriptor):
    """Images with groups and masks; ``target`` is a :class:`probekit.api.LabelSource`."""


@dataclass(frozen=True)
class ProbePlugin(Descriptor):
    """A probe family; ``target`` is a :class:`probekit.api.Probe`.

    Attributes:
        upstream: the parameter whose value names another entry under ``probes`` that must be fitted before, and whose
            paths are handed to ``fit``; none for a family that stands alone.
    """

    upstream: str | None = None
