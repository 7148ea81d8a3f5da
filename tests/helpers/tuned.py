"""Runs that tune, small enough for tests and for the processes that tests start."""

from helpers import small
from lightning_al.networks import MLP
from lightning_al.tasks import Classification

SPACE = {
    "model.lr": {"float": [1e-3, 0.5], "log": True},
    "model.width": {"int": [2, 32], "log": True},
    "trainer.max_epochs": {"choice": [1, 2, 4]},
}
TUNING = {
    "space": SPACE,
    "objective": "val/nll",
    "when": "every_round",
    "judge": {"folds": 3},
    "trials": 3,
    "sampler": {"name": "tpe", "startup": 2},
}


def task(lr=0.02, width=8, dropout=0.2):
    network = MLP(small.FEATURES, [width], small.CLASSES, dropout=dropout)
    return Classification(network, small.CLASSES, lr=lr, metrics=["accuracy", "nll"])


def learner(run_dir, *, tuning=None, **changes):
    """Three rounds of three trials, each of three fits."""
    given = {"datamodule": small.datamodule(initial=9), "task": task, "fits": "lean"}
    return small.learner(run_dir, tuning=TUNING | (tuning or {}), **given | changes)
