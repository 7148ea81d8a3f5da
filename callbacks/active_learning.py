"""The callback that sits in every round's Trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_al.history.records import Round

from .growing_step import start_step_at

__all__ = ["ActiveLearning"]


class ActiveLearning(Callback):
    """Records the fit of one round and says, at its end, how many items are due.

    It never scores or fits anything itself: inside a hook that would break the running fit. The
    driver acts on :attr:`due` once ``fit`` has returned. A new one is made for each round.

    Args:
        strategy: name of the query strategy, for logs.
        query_size: items a query asks for.
        budget: items that may be bought in all.
        bought: items bought in earlier rounds.
        round: this round.
        stopping: functions of the rounds so far that give a reason to stop, or None.
        first_step: where this round's logger step begins, so that curves grow over rounds.
    """

    counts_batches = True

    def __init__(
        self,
        strategy: str,
        query_size: int,
        budget: int,
        *,
        bought: int = 0,
        round: int = 0,
        stopping: Sequence[Callable[[Sequence[Round]], str | None]] = (),
        first_step: int = 0,
    ) -> None:
        self.strategy, self.query_size, self.budget = strategy, query_size, budget
        self.bought, self.round, self.stopping = bought, round, tuple(stopping)
        self.first_step = first_step
        self.batches = 0
        self.seconds = 0.0
        self.due: int | None = None
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the loggers' step go on where the last round ended."""
        start_step_at(trainer, self.first_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; steps would miss tasks that are fitted without an optimiser."""
        self.batches += 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the fit; a query is due unless the budget or the pool is spent.

        Raises:
            ValueError: the fit saw no training batch.
        """
        self.seconds = time.perf_counter() - self._started
        if not self.batches:
            raise ValueError(
                f"round {self.round}: the fit saw 0 training batches; the labelled set is empty, "
                "or the Trainer's limits (max_epochs, max_steps, limit_train_batches) allow none"
            )
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.due = self.count_due(len(datamodule.pool))

    def count_due(self, n_pool: int) -> int:
        """Items to ask for: a query, or what budget and pool still allow."""
        return max(0, min(self.query_size, self.budget - self.bought, n_pool))

    def why_stop(self, rounds: Sequence[Round], n_pool: int) -> str | None:
        """The reason to end the run after the last of ``rounds``, or None."""
        if n_pool == 0:
            return "the pool is empty"
        if self.bought >= self.budget:
            return "the budget is spent"
        for rule in self.stopping:
            if reason := rule(rounds):
                return reason
        return None
