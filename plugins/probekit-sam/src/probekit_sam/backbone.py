"""The backbone ``sam``: segment-anything's image encoder, run up to the last layer that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything.utils.transforms import ResizeLongestSide

from probekit.api import Batch, FeatureMap, InputGeometry, Layer, Prepared, WeightsInfo, read_taps
from probekit_sam.networks import NECK, PIXEL_MEAN, PIXEL_STD, load_encoder
from probekit_sam.parameters import PATCH, SamParameters
from probekit_sam.weights import weights_file, weights_info


class Sam:
    """segment-anything's image encoder: ``blocks.0`` ... (the blocks' outputs) and ``neck``, all at stride 16.

    The long side is resized to ``image_size`` (1024 in every published checkpoint) as segment-anything does, and the
    square is filled right and below.
    """

    def __init__(self, parameters: SamParameters, *, seed: int) -> None:
        self._parameters = parameters
        self._seed = seed
        self._network: torch.nn.Module | None = None

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The blocks, first to last, then the neck."""
        sizes, stride = self._parameters.sizes, (float(PATCH), float(PATCH))
        blocks = {f"blocks.{index}": Layer(sizes.embed_dim, stride, "nhwc") for index in range(sizes.depth)}
        return {**blocks, "neck": Layer(NECK, stride, "nchw")}

    @property
    def family(self) -> str:
        """``sam``."""
        return "sam"

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The encoder's sizes, the input's size and what is done to pixels."""
        sizes = asdict(self._parameters.sizes)
        return {
            **sizes,
            "global_attn_indexes": list(sizes["global_attn_indexes"]),
            "image_size": self._parameters.image_size,
            "mean": list(PIXEL_MEAN),
            "std": list(PIXEL_STD),
            "resize": "pillow bilinear, long side",
        }

    def weights(self) -> WeightsInfo:
        """Finds the weights; a file that cannot serve any layer is refused here, before anything runs."""
        info, path = weights_info(self._parameters, self._seed), weights_file(self._parameters)
        if info.kind == "file":
            load_encoder(self._parameters, path, self._seed, 1, neck=False, dry=True)
        return info

    def twin(self) -> Mapping[str, Any]:
        """The same sizes with random weights."""
        return {**self._parameters.model_dump(mode="json", exclude_unset=True), "weights": "random"}

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        """Builds the blocks up to the last of ``layers``; the neck needs them all."""
        neck = "neck" in layers
        depth = self._parameters.sizes.depth if neck else 1 + max(int(name.split(".")[1]) for name in layers)
        if device.type == "meta":
            with device:
                self._network = load_encoder(self._parameters, None, self._seed, depth, neck=neck)
            return
        network = load_encoder(self._parameters, weights_file(self._parameters), self._seed, depth, neck=neck)
        self._network = network.to(device=device, dtype=dtype)

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Long side to ``image_size`` with segment-anything's rounding, normalised, zeros right and below."""
        size = self._parameters.image_size
        height, width = image.shape[:2]
        rows, columns = ResizeLongestSide.get_preprocess_shape(height, width, size)
        picture = Image.fromarray(image)
        if (rows, columns) != (height, width):
            picture = picture.resize((columns, rows), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        tensor = torch.zeros(3, size, size)
        tensor[:, :rows, :columns] = (pixels - mean) / std
        return Prepared(tensor, InputGeometry(height, width, rows, columns, size, size))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """One pass through the blocks; it ends at the last of ``layers``."""
        network = self._network
        if network is None:
            raise RuntimeError("forward before load")
        modules = {name: network.get_submodule(name) for name in layers}
        axes = {name: 1 if name == "neck" else 3 for name in layers}
        outputs = read_taps(modules, lambda: network(batch.tensor), axes)
        maps = {name: value if name == "neck" else value.permute(0, 3, 1, 2) for name, value in outputs.items()}
        return [
            {name: FeatureMap(maps[name][i], geometry.grid(*maps[name].shape[2:])) for name in layers}
            for i, geometry in enumerate(batch.geometry)
        ]
