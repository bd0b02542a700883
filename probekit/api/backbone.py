"""The contract of a backbone: a frozen network behind an adapter. Torch is imported for type checking only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from probekit.api.geometry import Grid, InputGeometry

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Layer:
    """A named tap inside a network.

    Attributes:
        channels: width.
        stride: input pixels to a cell, (vertical, horizontal).
        kind: how the module's output is laid out: ``nchw``, ``nhwc`` or ``tokens`` (prefix tokens are stripped).
    """

    channels: int
    stride: tuple[float, float]
    kind: Literal["nchw", "nhwc", "tokens"] = "nchw"


@dataclass(frozen=True)
class WeightsInfo:
    """Where a network's numbers come from.

    Attributes:
        kind: ``none`` for a backbone without weights (image statistics).
        digest: ``sha256:<hex>`` of the file; for random weights a text that fixes them: seed and library versions.
        source: for people: a file's name, a published identifier, a URL. No absolute path.
    """

    kind: Literal["pretrained", "file", "bundled", "random", "none"]
    digest: str
    source: str


@dataclass(frozen=True)
class Prepared:
    """One image ready for the network: ``tensor`` (channels, height, width), float32, on the CPU, and its geometry."""

    tensor: torch.Tensor
    geometry: InputGeometry


@dataclass(frozen=True)
class Batch:
    """Prepared images of one shape: ``tensor`` (n, channels, height, width) on the model's device, in its dtype."""

    tensor: torch.Tensor
    geometry: Sequence[InputGeometry]


@dataclass(frozen=True)
class FeatureMap:
    """One image at one layer: ``values`` (channels, rows, columns) on the model's device, and where its cells lie."""

    values: torch.Tensor
    grid: Grid


class Backbone(Protocol):
    """A frozen network behind an adapter.

    Life: constructed (cheap), asked for ``layers``, ``weights`` and ``preprocessing``; only where features are missing
    from the store ``load`` follows, then ``forward`` for each batch. ``prepare`` needs no weights: it is called from
    several threads, and before ``load`` where a plan wants to know shapes.

    The constructor is called as ``Class(parameters, seed=seed)``. It reads no weights; where it must know a network's
    shapes it builds it on torch's meta device. It raises :class:`probekit.api.ParameterError` for what it cannot do.
    """

    @property
    def layers(self) -> Mapping[str, Layer]:
        """Every tap that a spec may name, in the order of depth. Looking up one that the network has but cannot give
        may raise :class:`probekit.api.ParameterError` with the reason; any other is a KeyError."""

    @property
    def family(self) -> str:
        """Which kind of model this is (``sam``, ``mobilenet``): labels made by the same family are circular."""

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """What ``prepare`` and the network's construction depend on besides the weights: JSON values, part of the
        store's key. No path."""

    def weights(self) -> WeightsInfo:
        """Finds the weights (downloading them, where the spec says ``pretrained``) and returns their digest, without
        building the network."""

    def twin(self) -> Mapping[str, Any] | None:
        """Parameters (as under ``with``) of the same network with random weights; none where that means nothing."""

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        """Builds the network with its weights, up to the last of ``layers``, in evaluation mode, ready to run.

        On torch's meta device it is built without weights, and reads none: a pass then gives shapes, by which a layer's
        operations are counted. An adapter that cannot do so raises."""

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Resizes, normalises and pads one photograph, (height, width, 3) RGB. CPU, thread-safe, no batch dimension."""

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """One pass for all ``layers``: for each image of the batch a feature map by layer. Runs under
        ``torch.inference_mode``; the core moves, casts and stores what comes back."""
