"""Fixtures of the tests of data sets."""

import pytest
from helpers.local_server import serving


@pytest.fixture
def served(monkeypatch):
    """A server of files on this machine; see ``local_server.py``."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with serving() as server:
        yield server
