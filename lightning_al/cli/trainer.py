"""The Trainer of the command line: Lightning's own, plus the signature of ``run``."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from lightning_al.posteriors import Posterior
from lightning_al.protocols import Oracle
from lightning_al.rounds.stopping import StoppingRule
from lightning_al.tasks import Adapter

__all__ = ["ActiveTrainer"]


class ActiveTrainer(Trainer):
    """Lightning's Trainer; ``run`` is driven by the command line, not by the Trainer."""

    def run(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        strategy: str | dict[str, Any] = "margin",
        query_size: int = 20,
        budget: int = 180,
        seed: int | list[int] = 0,
        baseline: str | dict[str, Any] | None = None,
        weights: str = "reset",
        restore: str = "last",
        posterior: Posterior | None = None,
        oracle: Oracle | None = None,
        stopping: list[StoppingRule] | None = None,
        adapter: Adapter | None = None,
        run_dir: str | None = None,
        overwrite: bool = False,
        loggers: list[str] | None = None,
        keep_checkpoints: str = "all",
        memory_budget: int = 2**30,
        progress: bool = True,
    ) -> None:
        """Run active learning: fit, evaluate, score, choose, ask, and again.

        Args:
            model: the task; built anew each round.
            datamodule: an ActiveDataModule.
            strategy: name of the query strategy, or {name: …, arguments}.
            query_size: items a query asks for.
            budget: items that may be bought in all, the initial ones not counted.
            seed: of everything random; a list runs once for each.
            baseline: a strategy to run beside it, in the sub-folder baseline/.
            weights: each round starts reset, warm or shrink_perturb.
            restore: keep the last weights of a fit, or the best of its ModelCheckpoint.
            posterior: such as lightning_al.posteriors.MCDropout, for strategies that need it.
            oracle: who answers; the labels of the data set by default.
            stopping: rules that end the run early.
            adapter: how to get outputs and embeddings from a module of your own.
            run_dir: the run folder; runs/<config>-<hash> by default.
            overwrite: start anew where the folder holds a run already.
            loggers: of csv, tensorboard, wandb; shared by all rounds.
            keep_checkpoints: all rounds' checkpoints, or only the last.
            memory_budget: bytes of kept embeddings in memory; above it they lie in a file.
            progress: show a progress bar over the rounds.
        """
        raise NotImplementedError("call `lightning-al run`, or ActiveLearner(…).run() from Python")
