"""Many fits as one give what each gives alone: weights, metrics, stops, states (float64, 1e-9)."""

from pathlib import Path

import pytest
import torch
from helpers import lean_parts as parts
from helpers import small, stacks
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from lightning_al.fits.stacked import Verdict, fit_stack
from lightning_al.fits.stacked.streams import Streams, fit_stream
from lightning_al.networks import MLP, Ensemble
from lightning_al.randomness import seeded
from lightning_al.tasks import Classification, DensityRegression


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Validates(parts.Mine):
    """Dropout and batch norm, and a loss that a callback looks at."""

    def __init__(self):
        super().__init__()
        self.net[0].bias = None  # before a batch norm its gradient is rounding alone

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))


def density(head, numbers):
    def build():
        network = MLP(in_features=4, hidden=[8], outputs=numbers, dropout=0.2)
        return DensityRegression(network, head=head, lr=0.01)

    return build


def ensemble():
    network = MLP(in_features=4, hidden=[8], outputs=3, dropout=0.2)
    return Classification(Ensemble(network, members=3), 3, lr=0.02)


TASKS = {
    "density, gaussian": (density("gaussian", 2), stacks.numbers),
    "density, mixture": (density({"name": "mixture", "components": 3}, 9), stacks.numbers),
    "density, flow": (density({"name": "flow", "context": 8}, 8), stacks.numbers),
    "classification": (parts.classification(), stacks.classes),
    "loss head": (parts.classification(loss_head={"stop_epoch": 1}), stacks.classes),
    "class weights": (parts.classification(class_weights="balanced"), stacks.classes),
    "gaussian": (small.regression_task, stacks.numbers),
    "mse": (parts.mse, stacks.numbers),
    "ensemble": (ensemble, stacks.classes),
    "batch norm": (Validates, stacks.classes),
}


def both(task, **settings):
    stack, twins = (stacks.members(task, **settings) for _ in range(2))
    found = fit_stack(stack)
    stacks.agree(stack, twins, found)
    return stack, found


@pytest.mark.parametrize("name", TASKS)
def test_a_stack_is_its_members(name):
    task, data = TASKS[name]
    both(task, data=data)


def test_each_stops_when_it_would_alone():
    def stops(seed):
        return [EarlyStopping("val/loss", patience=0, min_delta=0.02)]

    _, found = both(Validates, n=12, callbacks=stops, max_epochs=60)
    assert len({trainer.current_epoch for trainer in found}) > 4


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_clip_val": 0.05},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"max_steps": 5},
        {"limit_train_batches": 1, "limit_val_batches": 1},
        {"check_val_every_n_epoch": 2, "min_epochs": 2},
    ],
)
def test_of_every_limit(settings):
    both(Logs, **settings)


class Logs(Validates):
    """Logs in each way there is, also by hooks, and feeds metrics."""

    def __init__(self):
        super().__init__()
        self.accuracy = MulticlassAccuracy(3)
        self.several = MetricCollection({"acc": MulticlassAccuracy(3), "f1": MulticlassF1Score(3)})

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        for way in ("min", "max", "sum", "mean"):
            self.log(f"loss/{way}", loss, on_step=False, on_epoch=True, reduce_fx=way)
        self.log_dict(
            {"loss": loss, "two": 2.0, "size": len(batch[1])}, on_step=True, on_epoch=True
        )
        self.log("epoch", self.trainer.current_epoch)
        return loss

    def on_train_epoch_end(self):
        self.log("steps", float(self.global_step))
        self.log("first", self.net[0].weight.detach().mean())

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        logits = self(batch[0])
        self.accuracy.update(logits, batch[1])
        self.several.update(logits, batch[1])
        self.log("val/accuracy", self.accuracy)
        self.log_dict(self.several)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.02, fused=True),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.02),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adamax": lambda p: torch.optim.Adamax(p),
}


def configured(make):
    class Configured(Validates):
        def configure_optimizers(self):
            return make(self)

    return Configured


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_of_every_optimiser(name):
    _, found = both(configured(lambda m: OPTIMIZERS[name](m.parameters())), n=4)
    twin = stacks.members(configured(lambda m: OPTIMIZERS[name](m.parameters())), 4)[3]
    usual = stacks.alone(twin).optimizers[0].state_dict()
    mine = found[3].optimizers[0].state_dict()
    assert mine["param_groups"] == usual["param_groups"]
    for place, state in usual["state"].items():
        for key, value in state.items():
            torch.testing.assert_close(mine["state"][place][key], value, rtol=1e-9, atol=1e-9)


LR = torch.optim.lr_scheduler
SCHEDULES = {
    "epoch": lambda o: {"scheduler": LR.StepLR(o, 1, 0.5)},
    "every second epoch": lambda o: {"scheduler": LR.ExponentialLR(o, 0.5), "frequency": 2},
    "step": lambda o: {"scheduler": LR.CosineAnnealingLR(o, 5), "interval": "step"},
    "cycle": lambda o: {"scheduler": LR.OneCycleLR(o, 0.1, total_steps=20), "interval": "step"},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_of_every_schedule(name):
    def make(module):
        groups = [
            {"params": module.net[0].parameters(), "lr": 0.1},
            {"params": module.net[4].parameters()},
        ]
        optimizer = torch.optim.Adam(groups, lr=0.02)
        return {"optimizer": optimizer, "lr_scheduler": SCHEDULES[name](optimizer)}

    task = configured(make)
    _, found = both(task, n=4, max_epochs=6, callbacks=stops)
    for seed in range(4):
        usual = stacks.alone(stacks.members(task, 4, max_epochs=6, callbacks=stops)[seed])
        mine, theirs = (t.lr_scheduler_configs[0].scheduler for t in (found[seed], usual))
        assert mine.last_epoch == theirs.last_epoch
        assert mine.get_last_lr() == theirs.get_last_lr()


def stops(seed):
    return [EarlyStopping("val/loss", patience=0, min_delta=0.2)]


@pytest.mark.parametrize("weights_only", [False, True])
def test_the_best_weights_are_those_of_each(weights_only, tmp_path):
    folders = iter(range(100))

    def kept(seed):
        where = {"dirpath": tmp_path / f"{next(folders)}", "save_weights_only": weights_only}
        best = ModelCheckpoint(monitor="val/loss", save_last=True, save_top_k=2, **where)
        return [EarlyStopping("val/loss", patience=2), best]

    _, found = both(Validates, n=4, callbacks=kept, max_epochs=8, restore="best")
    twin = stacks.members(Validates, 4, callbacks=kept, max_epochs=8, restore="best")[2]
    usual = stacks.alone(twin)
    mine, theirs = found[2].checkpoint_callback, usual.checkpoint_callback
    files = [sorted(p.name for p in Path(c.dirpath).iterdir()) for c in (mine, theirs)]
    assert files[0] == files[1]
    for name in files[0]:
        one, other = (
            torch.load(Path(c.dirpath) / name, weights_only=False) for c in (mine, theirs)
        )
        assert (one["epoch"], one["global_step"]) == (other["epoch"], other["global_step"])
        assert set(one) == set(other)
        assert len(one.get("optimizer_states", [])) == (not weights_only)
        for key, value in other["state_dict"].items():
            torch.testing.assert_close(one["state_dict"][key], value, rtol=0, atol=1e-9)
            assert one["state_dict"][key].untyped_storage().nbytes() == value.nbytes


def test_one_that_diverges_is_told_and_the_others_end_as_alone():
    stack, twins = (stacks.members(Validates, 5) for _ in range(2))
    for fits in (stack, twins):
        with torch.no_grad():
            fits[2].module.net[4].bias[0] = float("nan")
    found = fit_stack(stack)
    assert isinstance(found[2], ValueError)
    assert "diverged" in str(found[2])
    others = [place for place in range(5) if place != 2]
    stacks.agree(*([of[i] for i in others] for of in (stack, twins, found)))


def test_an_error_of_one_is_its_own():
    """A density that is NaN is refused inside the step; the first of all, and all in turn."""
    task = density("gaussian", 2)
    for ill in (0, 3), range(4):
        stack, twins = (stacks.members(task, 4, data=stacks.numbers) for _ in range(2))
        for place in ill:
            with torch.no_grad():
                stack[place].module.network[-1].bias[0] = float("nan")
        found = fit_stack(stack, Verdict(""))
        assert [isinstance(each, ValueError) for each in found] == [i in ill for i in range(4)]
        assert all("the network's outputs are NaN" in str(found[i]) for i in ill)
        others = [i for i in range(4) if i not in ill]
        stacks.agree(*([of[i] for i in others] for of in (stack, twins, found)))


def test_of_the_other_name_of_lightning():
    other = pytest.importorskip("lightning.pytorch")

    class Module(other.LightningModule):
        forward, training_step = parts.Mine.forward, parts.Mine.training_step
        validation_step, configure_optimizers = Validates.validation_step, parts.adam

        def __init__(self):
            other.LightningModule.__init__(self)
            self.net = Validates().net

    def stopping(seed):
        return [other.callbacks.EarlyStopping("val/loss", patience=0)]

    both(Module, n=4, callbacks=stopping, max_epochs=8)


def test_a_row_is_the_same_in_every_stack():
    """Masks, batches and stops of a replica have nothing of its neighbours'."""
    found = []
    for n in (4, 9):
        stack = stacks.members(Validates, n, callbacks=stops, max_epochs=20)
        fit_stack(stack)
        found.append(stack)
    for one, other in zip(*found, strict=False):
        assert stacks.gap(one.module, other.module) < 1e-12


@pytest.mark.parametrize("kind", [F.dropout, F.dropout1d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_are_those_of_the_global_stream(kind, dtype):
    x = torch.randn(3, 5, 4, 6, dtype=dtype)
    streams = [fit_stream(seed, 1) for seed in range(3)]
    with Streams(streams):
        together = torch.func.vmap(lambda row: kind(row, 0.3, True))(x)
    for seed in range(3):
        with seeded(seed, 1, "fit"):
            assert torch.equal(together[seed], kind(x[seed], 0.3, True))
            assert torch.equal(torch.get_rng_state(), streams[seed].get_state())
