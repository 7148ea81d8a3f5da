"""The rehearsal of a run: every part of it meets two batches of the untrained module."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lightning_al.compat import family_of, is_a
from lightning_al.fits.lightning import fit_round, test_round
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.thread_count import faster
from lightning_al.fits.workbench import Workbench
from lightning_al.history.records import Round
from lightning_al.oracles import check, price
from lightning_al.randomness import generator, seeded
from lightning_al.ranks.ranks import Ranks
from lightning_al.records import Acquisition
from lightning_al.scoring.bank import Bank
from lightning_al.scoring.cold import Banks
from lightning_al.scoring.running import Running
from lightning_al.scoring.scorer import Scorer
from lightning_al.tasks import Adapter

from .handed import explained
from .limits import limited, monitored
from .readings import check_reading
from .safety import warn_of_one_estimate
from .step import step_of

__all__ = ["Rehearsal", "rehearse"]

FEW, MORE = 16, 2048  # candidates; where so few do not do, so many
NOTE = "(found in the rehearsal, before anything was fitted)"


def rehearse(rehearsal: Rehearsal) -> int | None:
    """Go through one round on a few items; nothing of the run is changed.

    Returns:
        The threads that a step was faster with; None where none was timed.

    Raises:
        Exception: what would have ended the run later, with a note that it was a rehearsal.
    """
    try:
        with warnings.catch_warnings(), seeded(rehearsal.seed, 0, "rehearsal"):
            warnings.simplefilter("ignore")
            threads = rehearsal.go()
    except Exception as error:
        told = explained(error, rehearsal.datamodule)
        told.add_note(NOTE)
        if told is error:
            raise
        raise told from error
    if rehearsal.ranks.rank == 0:
        warn_of_one_estimate(rehearsal.strategy, rehearsal.task)
    return threads


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed.

    The module takes two training steps, is validated and tested, on a copy, without the loggers
    and the Trainer's callbacks; every strategy then scores and chooses among a few items, with the
    run's posterior, adapter and features; stopping rules and monitors look for their metrics;
    the oracle says whether the data can serve it, and is never asked.

    Args:
        task: a module as the run builds it; it is copied.
        recipe: of the fits.
        datamodule: at the start of the run.
        strategies: by role, each with whether it chooses while nothing is labelled.
        posterior: for strategies that need several functions.
        adapter: how the task is read; None for its own.
        features: the extractor; None for the task's own embedding.
        oracle: who will be asked.
        stopping: rules.
        query_size: items a query asks for.
        remaining: items that the run may buy.
        priced: prices matter.
        privileged: strategies may read labels of the pool.
        seed: of the run.
        ranks: the processes.
        budget: bytes of kept fields.
        figures: metrics that no fit logs.
        timing: find out how many threads a step is faster with.
    """

    task: Any
    recipe: Recipe
    datamodule: Any
    strategy: Any
    first: Any
    posterior: Any
    adapter: Adapter | None
    features: Any
    oracle: Any
    stopping: tuple[Callable[..., Any], ...]
    query_size: int
    remaining: int
    priced: bool
    privileged: bool
    seed: int
    ranks: Ranks
    budget: int
    figures: Callable[[], dict[str, float]]
    timing: bool = False

    @property
    def _cold(self) -> bool:
        return not len(self.datamodule.labelled)

    @property
    def _whole(self) -> bool:
        """The task is fitted on all items at once."""
        return bool(getattr(self.task, "full_batch", False))

    def go(self) -> int | None:
        """All of it; every rank goes along. The threads that a step was faster with."""
        self.ranks.on_zero(self._ask_the_oracle)
        some = spread(self.datamodule.labelled, FEW)
        try:
            self._through(some)
        except Exception:
            if not self._whole or len(some) == len(self.datamodule.labelled):
                raise
            self._through(self.datamodule.labelled)  # such a task may want more items
        return self._threads() if self.timing and self.ranks.size == 1 else None

    def _threads(self) -> int | None:
        """Of torch, for fits and scoring passes; None where there is nothing to time."""
        if self._whole or Running(self.task, self._trainer).device.type != "cpu":
            return None
        task = self._copy()
        step = step_of(task, self.adapter or Adapter.for_task(task), self.datamodule)
        return None if step is None else faster(step, torch.get_num_threads())

    def _through(self, labelled: Tensor) -> None:
        """A round on some labelled items: those of a task that is fitted on all at once."""
        task = self._copy()
        if not self._cold:
            self._fit(task, labelled)
        adapter = self.adapter or Adapter.for_task(task)
        chooser = self.first if self._cold else self.strategy
        if not (self._cold and self._whole):  # such a task says nothing before its fit
            needs = {*self.strategy.needs, *chooser.needs}
            self.ranks.together(
                lambda: check_reading(task, adapter, self.datamodule, needs, self._trainer)
            )
            if self.strategy is not chooser:
                self._choose(self.strategy, task, adapter, labelled, choosing=False)
        self._choose(chooser, task, adapter, labelled)

    # --- the fit -----------------------------------------------------------------------------

    def _copy(self) -> Any:
        try:
            return copy.deepcopy(self.task)
        except Exception:  # a module of the user's may hold what cannot be copied
            return self.recipe.build_task(self.seed, 0, None)

    @cached_property
    def _trainer(self) -> Any:
        """A Trainer as the rounds have it, which tells nobody."""
        return limited(self._built)

    @cached_property
    def _built(self) -> Any:
        return self.recipe.build_trainer(family=family_of(self.task))

    def _fit(self, task: Any, labelled: Tensor) -> None:
        callbacks = list(self._built.callbacks)
        wanted = monitored(callbacks)
        if self.recipe.restore == "best":
            _refuse_no_best(callbacks)
        trainer = self._trainer
        data = self.datamodule.restricted(labelled if self._whole else None)
        recipe = Recipe(self.recipe.task, self.recipe.trainer, self.recipe.weights)
        fit_round(task, recipe, data, trainer, seed=self.seed, round=0, ranks=self.ranks)
        logged = {k: float(v) for k, v in trainer.callback_metrics.items() if v.numel() == 1}
        for name, who in wanted.items():
            if name not in logged:
                there = f"monitor one of {', '.join(sorted(logged))}" if logged else "it logs none"
                raise LookupError(
                    f"{who} waits for the metric {name!r}, which the fit never logs; {there}, log "
                    f"{name!r} in the module, or give a validation set (data.val) to what is "
                    "logged there"
                )
        tested = test_round(task, data, trainer)
        metrics = logged | tested | self.figures()
        here = Round(0, len(data.labelled), len(data.pool), metrics, 1, None)
        for rule in self.stopping:
            rule([here])
        if hasattr(self.posterior, "rehearse"):
            self.posterior.rehearse(task, callbacks)
        task.trainer = None

    # --- the query ---------------------------------------------------------------------------

    def _choose(
        self,
        strategy: Any,
        task: Any,
        adapter: Adapter,
        labelled: Tensor,
        *,
        choosing: bool = True,
    ) -> None:
        """Score a few candidates and choose among them; among more where few do not do."""
        pool = self.datamodule.pool
        try:
            self._choose_of(spread(pool, FEW), labelled, strategy, task, adapter, choosing)
        except Exception:
            if len(pool) <= FEW:
                raise
            self._choose_of(spread(pool, MORE), labelled, strategy, task, adapter, choosing)

    def _choose_of(
        self,
        index: Tensor,
        labelled: Tensor,
        strategy: Any,
        task: Any,
        adapter: Adapter,
        choosing: bool,
    ) -> None:
        data = self.datamodule.restricted(labelled, pool=index)
        data.eval_batch_size = min(data.eval_batch_size, -(-len(index) // 2))
        strategy, remembers = _stand_in(strategy)
        bench = self._short_recipe()
        scorer = Scorer(
            task=task,
            datamodule=data,
            adapter=adapter,
            posterior=self.posterior,
            seed=self.seed,
            ranks=self.ranks,
            trainer=self._trainer,
            memory_budget=self.budget,
            bank=self._bank(data),
            remaining=self.remaining,
            make_bench=lambda bound: Workbench(bound, bench, self.privileged),
        )
        pool = scorer.pool(strategy)
        if not (choosing and remembers):
            return
        k = min(self.query_size, 2, len(index))
        self.ranks.on_zero(lambda: _chosen(strategy, pool, k, self.seed))

    def _short_recipe(self) -> Recipe:
        """Refits of two batches."""
        try:
            given = self.recipe.arguments()
        except ValueError:  # whole Trainers are built: refits say so when they are asked for
            return self.recipe
        few = dict.fromkeys((f"limit_{kind}_batches" for kind in ("train", "val", "test")), 2)
        short = {**given, **few, "max_epochs": 1, "logger": False, "callbacks": None}
        return Recipe(self.recipe.task, short, self.recipe.weights)

    def _bank(self, data: Any) -> Bank | None:
        if self.features is None and not self._cold:
            return None
        return Banks(self.features, data, self.budget, self.ranks).now(None)

    def _ask_the_oracle(self) -> None:
        """Nothing is asked: the oracle says whether the data can serve it."""
        check(self.oracle, self.datamodule)
        if self.priced:
            price(self.oracle, self.datamodule.pool[:2], self.datamodule)


def spread(index: Tensor, count: int) -> Tensor:
    """At most so many of some positions [N], evenly over them."""
    if len(index) <= count:
        return index
    return index[torch.arange(count) * len(index) // count]


def _stand_in(strategy: Any) -> tuple[Any, bool]:
    """A copy of a strategy, and whether it may choose: one that cannot be copied remembers it."""
    try:
        return copy.deepcopy(strategy), True
    except Exception:
        return strategy, False


def _chosen(strategy: Any, pool: Any, k: int, seed: int) -> None:
    chosen = strategy.choose(pool, k, generator(seed, 0, "rehearsal"))
    if not isinstance(chosen, Acquisition):
        raise TypeError(
            f"{type(strategy).__name__}.choose must return an Acquisition(index=…), got "
            f"{type(chosen).__name__}"
        )


def _refuse_no_best(callbacks: Any) -> None:
    saving = [c for c in callbacks if is_a(c, "callbacks.ModelCheckpoint")]
    if not any(getattr(c, "monitor", None) for c in saving):
        raise ValueError(
            "restore='best' needs a ModelCheckpoint with a monitor among the Trainer's callbacks, "
            "and a validation set for it to look at"
        )
