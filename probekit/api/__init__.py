"""The contract between the core and its plugins: everything that a plugin may import. No torch, nothing heavy."""

from probekit.api.backbone import Backbone, Batch, FeatureMap, Layer, Prepared, WeightsInfo
from probekit.api.descriptors import BackbonePlugin, Descriptor, LabelSourcePlugin, ProbePlugin
from probekit.api.errors import Issue, ParameterError, ProbekitError
from probekit.api.geometry import Affine, Grid, InputGeometry
from probekit.api.hooks import hookimpl, hookspec
from probekit.api.labels import NEGATIVE, POSITIVE, VOID, ImageRef, LabelSource, Provenance, UnreadableImageError
from probekit.api.parameters import NoParameters, Parameters, SpecPath, SpecString, Weights
from probekit.api.probe import (
    FULL,
    Fit,
    Path,
    Probe,
    ProbePlan,
    Problem,
    Rows,
    Scorer,
    Validation,
    fold_standardisation,
)
from probekit.api.taps import read_taps
from probekit.api.threads import map_in_threads
from probekit.api.watch import listening, tell

__all__ = [
    "FULL", "NEGATIVE", "POSITIVE", "VOID",
    "Affine", "Backbone", "BackbonePlugin", "Batch", "Descriptor", "FeatureMap", "Fit", "Grid", "ImageRef",
    "InputGeometry", "Issue", "LabelSource", "LabelSourcePlugin", "Layer", "NoParameters", "ParameterError",
    "Parameters", "Path", "Prepared", "Probe", "ProbePlan", "ProbePlugin", "ProbekitError", "Problem", "Provenance",
    "Rows", "Scorer", "SpecPath", "SpecString", "UnreadableImageError", "Validation", "Weights", "WeightsInfo",
    "fold_standardisation", "hookimpl", "hookspec", "listening", "map_in_threads", "read_taps", "tell",
]  # fmt: skip
