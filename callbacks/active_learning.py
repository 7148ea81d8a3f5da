"""The callback that sits in every round's Trainer, and triggers the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_al.compat import overrides, start_step_at
from lightning_al.fits.stepping import spare_capture_check
from lightning_al.history.records import Round
from lightning_al.history.trigger import QueryRule
from lightning_al.records import Due

__all__ = ["ActiveLearning"]


class ActiveLearning(Callback):
    """Records the fit of one round and declares, at its end, what follows: :attr:`due`.

    That is a query of so many items, or the end of the run and why. The driver acts on this record
    alone, once ``fit`` and ``test`` have returned; inside a hook a query would break the running
    fit. The end is the test's, where the module has a ``test_step``: stopping rules look at its
    metrics. A new callback is made for each round.

    Args:
        strategy: name of the query strategy, for logs.
        rule: when a query is due, and of how many items.
        round: this round.
        done: the rounds before it.
        figures: metrics of the round that its fit does not log, such as a hit ratio.
        first_step: where this round's logger step begins, so that curves grow over rounds.
    """

    counts_batches = True

    def __init__(
        self,
        strategy: str,
        rule: QueryRule,
        *,
        round: int = 0,
        done: Sequence[Round] = (),
        figures: Mapping[str, float] | None = None,
        first_step: int = 0,
    ) -> None:
        self.strategy, self.rule, self.round, self.done = strategy, rule, round, tuple(done)
        self.metrics: dict[str, float] = {}
        self.figures = dict(figures or {})
        self.first_step = first_step
        self.batches = 0
        self.due: Due | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the loggers' step go on where the last round ended; spare steps a slow question."""
        for optimizer in trainer.optimizers:
            spare_capture_check(optimizer)
        if trainer.loggers:
            start_step_at(trainer, self.first_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; steps would miss tasks that are fitted without an optimiser."""
        self.batches += 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the fit; what follows is declared now where no test comes after.

        Raises:
            ValueError: the fit saw no training batch.
        """
        if not self.batches:
            raise ValueError(
                f"round {self.round}: the fit saw 0 training batches; the labelled set is empty, "
                "or the Trainer's limits (max_epochs, max_steps, limit_train_batches) allow none"
            )
        self._take(trainer)
        if not overrides("test_step", pl_module):
            self._declare(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the test, and declare what follows."""
        self._take(trainer)
        self._declare(trainer)

    def _take(self, trainer: Trainer) -> None:
        """The metrics of single numbers that were logged so far."""
        self.metrics |= {k: float(v) for k, v in trainer.callback_metrics.items() if v.numel() == 1}

    def _declare(self, trainer: Trainer) -> None:
        self.metrics |= self.figures
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        n_labelled, n_pool = len(data.labelled), len(data.pool)
        here = Round(self.round, n_labelled, n_pool, self.metrics, self.batches, None)
        self.due = self.rule(here, self.done)
