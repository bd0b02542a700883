"""Independent problems side by side, each on one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """``[work(item) for item in items]``, up to ``threads`` at a time.

    Inside, BLAS and torch use one thread: small products gain nothing from two, which wait for one another, and what
    comes back is the same bytes whatever ``threads`` is.
    """
    items = list(items)
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0

    def single() -> None:
        if torch:
            torch.set_num_threads(1)

    try:
        with _libraries(_loaded()).limit(limits=1), ThreadPoolExecutor(max(1, threads), initializer=single) as pool:
            single()
            return list(pool.map(work, items))
    finally:
        if torch:
            torch.set_num_threads(before)


def _loaded() -> frozenset[str]:
    """Which of the packages that bring threads of their own are there by now."""
    return frozenset({"numpy", "scipy", "sklearn", "torch"} & sys.modules.keys())


@lru_cache
def _libraries(loaded: frozenset[str]) -> ThreadpoolController:
    """The libraries that have threads. Looked for once: the search takes 5 ms, and a Ctrl-C in its midst is lost (it
    goes through a callback from C, which swallows exceptions)."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
