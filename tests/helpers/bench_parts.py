"""A small benchmark that all tests of the referee share, and a way to start it and kill it."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from lightning_al.benchmark.results import VOLATILE

MLP = {
    "class_path": "lightning_al.tasks.Classification",
    "init_args": {
        "lr": 0.01,
        "network": {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [8]}},
    },
}
DIGITS = {"class_path": "lightning_al.datamodules.DigitsDataModule", "init_args": {"initial": 20}}
SETTINGS = {
    "metric": "test/accuracy",
    "data": {"digits": DIGITS},
    "models": {"mlp": MLP},
    "strategies": ["random", "margin"],
    "seeds": 2,
    "common": {
        "query_size": 10,
        "budget": 20,
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    },
}


def settled(frame):
    """The table without what differs from one machine or moment to the next."""
    frame = frame.drop(columns=list(VOLATILE)).copy()
    frame["acquired"] = frame["acquired"].map(lambda v: None if v is None else [int(i) for i in v])
    return frame.sort_values(["run_id", "round"]).reset_index(drop=True)


def write(path, **changes):
    """A benchmark file."""
    Path(path).write_text("# A small benchmark\n" + yaml.safe_dump({**SETTINGS, **changes}))
    return str(path)


def command(*words):
    """A ``bench`` process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lightning_al", "bench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
