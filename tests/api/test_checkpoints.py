"""Weights files are read without running code; what does not fit is one line that says so."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from probekit.api import ParameterError
from probekit.api.checkpoints import check_keys, fetch, file_digest, random_digest, read_state_dict, seeded

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def same(found):
    return found.keys() == STATE.keys() and all(torch.equal(found[key], value) for key, value in STATE.items())


def test_safetensors_and_torch_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "misnamed.pth")
    torch.save(STATE, tmp_path / "plain.bin")
    torch.save(OrderedDict(STATE), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "nested.pth")
    for name in ("misnamed.pth", "plain.bin", "old.pt", "nested.pth"):
        assert same(read_state_dict(tmp_path / name)), name


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_a_file_that_would_run_code_is_refused_in_one_line_and_never_run(tmp_path: Path, form: str) -> None:
    harm, path = tmp_path / "harm", tmp_path / "evil.pth"
    content = {**STATE, "extra": Malice(harm)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"extra": Malice(harm)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ParameterError) as caught:
        read_state_dict(path)
    assert not harm.exists()
    assert caught.value.path == ("weights",)
    assert "\n" not in caught.value.what
    assert caught.value.what.startswith("evil.pth ")
    assert "refused: loading it would run code" in caught.value.what
    assert "system" in caught.value.what
    assert "safetensors" in caught.value.what


def test_a_numpy_array_in_a_torch_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({**STATE, "mean": OrderedDict, "scale": Path("x")}, tmp_path / "sam.pth")
    with pytest.raises(ParameterError, match=r"pickle of 'pathlib"):
        read_state_dict(tmp_path / "sam.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither"),
        (b"hello, weights", "neither"),
        (b"PK\x03\x04 but no archive", "neither"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{no json", "not a sound safetensors"),
    ],
)
def test_what_is_no_weights_file_is_said_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ParameterError, match=message) as caught:
        read_state_dict(tmp_path / "w.pth")
    assert "\n" not in caught.value.what


def test_a_missing_file_and_entries_that_are_no_tensors_are_said_so(tmp_path: Path) -> None:
    for read in (read_state_dict, file_digest):
        with pytest.raises(ParameterError, match=r"cannot be read \(No such file"):
            read(tmp_path / "none.pth")
    torch.save({**STATE, "lr": 0.1}, tmp_path / "mixed.pth")
    with pytest.raises(ParameterError, match=r"no tensor \(lr\)"):
        read_state_dict(tmp_path / "mixed.pth")


def test_the_digest_is_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"abc" * 1000)
    assert file_digest(tmp_path / "w") == "sha256:" + hashlib.sha256(b"abc" * 1000).hexdigest()


def test_keys_and_shapes_that_do_not_fit_are_listed_in_one_line() -> None:
    found = {"a.weight": torch.ones(3, 3), "later.weight": torch.ones(1), "stray": torch.ones(1)}
    with pytest.raises(ParameterError) as caught:
        check_keys(STATE, found, name="w.pth", known=["later.weight"])
    assert caught.value.what == (
        "w.pth does not fit this network; missing: a.bias; unexpected: stray; "
        "of another shape: a.weight (3, 3) instead of (2, 3)"
    )
    check_keys(STATE, {**STATE, "later.weight": torch.ones(1)}, name="w.pth", known=["later.weight"])
    many = {f"k{i}": torch.ones(1) for i in range(40)}
    with pytest.raises(ParameterError, match=r"missing: k0, k1, k2, k3, k4, k5 and 34 more$"):
        check_keys(many, {}, name="w.pth")


def test_random_weights_are_told_by_seed_and_versions_and_leave_the_generator_alone() -> None:
    assert random_digest(3, "numpy") != random_digest(4, "numpy")
    assert torch.__version__.split("+")[0] in random_digest(3)
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.randn(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(7):
        assert torch.equal(torch.randn(3), first)


def test_a_published_file_is_fetched_once_and_must_be_the_published_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    save_file(STATE, tmp_path / "w.safetensors")
    digest = file_digest(tmp_path / "w.safetensors").removeprefix("sha256:")
    url = (tmp_path / "w.safetensors").as_uri()
    with pytest.raises(ParameterError, match="cannot be downloaded"):
        fetch(url, "0" * 64)
    path = fetch(url, digest)
    assert same(read_state_dict(path))
    (tmp_path / "w.safetensors").unlink()
    assert fetch(url, digest[:8]) == path
    path.write_bytes(b"other")
    with pytest.raises(ParameterError, match="not the published file"):
        fetch(url, digest)
