"""Modules and callbacks that do what Lightning lets them do to checkpoints and batches."""

import gc

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder, ModelCheckpoint
from torch import nn
from torch.nn import functional as F

from lightning_al.assembly.replay import replay
from lightning_al.journal.journal import read_journal
from lightning_al.tasks import Classification


def cut_behind(run_dir, event, r):
    path = run_dir / "journal.jsonl"
    lines, (records, _) = path.read_bytes().splitlines(keepends=True), read_journal(path)
    at = next(i for i, x in enumerate(records) if (x["event"], x.get("round")) == (event, r))
    path.write_bytes(b"".join(lines[: at + 1]))


# --- a state_dict that leaves something out ------------------------------------------------------


class Partial(pl.LightningModule):
    """A frozen part that the state_dict leaves out; a bigger one where ``buffers``."""

    def __init__(self, out="backbone", norm=False):
        super().__init__()
        self.strict_loading = False
        self.out = out
        drawn = torch.Generator().manual_seed(3)
        self.backbone = nn.Linear(4, 4)
        with torch.no_grad():  # as if it came from a file
            for parameter in self.backbone.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=drawn))
        self.backbone.requires_grad_(False)
        self.norm = nn.BatchNorm1d(4) if norm else nn.Identity()
        self.head = nn.Linear(4, small.CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.backbone(x)))

    def state_dict(self, *args, **kwargs):
        whole = super().state_dict(*args, **kwargs)
        return {name: v for name, v in whole.items() if self.out not in name}

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def test_step(self, batch, batch_idx):
        self.log("test/acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, 0.05)


def without_tracked():
    """Batch statistics, whose counters the state leaves out."""
    return Partial("num_batches_tracked", norm=True)


def without_backbone():
    return Partial()


def without_one_bias():
    return Partial("backbone.bias")


CHECKPOINT = {"callbacks": [ModelCheckpoint(monitor="loss")]}


@pytest.mark.parametrize("task", [without_backbone, without_tracked, without_one_bias])
@pytest.mark.parametrize("weights", ["warm", "shrink_perturb", "reset"])
def test_weights_that_leave_something_out(learner, task, weights):
    given = {"task": task, "weights": weights}
    expected = small.outcome(learner(**given).run().run_dir)
    run_dir = learner().run_dir
    assert small.same_weights(replay(run_dir, 2, learner(**given)).state_dict(), _last(run_dir))
    for at in (("fitted", 1), ("committed", 1)):
        cut_behind(run_dir, *at)
        learner(**given).run()
        assert small.outcome(run_dir) == expected


def test_the_best_weights_may_leave_something_out(learner):
    trainer = small.TRAINER | CHECKPOINT
    assert len(learner(task=without_backbone, restore="best", trainer=trainer).run()) == 3


def test_frozen_weights_are_not_shrunk(learner, monkeypatch):
    seen = []

    class Seen(Partial):
        def on_train_start(self):
            seen.append(self.backbone.weight.clone())

    learner(task=Seen, weights="shrink_perturb", rehearse=False).run()
    assert len(seen) == 3
    assert all(torch.equal(seen[0], weight) for weight in seen)


def _last(run_dir):
    return small.weights(sorted((run_dir / "checkpoints").glob("*.ckpt"))[-1])


# --- hooks that edit checkpoints -----------------------------------------------------------------


class Edits(Classification):
    """Looks at a key of Lightning's checkpoints when one is written and when one is read."""

    key = ""

    def on_save_checkpoint(self, checkpoint):
        assert checkpoint["state_dict"]
        found = checkpoint[self.key]
        found.clear() if isinstance(found, list | dict) else None
        checkpoint["mine"] = torch.tensor(3)

    def on_load_checkpoint(self, checkpoint):
        checkpoint[self.key]
        assert checkpoint["mine"] == 3


@pytest.mark.parametrize(
    "key",
    [
        *("optimizer_states", "lr_schedulers", "loops", "callbacks"),
        *("epoch", "global_step", "pytorch-lightning_version"),
    ],
)
def test_a_hook_finds_the_keys_that_lightning_writes(learner, key):
    class Looks(Edits):
        pass

    Looks.key = key

    def task():
        network = small.task().network
        return Looks(network, small.CLASSES, lr=0.02, metrics=["accuracy", "nll"])

    expected = small.outcome(learner(task=task, config={"key": key}).run().run_dir)
    run_dir = learner().run_dir
    file = torch.load(run_dir / "checkpoints" / "round-000.ckpt", weights_only=True)
    assert "optimizer_states" not in file  # each round has new ones
    assert file["mine"] == 3
    cut_behind(run_dir, "fitted", 1)
    learner(task=task, config={"key": key}).run()
    assert small.outcome(run_dir) == expected


# --- callbacks that load in the middle -----------------------------------------------------------


class Validated(Classification):
    """With a loss that finders look at."""


def validated():
    return Validated(small.task().network, small.CLASSES, lr=0.02, metrics=["accuracy", "nll"])


@pytest.fixture
def collected_quickly():
    """Finders collect garbage at each trial: what lies here from other tests is left out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    "finder",
    [
        lambda: BatchSizeFinder(max_trials=2, steps_per_trial=1),
        lambda: BatchSizeFinder(mode="binsearch", max_trials=2, steps_per_trial=1, init_val=4),
        lambda: BatchSizeFinder(max_trials=1, steps_per_trial=2, init_val=3),
        lambda: LearningRateFinder(num_training_steps=5),
    ],
)
def test_finders_leave_the_data_as_they_were(learner, finder, collected_quickly):
    data = small.datamodule(val=0.2)
    trainer = small.TRAINER | {"callbacks": [finder()]}
    given = {"task": validated, "trainer": trainer, "rehearse": False}
    history = learner(datamodule=data, **given).run()
    assert len(history) == 3
    assert data.batch_size == 4
    assert not data.state.state_dict()["status"].is_inference()
    expected = small.outcome(history.run_dir)
    again = learner(datamodule=data, **given)  # the same data module serves once more
    cut_behind(history.run_dir, "labelled", 0)
    assert len(again.run()) == 3
    assert small.outcome(history.run_dir)["checkpoints"] == expected["checkpoints"]
