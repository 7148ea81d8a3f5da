"""What a bare loop cannot do as Lightning does is Lightning's, and the journal says why."""

import json
import logging

import pytest
import pytorch_lightning as pl
import torch
from helpers import lean_parts as parts
from helpers import small
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from lightning_al.fits.plain import SUPPORTED, hooks
from lightning_al.tasks import GPRegression


class StepsItself(parts.Mine):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)


class ClipsItself(parts.Mine):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, **how):
        nn.utils.clip_grad_norm_(self.parameters(), 0.1)


class Saves(parts.Mine):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = len(checkpoint["optimizer_states"])


class Transfers(parts.Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] + 0.1, batch[1]


class Skips(parts.Mine):
    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx else None


class AsksMore(parts.Mine):
    def on_train_start(self):
        self.more = self.trainer.fit_loop.max_epochs


class AsksLate(parts.Mine):
    """Only when the probe is over."""

    def on_train_epoch_start(self):
        if self.current_epoch == 2:
            self.more = self.trainer.fit_loop.epoch_loop.max_steps


class Graph(parts.Mine):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss, enable_graph=True)
        return loss


class Watches(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.network[1].bias.data += 0.01


class Stops(EarlyStopping):
    """A subclass may do anything."""


class Quick(pl.Trainer):
    pass


def several(module):
    return [parts.adam(module), parts.adam(module)]


def gp():
    return GPRegression()


MODULES = {
    "by hand": (parts.ByHand, "optimises by hand"),
    "plateau": (parts.Plateau, "waits for a plateau"),
    "its own step": (StepsItself, "overrides optimizer_step"),
    "its own clipping": (ClipsItself, "overrides configure_gradient_clipping"),
    "checkpoints": (Saves, "overrides on_save_checkpoint"),
    "transfers": (Transfers, "overrides on_after_batch_transfer"),
    "left out": (Skips, "leaves out the rest of an epoch"),
    "asks more": (AsksMore, "'LeanTrainer' object has no attribute 'fit_loop'"),
    "asks late": (AsksLate, "'LeanTrainer' object has no attribute 'fit_loop'"),
    "graph": (Graph, "by a rule that the bare loop does not know"),
}

TRAINERS = {
    "a callback": ({"callbacks": [Watches()]}, "the callback Watches"),
    "a subclass": ({"callbacks": [Stops("train/loss")]}, "the callback Stops"),
    "on errors": (
        {"callbacks": [ModelCheckpoint(save_on_exception=True)]},
        "the callback ModelCheckpoint",
    ),
    "accumulation": ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
    "double": ({"precision": "64-true"}, "another precision than 32-true"),
    "mixed": ({"precision": "bf16-mixed"}, "another precision than 32-true"),
    "a share": ({"limit_train_batches": 0.5}, "limit_train_batches=0.5"),
    "inside epochs": ({"val_check_interval": 0.5}, "val_check_interval=0.5"),
    "by steps": (
        {"check_val_every_n_epoch": None, "val_check_interval": 3},
        "val_check_interval=3",
    ),
    "anomalies": ({"detect_anomaly": True}, "detects anomalies"),
    "profiler": ({"profiler": "simple"}, "has a profiler"),
    "sanity": ({"num_sanity_val_steps": 1}, "num_sanity_val_steps=1"),
    "reload": ({"reload_dataloaders_every_n_epochs": 1}, "reload_dataloaders_every_n_epochs=1"),
    "a class": (lambda: Quick(**small.TRAINER), "the Trainer is a Quick"),
}


def runs(learner, tmp_path, task, trainer, **changes):
    """The lines of fits of a run by each backend, and what the last fit left."""
    found = []
    for fits in ("lightning", "lean"):
        given = trainer if callable(trainer) else small.TRAINER | trainer
        data = changes.get("datamodule", lambda: small.datamodule(val=0.2))()
        where = tmp_path / fits
        learner(
            run_dir=where,
            **{**changes, "task": task, "trainer": given, "datamodule": data, "fits": fits},
        ).run()
        lines = [json.loads(line) for line in (where / "journal.jsonl").read_text().splitlines()]
        found.append(
            ([r for r in lines if r["event"] == "fitted"], small.outcome(where)["weights"])
        )
    return found


@pytest.mark.parametrize("name", MODULES)
def test_modules_that_are_not_plain(name, learner, tmp_path, caplog):
    task, why = MODULES[name]
    caplog.set_level(logging.INFO, "lightning_al.fits.lean")
    usual, lean = runs(learner, tmp_path, task, {"max_epochs": 3}, strategy="random")
    assert usual[1] == lean[1]
    assert [line["backend"] for line in lean[0]] == ["lightning"] * 3
    assert why in lean[0][0]["reason"]
    assert not any("reason" in line for line in [*lean[0][1:], *usual[0]])
    assert [why in record.getMessage() for record in caplog.records].count(True) == 1


@pytest.mark.parametrize("name", TRAINERS)
def test_trainers_that_are_not_plain(name, learner, tmp_path):
    trainer, why = TRAINERS[name]
    usual, lean = runs(learner, tmp_path, parts.classification(), trainer, budget=5)
    assert usual[1] == lean[1]
    assert [line["backend"] for line in lean[0]] == ["lightning"] * 2
    assert why in lean[0][0]["reason"]


def test_loggers_and_workers(learner, tmp_path):
    wanted = {
        "loggers want each step": {"trainer": small.TRAINER | {"logger": CSVLogger(tmp_path)}}
    }
    wanted["batches come from a DataLoader"] = {"datamodule": small.datamodule(num_workers=1)}
    for i, (why, changes) in enumerate(wanted.items()):
        history = learner(**changes, fits="auto", budget=5, run_dir=tmp_path / str(i)).run()
        assert why in (history.run_dir / "journal.jsonl").read_text()


@pytest.mark.parametrize("task", [gp])
def test_tasks_that_are_fitted_at_once(task, learner, tmp_path):
    data = {"datamodule": lambda: small.datamodule(small.line(), small.line(30, seed=1))}
    usual, lean = runs(learner, tmp_path, task, {}, strategy="random", **data)
    assert usual[1] == lean[1]
    assert lean[0][0]["reason"] == "the task is fitted to all items at once"


def test_several_optimisers_are_lightnings_error(learner):
    with pytest.raises(RuntimeError, match="multiple optimizers"):
        learner(task=parts_with(several), fits="lean", rehearse=False).run()


def parts_with(configure):
    class Made(parts.Mine):
        pass

    Made.configure = staticmethod(configure)
    return Made


class Fails(parts.Mine):
    def training_step(self, batch, batch_idx):
        raise ZeroDivisionError("mine")


class Diverges(parts.Mine):
    def on_train_end(self):
        with torch.no_grad():
            self.net[0].weight[0, 0] = torch.nan


@pytest.mark.parametrize(
    ("task", "error"), [(Fails, "mine"), (Diverges, r"round 0 diverged: net\.0\.weight")]
)
def test_errors_are_those_of_lightning(task, error, learner):
    for fits in ("lightning", "lean"):
        with pytest.raises((ZeroDivisionError, ValueError), match=error):
            learner(task=task, fits=fits, rehearse=False).run()


def test_an_interrupt_ends_the_run(learner):
    class Interrupts(parts.Mine):
        def on_train_epoch_end(self):
            if self.trainer.max_epochs == 2 and self.global_step > 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner(task=Interrupts, fits="lean", rehearse=False).run()


def test_a_probe_that_differs_is_told(learner, monkeypatch):
    """One that the facts let pass: a step that looks at what called it."""

    class Looks(parts.Mine):
        def training_step(self, batch, batch_idx):
            lean = type(self.trainer).__name__ == "LeanTrainer"
            return super().training_step(batch, batch_idx) * (1 + 1e-6 * lean)

    history = learner(task=Looks, fits="lean").run()
    assert (
        "weights would not be the same to the last bit"
        in (history.run_dir / "journal.jsonl").read_text()
    )


def test_what_is_supported_is_what_lightning_has():
    assert set(SUPPORTED) - {"forward"} <= set(hooks())


def test_a_word_that_is_no_backend_is_refused(learner):
    with pytest.raises(ValueError, match="fits"):
        learner(fits="fast")


def test_the_backend_is_lightning_unless_it_is_asked_for(learner):
    assert learner().fits == "lightning"
