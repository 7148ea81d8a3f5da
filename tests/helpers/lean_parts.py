"""Modules of users', and a fit by each engine, for the tests of lean fits."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from lightning_al.compat import family_of
from lightning_al.fits.lean import LEAN
from lightning_al.fits.lightning import LIGHTNING
from lightning_al.fits.recipe import Recipe
from lightning_al.networks import MLP
from lightning_al.randomness import seeded
from lightning_al.tasks import Classification, MultiLabelClassification, Regression

from . import small


def adam(module):
    return torch.optim.Adam(module.parameters(), lr=0.02)


class Mine(pl.LightningModule):
    """A user's module: dropout, batch norm, and nothing logged."""

    configure = staticmethod(adam)

    def __init__(self):
        super().__init__()
        layers = (nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.log("test/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return self.configure(self)


class Logs(Mine):
    """Logs in each way there is."""

    def __init__(self):
        super().__init__()
        self.train_acc = MulticlassAccuracy(3)
        self.val = MetricCollection({"acc": MulticlassAccuracy(3), "recall": MulticlassRecall(3)})
        self.mean = MeanMetric()

    def training_step(self, batch, batch_idx):
        logits = self(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.train_acc(logits, batch[1])
        self.log("train/acc", self.train_acc, on_step=True, on_epoch=True)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("epoch", self.trainer.current_epoch)
        for way in ("min", "max", "sum", "mean"):
            self.log(f"loss/{way}", loss, on_step=False, on_epoch=True, reduce_fx=way)
        self.log_dict({"half": loss.double() / 2, "count": len(batch[1])}, on_epoch=True)
        return {"loss": loss, "logits": logits}

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.log("seen", outputs["loss"] + outputs["logits"].detach().mean(), on_epoch=True)

    def on_train_epoch_end(self):
        self.log("steps", float(self.global_step))

    def validation_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.val.update(logits, batch[1])
        self.log("val/loss", F.cross_entropy(logits, batch[1]), on_step=True, on_epoch=True)
        self.log_dict(self.val)
        return logits

    def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
        self.mean.update(outputs.mean())
        self.log("val/mean", self.mean)

    def test_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.log_dict({"test/loss": F.cross_entropy(logits, batch[1]), "test/n": 1.0})
        self.log("test/sum", logits.sum(), on_epoch=True, reduce_fx="sum", batch_size=7)
        self.log("test/hidden", logits.sum(), logger=False)


class ByHand(Mine):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class Plateau(Logs):
    @staticmethod
    def configure(module):
        optimizer = adam(module)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "train/loss"}


class Bare(Mine):
    """Steps without an index, and one that is left out."""

    def training_step(self, batch):
        if self.global_step == 2:
            return None
        return super().training_step(batch, 0) * (1 + self.current_epoch)

    def validation_step(self, batch):
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch):
        super().test_step(batch, 0)


class Hooked(Mine):
    """Side effects in hooks: noise on gradients, draws, weights that are kept in their place."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def setup(self, stage):
        self.heard.append(stage)

    def on_fit_start(self):
        self.heard.append(torch.rand(()).item())

    def on_train_start(self):
        self.heard.append(self.trainer.max_epochs)

    def on_train_batch_start(self, batch, batch_idx):
        batch[0].add_(0.01 * torch.randn_like(batch[0]))

    def on_before_zero_grad(self, optimizer):
        self.heard.append(optimizer.param_groups[0]["lr"])

    def on_before_backward(self, loss):
        self.heard.append(loss.item())

    def on_after_backward(self):
        for parameter in self.parameters():
            parameter.grad += 0.01 * torch.randn_like(parameter)

    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            parameter.grad.clamp_(-0.5, 0.5)

    def on_train_epoch_end(self):
        with torch.no_grad():
            self.net[0].weight.clamp_(-1, 1)

    def validation_step(self, batch, batch_idx):
        self.heard.append((self.training, self.trainer.validating, torch.is_grad_enabled()))

    def on_validation_epoch_end(self):
        self.heard.append((self.net[1].training, self.net[0].weight.grad is None))

    def on_test_start(self):
        self.heard.append((self.trainer.testing, torch.is_inference_mode_enabled()))

    def on_fit_end(self):
        self.heard.append((self.trainer.global_step, self.trainer.current_epoch))

    def teardown(self, stage):
        self.heard.append((stage, self.training))


def classification(**changes):
    def build():
        network = MLP(in_features=4, hidden=[8], outputs=3, dropout=0.3)
        return Classification(network, 3, **({"lr": 0.02} | changes))

    return build


def labels():
    return MultiLabelClassification(MLP(in_features=4, hidden=[8], outputs=3), 3, lr=0.02)


def mse():
    return Regression(MLP(in_features=4, hidden=[8], outputs=1), outputs=1, lr=0.02)


def fitted(task, engine, *, data=None, round=1, restore="last", **trainer):
    """A module fitted and tested by an engine, its trainer, and what the test gave."""
    data = small.datamodule(val=0.2) if data is None else data()
    data.prepare_data()
    data.start(3)
    data.round = round
    recipe = Recipe(task, small.TRAINER | {"max_epochs": 3} | trainer, restore=restore)
    module = recipe.build_task(3, round, None)
    built = recipe.build_trainer((), None, family_of(module))
    used = engine.fit(module, recipe, data, built, seed=3, round=round)
    with seeded(3, round, "stage-test"):
        return module, used, engine.test(module, data, used)


def both(task, **settings):
    """The same by Lightning and by the bare loop."""
    return [fitted(task, engine, **settings) for engine in (LIGHTNING, LEAN)]
