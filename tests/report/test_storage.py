from __future__ import annotations

import os
import time

import pytest

from probekit.api import ProbekitError
from probekit.features.store import Store
from probekit.report.storage import find_store, list_store, prune_store, size_text
from probekit.runner.dataset import build_dataset
from probekit.runner.extraction import extract_network
from probekit.runner.prepare import prepare
from probekit.spec.load import load_experiment


@pytest.fixture
def stored(spec, told):
    """A spec whose networks are in its store; the second was last used ten days ago."""
    path = spec(backbones="{one: {use: tiny, layers: [body]}, two: {use: tiny, layers: [stem], dtype: bfloat16}}")
    resolved = load_experiment(path)
    prepared = prepare(resolved)
    dataset = build_dataset(prepared.source, resolved.experiment, 1, told)
    store = Store(resolved.store)
    for network in prepared.networks:
        extract_network(network, dataset, resolved.experiment, store, 1, told)
    old = next(info for info in store.list() if info.key["layer"] == "stem")
    then = time.time() - 10 * 86400
    os.utime(store.path / old.digest / "lock", (then, then))
    return path


def test_a_store_is_found_by_its_spec_its_folder_and_itself(stored):
    store = stored.parent / ".probekit-store"
    assert [find_store(place) for place in (stored, stored.parent, store)] == [store] * 3


def test_a_spec_may_name_a_store_elsewhere(stored, spec):
    elsewhere = stored.parent / "kept"
    (stored.parent / ".probekit-store").rename(elsewhere)
    assert find_store(elsewhere) == elsewhere
    assert find_store(spec(store="{path: kept}")) == elsewhere


def test_no_store_is_one_line(spec, tmp_path):
    for place in (tmp_path, spec(), tmp_path / "nowhere"):
        with pytest.raises(ProbekitError) as caught:
            list_store(place)
        assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_the_list_says_what_is_there(stored, capsys):
    list_store(stored)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:5] == ["one", "body", "float32", "16", "20"]
    assert lines[3].split()[:5] == ["two", "stem", "bfloat16", "8", "20"]
    assert "just now" in lines[2]
    assert "10 days ago" in lines[3]
    assert lines[4].startswith("2 collections, ")
    assert max(map(len, lines)) <= 100


def test_prune_removes_what_was_asked_and_says_so(stored, capsys):
    store = Store(find_store(stored))
    prune_store(stored, None, False)
    assert "--unused-days N or --all" in capsys.readouterr().out
    assert len(store.list()) == 2
    prune_store(stored, 9, False)
    assert "removed  two stem (bfloat16): 20 images" in capsys.readouterr().out
    assert [info.about["backbone"] for info in store.list()] == ["one"]
    prune_store(stored, None, True)
    assert "removed  one body" in capsys.readouterr().out
    assert store.list() == []
    list_store(stored)
    assert "empty" in capsys.readouterr().out


def test_a_negative_age_is_refused(stored):
    with pytest.raises(ProbekitError, match="--unused-days"):
        prune_store(stored, -1, False)


def test_sizes_have_three_digits():
    assert [size_text(n) for n in (0, 999, 1234, 45_600, 7.89e8, 2.1e10)] == [
        "0 B", "999 B", "1.23 kB", "45.6 kB", "789 MB", "21.0 GB",
    ]  # fmt: skip
