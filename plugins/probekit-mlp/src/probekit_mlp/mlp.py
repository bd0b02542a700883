"""``mlp``: what the channels say that no weighted sum of them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from torch import Tensor

from probekit.api import Fit, Path, ProbePlan, Problem, Rows, Scorer, map_in_threads
from probekit_mlp.parameters import MlpParameters
from probekit_mlp.training import Course, Group

LEAST_BLOCK, CACHE_BLOCK = 1 << 20, 4 << 20
"""Bytes of rows in a step, on a CPU: with fewer most of the time goes into calls, with more out of the cache."""
GROUPS = 8
"""On a CPU problems are split among so many groups, if a step of each still has LEAST_BLOCK."""
DEVICE_BLOCK = 256 << 20
"""Bytes of rows in a step elsewhere."""
VALIDATION_BYTES = 1 << 30
"""Validation rows that are held between epochs, by one call."""


class Mlp:
    """One or two hidden ReLU layers on all channels, class-balanced logistic loss, AdamW.

    One rung, 0, with one fit: the weights after the epoch of the best validation AP, measured after every epoch on
    all validation cells. The final fit trains for the folds' median number of epochs. ``coefficient`` is the mean
    gradient of the margin in standardised channels over the class-balanced training rows.

    Problems are trained in groups, side by side in one batched product a layer, up to ``threads`` groups at a time,
    each on one thread. How problems are grouped depends on how many there are and on the rows' shape, never on
    ``threads``; what a problem gives depends on its group by float32 rounding only. Was not run on a GPU.

    Memory: the rows, shared and never copied; up to 1 GiB of validation rows, which are read once (what is above that
    is read anew after every epoch); for each thread 4 MiB of centred rows, or one mini-batch if that is more (elsewhere
    than on a CPU 256 MiB); for each problem some six times its network and 40 bytes a training row.
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
        courses = [self._course(problem) for problem in problems]
        x = rows.torch(self.device)
        on_cpu = x.device.type == "cpu"
        threads, block = (self.threads, CACHE_BLOCK) if on_cpu else (1, DEVICE_BLOCK)
        held = _hold(courses, self.device, threads)
        size = _group_size(len(courses), 4 * x.shape[1] * min(self.parameters.batch_size, len(x)), on_cpu)

        def work(places: Sequence[int]) -> list[Path]:
            group = Group(x, [courses[i] for i in places], self.parameters, block, held)
            group.train()
            return [self._path(group, courses[i]) for i in places]

        groups = _split(_sharing_first(courses), size)
        found = map_in_threads(work, groups, threads)
        paths = {
            i: path for places, some in zip(groups, found, strict=True) for i, path in zip(places, some, strict=True)
        }
        return [paths[i] for i in range(len(problems))]

    def _course(self, problem: Problem) -> Course:
        if problem.finals is not None:
            wanted = frozenset(_median_epochs(chosen) for chosen in problem.finals.values())
            return Course(problem, max(wanted), wanted)
        if problem.validation is None:
            raise ValueError("an mlp needs validation to stop early")
        return Course(problem, self.parameters.epochs)

    def _path(self, group: Group, course: Course) -> Path:
        if course.problem.finals is None:
            details: dict[str, Any] = {"loss": course.losses, "validation_average_precision": course.scores}
            return Path((_as_fit(group, course, course.best, 0, details),))
        fits = []
        for label, chosen in course.problem.finals.items():
            epochs = _median_epochs(chosen)
            details = {"label": label, "loss": course.losses[:epochs]}
            fits.append(_as_fit(group, course, epochs, chosen[0].rung, details))
        return Path(tuple(fits))


def _as_fit(group: Group, course: Course, epochs: int, rung: int | Literal["full"], details: Mapping[str, Any]) -> Fit:
    network = group.kept(course, epochs)
    importance = group.importance(course, network)
    support = np.argsort(-np.abs(importance), kind="stable")
    return Fit(
        rung=rung,
        support=support,
        coefficient=importance[support],
        scorer=Scorer("mlp", np.arange(len(importance)), network.folded()),
        choices={"epochs": float(epochs)},
        iterations=epochs,
        details=details,
    )


def _hold(courses: Sequence[Course], device: str, threads: int) -> dict[int, Tensor]:
    """Reads validation rows once for all epochs, in the courses' order, as far as ``VALIDATION_BYTES`` go; by the id
    of their Rows."""
    wanted: dict[int, Rows] = {}
    left = VALIDATION_BYTES
    for rows in (course.validation for course in courses):
        size = 0 if rows is None else 4 * rows.shape[0] * rows.shape[1]
        if rows is not None and id(rows) not in wanted and size <= left:
            wanted[id(rows)] = rows
            left -= size
    read = map_in_threads(lambda rows: rows.torch(device), wanted.values(), threads)
    return dict(zip(wanted, read, strict=True))


def _sharing_first(courses: Sequence[Course]) -> list[int]:
    """Places of the courses: those that share validation rows one after the other."""
    first: dict[int, int] = {}
    for i, course in enumerate(courses):
        first.setdefault(id(course.validation), i)
    return sorted(range(len(courses)), key=lambda i: first[id(courses[i].validation)])


def _group_size(problems: int, step: int, on_cpu: bool) -> int:
    """How many problems to train together, each of whose steps reads ``step`` bytes of rows."""
    if not on_cpu:
        return max(1, DEVICE_BLOCK // step)
    return max(1, min(max(-(-problems // GROUPS), LEAST_BLOCK // step), CACHE_BLOCK // step))


def _split(places: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive parts of at most so many, as even as can be."""
    parts = -(-len(places) // size)
    bounds = [part * len(places) // parts for part in range(parts + 1)] if parts else []
    return [places[start:stop] for start, stop in pairwise(bounds)]


def _median_epochs(fits: Sequence[Fit]) -> int:
    return max(1, round(float(np.median([fit.choices["epochs"] for fit in fits]))))
