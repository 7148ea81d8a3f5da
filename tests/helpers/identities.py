"""Runs in pairs that are two different runs, for tests of what a run folder answers for.

Started as a script it prints what each of them is, for a test that does the same in its process.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from helpers import small
from lightning_al.datamodules import ActiveDataModule, ContinuousDataModule, ProblemDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.oracles import CostlyOracle, NoisyOracle, SimulatedOracle
from lightning_al.posteriors import Deterministic, MCDropout
from lightning_al.records import Acquisition
from lightning_al.rounds import MetricTarget
from lightning_al.rounds.parts import describe
from lightning_al.tasks import Adapter, Classification
from lightning_al.testing import Bandit


class Net(LightningModule):
    """A module of a user's, which keeps no hyper-parameters."""

    def __init__(self, width=8, rate=0.1, p=0.0, weight=None, act=None):
        super().__init__()
        self.rate = rate
        self.act = act or torch.relu
        self.net = nn.Sequential(nn.Linear(4, width), nn.Dropout(p), nn.Linear(width, 3))
        self.loss = nn.CrossEntropyLoss(weight=weight)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, i):
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)


class Other(Net):
    """The same, of another class."""


class Mixed(nn.Module):
    """A layer that says nothing of its number."""

    def __init__(self, share):
        super().__init__()
        self.share = share


class Watch(Callback):
    def __init__(self, every=1):
        self.every = every


class First:
    """A strategy of a user's."""

    needs, keeps, members, privileged = ("probs",), (), "one", False

    def __init__(self, power=1.0):
        self.power = power

    def score(self, batch, context):
        return batch.probs.mean(1).amax(-1) ** self.power

    def choose(self, candidates, k, generator):
        return Acquisition(index=candidates.index[:k], scores=candidates.scores[:k])


class Asked(SimulatedOracle):
    """An oracle of a user's."""


class Graph:
    def __init__(self, value):
        self.value = value


class Graphs(Dataset):
    """Items that are objects."""

    def __init__(self, shift=0, n=40):
        self.shift, self.n = shift, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return Graph(i + self.shift), i % 3


class Files(Dataset):
    """Items that lie in files."""

    def __init__(self, root):
        self.paths = sorted(Path(root).glob("*/*.txt"), key=lambda path: path.name)

    def __len__(self):
        return len(self.paths)

    def files(self):
        return self.paths

    def __getitem__(self, i):
        return torch.full((4,), float(len(self.paths[i].read_text()))), i % 3


def files(n=20, name="item", size=5, folder="a"):
    root = Path(tempfile.mkdtemp())
    for place in ("a", "b"):
        (root / place).mkdir()
    for i in range(n):
        place = folder if i == 3 else "ab"[i % 2]
        (root / place / f"{name}-{i:02d}.txt").write_text("x" * (size if i == 3 else 4))
    return Files(root)


def labelled(items, row):
    items.targets = [int(i == row) for i in range(len(items))]
    return items


def moved(items, row, shift=1.0):
    """The same table but for one row."""
    inputs = items.inputs[0].clone()
    inputs[row] += shift
    return TensorItems(inputs, items.targets)


def relabelled(items, row):
    targets = items.targets.clone()
    targets[row] = (targets[row] + 1) % 3
    return TensorItems(items.inputs[0], targets)


def data(train=None, test=None, **changes):
    return {"datamodule": small.datamodule(train, test, **changes)}


def of_graphs(collate=list, **changes):
    return {"datamodule": ActiveDataModule(Graphs(**changes), 0.2, initial=6, collate=collate)}


def trainer(**changes):
    return {"trainer": small.TRAINER | changes}


def calls(*callbacks):
    return trainer(callbacks=list(callbacks))


def net(kind=Net, **arguments):
    return {"task": partial(kind, **arguments)}


def built(make):
    """By a function without a name that can be imported."""
    return {"task": lambda: make()}


def scaled(factor):
    return lambda items: [(graph, label * factor) for graph, label in items]


def of_box(noise=0.0, test=20, **more):
    def bowl(x):
        return (x**2).sum(1)

    arguments = {"function": bowl, "noise": noise, "test": test, "candidates": 30} | more
    made = ContinuousDataModule([0.0] * 4, [1.0] * 4, **arguments)
    return {"datamodule": made, "task": small.regression_task, "strategy": "variance"}


def of_problem(name):
    made = ProblemDataModule(name, n_test=20, initial=0, candidates=30)
    return {"datamodule": made, "task": small.safe_task, "strategy": "random"}


def hilly(x):
    return x.sin().sum(1)


def flat(x):
    return x.sum(1)


STOP = MetricTarget("test/accuracy", 0.99)

PAIRS = {
    # the module
    "class of the module": (lambda: net(), lambda: net(Other)),
    "width": (lambda: net(width=8), lambda: net(width=9)),
    "an argument of the module": (lambda: net(rate=0.1), lambda: net(rate=0.2)),
    "dropout": (lambda: net(p=0.1), lambda: net(p=0.2)),
    "an argument that a layer keeps to itself": (
        lambda: built(lambda: add(Net(), Mixed(0.1))),
        lambda: built(lambda: add(Net(), Mixed(0.2))),
    ),
    "weights of the classes": (
        lambda: net(weight=torch.ones(3)),
        lambda: net(weight=torch.tensor([1.0, 2.0, 1.0])),
    ),
    "a function that the module holds": (
        lambda: net(act=torch.relu),
        lambda: net(act=torch.sigmoid),
    ),
    "a lambda that the module holds": (
        lambda: net(act=lambda x: x + 1),
        lambda: net(act=lambda x: x + 2),
    ),
    "a frozen layer": (
        lambda: built(lambda: Net()),
        lambda: built(lambda: frozen(Net())),
    ),
    "dtype": (lambda: built(lambda: Net()), lambda: built(lambda: Net().double())),
    "a module that is given": (
        lambda: {"task": seeded(0, small.task)},
        lambda: {"task": seeded(1, small.task)},
    ),
    "metrics": (
        lambda: {"task": lambda: Classification(nn.Linear(4, 3), 3, metrics=["accuracy"])},
        lambda: {"task": lambda: Classification(nn.Linear(4, 3), 3, metrics=["nll"])},
    ),
    "code of a function without a name": (
        lambda: {"task": lambda: add(Net(), nn.ReLU())},
        lambda: {"task": lambda: add(Net(), nn.GELU())},
    ),
    # callbacks and Trainer
    "an argument of a callback": (
        lambda: calls(EarlyStopping("train/loss", patience=3)),
        lambda: calls(EarlyStopping("train/loss", patience=4)),
    ),
    "a callback more": (
        lambda: calls(Watch()),
        lambda: calls(Watch(), ModelCheckpoint(monitor="val/nll")),
    ),
    "a callback of a user's": (lambda: calls(Watch(1)), lambda: calls(Watch(2))),
    "epochs": (lambda: trainer(max_epochs=2), lambda: trainer(max_epochs=3)),
    "another argument of the Trainer": (
        lambda: trainer(gradient_clip_val=0.1),
        lambda: trainer(gradient_clip_val=0.2),
    ),
    # the query
    "strategy": (lambda: {"strategy": "margin"}, lambda: {"strategy": "entropy"}),
    "an argument of a strategy": (
        lambda: {"strategy": {"name": "power", "beta": 1.0}},
        lambda: {"strategy": {"name": "power", "beta": 2.0}},
    ),
    "a strategy of a user's": (lambda: {"strategy": First(1.0)}, lambda: {"strategy": First(2.0)}),
    "the arms of a bandit": (
        lambda: {"strategy": Bandit(("entropy", "random"))},
        lambda: {"strategy": Bandit(("entropy", "margin"))},
    ),
    "members of a posterior": (
        lambda: {"posterior": MCDropout(3)},
        lambda: {"posterior": MCDropout(4)},
    ),
    "posterior": (lambda: {"posterior": MCDropout(3)}, lambda: {"posterior": Deterministic()}),
    "oracle": (lambda: {}, lambda: {"oracle": Asked()}),
    "an argument of an oracle": (
        lambda: {"oracle": NoisyOracle(0.1)},
        lambda: {"oracle": NoisyOracle(0.2)},
    ),
    "an oracle inside another": (
        lambda: {"oracle": CostlyOracle(2.0, oracle=NoisyOracle(0.1))},
        lambda: {"oracle": CostlyOracle(2.0, oracle=NoisyOracle(0.2))},
    ),
    "adapter": (
        lambda: {"adapter": Adapter(output_is="logits")},
        lambda: {"adapter": Adapter(output_is="probs")},
    ),
    "stopping": (lambda: {}, lambda: {"stopping": [STOP]}),
    "code of a stopping rule": (
        lambda: {"stopping": [lambda rounds: "enough" if len(rounds) > 3 else None]},
        lambda: {"stopping": [lambda rounds: "enough" if len(rounds) > 4 else None]},
    ),
    "features": (
        lambda: {"features": lambda x: x.flatten(1)},
        lambda: {"features": lambda x: 2 * x.flatten(1)},
    ),
    "seed": (lambda: {"seed": 0}, lambda: {"seed": 1}),
    "query size": (lambda: {"query_size": 5}, lambda: {"query_size": 4}),
    # the data
    "a feature of one row": (lambda: data(), lambda: data(moved(small.blobs(), 17))),
    "a label of one row": (lambda: data(), lambda: data(relabelled(small.blobs(), 40))),
    "a row more": (lambda: data(), lambda: data(small.blobs(61))),
    "a row of the test set": (
        lambda: data(),
        lambda: data(test=moved(small.blobs(30, seed=1), 3)),
    ),
    "order of the rows": (
        lambda: data(Subset(small.blobs(), range(60))),
        lambda: data(Subset(small.blobs(), [*range(59, -1, -1)])),
    ),
    "who is labelled": (lambda: data(initial=6), lambda: data(initial=[1, 2, 3, 4, 5, 9])),
    "share of the test set": (lambda: data(test=0.2), lambda: data(test=0.3)),
    "batch size": (lambda: data(batch_size=4), lambda: data(batch_size=5)),
    "transform of a table": (
        lambda: data(TensorItems(small.blobs().inputs, small.blobs().targets, lambda x: x)),
        lambda: data(TensorItems(small.blobs().inputs, small.blobs().targets, lambda x: x * 2)),
    ),
    "items that are objects": (lambda: of_graphs(), lambda: of_graphs(shift=1)),
    "how many objects": (lambda: of_graphs(), lambda: of_graphs(n=41)),
    "code of a collate function": (
        lambda: of_graphs(collate=lambda items: list(items)),
        lambda: of_graphs(collate=lambda items: list(items)[::-1]),
    ),
    "closure of a collate function": (
        lambda: of_graphs(collate=scaled(1)),
        lambda: of_graphs(collate=scaled(2)),
    ),
    "name of a file": (lambda: data(files(), 0.2), lambda: data(files(name="other"), 0.2)),
    "size of a file": (lambda: data(files(), 0.2), lambda: data(files(size=6), 0.2)),
    "folder of a file": (lambda: data(files(), 0.2), lambda: data(files(folder="b"), 0.2)),
    "a label beside the files": (
        lambda: data(labelled(files(), 5), 0.2),
        lambda: data(labelled(files(), 6), 0.2),
    ),
    "a file more": (lambda: data(files(), 0.2), lambda: data(files(21), 0.2)),
    "noise of what is measured": (lambda: of_box(0.0), lambda: of_box(0.5, initial=0)),
    "places of the test set": (lambda: of_box(test=20), lambda: of_box(test=21)),
    "the problem": (lambda: of_problem("simionescu"), lambda: of_problem("townsend")),
    "what is measured": (
        lambda: of_box(function=hilly, initial=0),
        lambda: of_box(function=flat, initial=0),
    ),
}
"""By what differs: the settings of a run, and those of another one."""


def add(module, layer):
    module.more = layer
    return module


def frozen(module):
    module.net[0].requires_grad_(False)
    return module


def seeded(seed, make):
    torch.manual_seed(seed)
    return make()


def rows(n=60):
    return TensorDataset(*small.blobs(n).inputs, small.blobs(n).targets)


SAME = {
    "a table as tensors or as a data set": (lambda: data(), lambda: data(rows())),
    "a table in an array of another order in memory": (
        lambda: data(),
        lambda: data(
            TensorItems(
                torch.from_numpy(np.asfortranarray(small.blobs().inputs[0].numpy())),
                small.blobs().targets,
            )
        ),
    ),
    "the same files in another folder": (lambda: data(files(), 0.2), lambda: data(files(), 0.2)),
    "keys of the Trainer in another order": (
        lambda: trainer(max_epochs=2),
        lambda: {"trainer": dict(reversed(small.TRAINER.items()))},
    ),
    "the same seen by workers": (lambda: data(), lambda: data(num_workers=2)),
}
"""By what differs: the settings of a run in two forms."""


def identity(settings, folder="unused"):
    """What a run is, as its folder keeps it; nothing is fitted."""
    learner = small.learner(folder, **settings)
    parts = learner.parts()
    parts.datamodule.prepare_data()
    parts.datamodule.start(learner.seed)
    module = parts.recipe(learner).build_task(learner.seed, 0, None)
    config, start, unknown = describe(learner, parts, module)
    return {"config": config, "identity": start, "unknown": unknown}


def everything():
    """What all of them are."""
    return {what: [identity(make()) for make in pair] for what, pair in (PAIRS | SAME).items()}


if __name__ == "__main__":
    from helpers import identities  # by the name that a test has it under

    json.dump(identities.everything(), sys.stdout, sort_keys=True)
