"""Devices and threads: resolved once, recorded, never changed behind the user's back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from probekit.api.errors import Issue, ProbekitError


def resolve_device(name: str, where: str) -> str:
    """The device that a run uses: ``auto`` is the first CUDA device where there is one, else the CPU.

    Args:
        name: cpu, cuda, cuda:1, auto.
        where: the place of the setting, for the error.

    Raises:
        ProbekitError: a device was asked for that is not there; nothing falls back to the CPU.
    """
    import torch

    if name == "cpu":
        return "cpu"
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    index = int(name.partition(":")[2] or 0)
    if not torch.cuda.is_available():
        raise ProbekitError([Issue(where, f"{name}: this machine has no CUDA device that torch can use; cpu or auto")])
    if index >= torch.cuda.device_count():
        raise ProbekitError([Issue(where, f"{name}: there are {torch.cuda.device_count()} CUDA devices, from cuda:0")])
    return f"cuda:{index}"


@contextmanager
def limited_threads(threads: int | None) -> Iterator[int]:
    """Sets the number of threads of torch and of every BLAS at once, and back afterwards; yields the number.

    Args:
        threads: how many; none for the processors that this process may use.
    """
    import torch
    from threadpoolctl import threadpool_limits

    count = threads or len(os.sched_getaffinity(0))
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield count
    finally:
        torch.set_num_threads(before)
