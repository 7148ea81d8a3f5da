"""What a user brings along, named by class path: nothing here inherits from the package."""

from types import SimpleNamespace
from typing import ClassVar

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.utils.data import Dataset

from lightning_al.records import Acquisition, Answers


class Blobs(Dataset):
    """Three clouds of points in four dimensions; ``nan`` or ``wrong`` spoils one item."""

    def __init__(self, n: int = 60, seed: int = 0, nan: bool = False, wrong: bool = False):
        generator = torch.Generator().manual_seed(seed)
        self.y = torch.arange(n) % 3
        self.x = torch.randn(n, 4, generator=generator) + 2 * self.y[:, None]
        if nan:
            self.x[n // 2] = torch.nan
        if wrong:
            self.y[n // 2] = 7

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Restless(Blobs):
    """Each read of an item is another one: a training transform."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + torch.randn(4), y


class Net(LightningModule):
    """A plain LightningModule; ``forward`` gives logits."""

    def __init__(self, width: int = 8, lr: float = 0.01):
        super().__init__()
        self.lr = lr
        self.body = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, index):
        right = self(batch[0]).argmax(1) == batch[1]
        self.log("test/accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)


class Wrapped(Net):
    """Takes a network as an argument, and keeps its hyper-parameters the usual way."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = body

    def forward(self, x):
        return self.body(x)


class Farthest:
    """Takes the items with the longest embeddings."""

    needs = ("embedding",)
    keeps = ("embedding",)
    members = "one"
    privileged = False

    def __init__(self, sign: float = 1.0):
        self.sign = sign

    def choose(self, candidates, k, generator):
        lengths = self.sign * candidates.kept.embedding.norm(dim=1)
        rows = lengths.argsort(descending=True)[:k]
        return Acquisition(index=candidates.index[rows], scores=lengths[rows])


class Person:
    """An oracle that refuses every second item."""

    def ask(self, index, datamodule, round):
        refused = torch.arange(len(index)) % 2 == 1
        return Answers(values={"y": datamodule.labels(index)}, refused=refused)


class Enough:
    """A stopping rule."""

    def __init__(self, rounds: int = 2):
        self.rounds = rounds

    def __call__(self, rounds):
        return "that is enough" if len(rounds) >= self.rounds else None


class Plain:
    """A posterior: the network as it is, twice."""

    members = 2

    def start(self, seed, round):
        from lightning_al.posteriors import Deterministic

        return Deterministic()


class Spy(Callback):
    """Notes what each fit was made of."""

    seen: ClassVar[list] = []

    def on_train_start(self, trainer, module):
        (optimizer,) = trainer.optimizers
        schedulers = [type(c.scheduler).__name__ for c in trainer.lr_scheduler_configs]
        lr = optimizer.param_groups[0]["lr"]
        note = SimpleNamespace(
            optimizer=type(optimizer).__name__,
            lr=lr,
            schedulers=schedulers,
            callbacks=list(trainer.callbacks),
        )
        self.seen.append(note)


class Broken(Blobs):
    """A bug of the user's own."""

    def __getitem__(self, index):
        return 1 / 0


class Gloves(MixedPrecision):
    """A precision plugin: an object among the Trainer's settings."""

    made = 0

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cpu")
        Gloves.made += 1
