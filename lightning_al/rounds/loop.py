"""The rounds of one run: each stage acts once ``fit`` has returned, then writes the journal."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_al.fits.lightning import fit_round, test_round
from lightning_al.history.hits import hits_of
from lightning_al.history.records import History, Round
from lightning_al.history.safety import safety_of
from lightning_al.identity import describe, digest
from lightning_al.journal.run_folder import RunFolder
from lightning_al.journal.standing import Progress
from lightning_al.oracles import Awaited, SimulatedOracle, placed
from lightning_al.oracles.desk import Desk, located, place
from lightning_al.randomness import generator, seeded
from lightning_al.ranks.ranks import join
from lightning_al.records import Acquisition
from lightning_al.scoring.cold import Banks, first_strategy
from lightning_al.scoring.scorer import Scorer
from lightning_al.tasks import Adapter

from .settings import check_choice, check_data, check_settings, strategy_name

if TYPE_CHECKING:
    from .driver import ActiveLearner

__all__ = ["Run"]

PATIENCE = 100  # rounds in a row in which nothing is asked and nothing arrives
UNPAID = "the cost budget is spent: none of the chosen items can be paid with what is left"


class Run:
    """The state of one run while it goes.

    Args:
        learner: what is to be done.

    Raises:
        ValueError, LookupError: a setting that cannot work.
        JournalError: a damaged journal, or a run folder of another configuration.
        FolderBusy: another process is at work in the folder.
    """

    def __init__(self, learner: ActiveLearner) -> None:
        from lightning_al.strategies import resolve  # inside: the core never imports a sibling

        self.it = learner
        self.strategy: Any = resolve(learner.strategy)
        self.name = strategy_name(learner.strategy, self.strategy)
        self.dm = learner.datamodule
        check_settings(learner, self.strategy, self.name)
        self.recipe = learner.recipe()
        self._used: tuple[Any, ...] = ()
        self.first, self.first_name = first_strategy(learner, self.strategy, self.name)
        self.world = join(self._trainer())
        self.world.together(lambda: self.dm.prepare_data() if self.world.rank == 0 else None)
        self.world.together(lambda: self.dm.start(learner.seed))
        self.world.together(lambda: check_data(learner))
        self.hits = self.world.together(lambda: hits_of(self.dm, learner.hit_ratio_at))
        self.safety = self.world.together(lambda: safety_of(self.dm))
        self.banks = Banks(learner, self.world)
        self.world.together(lambda: self.banks.check(self.first))
        self.config = describe(learner, self.strategy, self.dm)
        path = learner.run_dir or Path("runs") / f"{self.name}-{digest(self.config)}"
        self.folder = RunFolder(Path(path), self.world)
        start = {
            "seed": learner.seed,
            "world": self.world.size,
            "threads": torch.get_num_threads(),
            "state": self.dm.fingerprint(),
            "versions": {"torch": str(torch.__version__)},
        }
        self.folder.open(self.config, start, overwrite=learner.overwrite)
        self.progress = Progress.of(self.folder.records, self.folder.path)
        oracle = placed(learner.oracle or SimulatedOracle(), self.folder.path)
        self.desk = Desk(oracle, self.dm, learner.cost_budget)

    # --- the loop ----------------------------------------------------------------------------

    def rounds(self) -> History:
        """Do all rounds that are left; the history of all."""
        progress = self.progress
        try:
            for r in range(len(progress.committed)):
                progress.apply(r, self.dm)
            self.world.agree(self.dm.fingerprint(), "who is labelled")
            progress.check_state(self.dm.fingerprint())
            self.folder.tidy(progress.committed, self.it.keep_checkpoints)
            self._tell("run_started", self._plan(), progress.committed)
            while not progress.stopped:
                self._one_round(len(progress.committed))
        except Awaited as wait:
            history = self._history(str(wait), waiting=True)
            self._tell("run_ended", history)
            return history
        except BaseException as error:
            self._tell("run_ended", self._history(f"error: {error}", failed=True))
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
            "datamodule": self.dm,
        }

    def _history(self, stopped: str, *, waiting: bool = False, failed: bool = False) -> History:
        done: list[Round] = list(self.progress.committed)
        if self.it.keep_checkpoints == "last":
            done[:-1] = [replace(earlier, checkpoint=None) for earlier in done[:-1]]
        return History(self.folder.path, tuple(done), stopped, self.name, waiting, failed)

    def _one_round(self, r: int) -> None:
        self.dm.round = r
        self._collect(r)
        trainer, callback = self._fresh_trainer(r)
        task = self._fit(r, trainer, callback)
        fitted = self.progress.fitted(r)
        n_pool = len(self.dm.pool)
        stop = self.world.broadcast(callback.why_stop([*self.progress.committed, fitted], n_pool))
        due = callback.count_due(n_pool)
        if not stop:
            stop = self.world.on_zero(lambda: self.desk.why_stop(self.progress.spent))
            due = 0 if stop else due
        if not stop:
            acquisition = self._choose(r, task, trainer, due)
            if len(acquisition):
                self._ask(r, acquisition)
                self.progress.settle(r, self.dm)
            else:
                stop, due = UNPAID, 0
        if stop and not due:
            stop = self._unless_answers_are_due(r, stop)
        state = self.dm.fingerprint()
        self.world.agree(state, "who is labelled")
        self._write(r, "committed", state=state, stop=stop or None)
        self.folder.tidy(self.progress.committed, self.it.keep_checkpoints)
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
        return self._trainer(callback, folder=self.folder.path), callback

    def _trainer(self, *callbacks: Any, folder: Path | None = None) -> Trainer:
        """A Trainer nothing of which served before: counters and best scores would survive."""
        trainer: Any = self.recipe.build_trainer(callbacks, folder)
        now = (trainer, *trainer.callbacks)
        if old := [x for x in now if any(x is used for used in self._used)]:
            raise ValueError(
                f"the trainer function returned the same {type(old[0]).__name__} twice; it must "
                "build a new Trainer with new callbacks each time, for their state (best score, "
                "patience, epochs) must not survive a round"
            )
        self._used = now
        return trainer  # type: ignore[no-any-return]

    def _unless_answers_are_due(self, r: int, stop: str) -> str | None:
        """A run that can ask no more goes on while answers come in."""
        waiting = len(self.progress.waiting(r)[0])
        if not waiting:
            return stop
        if self.progress.idle < PATIENCE:
            return None
        return f"{stop}; {waiting} item(s) still wait after {PATIENCE} rounds without an answer"

    # --- stages ------------------------------------------------------------------------------

    def _collect(self, r: int) -> None:
        """Take in what earlier rounds asked for and has been answered since."""
        if not self.progress.has(r, "collected"):
            index, asked = self.progress.waiting(r)
            if not len(index):
                return
            with self._stage(r, "collect"):
                answers = self.world.on_zero(lambda: self.desk.collect(index, asked, r))
            self._write(r, "collected", index=index.tolist(), **answers.to_json(), time=_now())
        self.progress.receive(r, self.dm)

    def _fit(self, r: int, trainer: Trainer, callback: Any) -> LightningModule | None:
        """The fitted module of a round; None where nothing is labelled yet."""
        if self.progress.has(r, "fitted"):
            name = self.progress.checkpoint(r)
            return None if name is None else self._load(r, name)
        if not len(self.dm.labelled):
            nothing: dict[str, Any] = {"metrics": {}, "batches": 0, "checkpoint": None}
            self._write_fitted(r, **nothing, seconds_fit=0.0, seconds_test=0.0)
            return None
        with self._stage(r, "fit") as fit_clock:
            task = fit_round(
                self.recipe,
                self.dm,
                trainer,
                seed=self.it.seed,
                round=r,
                previous=self._previous(r),
                world=self.world,
            )
        checkpoint = self.folder.save(trainer, task, self.dm, r)
        with self._stage(r, "test") as test_clock:
            metrics = test_round(task, self.dm, trainer)
        task.trainer = None  # a strategy that is given the task must not reach the data by it
        self._write_fitted(
            r,
            metrics=metrics,
            batches=callback.batches,
            checkpoint=checkpoint,
            seconds_fit=fit_clock.seconds,
            seconds_test=test_clock.seconds,
        )
        return task

    def _write_fitted(self, r: int, **fields: Any) -> None:
        if self.hits is not None:
            fields["metrics"] = {**fields["metrics"], "hit_ratio": self.hits.ratio(self.dm)}
        if self.safety is not None:
            fields["metrics"] = {**fields["metrics"], **self.safety.figures(self.dm)}
        sizes = {"n_labelled": len(self.dm.labelled), "n_pool": len(self.dm.pool)}
        self._write(r, "fitted", **sizes, **fields)

    def _previous(self, r: int) -> dict[str, torch.Tensor] | None:
        """The weights that round ``r`` goes on from, where it goes on from any."""
        name = None if self.it.weights == "reset" else self.progress.checkpoint(r - 1)
        return None if name is None else self.folder.checkpoint(name)["state_dict"]

    def _load(self, r: int, name: str) -> LightningModule:
        checkpoint = self.folder.checkpoint(name)
        task: LightningModule = self.recipe.build_task(self.it.seed, r, None)
        task.on_load_checkpoint(checkpoint)
        task.load_state_dict(checkpoint["state_dict"])
        return task

    def _choose(
        self, r: int, task: LightningModule | None, trainer: Trainer, k: int
    ) -> Acquisition:
        if self.progress.has(r, "chosen"):
            return self.progress.acquisition(r)
        strategy, name = self.strategy, self.name
        if self.banks.cold:
            strategy, name = self.first, self.first_name
            self.banks.tell(r, strategy, name, self.name)
        with self._stage(r, "score") as clock:
            pool = self._scorer(r, task, trainer).pool(strategy)
        if not self.progress.has(r, "scored"):
            self._write(r, "scored", seconds=clock.seconds, n=len(self.dm.pool))

        def choose() -> Acquisition:
            chosen = strategy.choose(pool, k, generator(self.it.seed, r, "choose"))
            check_choice(chosen, k, self.dm.pool, name, getattr(self.dm, "box", None))
            return self.desk.affordable(located(chosen, self.dm), self.progress.spent)

        with self._stage(r, "choose") as clock:
            acquisition = self.world.on_zero(choose)
        chosen = replace(acquisition, seconds=clock.seconds).to_json()
        self._write(r, "chosen", strategy=name, **chosen)
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
            bank=self.banks.now(self.folder.path),
            remaining=self.it.budget - self.progress.bought,
        )

    def _ask(self, r: int, acquisition: Acquisition) -> None:
        if self.progress.has(r, "labelled"):
            return
        index = place(acquisition, self.dm)
        if not self.progress.has(r, "asked"):
            self._write(r, "asked", n=len(index))

        with self._stage(r, "ask"):
            answers = self.world.on_zero(lambda: self.desk.ask(index, r))
        self._write(r, "labelled", **answers.to_json(), time=_now())

    @contextmanager
    def _stage(self, r: int, name: str) -> Iterator[_Clock]:
        """Announce and time a stage; what draws from global random state inside is keyed."""
        self._tell("stage_started", r, name)
        clock, start = _Clock(), time.perf_counter()
        with seeded(self.it.seed, r, f"stage-{name}"):
            yield clock
        clock.seconds = time.perf_counter() - start

    # --- records -----------------------------------------------------------------------------

    def _write(self, r: int, event: str, **fields: Any) -> None:
        """Journal on rank 0; every rank takes what rank 0 wrote."""
        record = self.world.on_zero(lambda: self.folder.append(event, round=r, **fields))
        self.progress.add(record)

    def _tell(self, moment: str, *arguments: Any) -> None:
        if self.world.rank == 0:
            for observer in self.it.observers:
                getattr(observer, moment)(*arguments)


def _now() -> str:
    """The time as a table shows it, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass
class _Clock:
    seconds: float = 0.0
