"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and weights beside the checkout (or where ``PROBEKIT_SHARED`` points).

    A test that asks for it is marked ``shared`` and is skipped, by name, where the folder is absent.
    """
    folder = Path(os.environ.get("PROBEKIT_SHARED", Path(__file__).resolve().parent.parent / "shared"))
    if not (folder / "data" / "road-damage" / "images.csv").is_file():
        pytest.skip(f"needs the photographs and weights beside the project ({folder.name}/ is absent)")
    return folder
