"""Small ReLU networks of one shape, side by side: data, not modules, with their gradients written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]


class Networks:
    """k networks, channels -> hidden ... -> one margin, each on its own z = (x - mean) / scale of raw rows x.

    Rows come centred; the scale is divided out of the first layer's weights, so no standardised row exists. All numbers
    of a network lie in one row, weights before biases, so that an optimizer works on one matrix. The methods work on
    the first k networks, as many as they are given rows for.

    Attributes:
        mean, scale: (networks, p) float32.
        values: (networks, numbers) float32, changed in place only.
        gradients: the same shape; see :meth:`differentiate`.
        decayed: how many of the numbers are weights.
    """

    def __init__(self, mean: Tensor, scale: Tensor, hidden: Sequence[int], values: Tensor) -> None:
        self.mean, self.scale, self.values = mean, scale, values
        self.hidden = tuple(hidden)
        self.shapes = _shapes(mean.shape[1], hidden)
        self.decayed = sum(a * b for a, b in self.shapes)
        self.gradients = torch.zeros_like(values)
        self._inverse = (1 / scale)[:, None]
        self._views: dict[int, tuple[Layers, Layers]] = {}

    def layers(self, k: int) -> tuple[Layers, Layers]:
        """Views of the first k networks' values and gradients as (weights (k, out, in), biases (k, out)), a layer
        each."""
        if k not in self._views:
            self._views[k] = self._split(self.values[:k]), self._split(self.gradients[:k])
        return self._views[k]

    def _split(self, numbers: Tensor) -> Layers:
        depth = len(self.shapes)
        sizes = [out * width for out, width in self.shapes] + [out for out, _ in self.shapes]
        parts = torch.split(numbers, sizes, dim=1)
        return [(parts[i].view(-1, *shape), parts[depth + i]) for i, shape in enumerate(self.shapes)]

    def forward(self, centred: Tensor) -> list[Tensor]:
        """Rows x - mean (k, m, p) -> what each layer gives: (k, m, hidden) after the ReLU ..., margins (k, m, 1)."""
        k = len(centred)
        outputs: list[Tensor] = []
        h = centred
        for i, (weight, bias) in enumerate(self.layers(k)[0]):
            if i == 0:
                weight = weight * self._inverse[:k]
            else:
                h = h.clamp_(min=0)
                outputs.append(h)
            h = torch.baddbmm(bias[:, None], h, weight.transpose(1, 2))
        return [*outputs, h]

    def deltas(self, outputs: Sequence[Tensor], slope: Tensor) -> list[Tensor]:
        """The loss's derivative in what each layer gives before its ReLU, (k, m, out), from that in the margins,
        (k, m, 1), the last of them."""
        found = [slope]
        layers, _ = self.layers(len(slope))
        for (weight, _), output in zip(layers[:0:-1], outputs[-2::-1], strict=True):
            found.append(torch.bmm(found[-1], weight).mul_(output.sign()))  # no output is negative
        return found[::-1]

    def differentiate(self, centred: Tensor, outputs: Sequence[Tensor], slope: Tensor) -> Tensor:
        """Writes the gradient of sum_m slope_m margin_m in all numbers into ``gradients``; returns that, (k, numbers).

        Args:
            centred: (k, m, p), what :meth:`forward` was given.
            outputs: what it returned.
            slope: (k, m, 1).
        """
        k = len(slope)
        inputs = [centred, *outputs[:-1]]
        for i, ((weight, bias), delta) in enumerate(zip(self.layers(k)[1], self.deltas(outputs, slope), strict=True)):
            found = torch.bmm(delta.transpose(1, 2), inputs[i])
            if i == 0:
                torch.mul(found, self._inverse[:k], out=weight)
            else:
                weight.copy_(found)
            torch.sum(delta, dim=1, out=bias)
        return self.gradients[:k]

    def keep(self, places: Sequence[int]) -> Networks:
        """These networks alone, copied."""
        index = torch.tensor(places, device=self.values.device)
        return Networks(self.mean[index], self.scale[index], self.hidden, self.values[index])

    def folded(self) -> dict[str, NDArray[np.float64]]:
        """Weights and biases of the first network, float64, with the standardisation folded into the first layer: for
        raw rows."""
        arrays = {}
        for i, (weight, bias) in enumerate(self.layers(1)[0]):
            arrays[f"weight_{i}"] = weight[0].double().cpu().numpy()
            arrays[f"bias_{i}"] = bias[0].double().cpu().numpy()
        arrays["weight_0"] = arrays["weight_0"] / self.scale[0].double().cpu().numpy()
        arrays["bias_0"] = arrays["bias_0"] - arrays["weight_0"] @ self.mean[0].double().cpu().numpy()
        return arrays


def draw_values(channels: int, hidden: Sequence[int], generator: torch.Generator) -> Tensor:
    """The numbers of a new network, (numbers,): normal weights that keep the size of what passes, no biases."""
    shapes = _shapes(channels, hidden)
    parts = []
    for i, (out, width) in enumerate(shapes):
        gain = 2.0 if i < len(shapes) - 1 else 1.0
        parts.append(torch.randn(out, width, generator=generator).flatten() * math.sqrt(gain / width))
    return torch.cat([*parts, torch.zeros(sum(out for out, _ in shapes))])


def _shapes(channels: int, hidden: Sequence[int]) -> list[tuple[int, int]]:
    widths = [channels, *hidden, 1]
    return [(widths[i + 1], widths[i]) for i in range(len(widths) - 1)]


class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) on rows of numbers that may have taken different numbers of steps.

    Args:
        values: (networks, numbers), changed in place.
        decayed: the first so many of them decay.
    """

    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, values: Tensor, decayed: int, *, learning_rate: float, weight_decay: float) -> None:
        self.values, self.decayed = values, decayed
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.first, self.second, self._room = (torch.zeros_like(values) for _ in range(3))
        self.steps = [0] * len(values)

    def step(self, gradient: Tensor) -> None:
        """Moves the first k rows against their gradients, (k, numbers)."""
        k = len(gradient)
        values, first, second, room = (a[:k] for a in (self.values, self.first, self.second, self._room))
        factors = []
        for i in range(k):
            self.steps[i] += 1
            one, two = (1 - beta ** self.steps[i] for beta in self.betas)
            # lr first / one / (sqrt(second / two) + eps), with two constants a row
            factors.append((self.eps * math.sqrt(two), -one / (self.learning_rate * math.sqrt(two))))
        eps, rate = torch.tensor(factors, dtype=values.dtype, device=values.device).T[:, :, None]
        first.lerp_(gradient, 1 - self.betas[0])
        second.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
        torch.sqrt(second, out=room).add_(eps).mul_(rate)
        values[:, : self.decayed].mul_(1 - self.learning_rate * self.weight_decay)
        values.addcdiv_(first, room)

    def keep(self, places: Sequence[int], values: Tensor) -> None:
        """Goes on with these rows alone, whose numbers now lie in ``values``."""
        index = torch.tensor(places, device=values.device)
        self.values = values
        self.first, self.second, self._room = self.first[index], self.second[index], self._room[index]
        self.steps = [self.steps[place] for place in places]
