"""Problems that share rows, trained side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.api import Problem, Rows
from probekit_mlp.network import AdamW, Networks, draw_values
from probekit_mlp.parameters import MlpParameters


@dataclass
class Course:
    """One problem's way through training.

    Attributes:
        epochs: train for so many at most.
        wanted: the epochs after which a final fit's network is kept; empty where validation decides.
        kept: epoch -> the network's numbers after it.
        losses, scores: the mean loss and the validation AP, by epoch.
        best: the epoch of the best validation AP so far, 0 before the first.
        generator: of all that is random.
        rows, weight, sign: the rows that weigh anything, their weights, and their labels as 1 and -1, (m,) each.
        validation: one object, whatever the problem's property makes; none for a final fit.
    """

    problem: Problem
    epochs: int
    wanted: frozenset[int] = frozenset()
    kept: dict[int, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: int = 0

    def __post_init__(self) -> None:
        rows = np.flatnonzero(self.problem.weights > 0)
        self.rows = torch.from_numpy(rows)
        self.weight = torch.from_numpy(self.problem.weights[rows].astype(np.float32))
        self.sign = torch.from_numpy(np.where(self.problem.y[rows] == 1, 1, -1).astype(np.float32))
        given = None if self.wanted else self.problem.validation
        self.validation: Rows | None = given.rows if given is not None else None
        self.generator = torch.Generator().manual_seed(self.problem.seed)

    def note(self, values: Tensor, patience: int) -> bool:
        """Keeps the numbers (numbers,) of an epoch that is wanted or the best yet; says whether to go on."""
        done = len(self.losses)
        if self.wanted:
            if done in self.wanted:
                self.kept[done] = values.clone()
            return done < self.epochs
        if self.best == 0 or self.scores[-1] > self.scores[self.best - 1]:
            self.best, self.kept = done, {done: values.clone()}
        return done < self.epochs and done - self.best < patience


class Group:
    """Courses that take their steps together.

    A step takes the next mini-batch of every problem that has one left in its epoch. Problems stand in the order of
    their number of rows, so those are the first k, and none is copied to leave out the others. A batch that is shorter
    than others is filled with a row of its own problem that then weighs nothing. A problem that is done leaves after
    its epoch.

    Memory, besides x and what is held: one block of rows, for each problem some six times its network's numbers, and
    40 bytes for each of its rows.

    Args:
        x: (n, p) float32.
        block: bytes that the rows of a step or of a chunk may take together; one problem's always may.
        held: validation rows that are in memory, by the id of their Rows.
    """

    def __init__(
        self, x: Tensor, courses: Sequence[Course], parameters: MlpParameters, block: int, held: dict[int, Tensor]
    ) -> None:
        self.x, self.parameters, self.held = x, parameters, held
        self.running = sorted(courses, key=lambda course: -len(course.rows))
        step = len(courses) * min(parameters.batch_size, len(self.running[0].rows))
        self._room = torch.empty(max(step, block // (4 * x.shape[1])), x.shape[1], device=x.device)
        values = [draw_values(x.shape[1], parameters.hidden, course.generator) for course in self.running]
        self.networks = self._networks(self.running, torch.stack(values).to(x.device))
        self.optimizer = AdamW(
            self.networks.values,
            self.networks.decayed,
            learning_rate=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
        )

    def train(self) -> None:
        """Brings every course to its end: what it wants to keep is in its ``kept``."""
        while self.running:
            self._epoch()
            self._score()
            notes = zip(self.running, self.networks.values, strict=True)
            going = [i for i, (course, values) in enumerate(notes) if course.note(values, self.parameters.patience)]
            self.running = [self.running[i] for i in going]
            if 0 < len(going) < len(self.networks.values):
                self.networks = self.networks.keep(going)
                self.optimizer.keep(going, self.networks.values)

    def kept(self, course: Course, epochs: int) -> Networks:
        """The one network that a course kept after so many epochs."""
        return self._networks([course], course.kept[epochs][None])

    def importance(self, course: Course, network: Networks) -> NDArray[np.float64]:
        """Weighted mean over a course's rows of the margin's gradient in z, (p,): how much a channel's rise by one
        standard deviation raises the margin of its network. What raises it here and lowers it there cancels."""
        ((first, _), *_), _ = network.layers(1)
        total = torch.zeros(first.shape[1], dtype=torch.float64, device=self.x.device)
        size = len(self._room)
        for rows, weight in zip(torch.split(course.rows, size), torch.split(course.weight, size), strict=True):
            outputs = network.forward(self._centred(rows[None].to(self.x.device), network))
            slope = weight[None, :, None].to(self.x.device)
            total += network.deltas(outputs, slope)[0].sum(dim=(0, 1), dtype=torch.float64)
        # the first layer is linear: its derivative waits for the end
        return np.asarray((total @ first[0].double()).cpu().numpy() / float(course.weight.double().sum()))

    def _networks(self, courses: Sequence[Course], values: Tensor) -> Networks:
        mean, scale = (
            torch.from_numpy(np.stack(arrays).astype(np.float32)).to(self.x.device)
            for arrays in zip(*[(course.problem.mean, course.problem.scale) for course in courses], strict=True)
        )
        return Networks(mean, scale, self.parameters.hidden, values)

    def _epoch(self) -> None:
        """One pass of every problem over its rows, in an order that its own generator draws; notes the mean loss."""
        size, networks = self.parameters.batch_size, self.networks
        counts = [len(course.rows) for course in self.running]
        order, sign, weight = self._order(counts)
        total = torch.zeros(len(counts), dtype=torch.float64, device=self.x.device)
        for start in range(0, counts[0], size):
            k, stop = sum(count > start for count in counts), min(start + size, counts[0])
            centred = self._centred(order[:k, start:stop], networks)
            signs, weights = sign[:k, start:stop], weight[:k, start:stop]
            shares = torch.tensor([[-1 / (min(count, stop) - start)] for count in counts[:k]], device=self.x.device)
            outputs = networks.forward(centred)
            against = outputs[-1][:, :, 0].mul(signs).neg_()
            total[:k] += torch.nn.functional.softplus(against).mul_(weights).sum(dim=1, dtype=torch.float64)
            slope = against.sigmoid_().mul_(signs).mul_(weights).mul_(shares)
            self.optimizer.step(networks.differentiate(centred, outputs, slope[:, :, None]))
        for course, loss, count in zip(self.running, total.tolist(), counts, strict=True):
            course.losses.append(loss / count)

    def _order(self, counts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, labels and weights of an epoch, (problems, most rows) each; where a problem has fewer, its first row,
        without weight."""
        order = torch.empty(len(counts), counts[0], dtype=torch.int64)
        sign, weight = torch.ones(order.shape), torch.zeros(order.shape)
        for i, (course, count) in enumerate(zip(self.running, counts, strict=True)):
            drawn = torch.randperm(count, generator=course.generator)
            order[i, :count], order[i, count:] = course.rows[drawn], course.rows[0]
            sign[i, :count], weight[i, :count] = course.sign[drawn], course.weight[drawn]
        return order.to(self.x.device), sign.to(self.x.device), weight.to(self.x.device)

    def _centred(self, rows: Tensor, networks: Networks) -> Tensor:
        """Rows (k, m) of x less the means of the first k networks, (k, m, p), in the group's own block."""
        centred = self._rows_of(*rows.shape)
        torch.index_select(self.x, 0, rows.reshape(-1), out=centred.view(-1, centred.shape[2]))
        return centred.sub_(networks.mean[: len(rows), None])

    def _rows_of(self, k: int, m: int) -> Tensor:
        """Room for m rows of k problems, (k, m, p)."""
        return self._room[: k * m].view(k, m, -1)

    def _score(self) -> None:
        """Notes validation APs: one pass over rows for all problems that share them."""
        sharing: dict[int, tuple[Rows, list[int]]] = {}
        for i, course in enumerate(self.running):
            if course.validation is not None:
                sharing.setdefault(id(course.validation), (course.validation, []))[1].append(i)
        for rows, places in sharing.values():
            networks = self.networks.keep(places)
            margins = np.empty((len(places), rows.shape[0]))
            for place, part in self._chunks(rows, len(self._room) // len(places)):
                centred = self._rows_of(len(places), len(part))
                torch.sub(part, networks.mean[:, None], out=centred)
                margins[:, place] = networks.forward(centred)[-1][:, :, 0].cpu().numpy()
            for i, found in zip(places, margins, strict=True):
                validation = self.running[i].problem.validation
                assert validation is not None
                self.running[i].scores.append(float(validation.average_precision(found)))

    def _chunks(self, rows: Rows, size: int) -> Iterator[tuple[slice, Tensor]]:
        held = self.held.get(id(rows))
        if held is None:
            for place, part in rows.chunks(size):
                yield place, torch.tensor(part, device=self.x.device)  # of a copy: rows are read-only
            return
        for start in range(0, len(held), size):
            place = slice(start, min(start + size, len(held)))
            yield place, held[place]
