"""From an experiment file to a typed, resolved experiment, with every error at its place. No torch."""

from probekit.spec.load import load_experiment
from probekit.spec.models import Experiment
from probekit.spec.resolved import BackboneUse, Change, ProbeUse, Resolved, Use, changed_keys
from probekit.spec.schema import experiment_schema

__all__ = [
    "BackboneUse", "Change", "Experiment", "ProbeUse", "Resolved", "Use", "changed_keys", "experiment_schema",
    "load_experiment",
]  # fmt: skip
