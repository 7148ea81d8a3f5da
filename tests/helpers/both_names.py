"""What users write with ``pytorch_lightning`` and with ``lightning.pytorch``: the same, twice."""

from importlib import import_module
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from helpers import small


def parts(name):
    """A module, a callback, a logger and a data module of one of the two."""
    family = import_module(name)
    loggers = import_module(f"{name}.loggers")

    class Net(family.LightningModule):
        def __init__(self, width: int = 8) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.2), nn.Linear(width, 3))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, i):
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("train/loss", loss)
            return loss

        def validation_step(self, batch, i):
            self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))

        def test_step(self, batch, i):
            self.log("test/hit", (self(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Watch(family.Callback):
        """Counts what it sees."""

        begun, steps, tested = 0, 0, 0

        def on_fit_start(self, trainer, module):
            Watch.begun += 1

        def on_train_batch_end(self, trainer, module, outputs, batch, i):
            Watch.steps += 1

        def on_test_end(self, trainer, module):
            Watch.tested += 1

    class Told(loggers.Logger):
        """Keeps what it is told."""

        values: ClassVar = {}
        name, version = "told", 0

        def log_metrics(self, metrics, step=None):
            Told.values.update(metrics)

        def log_hyperparams(self, *args, **kwargs):
            """Nothing."""

    class Data(family.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(small.blobs(20), 5)

    return Net, Watch, Told, Data


Net, Watch, Told, Data = parts("pytorch_lightning")
for kind in (Net, Watch, Told, Data):
    kind.__qualname__ = kind.__name__
