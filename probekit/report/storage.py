"""``probekit store``: what features are kept, and how to be rid of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from probekit.api.errors import Issue, ProbekitError
from probekit.features.store import CollectionInfo, Store
from probekit.runner.folder import display
from probekit.spec.load import load_experiment

NAME = ".probekit-store"
"""The folder beside a spec that names no other."""


def find_store(place: Path) -> Path:
    """The store that a user means.

    Args:
        place: a spec (its store), a store, or a folder with a store in it.

    Raises:
        ProbekitError: there is no store.
    """
    if place.is_file():
        store = load_experiment(place, ()).store
    else:
        store = place / NAME if (place / NAME).is_dir() or not _is_store(place) else place
    if not store.is_dir():
        what = "there is no store here; name a spec, a store or the folder that holds one"
        raise ProbekitError([Issue(display(store), "does not exist yet" if place.is_file() else what)])
    return store


def _is_store(folder: Path) -> bool:
    return folder.is_dir() and (folder.name == NAME or any(folder.glob("[!.]*/collection.json")))


def list_store(place: Path) -> None:
    """Prints the collections of a store, and what they take."""
    path = find_store(place)
    store = Store(path)
    infos = store.list()
    print(display(path))
    rows = [_row(info) for info in infos]
    heads = ("backbone", "layer", "dtype", "channels", "images", "size", "last used", "weights")
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows] if rows else []:
        cells = [
            f"{text:>{size}}" if i in (3, 4, 5) else f"{text:<{size}}"
            for i, (text, size) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        print(line if len(line) <= 100 else f"{line[:97]}...")
    held = sum(info.bytes for info in infos)
    other = store.bytes - held
    rest = f", {size_text(other)} of labels and leftovers" if other >= 1e5 else ""
    print(f"{len(infos)} collections, {size_text(held)}{rest}" if infos or rest else "empty")


def prune_store(place: Path, unused_days: float | None, everything: bool) -> None:
    """Removes collections that nobody has used, damaged shards, and what killed processes left; says what went.

    Args:
        place: see :func:`find_store`.
        unused_days: removes what no run has read for so many days; none removes no sound collection.
        everything: removes all collections.

    Raises:
        ProbekitError: there is no store, or ``unused_days`` is negative.
    """
    if unused_days is not None and unused_days < 0:
        raise ProbekitError(f"--unused-days: must not be negative, given {unused_days:g}")
    path = find_store(place)
    store = Store(path)
    infos = {info.digest: info for info in store.list()}
    unused: Sequence[str] = list(infos) if everything else []
    if unused_days is not None and not everything:
        before = datetime.now() - timedelta(days=unused_days)
        unused = [digest for digest, info in infos.items() if info.last_used <= before]
    pruned = store.prune(unused)
    print(display(path))
    for digest in pruned.collections:
        print(f"removed  {_title(infos[digest])}: {infos[digest].images} images, {size_text(infos[digest].bytes)}")
    for name in pruned.damaged:
        print(f"removed  a damaged part of {_title(infos[name.partition('/')[0]])}: its images are extracted again")
    if pruned.leftovers:
        print(f"removed  {pruned.leftovers} files that a stopped process left")
    for digest in pruned.busy:
        print(f"kept     {_title(infos[digest])}: a process is extracting into it")
    kept = len(infos) - len(pruned.collections)
    print(f"{size_text(pruned.bytes)} freed, {kept} collections kept ({size_text(store.bytes)})")
    if kept and unused_days is None and not everything:
        print("collections that are sound were left alone: --unused-days N or --all removes them too")


def size_text(size: float) -> str:
    """Bytes for people, three digits."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            number = size / scale
            return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"
    return f"{size:.0f} B"


def _title(info: CollectionInfo) -> str:
    return f"{info.about.get('backbone', 'unknown')} {info.key['layer']} ({info.key['dtype']})"


def _row(info: CollectionInfo) -> tuple[str, ...]:
    tile = info.key.get("tile")
    return (
        str(info.about.get("backbone", "unknown")),
        str(info.key["layer"]),
        str(info.key["dtype"]),
        str(info.channels),
        f"{info.images}{' tiles' if tile else ''}",
        size_text(info.bytes),
        _ago(info.last_used),
        str(info.about.get("weights", "")),
    )


def _ago(when: datetime) -> str:
    seconds = (datetime.now() - when).total_seconds()
    for unit, scale in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // scale)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
