"""``python ddp_lonely.py FOLDER``: what one of two processes does alone while the other waits."""

import faulthandler
import json
import logging
import os
import sys
from pathlib import Path

import torch
import torchmetrics
from torch import nn

from helpers import ddp_parts as parts
from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.records import Acquisition
from lightning_al.tasks import Classification

folder = Path(sys.argv[1])


class Prepared(ActiveDataModule):
    """Has something to fetch, once a process."""

    def prepare_data(self):
        (folder / "fetched").touch()


def prepared():
    x, y = parts.points(90)
    return Prepared(TensorItems(x, y), test=0.25, val=0.2, initial=10, batch_size=8)


class Fetches(Classification):
    """The module has something to fetch too, and a metric of torchmetrics beside its own."""

    def __init__(self, norm=False):
        layer = nn.BatchNorm1d(parts.F) if norm else nn.Identity()
        super().__init__(nn.Sequential(layer, nn.Linear(parts.F, parts.C)), classes=parts.C)
        self.seen = torchmetrics.classification.MulticlassAccuracy(parts.C)

    def prepare_data(self):
        (folder / "fetched-too").touch()

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.seen.update(self(batch[0]), batch[1])
        self.log("val/seen", self.seen)

    def on_train_epoch_end(self):
        torchmetrics.functional.accuracy(
            torch.tensor([0]), torch.tensor([0]), "multiclass", num_classes=2
        )


class Nearest(parts.Neighbour):
    """A full-batch task that has something to fetch, and gathers a metric while it is fitted."""

    def prepare_data(self):
        (folder / "fetched-too").touch()

    def on_train_epoch_end(self):
        metric = torchmetrics.MeanMetric()
        metric.update(1.0)
        assert float(metric.compute()) == 1.0


class Benched:
    """Chooses by what its bench can do on rank 0."""

    needs = ("probs",)
    keeps = ()
    members = "one"
    privileged = False

    def __init__(self, what):
        self.what = what

    def score(self, batch, context):
        return 1 - batch.probs.mean(1).amax(-1)

    def choose(self, pool, k, generator):
        bench = pool.bench
        if self.what == "refit":
            bench.refit()
        elif self.what == "metrics":
            assert "val/seen" in bench.metrics(bench.refit())
        elif self.what == "loss":
            bench.loss()
        else:
            bench.fit(Fetches(), bench.loader(), max_epochs=1)
        rows = pool.scores.topk(k).indices
        return Acquisition(pool.index[rows], scores=pool.scores[rows])


def run(name, task, strategy):
    learner = ActiveLearner(
        task=task,
        datamodule=prepared(),
        strategy=strategy,
        query_size=4,
        budget=8,
        trainer=parts.arguments(max_epochs=1),
        run_dir=folder / name,
    )
    return len(learner.run())


def main():
    faulthandler.dump_traceback_later(150, exit=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    found = {"full batch": run("full", Nearest, "entropy")}
    for what in ("refit", "metrics", "loss", "fit"):
        found[what] = run(what, Fetches, Benched(what))
    found["synchronised"] = run("norm", lambda: Fetches(norm=True), Benched("refit"))
    if not int(os.environ.get("LOCAL_RANK", 0)):
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
