"""A bare loop gives what Lightning gives, to the last bit: weights, states, metrics and draws."""

import pytest
import torch
from helpers import lean_parts as parts
from helpers import small
from helpers.lean_parts import both
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from lightning_al.callbacks import CollectSWAG
from lightning_al.fits.probe import same
from lightning_al.networks import MLP
from lightning_al.posteriors import SWAGNetwork
from lightning_al.tasks import Classification


def agree(usual, lean):
    """Nothing tells two fits apart."""
    (one, by, tested), (other, also, also_tested) = usual, lean
    assert same(one.state_dict(), other.state_dict())
    states = [[o.state_dict() for o in trainer.optimizers] for trainer in (by, also)]
    assert same(*states)
    assert same(dict(by.callback_metrics), dict(also.callback_metrics))
    assert same(tested, also_tested)
    assert (by.global_step, by.current_epoch) == (also.global_step, also.current_epoch)
    modes = [[part.training for part in module.modules()] for module in (one, other)]
    assert modes[0] == modes[1]
    assert also.global_step > 0


TASKS = {
    "classification": parts.classification(),
    "weights": parts.classification(class_weights="balanced", weight_decay=0.1),
    "loss head": parts.classification(loss_head={"stop_epoch": 1}),
    "gaussian": small.regression_task,
    "mse": parts.mse,
    "mine": parts.Mine,
    "logs": parts.Logs,
    "bare": parts.Bare,
    "hooked": parts.Hooked,
}


def regression():
    return small.datamodule(small.line(), small.line(30, seed=1), val=0.2)


@pytest.mark.parametrize("name", TASKS)
def test_of_every_kind_of_module(name):
    data = regression if name in ("gaussian", "mse") else None
    usual, lean = both(TASKS[name], data=data)
    agree(usual, lean)
    assert getattr(usual[0], "heard", None) == getattr(lean[0], "heard", None)


OPTIMIZERS = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    "adam": parts.adam,
    "fused": lambda m: torch.optim.Adam(m.parameters(), lr=0.02, fused=True),
    "foreach": lambda m: torch.optim.AdamW(m.parameters(), lr=0.02, foreach=True),
    "nadam": lambda m: torch.optim.NAdam(m.parameters(), lr=0.02, weight_decay=0.1),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01, centered=True),
    "lbfgs": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=4),
    "groups": lambda m: torch.optim.Adam(
        [{"params": m.net[0].parameters(), "lr": 0.1}, {"params": m.net[4].parameters()}]
    ),
}


def configured(configure):
    """A module with an optimiser of its own."""

    class Configured(parts.Logs):
        pass

    Configured.configure = staticmethod(configure)
    return Configured


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_of_every_optimiser(name):
    agree(*both(configured(OPTIMIZERS[name])))


def scheduled(kind, **config):
    def configure(module):
        optimizer = parts.adam(module)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": kind(optimizer), **config}}

    return configure


def one_cycle(module):
    optimizer = parts.adam(module)
    steps = module.trainer.estimated_stepping_batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


LR = torch.optim.lr_scheduler
SCHEDULES = {
    "epoch": scheduled(lambda o: LR.StepLR(o, 1, 0.5)),
    "every second epoch": scheduled(lambda o: LR.ExponentialLR(o, 0.5), frequency=2),
    "step": scheduled(lambda o: LR.CosineAnnealingLR(o, 5), interval="step"),
    "every third step": scheduled(lambda o: LR.ExponentialLR(o, 0.9), interval="step", frequency=3),
    "one cycle": one_cycle,
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 4])
def test_of_every_schedule(name, epochs):
    usual, lean = both(configured(SCHEDULES[name]), max_epochs=epochs)
    agree(usual, lean)
    configs = [
        trainer.lr_scheduler_configs[0].scheduler.state_dict() for _, trainer, _ in (usual, lean)
    ]
    assert same(*({k: v for k, v in c.items() if not callable(v)} for c in configs))


LIMITS = {
    "max_steps inside an epoch": {"max_steps": 4, "max_epochs": -1},
    "max_steps at its end": {"max_steps": 6},
    "min_epochs": {"min_epochs": 3, "max_epochs": 5},
    "min_steps": {"min_steps": 3, "max_epochs": 2},
    "few batches": {"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1},
    "no validation": {"limit_val_batches": 0},
    "no test": {"limit_test_batches": 0},
    "rare validation": {"check_val_every_n_epoch": 2, "max_epochs": 5},
    "by norm": {"gradient_clip_val": 0.1},
    "by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "gradients in the test": {"inference_mode": False},
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("task", [parts.Logs, parts.classification()])
def test_of_every_limit(name, task):
    agree(*both(task, **LIMITS[name]))


@pytest.mark.parametrize("labelled", [1, 4, 5, 6, 9])
@pytest.mark.parametrize("task", [parts.Logs, parts.classification()])
def test_of_ragged_batches(task, labelled):
    if labelled == 1 and task is parts.Logs:
        pytest.skip("batch norm cannot be trained on one row")
    agree(*both(task, data=lambda: small.datamodule(initial=labelled, val=0.2), max_epochs=2))


NEVER = {"patience": 0, "min_delta": 10.0}  # good enough
STOPS = {
    "the validation": ("val/accuracy", {"mode": "max", "patience": 1}),
    "the training": ("train/loss", NEVER),
    "a threshold": ("val/nll", {"patience": 9, "stopping_threshold": 1.0}),
    "the check after validation": ("val/nll", {**NEVER, "check_on_train_epoch_end": False}),
}


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("least", [None, 6])
def test_of_early_stopping(name, least):
    monitor, how = STOPS[name]
    made = [EarlyStopping(monitor, **how)]
    usual, lean = both(parts.classification(), max_epochs=15, min_epochs=least, callbacks=made)
    agree(usual, lean)
    waits = [trainer.early_stopping_callback.state_dict() for _, trainer, _ in (usual, lean)]
    assert same(*waits)
    assert lean[1].current_epoch < 15


KEPT = {
    "best": {"monitor": "val/accuracy", "mode": "max"},
    "best and last": {"monitor": "val/nll", "save_last": True},
    "two best": {"monitor": "val/nll", "save_top_k": 2, "save_weights_only": True},
    "after training": {"monitor": "train/loss", "save_on_train_epoch_end": True},
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("val", [0.2, 0.0])
def test_of_the_best_weights(name, val, tmp_path):
    monitor = KEPT[name]["monitor"]
    if not val and monitor.startswith("val"):
        pytest.skip("nothing to look at")
    found = []
    for engine, where in ((parts.LIGHTNING, "usual"), (parts.LEAN, "lean")):
        made = ModelCheckpoint(dirpath=tmp_path / where, **KEPT[name])
        found.append(
            parts.fitted(
                parts.classification(),
                engine,
                data=lambda: small.datamodule(val=val or None),
                restore="best",
                max_epochs=8,
                callbacks=[made],
            )
        )
    agree(*found)
    files = [sorted(p.name for p in (tmp_path / where).iterdir()) for where in ("usual", "lean")]
    assert files[0] == files[1]
    for file in files[0]:
        usual, lean = (
            torch.load(tmp_path / where / file, weights_only=False) for where in ("usual", "lean")
        )
        assert same(dict(usual["state_dict"]), dict(lean["state_dict"]))
        assert (usual["epoch"], usual["global_step"]) == (lean["epoch"], lean["global_step"])
        lacking = {key for key in set(usual) - set(lean) if usual[key] is not None}
        assert lacking <= {"loops"}


def test_of_weights_that_are_collected():
    def task():
        network = SWAGNetwork(MLP(in_features=4, hidden=[8], outputs=3), rank=2)
        return Classification(network, 3, lr=0.05, optimizer="sgd")

    agree(*both(task, max_epochs=6, callbacks=[CollectSWAG(start=0.5)]))


@pytest.mark.parametrize("task", [parts.Mine, parts.Hooked, parts.classification()])
def test_the_same_is_drawn(task):
    """Whoever draws after a fit inside the same seeding draws the same."""
    after = []

    class Draws(task().__class__):
        def on_fit_end(self):
            super().on_fit_end()
            after.append((torch.rand(3).tolist(), torch.get_rng_state().tolist()))

    def build():
        made = task()
        made.__class__ = Draws
        return made

    both(build)
    assert after[0] == after[1]


@pytest.mark.parametrize("stops", [False, True])
def test_of_the_other_name_of_lightning(stops):
    other = pytest.importorskip("lightning.pytorch")

    class Module(other.LightningModule):
        forward, training_step = parts.Mine.forward, parts.Mine.training_step
        configure_optimizers = parts.adam

        def __init__(self):
            other.LightningModule.__init__(self)
            self.net = parts.Mine().net

        def validation_step(self, batch, batch_idx):
            self.log("val/loss", self.training_step(batch, batch_idx))

        def test_step(self, batch, batch_idx):
            self.log("test/loss", self.training_step(batch, batch_idx))

    made = [other.callbacks.EarlyStopping("val/loss", min_delta=9.0)] if stops else []
    agree(*both(Module, callbacks=made))


def test_a_network_in_eval_mode_stays_so():
    class Frozen(parts.Mine):
        def __init__(self):
            super().__init__()
            self.net[1].eval()
            self.net[0].requires_grad_(False)

    usual, lean = both(Frozen)
    agree(usual, lean)
    assert not lean[0].net[1].training


def test_the_module_is_left_without_a_patch():
    module, trainer, _ = both(parts.Logs)[1]
    assert "log" not in vars(module)
    assert trainer.lightning_module is module


@pytest.mark.parametrize(
    "value", [nn.Parameter(torch.zeros(2)), {"a": [1.0, float("nan")]}, (0.0,)]
)
def test_same_looks_at_bits(value):
    assert same(value, value)
    assert not same([0.0], [-0.0])
    assert not same({"a": 1.0}, {"b": 1.0})
    assert not same(torch.zeros(2), torch.zeros(2).double())
    assert not same(torch.zeros(2), torch.zeros(1, 2))
