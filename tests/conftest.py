"""Fixtures that many tests share; the parts are built in ``small.py``."""

import pytest
import torch
from helpers import small


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
