"""The backbone ``fasterrcnn``: the body and the pyramid of torchvision's Faster R-CNN, without its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from probekit.api import Batch, FeatureMap, Grid, InputGeometry, Layer, Prepared, WeightsInfo, read_taps
from probekit_torchvision.networks import POOL, Trunk, describe, find_weights, fold, load_trunk, norm_eps
from probekit_torchvision.parameters import FasterRCNNParameters


class FasterRCNN:
    """torchvision's Faster R-CNN: ``body.<child>`` and ``fpn.<key>``, through the model's own transform.

    Neither the region proposals nor the heads are built, nor the pyramid where only the body is asked for.
    """

    def __init__(self, parameters: FasterRCNNParameters, *, seed: int) -> None:
        self._parameters = parameters
        self._seed = seed
        self._trunk: Trunk | None = None

    @cached_property
    def _described(self) -> tuple[dict[str, Layer], GeneralizedRCNNTransform]:
        return describe(self._parameters)

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The body's children in order, then the pyramid's maps, fine to coarse."""
        return self._described[0]

    @property
    def family(self) -> str:
        """``faster-rcnn-resnet50`` or ``faster-rcnn-mobilenet-v3``."""
        return f"faster-rcnn-{'resnet50' if 'resnet50' in self._parameters.model else 'mobilenet-v3'}"

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The network's name, the eps of its norms, and what its transform does."""
        transform = self._described[1]
        return {
            "model": self._parameters.model,
            "norm_eps": norm_eps(self._parameters),
            "min_size": transform.min_size[-1],
            "max_size": transform.max_size,
            "mean": list(transform.image_mean),
            "std": list(transform.image_std),
            "pad_to": transform.size_divisible,
            "resize": "torch bilinear",
        }

    def weights(self) -> WeightsInfo:
        """Finds the weights; a file that cannot serve any layer is refused here, before anything runs."""
        info, path = find_weights(self._parameters, self._seed)
        if info.kind == "file":
            load_trunk(self._parameters, path, self._seed, [next(iter(self.layers))], dry=True)
        return info

    def twin(self) -> Mapping[str, Any]:
        """The same network with random weights."""
        return {**self._parameters.model_dump(mode="json", exclude_unset=True), "weights": "random"}

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        """Builds the trunk up to the last of ``layers``, folds its norms, and lays it out channels last."""
        if device.type == "meta":
            with device:
                self._trunk = load_trunk(self._parameters, None, self._seed, layers)
            return
        _, path = find_weights(self._parameters, self._seed)
        trunk = load_trunk(self._parameters, path, self._seed, layers)
        fold(trunk, layers)
        self._trunk = trunk.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """The model's own transform: normalised, resized bilinearly, padded right and below to a multiple of 32."""
        pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255
        images, _ = self._described[1]([pixels])
        (rows, columns), tensor = images.image_sizes[0], images.tensors[0]
        height, width = image.shape[:2]
        return Prepared(tensor, InputGeometry(height, width, rows, columns, tensor.shape[1], tensor.shape[2]))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """One pass through the trunk; it ends at the last of ``layers``."""
        trunk = self._trunk
        if trunk is None:
            raise RuntimeError("forward before load")
        tensor = batch.tensor.contiguous(memory_format=torch.channels_last)
        taps = trunk.taps(layers)
        outputs = read_taps(taps, lambda: trunk(tensor), {name: 1 for name in taps if name != POOL})
        maps = {name: outputs[name]["pool"] if name == POOL else outputs[name] for name in layers}
        return [
            {name: FeatureMap(maps[name][i], _grid(name, maps[name], geometry)) for name in layers}
            for i, geometry in enumerate(batch.geometry)
        ]


def _grid(name: str, values: torch.Tensor, geometry: InputGeometry) -> Grid:
    rows, columns = values.shape[2:]
    if name != POOL:
        return geometry.grid(rows, columns)
    # Every second cell of the coarsest map: a cell's centre is that of the cell it was taken from.
    fine = geometry.grid(geometry.input_height // 32, geometry.input_width // 32)
    affine = fine.to_pixels
    every_second = replace(
        affine,
        step_x=2 * affine.step_x,
        step_y=2 * affine.step_y,
        offset_x=affine.offset_x - affine.step_x / 2,
        offset_y=affine.offset_y - affine.step_y / 2,
    )
    return Grid(rows, columns, every_second, -(-fine.valid_rows // 2), -(-fine.valid_columns // 2))
