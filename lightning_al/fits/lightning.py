"""One round's fit: an ordinary Lightning fit under a fresh Trainer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_al.compat import bridged, dummy_logger, family_of, is_a, load_weights, overrides
from lightning_al.journal.checkpoints import with_all_keys
from lightning_al.randomness import seeded
from lightning_al.ranks.ranks import ALONE, Ranks, fitting

from .backend import FitRequest, Fitted, TrialFit
from .diverged import refuse_diverged
from .judged import judged
from .recipe import Recipe, quietly
from .thread_count import at

__all__ = ["LIGHTNING", "Begun", "Engine", "LightningFits", "fit_round", "load_best"]
__all__ += ["refit", "refit_by", "refits", "test_round", "validate_round"]


@dataclass(frozen=True)
class Engine:
    """What fits a module and tests it.

    Args:
        name: for the journal.
        fit: as :func:`fit_round`.
        test: as :func:`test_round`.
        validate: as :func:`validate_round`.
    """

    name: str
    fit: Callable[..., Any]  # gives the trainer that keeps and tests the module
    test: Callable[[Any, Any, Any], dict[str, float]]
    validate: Callable[[Any, Any, Any], dict[str, float]]


@dataclass(frozen=True)
class Begun:
    """A round's fit that is made ready, and waits for an engine.

    Args:
        request: what was asked for.
        task: the fresh module.
        trainer: for it; it has fitted nothing.
        callback: that counts, and declares what follows.
        clock: when it began.
    """

    request: FitRequest
    task: Any
    trainer: Any
    callback: Any
    clock: float


class LightningFits:
    """Fits each round by a Trainer of its own, in which the callback sits that triggers queries.

    Args:
        recipe: of modules and Trainers.
        datamodule: gives the loaders.
        seed: of the run.
        ranks: the processes.
        folder: where Trainers keep files.
        keep: writes the checkpoint of a round, ``(trainer, module, round) -> relative path``.
        strategy: name of the query strategy, for the callback.
        threads: of torch; None leaves them as they are.
    """

    def __init__(
        self,
        recipe: Recipe,
        datamodule: Any,
        *,
        seed: int,
        ranks: Ranks = ALONE,
        folder: Path | None = None,
        keep: Callable[[Any, Any, int], str],
        strategy: str = "",
        threads: int | None = None,
    ) -> None:
        self.recipe, self.datamodule, self.seed = recipe, datamodule, seed
        self.ranks, self.folder, self.keep, self.strategy = ranks, folder, keep, strategy
        self.threads = threads
        self.settings: Mapping[str, Any] = {}  # of the recipe, where they were tuned
        self.given = recipe
        self._trainer: Any = None  # of the round that goes on

    def adopt(self, settings: Mapping[str, Any]) -> None:
        """Build and fit under these settings from now on; none are those that were given."""
        if dict(settings) != dict(self.settings):
            self.recipe, self.settings = self.given.under(settings), settings
            self._trainer = None

    def fit(self, request: FitRequest) -> Fitted:
        """Build, fit, keep and test the module of a round.

        Raises:
            ValueError: a fit that saw no batch, or diverged.
        """
        return self.by(LIGHTNING, request)

    def by(self, engine: Engine, request: FitRequest) -> Fitted:
        """:meth:`fit` by an engine."""
        begun = self.begin(engine, request)
        where: dict[str, Any] = {"seed": self.seed, "round": request.round, "ranks": self.ranks}
        with at(self.threads):
            used = engine.fit(begun.task, self.recipe, self.datamodule, begun.trainer, **where)
        return self.end(engine, begun, used, time.perf_counter() - begun.clock)

    def begin(self, engine: Engine, request: FitRequest) -> Begun:
        """The module and the Trainer of a round, made ready for an engine."""
        from lightning_al.callbacks import ActiveLearning  # inside: a sibling

        callback = ActiveLearning(
            self.strategy,
            request.rule,
            round=request.round,
            done=request.done,
            figures=request.figures,
            first_step=sum(done.batches for done in request.done),
        )
        clock = time.perf_counter()
        task = self.recipe.build_task(self.seed, request.round, request.previous)
        self._trainer = self.trainer_for(engine, [callback], family_of(task))
        return Begun(request, task, self._trainer, callback, clock)

    def end(self, engine: Engine, begun: Begun, used: Any, seconds: float) -> Fitted:
        """Keep and test what an engine has fitted.

        Args:
            engine: that did.
            begun: what it was given.
            used: the trainer that the module has now.
            seconds: that the fit took.
        """
        task, callback, r = begun.task, begun.callback, begun.request.round
        checkpoint = self.keep(used, task, r)
        kept = time.perf_counter()
        with seeded(self.seed, r, "stage-test"), fitting(self.ranks), at(self.threads):
            metrics = engine.test(task, self.datamodule, used)
        task.trainer = None  # a strategy that is given the task must not reach the data by it
        due = self.ranks.broadcast(callback.due)
        assert due is not None  # declared by the end of the test
        return Fitted(
            task=task,
            metrics=callback.metrics | metrics,
            batches=callback.batches,
            due=due,
            checkpoint=checkpoint,
            seconds_fit=seconds,
            seconds_test=time.perf_counter() - kept,
            backend=engine.name,
        )

    def trainer_for(self, engine: Engine, callbacks: Sequence[Any], family: Any) -> Any:
        """The Trainer of a round's fit by an engine; it has fitted nothing."""
        return self.recipe.build_trainer(callbacks, self.folder, family)

    def load(self, checkpoint: Mapping[str, Any], round: int) -> Any:
        """The module of a round from its checkpoint."""
        task = self.fresh(round)
        whole = with_all_keys(checkpoint)
        task.on_load_checkpoint(whole)
        load_weights(task, whole["state_dict"])
        return task

    def again(self, round: int, previous: Mapping[str, Any] | None) -> str:
        """Do the fit of a round again, without a test and unheard by loggers; its checkpoint.

        Args:
            round: at which the datamodule stands.
            previous: weights to go on from.
        """
        task = self.recipe.build_task(self.seed, round, previous)
        trainer = self.recipe.build_trainer((), self.folder, family_of(task))
        if trainer.loggers:  # some callbacks insist on one
            trainer.loggers = [dummy_logger(trainer)]
        where: dict[str, Any] = {"seed": self.seed, "round": round, "ranks": self.ranks}
        with at(self.threads):
            fit_round(task, self.recipe, self.datamodule, trainer, **where)
        return self.keep(trainer, task, round)

    def refit(self, recipe: Recipe, datamodule: Any, *, seed: int, round: int) -> Any:
        """A module fitted on other data than the run's, on one device."""
        with at(self.threads):
            return refit(recipe, datamodule, seed=seed, round=round)

    def refits(
        self, recipe: Recipe, datamodules: Sequence[Any], *, seed: int, round: int
    ) -> list[Any]:
        """Several :meth:`refit`, one for each data module."""
        return [self.refit(recipe, data, seed=seed, round=round) for data in datamodules]

    def judge(self, trial: TrialFit, *, round: int, previous: Any = None) -> dict[str, float]:
        """What a module logs in a validation after a fit to other data; see :class:`TrialFit`.

        Raises:
            Diverged: weights that are not finite.
        """
        return self.judged_by(LIGHTNING, trial, round, previous)

    def judged_by(
        self, engine: Engine, trial: TrialFit, round: int, previous: Any
    ) -> dict[str, float]:
        """:meth:`judge` by an engine; nothing where the fit was ended by its watch."""
        return judged(self, engine, trial, round, previous)

    def trial_trainer(
        self, engine: Engine, recipe: Recipe, callbacks: Sequence[Any], folder: Path, family: Any
    ) -> Any:
        """A Trainer for a fit of which nobody hears."""
        trainer = recipe.build_trainer(callbacks, folder, family)
        if trainer.loggers:  # some callbacks insist on one
            trainer.loggers = [dummy_logger(trainer)]
        return trainer

    def fresh(self, round: int) -> Any:
        """The module of a round as it is built, never fitted."""
        return self.recipe.build_task(self.seed, round, None)

    def trainer(self, task: Any) -> Any:
        """A Trainer for its device and precision: that of the last fit, or a fresh one."""
        if self._trainer is None or not isinstance(self._trainer, family_of(task).Trainer):
            self._trainer = self.recipe.build_trainer((), self.folder, family_of(task))
        return self._trainer


def fit_round(
    module: Any,
    recipe: Recipe,
    datamodule: Any,
    trainer: Any,
    *,
    seed: int,
    round: int,
    ranks: Ranks = ALONE,
) -> Any:
    """Fit a fresh module on the labelled set; all ranks end with rank 0's weights; the Trainer.

    Raises:
        ValueError: the fit saw no batch, or its weights are not finite.
    """
    alone = ranks.size > 1 and getattr(module, "full_batch", False)
    data = bridged(datamodule, family_of(trainer))

    def fit() -> None:
        ours = _on_one_device(recipe, trainer) if alone else trainer
        limit = ours.limit_val_batches
        if datamodule.val_dataloader() == []:
            ours.limit_val_batches = 0  # or Lightning would look for a validation set each epoch
        with seeded(seed, round, "fit"), quietly(), _as_it_was(datamodule):
            ours.fit(module, datamodule=data)
        ours.limit_val_batches = limit
        if ours.interrupted:
            raise KeyboardInterrupt
        if alone and recipe.restore == "best":
            load_best(module, ours)

    if alone:
        ranks.on_zero(fit)
    else:
        with fitting(ranks):
            fit()
        if recipe.restore == "best":
            ranks.together(lambda: None if ranks.rank else load_best(module, trainer))
    ranks.sync_weights(module)
    refuse_diverged(module, round)
    return trainer


@contextmanager
def _as_it_was(datamodule: Any) -> Iterator[None]:
    """Afterwards the data come in batches as before: ``BatchSizeFinder`` looks each time anew."""
    before = getattr(datamodule, "batch_size", None)
    try:
        yield
    finally:
        if before is not None and datamodule.batch_size != before:
            datamodule.batch_size = before


def _on_one_device(recipe: Recipe, trainer: Any) -> Any:
    """A Trainer for rank 0 alone: tasks fitted on all data at once are not split over ranks."""
    arguments = {k: v for k, v in recipe.arguments().items() if k not in ("strategy", "num_nodes")}
    ours = [c for c in trainer.callbacks if getattr(c, "counts_batches", False)]
    lone = Recipe(recipe.task, {**arguments, "devices": 1}, loggers=recipe.loggers)
    return lone.build_trainer(ours, family=family_of(trainer))


def _read(path: str) -> Mapping[str, Any]:
    # written by this fit a moment ago; hyper-parameters may be of any class
    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return state


def load_best(module: Any, trainer: Any, read: Callable[[str], Mapping[str, Any]] = _read) -> None:
    """Put the weights of the fit's ModelCheckpoint into the module.

    Args:
        module: that was fitted.
        trainer: of the fit.
        read: gives a checkpoint by its path.

    Raises:
        ValueError: there is none that looks at a metric.
    """
    for callback in trainer.callbacks:
        if is_a(callback, "callbacks.ModelCheckpoint"):
            best: Any = callback
            if best.monitor and best.best_model_path:
                state = read(best.best_model_path)
                module.on_load_checkpoint(state)
                load_weights(module, state["state_dict"])
                return
    raise ValueError(
        "restore='best' needs a ModelCheckpoint with a monitor among the Trainer's callbacks, "
        "and a validation set for it to look at"
    )


def test_round(module: Any, datamodule: Any, trainer: Any) -> dict[str, float]:
    """Metrics of the test set by name; none, and a warning, where the module tests nothing."""
    if not overrides("test_step", module):
        warnings.warn(
            f"{type(module).__name__} has no test_step: the run records no test metric",
            stacklevel=2,
        )
        return {}
    with quietly(), _as_it_was(datamodule):
        data = bridged(datamodule, family_of(trainer))
        results = trainer.test(module, datamodule=data, verbose=False)
    return {k: float(v) for result in results for k, v in result.items()}


def validate_round(module: Any, datamodule: Any, trainer: Any) -> dict[str, float]:
    """What a module logs on the validation set of some data, by name; nothing where it logs none.

    Args:
        module: fitted.
        datamodule: gives the validation set.
        trainer: that fitted it.
    """
    with quietly(), _as_it_was(datamodule):
        data = bridged(datamodule, family_of(trainer))
        results = trainer.validate(module, datamodule=data, verbose=False)
    return {k: float(v) for result in results for k, v in result.items()}


LIGHTNING = Engine("lightning", fit_round, test_round, validate_round)


def refit_by(engine: Engine, recipe: Recipe, datamodule: Any, *, seed: int, round: int) -> Any:
    """A module built and fitted on some data by an engine, on one device; not tested.

    Args:
        engine: that fits.
        recipe: of the run; its loggers hear nothing.
        datamodule: at the round.
        seed: of the run.
        round: whose weights and order these are.
    """
    module = recipe.build_task(seed, round, None)
    trainer = recipe.alone(family_of(module))
    engine.fit(module, recipe, datamodule, trainer, seed=seed, round=round)
    module.trainer = None
    return module


def refit(recipe: Recipe, datamodule: Any, *, seed: int, round: int) -> Any:
    """:func:`refit_by` Lightning."""
    return refit_by(LIGHTNING, recipe, datamodule, seed=seed, round=round)


def refits(recipe: Recipe, datamodules: Sequence[Any], *, seed: int, round: int) -> list[Any]:
    """Several :func:`refit`, one for each data module."""
    return [refit(recipe, data, seed=seed, round=round) for data in datamodules]
