"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has them ignore Ctrl-C, and tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_MADE_ONCE = ("surveyed", "finished")
"""Session fixtures that take a run to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that read the same finished run go to the same worker."""
    for item in items:
        for name in _MADE_ONCE:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(name))
                break


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and weights beside the checkout (or where ``PROBEKIT_SHARED`` points).

    A test that asks for it is marked ``shared`` and is skipped, by name, where the folder is absent.
    """
    folder = Path(os.environ.get("PROBEKIT_SHARED", Path(__file__).resolve().parent.parent / "shared"))
    if not (folder / "data" / "road-damage" / "images.csv").is_file():
        pytest.skip(f"needs the photographs and weights beside the project ({folder.name}/ is absent)")
    return folder
