"""Parts that the scripts run by test_ddp.py on several processes share with it."""

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule, ContinuousDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.networks import MLP
from lightning_al.posteriors import MCDropout
from lightning_al.records import Acquisition, Outcomes
from lightning_al.tasks import Classification, DensityRegression, GPRegression, Regression

RANK = int(os.environ.get("LOCAL_RANK", 0))
F, C = 6, 3


def arguments(devices=2, **more):
    """Trainer arguments: ddp on so many processes."""
    strategy = {"strategy": "ddp"} if devices > 1 else {}
    plain = {"accelerator": "cpu", "devices": devices, "max_epochs": 3, "logger": False}
    return plain | strategy | {"enable_progress_bar": False} | more


def points(n, seed=0):
    """Three clouds that overlap."""
    drawn = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % C
    return torch.randn(n, F, generator=drawn) + y[:, None], y


def classes(n=120, **more):
    x, y = points(n)
    return ActiveDataModule(
        TensorItems(x, y), **({"test": 0.25, "initial": 10, "batch_size": 8} | more)
    )


def numbers(n=90):
    x, y = points(n)
    target = x.sum(1, keepdim=True) + y[:, None]
    return ActiveDataModule(TensorItems(x, target), test=0.25, initial=10, batch_size=8)


class Measured(ActiveDataModule):
    outcomes = Outcomes(("y", "z"), safety="z")
    outputs = 2


def measures(n=90):
    """Targets beside a safety measurement."""
    x, y = points(n)
    target = torch.stack([x.sum(1) + y, x[:, 0]], 1)
    return Measured(TensorItems(x, target), test=0.25, initial=10, batch_size=8)


def two_outputs():
    network = MLP(F, (16,), 4, dropout=0.3)
    return Regression(network, outputs=2, likelihood="gaussian", lr=0.01)


def classifier():
    """Batch statistics and dropout."""
    layers = [nn.Linear(F, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, C)]
    return Classification(nn.Sequential(*layers), classes=C, lr=0.01)


def regressor():
    return Regression(MLP(F, (16,), 1, dropout=0.3), lr=0.01)


def densities():
    return DensityRegression(MLP(F, (16,), 15, dropout=0.3), head="mixture", lr=0.01, nodes=50)


def plain_classifier():
    return Classification(MLP(F, (16,), C), classes=C, lr=0.01)


def without_padding(devices, run_dir):
    """Equal global batches at sizes that divide them: 32 more items a round."""
    return ActiveLearner(
        task=plain_classifier,
        datamodule=classes(300, test=40, initial=32, batch_size=32 // devices),
        strategy="margin",
        query_size=32,
        budget=160,
        trainer=arguments(devices),
        run_dir=run_dir,
    )


@dataclass(frozen=True)
class Troubled:
    """Least confidence, with whatever the environment says that goes wrong."""

    needs = ("probs",)
    keeps = ()
    members = "one"
    privileged = False

    def score(self, batch, context):
        trouble = os.environ.get("TROUBLE", "")
        if trouble == "score" and RANK == 1:
            raise ValueError("no score here")
        if trouble == "orphan":
            if RANK == 0:
                time.sleep(1)  # let the other one begin
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(100)
        return 1 - batch.probs.mean(1).amax(-1)

    def choose(self, candidates, k, generator):
        if os.environ.get("TROUBLE") == "choose":
            raise ValueError("cannot choose")
        rows = candidates.scores.topk(k).indices
        return Acquisition(candidates.index[rows], scores=candidates.scores[rows])


def long_run(run_dir):
    """What is killed and resumed; many short rounds."""
    return ActiveLearner(
        task=classifier,
        datamodule=classes(),
        strategy=Troubled(),
        query_size=4,
        budget=60,
        trainer=arguments(),
        run_dir=run_dir,
    )


def short_run(run_dir, task, datamodule, strategy):
    """Two queries of five."""
    return ActiveLearner(
        task=task,
        datamodule=datamodule,
        strategy=strategy,
        query_size=5,
        budget=10,
        posterior=MCDropout(4),
        trainer=arguments(),
        run_dir=run_dir,
    )


def bald_run(run_dir):
    return short_run(run_dir, classifier, classes(), "bald")


def variance_run(run_dir):
    return short_run(run_dir, regressor, numbers(), "variance")


def density_run(run_dir):
    return short_run(run_dir, densities, numbers(), "balsa-kl-grid")


def safe_run(run_dir):
    return short_run(run_dir, two_outputs, measures(), "safe-variance")


def odd_run(devices, run_dir, test=41):
    """A test set that does not divide, an unlabelled rest of one item, and then none."""
    n = test + 10 + 5
    return ActiveLearner(
        task=plain_classifier,
        datamodule=classes(n, test=test, initial=10, batch_size=8, eval_batch_size=7),
        strategy="entropy",
        query_size=2,
        budget=100,
        trainer=arguments(devices),
        run_dir=run_dir,
    )


class Neighbour(Classification):
    """The label of the nearest labelled item; its state grows with the labelled set."""

    full_batch = True
    automatic_optimization = False

    def __init__(self):
        super().__init__(nn.Linear(F, C), classes=C)
        self.register_buffer("x", torch.zeros(0, F))
        self.register_buffer("y", torch.zeros(0, dtype=torch.int64))
        self.note = "new"

    def get_extra_state(self):
        return self.note

    def set_extra_state(self, state):
        self.note = state

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        self.x, self.y = state_dict[prefix + "x"].clone(), state_dict[prefix + "y"].clone()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def adapter(self):
        from lightning_al.tasks import Adapter

        return Adapter(output="raw")

    def raw(self, inputs):
        distance = torch.cdist(inputs, self.x)
        near = torch.stack(
            [distance.masked_fill(self.y != c, 1e3).amin(1) for c in range(C)], dim=1
        )
        return -near

    def training_step(self, batch, batch_idx):
        self.x, self.y = batch
        self.note = f"fitted on {len(self.x)}"

    def configure_optimizers(self):
        return None


def neighbour_run(devices, run_dir):
    return ActiveLearner(
        task=Neighbour,
        datamodule=classes(initial=7),
        strategy="margin",
        query_size=4,
        budget=8,
        trainer=arguments(devices, max_epochs=1),
        run_dir=run_dir,
    )


def hills(x):
    return torch.sin(5 * x[:, 0]) * x[:, 1]


def box_run(devices, run_dir):
    """Places of a box, chosen among the candidates of each round."""
    return ActiveLearner(
        task=partial(GPRegression, outputs=1),
        datamodule=ContinuousDataModule(
            [0.0, 0.0], [1.0, 2.0], hills, noise=0.1, initial=4, test=11, candidates=37
        ),
        strategy="variance",
        query_size=2,
        budget=6,
        trainer=arguments(devices, max_epochs=1),
        run_dir=run_dir,
    )


def mark(folder, name):
    """Write this process's id down."""
    Path(folder, f"{name}-{RANK}.pid").write_text(str(os.getpid()))
