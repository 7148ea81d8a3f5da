"""What a run is made of; :mod:`.loop` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from lightning_al.fits.lightning import Recipe
from lightning_al.history.records import History, Round
from lightning_al.tasks import Adapter

from .loop import Run

if TYPE_CHECKING:
    from lightning_al.protocols import Oracle, QueryStrategy, RunObserver

__all__ = ["ActiveLearner"]


@dataclass(frozen=True)
class ActiveLearner:
    """Trains, scores, chooses, asks and trains again, until the budget is spent.

    The same call on the same run folder goes on where a killed run stopped; a finished one is
    only read back.

    Args:
        task: builds a fresh LightningModule (a class, a function), or one to copy each round (its
            weights are then where each fit starts, and part of what makes a run the same run).
        datamodule: an ``ActiveDataModule``.
        strategy: a query strategy, its name, or ``{"name": …, **arguments}``.
        query_size: items a query asks for; the last one may be smaller.
        budget: items that may be bought in all, the initial ones not counted.
        oracle: who answers; by default the labels that the data set carries.
        trainer: Trainer arguments (copied anew each round) or a function that builds a Trainer.
        weights: each round starts "reset", "warm" or "shrink_perturb".
        restore: keep the "last" weights of a fit, or the "best" of its ModelCheckpoint.
        posterior: such as ``MCDropout(20)``, for strategies that need several functions.
        adapter: how to get outputs and embeddings from a module of your own.
        features: gives the embeddings of every round instead of the task: a frozen extractor
            inputs [n, ...] -> [n, E], such as ``Raw()`` or ``Backbone("resnet18")``. Without it,
            and with nothing labelled, embeddings are the raw inputs.
        first: the query strategy of rounds in which nothing is labelled yet (``initial=0``). By
            default the run's own where it needs embeddings at most, else random: probabilities of
            a network that was never fitted say nothing.
        stopping: rules that end the run early.
        seed: of everything random in the run.
        run_dir: the run folder; ``runs/<strategy>-<hash>`` by default.
        overwrite: start anew where the folder holds a run already.
        loggers: Lightning loggers, shared by all rounds.
        observers: watchers of the run (progress bar, logs); rank 0 calls them.
        keep_checkpoints: "all" rounds' checkpoints, or only the "last".
        memory_budget: bytes of kept embeddings in memory; above it they lie in a file.
        config: plain values that identify the run; derived from the arguments by default.
        cost_budget: what all answers may cost together, in the oracle's unit. The chosen items
            are taken in the order of choice; one that can no longer be paid is left out. The run
            ends where none can be paid.
        hit_ratio_at: report ``hit_ratio`` with the metrics: the share found so far of the largest
            targets of the first pool; 0.05 for the largest 5 %.
        privileged: allow strategies that read labels of the pool (benchmarks only).
    """

    task: Callable[[], LightningModule] | LightningModule
    datamodule: Any
    strategy: QueryStrategy | str | Mapping[str, Any]
    query_size: int
    budget: int
    oracle: Oracle | None = field(default=None, kw_only=True)
    trainer: Mapping[str, Any] | Callable[[], Trainer | Mapping[str, Any]] | None = field(
        default=None, kw_only=True
    )
    weights: str = field(default="reset", kw_only=True)
    restore: str = field(default="last", kw_only=True)
    posterior: Any = field(default=None, kw_only=True)
    adapter: Adapter | None = field(default=None, kw_only=True)
    features: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    first: QueryStrategy | str | Mapping[str, Any] | None = field(default=None, kw_only=True)
    stopping: Sequence[Callable[[Sequence[Round]], str | None]] = field(default=(), kw_only=True)
    seed: int = field(default=0, kw_only=True)
    run_dir: str | Path | None = field(default=None, kw_only=True)
    overwrite: bool = field(default=False, kw_only=True)
    loggers: Sequence[Logger] = field(default=(), kw_only=True)
    observers: Sequence[RunObserver] = field(default=(), kw_only=True)
    keep_checkpoints: str = field(default="all", kw_only=True)
    memory_budget: int = field(default=2**30, kw_only=True)
    config: Mapping[str, Any] | None = field(default=None, kw_only=True)
    cost_budget: float | None = field(default=None, kw_only=True)
    hit_ratio_at: float | None = field(default=None, kw_only=True)
    privileged: bool = field(default=False, kw_only=True)

    def run(self) -> History:
        """Run, or go on with, all rounds.

        Raises:
            ValueError, LookupError: a setting that cannot work, before anything is fitted.
            JournalError: a damaged journal, or a run folder of another configuration.
        """
        return Run(self).rounds()

    def with_(self, **changes: Any) -> ActiveLearner:
        """The same learner with some arguments changed."""
        return replace(self, **changes)

    def recipe(self) -> Recipe:
        """How the fits of this learner are made."""
        trainer = {} if self.trainer is None else self.trainer
        return Recipe(self.task, trainer, self.weights, self.restore, tuple(self.loggers))
