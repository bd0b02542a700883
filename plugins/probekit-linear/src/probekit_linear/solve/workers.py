"""The one place where threads are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Maps independent pieces of work over threads, each of which uses one BLAS thread.

    The pieces are cut by what the work is, never by the number of threads, and their results are put together in
    their order: what comes out is the same bytes whatever the number of threads.
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterable[R]:
        """``work`` of each item, in their order."""
        return map(work, items) if self._pool is None else self._pool.map(work, items)


@contextmanager
def workers(threads: int) -> Iterator[Workers]:
    """Workers on so many threads; BLAS and torch are held to one thread each until the block is left.

    Raises:
        ValueError: fewer than one thread.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; give 1 or more")

    def single() -> None:
        torch.set_num_threads(1)

    before = torch.get_num_threads()
    try:
        with _libraries().limit(limits=1):
            single()
            if threads == 1:
                yield Workers(None)
                return
            pool = ThreadPoolExecutor(threads, initializer=single)
            try:
                yield Workers(pool)
            finally:
                # on Ctrl-C: what runs ends (a chunk or a small matrix), what waits is dropped
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(before)


@lru_cache
def _libraries() -> ThreadpoolController:
    """The libraries that have threads. Looked for once: the search takes 5 ms, and a Ctrl-C in its midst is lost (it
    goes through a callback from C, which swallows exceptions)."""
    return ThreadpoolController()
