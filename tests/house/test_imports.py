"""Heavy libraries are imported where they are used, not with the package."""

import json
import subprocess
import sys

import pytest

PACKAGES = [
    "lightning_al",
    "lightning_al.rounds",
    "lightning_al.strategies",
    "lightning_al.datamodules",
    "lightning_al.tasks",
    "lightning_al.posteriors",
    "lightning_al.callbacks",
    "lightning_al.networks",
    "lightning_al.measures",
    "lightning_al.cli",
]
HEAVY = {
    "wandb",
    "faiss",
    "gpytorch",
    "sklearn",
    "pandas",
    "matplotlib.pyplot",
    "tensorboard",
    "pyarrow",
}


def loaded(*names, after=""):
    """The modules that a fresh process holds after importing some, and doing something more."""
    program = f"import json, sys, {', '.join(names)}{after}; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def lightning():
    return loaded("pytorch_lightning")


def test_the_package_alone_imports_next_to_nothing():
    assert not {"torch", "numpy", "pytorch_lightning"} & loaded("lightning_al")


def test_the_parts_import_no_heavy_library_that_lightning_does_not(lightning):
    assert HEAVY & (loaded("pytorch_lightning", *PACKAGES) - lightning) == set()


LIGHT = ["lightning_al.strategies", "lightning_al.policies", "lightning_al.cli.report_command"]
LISTS = [["configs"], ["configs", "strategies/badge"], ["policy"]]


def test_what_only_lists_or_reports_loads_no_lightning():
    lists = "".join(f"; main({words})" for words in LISTS)
    held = loaded(*LIGHT, after=f"; from lightning_al.cli import main{lists}")
    assert {"torch", "lightning_al.strategies", "lightning_al.policies.policy"} <= held
    assert not {"pytorch_lightning", "lightning_fabric", "jsonargparse", "sklearn"} & held
