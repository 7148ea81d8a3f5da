"""Small data, tasks and learners, for tests and for the processes that tests start."""

import csv
import json
from pathlib import Path

import torch

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.journal.journal import read_journal
from lightning_al.networks import MLP
from lightning_al.records import Outcomes
from lightning_al.tasks import Classification, DensityRegression, Regression

CLASSES, FEATURES = 3, 4
TRAINER = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False}


def blobs(n=60, seed=0, noise=0.7):
    """Three clouds: inputs [n, 4], labels [n]."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(7)) * 2
    return TensorItems(centres[labels] + noise * torch.randn(n, FEATURES, generator=drawn), labels)


def line(n=60, seed=0):
    """A noisy plane: inputs [n, 4], targets [n]."""
    drawn = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, FEATURES, generator=drawn)
    return TensorItems(inputs, inputs.sum(1) + 0.1 * torch.randn(n, generator=drawn))


def safe_line(n=60, seed=0):
    """A noisy plane and how safe it is there: inputs [n, 4] in [0, 1], targets [n, 2]."""
    drawn = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, FEATURES, generator=drawn)
    noise = 0.05 * torch.randn(n, 2, generator=drawn)
    return TensorItems(inputs, torch.stack([inputs.sum(1), 3 * inputs[:, 0] - 1], 1) + noise)


class Blobs(ActiveDataModule):
    classes = CLASSES
    in_features = FEATURES


def datamodule(train=None, test=None, **changes):
    train = blobs() if train is None else train
    test = blobs(30, seed=1) if test is None else test
    return Blobs(train, test, **({"initial": 6, "batch_size": 4} | changes))


class Measured(ActiveDataModule):
    in_features = FEATURES
    outputs = 2
    outcomes = Outcomes(("y", "z"), safety="z")


class MeasuredLine(Measured):
    """To be named in a configuration."""

    def __init__(self, test: float = 0.25) -> None:
        super().__init__(safe_line(), test=test, initial=2)


def safe_datamodule(train=None, **changes):
    train = safe_line() if train is None else train
    return Measured(train, safe_line(30, seed=1), **({"initial": 6, "batch_size": 4} | changes))


def task(dropout=0.0):
    network = MLP(in_features=FEATURES, hidden=[8], outputs=CLASSES, dropout=dropout)
    return Classification(network, CLASSES, lr=0.02, metrics=["accuracy", "nll"])


def dropout_task():
    return task(0.3)


def regression_task():
    network = MLP(in_features=FEATURES, hidden=[8], outputs=2, dropout=0.3)
    return Regression(network, outputs=1, likelihood="gaussian", lr=0.02)


def density_task():
    network = MLP(in_features=FEATURES, hidden=[8], outputs=6, dropout=0.3)
    head = {"name": "mixture", "components": 2}
    return DensityRegression(network, head=head, lr=0.02, nodes=50, metrics=["nll"])


def safe_task():
    network = MLP(in_features=FEATURES, hidden=[8], outputs=4, dropout=0.3)
    return Regression(network, outputs=2, likelihood="gaussian", lr=0.02)


def learner(run_dir, **changes):
    """Two queries of five items, three fits of a fraction of a second."""
    default = {
        "task": task,
        "datamodule": changes.pop("datamodule", None) or datamodule(),
        "strategy": "entropy",
        "query_size": 5,
        "budget": 10,
        "trainer": TRAINER,
        "run_dir": run_dir,
    }
    return ActiveLearner(**({"files": False} | default | changes))


def weights(path):
    return torch.load(path, map_location="cpu", weights_only=False)["state_dict"]


def same_weights(a, b):
    """Bit for bit."""
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def untimed(value):
    """A journal record, or part of one, without its seconds and its time of day."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if not k.startswith(("seconds", "time"))}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def outcome(run_dir):
    """All that a run leaves behind that does not depend on the clock."""
    run_dir = Path(run_dir)
    records, sound = read_journal(run_dir / "journal.jsonl")
    assert sound == (run_dir / "journal.jsonl").stat().st_size
    left = {"journal": json.dumps([untimed(r) for r in records], sort_keys=True)}
    for name in ("metrics.csv", "acquired.csv"):
        if (run_dir / name).exists():
            rows = list(csv.DictReader((run_dir / name).open()))
            left[name] = json.dumps([untimed(row) for row in rows])
    left["checkpoints"] = sorted(p.name for p in (run_dir / "checkpoints").glob("round-*"))
    final = weights(run_dir / "checkpoints" / left["checkpoints"][-1])
    left["weights"] = {name: value.tolist() for name, value in final.items()}
    left["litter"] = sorted(p.name for p in run_dir.rglob(".*") if p.name != ".lock")
    return left
