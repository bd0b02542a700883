"""``mlp``: what the channels say that no weighted sum of them does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from probekit.api import Fit, Path, ProbePlan, Problem, Rows, Scorer, map_in_threads
from probekit_mlp.network import Network
from probekit_mlp.parameters import MlpParameters

CHUNK = 2048
"""Validation rows that are scored at a time: few enough to stay in cache."""


class Mlp:
    """One or two hidden ReLU layers on all channels, class-balanced logistic loss, AdamW.

    One rung, 0, with one fit: the weights after the epoch of the best validation AP, measured after every epoch on
    all validation cells. The final fit trains for the folds' median number of epochs. ``coefficient`` is the mean
    gradient of the margin in standardised channels over the class-balanced training rows. Problems are trained
    side by side, each on one thread; rows are shared, a batch is centred as it is read.
    """

    def __init__(self, parameters: MlpParameters, *, device: str, threads: int = 1) -> None:
        self.parameters = parameters
        self.threads = threads
        self.device = device

    def plan(self, channels: int) -> ProbePlan:
        """One fit at any width."""
        return ProbePlan(fits=1, rungs=1)

    def fit(self, rows: Rows, problems: Sequence[Problem], upstream: Sequence[Path] | None) -> list[Path]:
        """One path of one fit a problem; for a final fit, one fit a label."""
        x = rows.torch(self.device)
        return map_in_threads(lambda problem: self._path(x, problem), problems, self.threads)

    def _path(self, x: Tensor, problem: Problem) -> Path:
        if problem.finals is None:
            if problem.validation is None:
                raise ValueError("an mlp needs validation to stop early")
            return Path((self._early_stopped(x, problem),))
        fits = []
        for label, chosen in problem.finals.items():
            epochs = max(1, round(float(np.median([fit.choices["epochs"] for fit in chosen]))))
            run = _Training(x, problem, self.parameters)
            losses = [next(run.losses) for _ in range(epochs)]
            fits.append(run.as_fit(chosen[0].rung, epochs, {"label": label, "loss": losses}))
        return Path(tuple(fits))

    def _early_stopped(self, x: Tensor, problem: Problem) -> Fit:
        validation = problem.validation
        assert validation is not None
        run = _Training(x, problem, self.parameters)
        losses: list[float] = []
        scores: list[float] = []
        best, state = 0, run.network.state()
        while len(scores) < self.parameters.epochs and len(scores) - best < self.parameters.patience:
            losses.append(next(run.losses))
            margins = run.network.score(validation.rows.chunks(CHUNK), validation.rows.shape[0])
            scores.append(float(validation.average_precision(margins)))
            if best == 0 or scores[-1] > scores[best - 1]:
                best, state = len(scores), run.network.state()
        run.network.load(state)
        return run.as_fit(0, best, {"loss": losses, "validation_average_precision": scores})


class _Training:
    """A network and the epochs that train it."""

    def __init__(self, x: Tensor, problem: Problem, parameters: MlpParameters) -> None:
        self.x = x
        self.parameters = parameters
        self.generator = torch.Generator().manual_seed(problem.seed)
        self.weights = torch.from_numpy(problem.weights.astype(np.float32)).to(x.device)
        self.sign = torch.from_numpy(np.where(problem.y == 1, 1.0, -1.0).astype(np.float32)).to(x.device)
        self.rows = torch.from_numpy(np.flatnonzero(problem.weights > 0))
        mean, scale = (torch.from_numpy(a.astype(np.float32)).to(x.device) for a in (problem.mean, problem.scale))
        self.network = Network(mean, scale, parameters.hidden, self.generator)
        self.losses = self._epochs()

    def _epochs(self) -> Iterator[float]:
        """Trains an epoch each time the next is asked for, and yields its mean loss."""
        network, size = self.network, self.parameters.batch_size
        optimizer = torch.optim.AdamW(
            [
                {"params": network.weights, "weight_decay": self.parameters.weight_decay},
                {"params": network.biases, "weight_decay": 0.0},
            ],
            lr=self.parameters.learning_rate,
            fused=True,
        )
        while True:
            order = self.rows[torch.randperm(len(self.rows), generator=self.generator)].to(self.x.device)
            total = 0.0
            for batch in torch.split(order, size):
                margins = network.margins(self.x[batch].sub_(network.mean))
                loss = (torch.nn.functional.softplus(-self.sign[batch] * margins) * self.weights[batch]).mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach()) * len(batch)
            yield total / len(order)

    def as_fit(self, rung: int | Literal["full"], epochs: int, details: dict[str, object]) -> Fit:
        importance = self.network.importance(self.x, self.rows.to(self.x.device), self.weights)
        support = np.argsort(-np.abs(importance), kind="stable")
        channels = np.arange(len(importance))
        return Fit(
            rung=rung,
            support=support,
            coefficient=importance[support],
            scorer=Scorer("mlp", channels, self.network.folded()),
            choices={"epochs": float(epochs)},
            iterations=epochs,
            details=details,
        )
