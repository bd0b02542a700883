"""The backbone ``timm``: a timm network, run on the whole photograph up to the last layer that is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from probekit.api import (
    Affine,
    Batch,
    FeatureMap,
    Grid,
    InputGeometry,
    Layer,
    ParameterError,
    Prepared,
    WeightsInfo,
    read_taps,
)
from probekit.api.checkpoints import file_digest, random_digest, read_state_dict
from probekit_timm.bundled import BUNDLED, bundled_path, read_bundled
from probekit_timm.networks import build, check_weights, create_meta, describe, folded
from probekit_timm.parameters import TimmParameters
from probekit_timm.pretrained import pretrained_config, pretrained_file
from probekit_timm.taps import Tap

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_CHANNELS_ALONG = {"nchw": 1, "nhwc": 3, "tokens": 2}
"""The dimension of a module's output, by its layer's kind."""


class Layers(dict[str, Layer]):
    """The taps by name; looking up one whose weights are not bundled says so."""

    def __init__(self, taps: Iterable[tuple[str, Layer]], past: Mapping[str, str]) -> None:
        super().__init__(taps)
        self._past = past

    def __missing__(self, name: str) -> Layer:
        if name in self._past:
            raise ParameterError(("layers",), self._past[name])
        raise KeyError(name)


class Timm:
    """A timm network.

    The photograph is taken whole: resized if the spec says so, normalised, and padded right and below (with the
    training images' mean) to what the network needs. Taps are the names of its modules.
    """

    def __init__(self, parameters: TimmParameters, *, seed: int) -> None:
        self._parameters = parameters
        self._seed = seed
        self._bundled = BUNDLED.get(parameters.model) if parameters.weights == "bundled" else None
        if parameters.weights == "bundled" and self._bundled is None:
            what = f"{parameters.model} is not bundled; these are: {', '.join(BUNDLED)}"
            raise ParameterError(("weights",), what)
        self._options = {**(dict(self._bundled.options) if self._bundled else {}), **parameters.options}
        size = parameters.image_size
        self._fixed = size if isinstance(size, tuple) else None
        self._description = describe(parameters.model, self._options, self._fixed)
        config = pretrained_config(parameters.model)
        trained: Any = self._bundled or config
        self._mean = tuple(parameters.mean or trained.mean)
        self._std = tuple(parameters.std or trained.std)
        known = config.interpolation if config.interpolation in _RESAMPLING else "bicubic"
        self._interpolation = parameters.interpolation or known
        if min(self._std) <= 0:
            raise ParameterError(("std",), f"{list(self._std)} must be positive")
        self._network: torch.nn.Module | None = None
        self.fold_error = 0.0
        """Relative error of the folded network at load."""

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        """Every module that gives a map or tokens, in the order of depth; for bundled weights up to the cut."""
        taps = list(self._description.taps.items())
        end = len(taps)
        if self._bundled:
            end = 1 + [name for name, _ in taps].index(self._bundled.cut)
        return Layers(
            ((name, tap.layer) for name, tap in taps[:end]), {name: self._past(name) for name, _ in taps[end:]}
        )

    def _past(self, name: str) -> str:
        model, cut = self._parameters.model, self._bundled.cut if self._bundled else ""
        return f"'{name}' lies past the cut: the bundled weights of {model} end with {cut}"

    @property
    def family(self) -> str:
        """First word of the model's name, without its version (``mobilenet``, ``vit``); ``sam`` for SAM's encoders."""
        name = re.sub(r"^(tf|legacy|gluon|test)_", "", self._parameters.model)
        if re.match(r"samvit|sam2_", name):
            return "sam"
        return re.sub(r"v?\d.*$", "", re.split(r"[_.]", name)[0]) or name

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The network's construction and what is done to pixels."""
        size = self._parameters.image_size
        return {
            "model": self._parameters.model.partition(".")[0],
            "arguments": dict(self._description.arguments),
            "image_size": list(size) if isinstance(size, tuple) else size,
            "resize": "none" if size == "native" else f"pillow {self._interpolation}",
            "mean": list(self._mean),
            "std": list(self._std),
            "multiple": self._description.multiple,
        }

    def weights(self) -> WeightsInfo:
        """Finds the weights, downloading the pretrained ones."""
        model, weights = self._parameters.model, self._parameters.weights
        if weights == "random":
            return WeightsInfo("random", random_digest(self._seed, "timm"), f"{model}, seed {self._seed}")
        if weights == "bundled":
            return WeightsInfo("bundled", file_digest(bundled_path(model)), f"{model}, bundled with probekit-timm")
        if weights == "pretrained":
            path, source = pretrained_file(model)
            return WeightsInfo("pretrained", file_digest(path), source)
        assert isinstance(weights, Path)
        return WeightsInfo("file", file_digest(weights), weights.name)

    def twin(self) -> Mapping[str, Any]:
        """The same network and input, random weights; what belonged to the weights is written out."""
        size = self._parameters.image_size
        return {
            "model": self._parameters.model,
            "weights": "random",
            "image_size": list(size) if isinstance(size, tuple) else size,
            "mean": list(self._mean),
            "std": list(self._std),
            "interpolation": self._interpolation,
            "options": self._options,
        }

    def load(self, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        """Builds the network up to the last of ``layers`` and folds its BatchNorms, which is checked on one image."""
        self._check_layers(layers)
        model, weights, description = self._parameters.model, self._parameters.weights, self._description
        if device.type == "meta":
            self._network = create_meta(model, description.arguments)
            return
        tensors, pretrained = None, {}
        if weights == "pretrained":
            path, _ = pretrained_file(model)
            pretrained = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
        elif weights != "random":
            file = bundled_path(model) if weights == "bundled" else Path(weights)
            tensors = read_bundled(file) if weights == "bundled" else read_state_dict(file)
            check_weights(model, description, layers, tensors, file.name)
        network = build(model, description, layers, self._seed, tensors, **pretrained)
        small = 4 * description.multiple, 5 * description.multiple
        network, self.fold_error = folded(network, layers, description.fixed or small)
        network = network.to(device=device, dtype=dtype)
        if self._convolutional:
            network = network.to(memory_format=torch.channels_last)
        self._network = network

    def _check_layers(self, layers: Sequence[str]) -> None:
        for index, name in enumerate(layers):
            try:
                self.layers[name]
            except ParameterError as error:
                raise ParameterError(("layers", index), error.what) from None
            except KeyError:
                what = f"'{name}' is not a layer of {self._parameters.model}"
                raise ParameterError(("layers", index), what) from None

    @property
    def _convolutional(self) -> bool:
        return list(self._description.taps.values())[-1].layer.kind == "nchw"

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Resizes (if asked), normalises and pads right and below with zeros, which is the mean colour."""
        height, width = image.shape[:2]
        content = self._content(height, width)
        if content != (height, width):
            picture = Image.fromarray(image).resize((content[1], content[0]), _RESAMPLING[self._interpolation])
            image = np.asarray(picture)
        multiple = self._description.multiple
        padded = self._fixed or (-(-content[0] // multiple) * multiple, -(-content[1] // multiple) * multiple)
        mean, std = (255 * np.array(colour, dtype=np.float32) for colour in (self._mean, self._std))
        tensor = np.zeros((3, *padded), dtype=np.float32)
        tensor[:, : content[0], : content[1]] = ((image - mean) / std).transpose(2, 0, 1)
        return Prepared(torch.from_numpy(tensor), InputGeometry(height, width, *content, *padded))

    def _content(self, height: int, width: int) -> tuple[int, int]:
        size = self._parameters.image_size
        if size == "native":
            return height, width
        scale = min(size[0] / height, size[1] / width) if isinstance(size, tuple) else size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def forward(self, batch: Batch, layers: Sequence[str]) -> Sequence[Mapping[str, FeatureMap]]:
        """One pass, ended at the last of ``layers``."""
        network = self._network
        if network is None:
            raise RuntimeError("forward before load")
        tensor = batch.tensor.contiguous(memory_format=torch.channels_last) if self._convolutional else batch.tensor
        taps = self._description.taps
        outputs = read_taps(
            {name: network.get_submodule(name) for name in layers},
            lambda: network(tensor),
            {name: _CHANNELS_ALONG[taps[name].layer.kind] for name in layers},
            {name: taps[name].prefix for name in layers},
        )
        maps = {name: _channels_first(output, taps[name], batch.geometry[0]) for name, output in outputs.items()}
        return [
            {
                name: FeatureMap(maps[name][i], _grid(geometry, taps[name].layer, *maps[name].shape[2:]))
                for name in layers
            }
            for i, geometry in enumerate(batch.geometry)
        ]


def _channels_first(output: torch.Tensor, tap: Tap, geometry: InputGeometry) -> torch.Tensor:
    """(n, channels, rows, columns) of whatever a module put out."""
    if tap.layer.kind == "nchw":
        return output
    if tap.layer.kind == "nhwc":
        return output.permute(0, 3, 1, 2)
    stride = int(tap.layer.stride[0])
    shape = len(output), geometry.input_height // stride, geometry.input_width // stride, tap.layer.channels
    return output[:, tap.prefix :].reshape(shape).permute(0, 3, 1, 2)


def _grid(geometry: InputGeometry, layer: Layer, rows: int, columns: int) -> Grid:
    """Where the cells lie. Convolutions without padding lose the same at both borders: the map lies in the middle."""
    grid = geometry.grid(rows, columns)
    lost_y = geometry.input_height - rows * layer.stride[0]
    lost_x = geometry.input_width - columns * layer.stride[1]
    if not lost_y and not lost_x:
        return grid
    scale_y = geometry.image_height / geometry.content_height
    scale_x = geometry.image_width / geometry.content_width
    affine = Affine(layer.stride[1] * scale_x, layer.stride[0] * scale_y, lost_x / 2 * scale_x, lost_y / 2 * scale_y)
    inside_y = affine.centers_y(rows) <= geometry.image_height
    inside_x = affine.centers_x(columns) <= geometry.image_width
    return Grid(rows, columns, affine, int(inside_y.sum()), int(inside_x.sum()))
