"""Scorers at work: probes as data on raw features, evaluated in batches, kept in safetensors.

A file of a scorer holds its arrays, ``channels`` among them, and one header entry, ``probekit``: JSON with ``format``,
``kind`` and ``metadata``. One entry, because the order of several is not fixed, and two runs are equal byte for byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from probekit.api import ProbekitError, Scorer

_CHUNK_NUMBERS = 2**18
"""Features evaluated at once: their float64 copy, 2 MB, stays in the cache."""

_FORMAT = 1


def evaluate_scorers(scorers: Sequence[Scorer], features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Margins of many scorers on the same cells.

    All linear scorers share matrix products, those of few channels on the few columns that they use. Sums are in
    float64: raw features may be large against their deviation, where float32 would lose what the scorer looks at; and
    the result does not depend on how cells are batched, to the last bit or nearly so.

    Args:
        scorers: m of them, of any kinds.
        features: raw, (n, p).

    Returns:
        (m, n) float32.
    """
    n, p = features.shape
    for scorer in scorers:
        if len(scorer.channels) and not 0 <= scorer.channels.min() <= scorer.channels.max() < p:
            raise ValueError(f"a scorer reads channel {scorer.channels.max()} of features that have {p}")
    parts = _by_width(scorers)
    blocks = [_linear_block([scorers[i] for i in part], p) for part in parts]
    others = [i for i, scorer in enumerate(scorers) if scorer.kind != "linear"]
    whole = any(columns is None for columns, _, _ in blocks)
    order = np.array([i for part in (*parts, others) for i in part], dtype=np.int64)
    margins = np.empty((len(scorers), n), dtype=np.float32)  # in that order: each block is written in one piece
    rows = max(1, _CHUNK_NUMBERS // max(p, 1))
    buffer = np.empty((min(rows, n), p))
    for start in range(0, n, rows):
        place = slice(start, min(start + rows, n))
        raw = features[place]
        x = buffer[: len(raw)]
        if whole:
            x[:] = raw
        first = 0
        for columns, weight, bias in blocks:
            # np.take is several times faster here than an index of columns.
            part = x if columns is None else np.take(raw, columns, axis=1).astype(np.float64)
            end = first + len(bias)
            np.add(weight @ part.T, bias, out=margins[first:end, place], casting="same_kind")
            first = end
        for row, i in enumerate(others, first):
            scorer = scorers[i]
            part = np.take(raw, scorer.channels, axis=1).astype(np.float64)
            margins[row, place] = _polynomial(scorer, part) if scorer.kind == "polynomial" else _mlp(scorer, part)
    if (order == np.arange(len(order))).all():
        return margins
    return margins[np.argsort(order)]


def _by_width(scorers: Sequence[Scorer]) -> list[list[int]]:
    """Linear scorers by support size, up to 31 channels and then within a factor of four: narrow ones must not pay for
    the widest."""
    parts: dict[int, list[int]] = {}
    for i, scorer in enumerate(scorers):
        if scorer.kind == "linear":
            parts.setdefault(max(len(scorer.channels).bit_length(), 5) // 2, []).append(i)
    return list(parts.values())


def _linear_block(
    members: Sequence[Scorer], p: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64], NDArray[np.float64]]:
    """The columns that they use (none: all), weights (members, columns) and biases (members, 1)."""
    union = np.unique(np.concatenate([scorer.channels for scorer in members]))
    columns = union if 2 * len(union) < p else None
    weight = np.zeros((len(members), len(union) if columns is not None else p))
    for row, scorer in zip(weight, members, strict=True):
        places = np.searchsorted(union, scorer.channels) if columns is not None else scorer.channels
        np.add.at(row, places, scorer.arrays["weight"])
    return columns, weight, np.array([[float(scorer.arrays["bias"])] for scorer in members])


def _polynomial(scorer: Scorer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Margins from the scorer's own channels, (rows, k)."""
    arrays = scorer.arrays
    first, second = arrays["pairs"].T
    margins: NDArray[np.float64] = (
        x @ arrays["weight"] + float(arrays["bias"]) + (x[:, first] * x[:, second]) @ arrays["products"]
    )
    return margins


def _mlp(scorer: Scorer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Margins from the scorer's own channels, (rows, k)."""
    hidden, arrays = x, scorer.arrays
    depth = sum(name.startswith("weight_") for name in arrays)
    for layer in range(depth):
        hidden = hidden @ arrays[f"weight_{layer}"].T + arrays[f"bias_{layer}"]
        if layer < depth - 1:
            np.maximum(hidden, 0.0, out=hidden)
    return hidden[:, 0]


def save_scorer(path: Path, scorer: Scorer, metadata: Mapping[str, Any]) -> None:
    """Writes a scorer so that it is there whole or not at all, and the same bytes each time.

    Args:
        path: ends in ``.safetensors``; its folder exists.
        scorer: to keep.
        metadata: JSON values: what is needed to use it elsewhere (``threshold``, ``weights_digest``, ``layer``,
            ``preprocessing``) and what else is worth knowing.
    """
    header = {"format": _FORMAT, "kind": scorer.kind, "metadata": dict(metadata)}
    tensors = {"channels": np.asarray(scorer.channels, dtype=np.int64)}
    for name, array in scorer.arrays.items():
        tensors[name] = np.ascontiguousarray(array).reshape(np.shape(array))
    content = save(tensors, {"probekit": json.dumps(header, sort_keys=True, allow_nan=False)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_scorer(path: Path) -> tuple[Scorer, dict[str, Any]]:
    """Reads what :func:`save_scorer` wrote: the scorer and its metadata.

    Raises:
        ProbekitError: the file is missing, is no safetensors file, or holds no scorer that this version knows.
    """
    if not path.is_file():
        raise ProbekitError(f"{path.name}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("probekit")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ProbekitError(f"{path.name}: not a safetensors file ({error})") from error
    if text is None:
        raise ProbekitError(f"{path.name}: holds no scorer (its header has no 'probekit')")
    header = json.loads(text)
    if header["format"] != _FORMAT or header["kind"] not in ("linear", "polynomial", "mlp"):
        raise ProbekitError(
            f"{path.name}: a scorer of kind '{header['kind']}' in format {header['format']}, which this version "
            f"(format {_FORMAT}) does not know. A newer probekit reads it"
        )
    channels = tensors.pop("channels")
    return Scorer(header["kind"], channels, tensors), header["metadata"]
