"""Fixtures that many tests share; the parts are built in ``small.py``."""

import pytest
import torch
from helpers import commands, small

MANY_PROCESSES = ("ranks", "test_bench.py", "test_crash.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Modules that start many processes are slow: each imports torch and Lightning anew."""
    for item in items:
        if any(name in item.path.parts for name in MANY_PROCESSES):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def datamodule():
    """Sixty items of three classes, six labelled; not set up yet."""
    return small.datamodule()


@pytest.fixture
def learner(tmp_path):
    """``learner(**changes)``: a learner of three rounds in the test's own folder."""

    def build(**changes):
        return small.learner(changes.pop("run_dir", tmp_path / "run"), **changes)

    return build


@pytest.fixture
def refused(monkeypatch, capsys):
    """``refused(words)``: the message and the status with which a command ends."""
    return lambda words: commands.ended(words, monkeypatch, capsys)[:2]
