"""Collects the weights' moments over the end of a fit, for SWAG."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from lightning_al.posteriors.swag import moments_of

__all__ = ["CollectSWAG"]


class CollectSWAG(pl.Callback):
    """Feeds the task's :class:`~lightning_al.posteriors.SWAGNetwork` at the end of late epochs.

    The moments are forgotten when a fit starts, and lie in the network's buffers, so the round's
    checkpoint holds them. The optimiser should still move: SWAG is meant for a constant, rather
    high learning rate.

    Maddox et al. (2019), "A Simple Baseline for Bayesian Uncertainty in Deep Learning",
    algorithm 1.

    Args:
        start: epochs before the first weights are taken: a count, or a share of ``max_epochs``
            (a float below 1).
        every: epochs from one to the next.

    Raises:
        ValueError: in a fit, too few epochs for two weights; or settings that make no sense.
    """

    collects_moments = True  # what SWAG looks for

    def __init__(self, start: float = 0.5, every: int = 1) -> None:
        if start < 0 or every < 1:
            raise ValueError(f"start must be 0 or more and every 1 or more, got {start}, {every}")
        self.start, self.every = start, every
        self._first = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what an earlier fit left; find the first epoch."""
        moments_of(pl_module).restart()
        epochs = trainer.max_epochs
        share = isinstance(self.start, float) and self.start < 1
        if share and (epochs is None or epochs < 0):
            raise ValueError(
                "start is a share of max_epochs, and the Trainer has none; give it as a count"
            )
        self._first = int(self.start * (epochs or 0)) if share else int(self.start)
        if epochs is not None and epochs >= 0:
            taken = len(range(self._first, epochs, self.every))
            if taken < 2:
                raise ValueError(
                    f"{epochs} epochs give SWAG {taken} weights (start={self.start}, "
                    f"every={self.every}), it needs 2 or more; train longer or start earlier"
                )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights of a late epoch."""
        epoch: Any = trainer.current_epoch
        if epoch >= self._first and (epoch - self._first) % self.every == 0:
            moments_of(pl_module).collect()
