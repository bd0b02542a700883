"""Fixtures of the solvers' tests."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture
def quickly():
    """Fails a solver that never ends, instead of waiting for it."""

    def late(*_):
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
