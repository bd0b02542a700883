"""Jobs and units: what a run consists of, in the order in which it is done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from probekit.api import Issue, Probe, ProbekitError
from probekit.plan.networks import Network
from probekit.spec.resolved import Resolved


@dataclass(frozen=True)
class Unit:
    """The grain of identity: one probe, in one fold of one repeat, on one layer of one backbone, for one concept."""

    backbone: str
    layer: str
    concept: str
    probe: str
    fold: int
    repeat: int
    condition: str = "observed"


@dataclass(frozen=True)
class Job:
    """Units that share rows: all concepts, probes and folds of one (backbone, layer, repeat)."""

    backbone: str
    layer: str
    repeat: int

    @property
    def name(self) -> str:
        """A folder's name: readable, safe, and distinct for distinct jobs."""
        text = f"{self.backbone}|{self.layer}|{self.repeat}"
        plain = "".join(c if c.isalnum() or c in ".-" else "_" for c in text)
        return f"{plain[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def units(self, concepts: Sequence[str], probes: Sequence[str], folds: int) -> Iterator[Unit]:
        """The job's units."""
        for probe in probes:
            for concept in concepts:
                for fold in range(folds):
                    yield Unit(self.backbone, self.layer, concept, probe, fold, self.repeat)


def build_jobs(networks: Sequence[Network], repeats: int) -> tuple[Job, ...]:
    """All jobs: repeat by repeat, so that a stopped run holds whole comparisons."""
    return tuple(
        Job(network.name, layer, repeat)
        for repeat in range(repeats)
        for network in networks
        for layer in network.layers
    )


def check_widths(resolved: Resolved, probes: dict[str, Probe], networks: Sequence[Network]) -> list[str]:
    """Parameters that a layer's width makes meaningless (k above it): notes of what is dropped where.

    Raises:
        ProbekitError: a parameter that the spec gives (not a default) is dropped at every layer of the run.
    """
    notes: list[str] = []
    issues: list[Issue] = []
    layers = [(network, layer, tap.channels) for network in networks for layer, tap in network.taps.items()]
    for name, probe in probes.items():
        dropped = [dict(probe.plan(channels).dropped) for _, _, channels in layers]
        everywhere = set(dropped[0]).intersection(*dropped[1:])
        issues += [
            resolved.at(("probes", name, "with", *path), f"{what}: above every layer's width, the widest has "
                        f"{max(channels for _, _, channels in layers)} channels")
            for path, what in dropped[0].items()
            if path in everywhere and path[0] in (resolved.document.data["probes"][name].get("with") or {})
        ]  # fmt: skip
        for (network, layer, channels), gone in zip(layers, dropped, strict=True):
            if gone:
                what = ", ".join(gone.values())
                notes.append(f"{name}: {what} dropped for {network.name} {layer}, which has {channels} channels")
    if issues:
        raise ProbekitError(issues)
    return notes
