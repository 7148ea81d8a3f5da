"""What a strategy that trains something of its own is given."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_al.randomness import seeded
from lightning_al.records import Learner

__all__ = ["build_learner"]

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


def build_learner(
    task: LightningModule, datamodule: Any, device: torch.device, seed: int, round: int
) -> Learner:
    """A learner on one device; its fits are seeded, each by its place in the round.

    Args:
        task: the fitted task of the round.
        datamodule: gives the loaders, the unlabelled one without labels.
        device: where fits run.
        seed: of the run.
        round: of the run.
    """
    count = itertools.count()
    chosen: Any = 1 if device.index is None or device.type == "cpu" else [device.index]
    place = {"accelerator": device.type, "devices": chosen}

    def fit(module: LightningModule, loader: Iterable[Any], **arguments: Any) -> LightningModule:
        with seeded(seed, round, f"learner-{next(count)}"):
            Trainer(**(QUIET | place | arguments)).fit(module, loader)
        return module

    return Learner(
        task=task,
        fit=fit,
        labelled_loader=datamodule.labelled_loader,
        unlabelled_loader=datamodule.predict_dataloader,
    )
