"""A small ReLU network on standardised channels: data, not modules, so that all that is random is in one generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Network:
    """channels -> hidden ... -> one margin, on z = (x - mean) / scale of raw rows x.

    A batch is centred when it is read, in place, and the scale is divided out of the first layer's weights: no
    standardised matrix exists.

    Attributes:
        mean, scale: (p,) float32, what the network in fact sees its rows through.
        weights, biases: (out, in) and (out,), a layer each.
    """

    def __init__(self, mean: Tensor, scale: Tensor, hidden: Sequence[int], generator: torch.Generator) -> None:
        self.mean, self.scale = mean, scale
        widths = [len(mean), *hidden, 1]
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for i in range(len(widths) - 1):
            gain = 2.0 if i < len(widths) - 2 else 1.0
            drawn = torch.randn(widths[i + 1], widths[i], generator=generator) * math.sqrt(gain / widths[i])
            self.weights.append(drawn.to(mean.device).requires_grad_())
            self.biases.append(torch.zeros(widths[i + 1], device=mean.device, requires_grad=True))

    def margins(self, centred: Tensor) -> Tensor:
        """Rows x - mean (m, p) -> (m,)."""
        h = torch.nn.functional.linear(centred, self.weights[0] / self.scale, self.biases[0])
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            h = torch.nn.functional.linear(torch.relu(h), weight, bias)
        return h[:, 0]

    def state(self) -> list[Tensor]:
        """A copy of all weights and biases."""
        return [tensor.detach().clone() for tensor in (*self.weights, *self.biases)]

    def load(self, state: Sequence[Tensor]) -> None:
        """Takes back what :meth:`state` gave."""
        with torch.no_grad():
            for tensor, kept in zip((*self.weights, *self.biases), state, strict=True):
                tensor.copy_(kept)

    def score(self, chunks: Iterator[tuple[slice, NDArray[np.float32]]], n: int) -> NDArray[np.float64]:
        """Margins of n raw rows that come in chunks."""
        scores = np.empty(n)
        with torch.no_grad():
            for place, x in chunks:
                centred = torch.tensor(x, device=self.mean.device).sub_(self.mean)  # of a copy: rows are read-only
                scores[place] = self.margins(centred).cpu().numpy()
        return scores

    def importance(self, x: Tensor, rows: Tensor, weights: Tensor) -> NDArray[np.float64]:
        """Weighted mean over rows of the margin's gradient in z, (p,): how much a channel's rise by one standard
        deviation raises the margin. What raises it here and lowers it there cancels."""
        total = np.zeros(len(self.mean))
        for part in torch.split(rows, 4096):
            centred = x[part].sub_(self.mean).requires_grad_()
            (gradient,) = torch.autograd.grad((self.margins(centred) * weights[part]).sum(), centred)
            total += gradient.double().sum(dim=0).cpu().numpy()
        return np.asarray(total * self.scale.double().cpu().numpy() / float(weights[rows].double().sum()))

    def folded(self) -> dict[str, NDArray[np.float64]]:
        """Weights and biases, float64, with the standardisation folded into the first layer: for raw rows."""
        arrays = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays[f"weight_{i}"] = weight.detach().double().cpu().numpy()
            arrays[f"bias_{i}"] = bias.detach().double().cpu().numpy()
        arrays["weight_0"] = arrays["weight_0"] / self.scale.double().cpu().numpy()
        arrays["bias_0"] = arrays["bias_0"] - arrays["weight_0"] @ self.mean.double().cpu().numpy()
        return arrays
