"""The hooks. A plugin is a module, registered under the entry point group ``probekit``, that implements some of them.

Hooks run when plugins are listed, so they must return at once and import nothing heavy: descriptors name their class
as text. A hook that raises sets its own distribution aside, by name; the others work on.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from probekit.api.descriptors import BackbonePlugin, LabelSourcePlugin, ProbePlugin

hookspec = pluggy.HookspecMarker("probekit")
hookimpl = pluggy.HookimplMarker("probekit")


@hookspec
def probekit_backbones() -> Iterable[BackbonePlugin]:  # type: ignore[empty-body]
    """The backbones that this plugin offers.

    Runs when plugins are listed or a spec is resolved. Return descriptors::

        @hookimpl
        def probekit_backbones():
            return [BackbonePlugin("tiny", "a tiny network", "mypackage.backbone:Tiny", TinyParameters)]
    """


@hookspec
def probekit_label_sources() -> Iterable[LabelSourcePlugin]:  # type: ignore[empty-body]
    """The label sources that this plugin offers.

    Runs when plugins are listed or a spec is resolved. Return descriptors::

        @hookimpl
        def probekit_label_sources():
            return [LabelSourcePlugin("masks", "a folder of masks a concept", "mypackage.masks:Masks", MaskParameters)]
    """


@hookspec
def probekit_probes() -> Iterable[ProbePlugin]:  # type: ignore[empty-body]
    """The probe families that this plugin offers.

    Runs when plugins are listed or a spec is resolved. Return descriptors::

        @hookimpl
        def probekit_probes():
            return [ProbePlugin("l1-path", "L1 logistic path", "mypackage.l1:L1Path", L1Parameters)]
    """
