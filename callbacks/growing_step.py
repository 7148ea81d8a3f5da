"""A logger step that only grows over the rounds' Trainers."""

from __future__ import annotations

import pytorch_lightning as pl

__all__ = ["GrowingStep", "start_step_at"]


def start_step_at(trainer: pl.Trainer, offset: int) -> None:
    """Let the Trainer's logger step go on from ``offset`` instead of 0.

    Lightning logs every training, epoch and evaluation metric under the private counter
    ``fit_loop.epoch_loop._batches_that_stepped``; nothing else reads it: ``global_step``,
    ``max_steps``, learning rate schedules and checkpoint names count on their own. Only *which*
    batches are logged (every ``log_every_n_steps``) is then counted over the rounds too. A fit that
    goes on from a checkpoint of its own round already carries the offset and is left alone.
    """
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = max(loop._batches_that_stepped, offset)


class GrowingStep(pl.Callback):
    """Starts the logger step of a round's Trainer where the rounds before ended.

    Args:
        offset: training batches of all earlier rounds, ``sum(round.batches for round in done)``.
    """

    def __init__(self, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"the step offset must not be negative, got {offset}")
        self.offset = offset

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After a checkpoint was restored, before anything is logged."""
        start_step_at(trainer, self.offset)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """For a Trainer that only evaluates."""
        start_step_at(trainer, self.offset)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """For a Trainer that only evaluates; also the sanity check before a fit."""
        start_step_at(trainer, self.offset)
