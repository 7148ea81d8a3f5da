"""``python ddp_tune.py FOLDER``: two processes tune; each writes down what it has fitted."""

import json
import sys
from pathlib import Path

from helpers import ddp_parts as parts
from lightning_al import ActiveLearner
from lightning_al.fits.lightning import LightningFits
from lightning_al.networks import MLP
from lightning_al.tasks import Classification

folder, seen = Path(sys.argv[1]), []
judge = LightningFits.judged_by


def spy(self, engine, trial, round, previous):
    """What a rank fits: the layers of the model, the items of the start that judge it."""
    logged = judge(self, engine, trial, round, previous)
    width = trial.recipe.task().network[1].out_features
    seen.append([width, trial.judge.judging.tolist(), logged])
    return logged


def task(width=16, lr=0.01):
    return Classification(MLP(parts.F, (width,), parts.C), classes=parts.C, lr=lr)


LightningFits.judged_by = spy
history = ActiveLearner(
    task=task,
    datamodule=parts.classes(),
    strategy="margin",
    query_size=4,
    budget=4,
    trainer=parts.arguments(max_epochs=1),
    run_dir=folder / "run",
    tuning={
        "space": {"model.width": {"int": [4, 32]}, "model.lr": {"float": [1e-3, 0.5], "log": True}},
        "objective": "val/nll",
        "when": "every_round",
        "judge": {"folds": 2},
        "trials": 3,
    },
).run()
final = history.to_frame().iloc[-1]
told = {"seen": seen, "width": int(final["model.width"]), "bought": history.acquired}
(folder / f"seen-{parts.RANK}.json").write_text(json.dumps(told))
