"""Independent seeds for everything random, derived from the run's seed and from what the randomness is for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def _digest(seed: int, parts: tuple[str | int, ...]) -> bytes:
    # JSON keeps 1 apart from "1", and ("ab", "c") from ("a", "bc").
    return hashlib.sha256(json.dumps([int(seed), *parts], separators=(",", ":")).encode()).digest()


def derive_seed(seed: int, *parts: str | int) -> int:
    """A seed below 2**32 (which every library takes) for one purpose, the same on every platform.

    Args:
        seed: the run's.
        parts: what the seed is for: ``"rows", "sam", "neck", "pothole", repeat``.
    """
    return int.from_bytes(_digest(seed, parts)[:4], "little")


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A random generator for one purpose, the same on every platform; see :func:`derive_seed`."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(seed, parts), "little")))


def hash_keys(seed: int, purpose: str, ids: Sequence[str]) -> NDArray[np.uint64]:
    """A random number for every id, shape (n ids,): it depends on nothing but the seed, the purpose and that id."""
    return np.array([int.from_bytes(_digest(seed, (purpose, i))[:8], "little") for i in ids], dtype=np.uint64)
