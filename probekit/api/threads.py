"""Independent problems side by side, each on one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """``[work(item) for item in items]``, up to ``threads`` at a time.

    Inside, BLAS and torch use one thread: small products gain nothing from two, which wait for one another, and what
    comes back is the same bytes whatever ``threads`` is.
    """
    from threadpoolctl import threadpool_limits

    items = list(items)
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0

    def single() -> None:
        if torch:
            torch.set_num_threads(1)

    try:
        with threadpool_limits(1), ThreadPoolExecutor(max(1, threads), initializer=single) as pool:
            single()
            return list(pool.map(work, items))
    finally:
        if torch:
            torch.set_num_threads(before)
