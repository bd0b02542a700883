"""Where segment-anything's weights come from. Imports no torch before something must be downloaded."""

from __future__ import annotations

from pathlib import Path

from probekit.api import WeightsInfo
from probekit.api.checkpoints import fetch, file_digest, random_digest
from probekit_sam.parameters import PUBLISHED, SamParameters


def weights_info(parameters: SamParameters, seed: int) -> WeightsInfo:
    """What the weights are; downloads nothing, since the published digests are known.

    Raises:
        ParameterError: at ``weights``: the file cannot be read.
    """
    if parameters.weights == "random":
        return WeightsInfo("random", random_digest(seed, "segment-anything"), f"{parameters.model}, random")
    if isinstance(parameters.weights, Path):
        return WeightsInfo("file", file_digest(parameters.weights), parameters.weights.name)
    published = PUBLISHED[parameters.model]
    return WeightsInfo("pretrained", f"sha256:{published.sha256}", published.url)


def weights_file(parameters: SamParameters) -> Path | None:
    """The file that holds the weights, downloaded if need be; none for random ones.

    Raises:
        ParameterError: at ``weights``: the file cannot be downloaded.
    """
    if isinstance(parameters.weights, Path):
        return parameters.weights
    if parameters.weights == "random":
        return None
    published = PUBLISHED[parameters.model]
    return fetch(published.url, published.sha256)
