"""The driver: owns the rounds, acts once each fit has returned, writes the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from lightning_al.randomness import generator
from lightning_al.records import Acquisition, Answers
from lightning_al.tasks import Adapter

from .fitting import Recipe, fit_round, test_round
from .folder import RunFolder
from .identity import describe, digest
from .oracles import SimulatedOracle
from .records import History, Round
from .resume import Progress
from .scoring import Scorer
from .weights import WEIGHTS
from .world import World, join

if TYPE_CHECKING:
    from lightning_al.protocols import Oracle, QueryStrategy, RunObserver

__all__ = ["ActiveLearner"]


@dataclass(frozen=True)
class ActiveLearner:
    """Trains, scores, chooses, asks and trains again, until the budget is spent.

    The same call on the same run folder goes on where a killed run stopped; a finished one is
    only read back.

    Args:
        task: builds a fresh LightningModule (a class, a function), or one to copy each round.
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
        stopping: rules that end the run early.
        seed: of everything random in the run.
        run_dir: the run folder; ``runs/<strategy>-<hash>`` by default.
        overwrite: start anew where the folder holds a run already.
        loggers: Lightning loggers, shared by all rounds.
        observers: watchers of the run (progress bar, logs); rank 0 calls them.
        keep_checkpoints: "all" rounds' checkpoints, or only the "last".
        memory_budget: bytes of kept embeddings in memory; above it they lie in a file.
        config: plain values that identify the run; derived from the arguments by default.
        privileged: allow strategies that read labels of the pool (benchmarks only).
    """

    task: Callable[[], LightningModule] | LightningModule
    datamodule: Any
    strategy: QueryStrategy | str | Mapping[str, Any]
    query_size: int
    budget: int
    oracle: Oracle | None = field(default=None, kw_only=True)
    trainer: Mapping[str, Any] | Callable[[], Trainer] | None = field(default=None, kw_only=True)
    weights: str = field(default="reset", kw_only=True)
    restore: str = field(default="last", kw_only=True)
    posterior: Any = field(default=None, kw_only=True)
    adapter: Adapter | None = field(default=None, kw_only=True)
    stopping: Sequence[Callable[[Sequence[Round]], str | None]] = field(default=(), kw_only=True)
    seed: int = field(default=0, kw_only=True)
    run_dir: str | Path | None = field(default=None, kw_only=True)
    overwrite: bool = field(default=False, kw_only=True)
    loggers: Sequence[Logger] = field(default=(), kw_only=True)
    observers: Sequence[RunObserver] = field(default=(), kw_only=True)
    keep_checkpoints: str = field(default="all", kw_only=True)
    memory_budget: int = field(default=2**30, kw_only=True)
    config: Mapping[str, Any] | None = field(default=None, kw_only=True)
    privileged: bool = field(default=False, kw_only=True)

    def run(self) -> History:
        """Run, or go on with, all rounds.

        Raises:
            ValueError, LookupError: a setting that cannot work, before anything is fitted.
            JournalError: a damaged journal, or a run folder of another configuration.
        """
        return _Run(self).rounds()

    def with_(self, **changes: Any) -> ActiveLearner:
        """The same learner with some arguments changed."""
        return replace(self, **changes)

    def recipe(self) -> Recipe:
        """How the fits of this learner are made."""
        trainer = {} if self.trainer is None else self.trainer
        return Recipe(self.task, trainer, self.weights, self.restore, tuple(self.loggers))


class _Run:
    """The state of one run while it goes."""

    def __init__(self, learner: ActiveLearner) -> None:
        from lightning_al.strategies import resolve  # inside: the core never imports a sibling

        self.it = learner
        self.strategy: Any = resolve(learner.strategy)
        self.name = strategy_name(learner.strategy, self.strategy)
        self.dm = learner.datamodule
        self.oracle: Any = learner.oracle or SimulatedOracle()
        self._check_settings()
        self.recipe = learner.recipe()
        self.world = join(self._trainer([]))
        self.world.together(lambda: self.dm.prepare_data() if self.world.rank == 0 else None)
        self.dm.start(learner.seed)
        self.world.together(self._check_data)
        self.config = describe(learner, self.strategy, self.dm)
        path = learner.run_dir or Path("runs") / f"{self.name}-{digest(self.config)}"
        self.folder = RunFolder(Path(path), self.world)
        self.folder.open(self.config, self._start_record(), overwrite=learner.overwrite)
        self.progress = Progress.of(self.folder.records, self.folder.path, self.name)

    def _check_settings(self) -> None:
        it = self.it
        if it.query_size < 1:
            raise ValueError(f"query_size must be at least 1, got {it.query_size}")
        if it.budget < it.query_size:
            raise ValueError(
                f"the budget of {it.budget} is smaller than one query of {it.query_size}; "
                "raise the budget or lower query_size"
            )
        WEIGHTS.factory(it.weights)
        for name, value, valid in (
            ("restore", it.restore, ("last", "best")),
            ("keep_checkpoints", it.keep_checkpoints, ("all", "last")),
        ):
            if value not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
        if getattr(self.strategy, "privileged", False) and not it.privileged:
            raise ValueError(
                f"strategy {self.name!r} reads labels of the pool; it runs only inside `bench`"
            )
        if "many" in str(self.strategy.members) and it.posterior is None:
            self._needs_posterior = True

    _needs_posterior = False

    def _check_data(self) -> None:
        n = len(self.dm.pool)
        if n == 0:
            raise ValueError("the pool is empty: every item is labelled or held out already")
        if self.it.query_size > n:
            raise ValueError(
                f"cannot acquire {self.it.query_size} of {n} candidates; lower query_size"
            )
        if not len(self.dm.labelled) and self.strategy.needs:
            raise ValueError(
                f"no item is labelled at the start, but {self.name!r} needs a trained network; "
                "raise `initial`, or begin with a strategy that needs none (random)"
            )

    def _start_record(self) -> dict[str, Any]:
        return {
            "seed": self.it.seed,
            "world": self.world.size,
            "threads": torch.get_num_threads(),
            "state": self.dm.fingerprint(),
            "versions": {"torch": torch.__version__},
        }

    def _trainer(self, callbacks: list[Any]) -> Trainer:
        folder = getattr(self, "folder", None)
        return self.recipe.build_trainer(callbacks, folder.path if folder else None)

    # --- the loop ----------------------------------------------------------------------------

    def rounds(self) -> History:
        progress = self.progress
        try:
            for r in range(len(progress.committed)):
                progress.apply(r, self.dm)
            self.world.agree(self.dm.fingerprint(), "who is labelled")
            progress.check_state(self.dm.fingerprint())
            self._tell("run_started", self._plan(), progress.committed)
            while not progress.stopped:
                self._one_round(len(progress.committed))
        except BaseException as error:
            self._tell("run_ended", self._history(f"error: {error}"))
            raise
        else:
            history = self._history(progress.stopped)
            self._tell("run_ended", history)
            return history
        finally:
            self.folder.close()

    def _plan(self) -> dict[str, Any]:
        spendable = min(self.it.budget, len(self.dm.pool) + self.progress.bought)
        return {
            "run_dir": self.folder.path,
            "strategy": self.name,
            "n_labelled": len(self.dm.labelled),
            "n_pool": len(self.dm.pool),
            "query_size": self.it.query_size,
            "budget": self.it.budget,
            "rounds": 1 + -(-spendable // self.it.query_size),
            "seed": self.it.seed,
            "config": self.config,
        }

    def _history(self, stopped: str) -> History:
        return History(self.folder.path, tuple(self.progress.committed), stopped, self.name)

    def _one_round(self, r: int) -> None:
        self.dm.round = r
        trainer, callback = self._fresh_trainer(r)
        task = self._fit(r, trainer, callback) if len(self.dm.labelled) else None
        if task is None and not self.progress.has(r, "fitted"):
            self._write(r, "fitted", **self._nothing_fitted())
        fitted = self.progress.fitted(r)
        n_pool = len(self.dm.pool)
        stop = self.world.broadcast(callback.why_stop([*self.progress.committed, fitted], n_pool))
        if not stop:
            acquisition = self._choose(r, task, trainer, callback.count_due(n_pool))
            self._ask(r, acquisition)
            self.progress.apply(r, self.dm)
        state = self.dm.fingerprint()
        self.world.agree(state, "who is labelled")
        self._write(r, "committed", state=state, stop=stop or None)
        self.folder.tidy(self.progress, self.it.keep_checkpoints)
        self._tell("round_ended", self.progress.committed[-1], self.dm)

    def _fresh_trainer(self, r: int) -> tuple[Trainer, Any]:
        from lightning_al.callbacks import ActiveLearning

        callback = ActiveLearning(
            self.name,
            self.it.query_size,
            self.it.budget,
            bought=self.progress.bought,
            round=r,
            stopping=self.it.stopping,
            first_step=sum(done.batches for done in self.progress.committed),
        )
        trainer = self._trainer([callback])
        self._refuse_survivors(trainer)
        return trainer, callback

    _used: tuple[Any, ...] = ()

    def _refuse_survivors(self, trainer: Trainer) -> None:
        """Callbacks keep counters and best scores: one that served a round may not serve another."""
        now = (trainer, *trainer.callbacks)
        if old := [x for x in now if any(x is used for used in self._used)]:
            raise ValueError(
                f"{type(old[0]).__name__} was used in the round before; build a new Trainer with "
                "new callbacks in the trainer function, for their state must not survive a round"
            )
        self._used = now

    # --- stages ------------------------------------------------------------------------------

    def _fit(self, r: int, trainer: Trainer, callback: Any) -> LightningModule:
        previous = self.folder.previous_weights(r) if self.it.weights != "reset" else None
        if self.progress.has(r, "fitted"):
            task: LightningModule = self.recipe.build_task(self.it.seed, r, previous)
            task.load_state_dict(self.folder.weights(self.progress.fitted(r).checkpoint))
            return task
        self._tell("stage_started", r, "fit")
        clock = time.perf_counter()
        fit = {"seed": self.it.seed, "round": r, "previous": previous, "world": self.world}
        task = fit_round(self.recipe, self.dm, trainer, **fit)
        seconds = time.perf_counter() - clock
        checkpoint = self.folder.save(trainer, task, self.dm, r)
        self._tell("stage_started", r, "test")
        clock = time.perf_counter()
        metrics = test_round(task, self.dm, trainer)
        self._write(
            r,
            "fitted",
            n_labelled=len(self.dm.labelled),
            n_pool=len(self.dm.pool),
            metrics=metrics,
            batches=callback.batches,
            checkpoint=checkpoint,
            seconds_fit=seconds,
            seconds_test=time.perf_counter() - clock,
        )
        return task

    def _nothing_fitted(self) -> dict[str, Any]:
        return {
            "n_labelled": 0,
            "n_pool": len(self.dm.pool),
            "metrics": {},
            "batches": 0,
            "checkpoint": None,
            "seconds_fit": 0.0,
            "seconds_test": 0.0,
        }

    def _choose(
        self, r: int, task: LightningModule | None, trainer: Trainer, k: int
    ) -> Acquisition:
        if self.progress.has(r, "chosen"):
            return self.progress.acquisition(r)
        self._tell("stage_started", r, "score")
        clock = time.perf_counter()
        pool = self._scorer(r, task, trainer).pool(self.strategy)
        if not self.progress.has(r, "scored"):
            self._write(r, "scored", seconds=time.perf_counter() - clock, n=len(self.dm.pool))
        self._tell("stage_started", r, "choose")

        def choose() -> Acquisition:
            clock = time.perf_counter()
            chosen = self.strategy.choose(pool, k, generator(self.it.seed, r, "choose"))
            _check_choice(chosen, k, self.dm.pool, self.name)
            return replace(chosen, seconds=time.perf_counter() - clock)

        acquisition = self.world.on_zero(choose)
        self._write(r, "chosen", **acquisition.to_json())
        return acquisition

    def _scorer(self, r: int, task: LightningModule | None, trainer: Trainer) -> Scorer:
        if task is None:
            task = self.recipe.build_task(self.it.seed, r, None)
        return Scorer(
            task=task,
            datamodule=self.dm,
            adapter=self.it.adapter or Adapter.for_task(task),
            posterior=self.it.posterior,
            seed=self.it.seed,
            round=r,
            world=self.world,
            trainer=trainer,
            memory_budget=self.it.memory_budget,
            folder=self.folder.path,
        )

    def _ask(self, r: int, acquisition: Acquisition) -> None:
        if self.progress.has(r, "labelled"):
            return
        index = acquisition.index
        assert index is not None
        self._tell("stage_started", r, "ask")
        if not self.progress.has(r, "asked"):
            self._write(r, "asked", n=len(index))

        def ask() -> Answers:
            answers: Answers = self.oracle.ask(index, self.dm, r)
            self.dm.check_answers(index, answers)
            return answers

        answers = self.world.on_zero(ask)
        self._write(r, "labelled", **answers.to_json())

    # --- records -----------------------------------------------------------------------------

    def _write(self, r: int, event: str, **fields: Any) -> None:
        """Journal on rank 0; every rank takes what rank 0 wrote."""
        record = self.world.on_zero(lambda: self.folder.append(event, round=r, **fields))
        self.progress.add(record)

    def _tell(self, moment: str, *arguments: Any) -> None:
        if self.world_rank() == 0:
            for observer in self.it.observers:
                getattr(observer, moment)(*arguments)

    def world_rank(self) -> int:
        world: World = self.world
        return world.rank


def strategy_name(spec: Any, strategy: Any) -> str:
    """A short name for folders and legends."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        return str(spec.get("name") or str(spec.get("class_path", "")).rpartition(".")[2])
    return str(getattr(strategy, "name", "") or type(strategy).__name__)


def _check_choice(chosen: Acquisition, k: int, pool: torch.Tensor, name: str) -> None:
    """Refuse what a strategy must never do: repeat itself, or choose outside the pool."""
    index = chosen.index
    if index is None or len(index) == 0:
        raise ValueError(f"strategy {name!r} chose nothing; it must choose {k} of {len(pool)}")
    if len(index.unique()) != len(index):
        raise ValueError(f"strategy {name!r} chose an item twice: {index.tolist()[:20]}")
    if len(index) > k:
        raise ValueError(f"strategy {name!r} chose {len(index)} items where {k} were due")
    if not bool(torch.isin(index, pool).all()):
        raise ValueError(
            f"strategy {name!r} chose items outside the pool; it must return "
            "candidates.index[rows], positions in the data set"
        )
