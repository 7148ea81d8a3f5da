"""What a run is made of; :mod:`.run` does it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from lightning_al.fits.recipe import Recipe
from lightning_al.history.history import History
from lightning_al.history.observers import with_files
from lightning_al.oracles import SimulatedOracle
from lightning_al.protocols import remembers
from lightning_al.records import RunPlan
from lightning_al.records.plan import options_of
from lightning_al.rehearsal import check_handed
from lightning_al.scoring.cold import serves_cold
from lightning_al.tuning import Tuning

from .parts import Parts, strategy_name
from .run import Run

if TYPE_CHECKING:
    from lightning_al.protocols import RunObserver

__all__ = ["ActiveLearner"]


@dataclass(frozen=True)
class _Given:
    """The live objects that a learner is given, ahead of the options."""

    task: Any
    datamodule: Any
    trainer: Mapping[str, Any] | Callable[[], Any] | None = field(default=None, kw_only=True)
    loggers: Sequence[Any] = field(default=(), kw_only=True)
    observers: Sequence[RunObserver] = field(default=(), kw_only=True)
    config: Mapping[str, Any] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ActiveLearner(RunPlan, _Given):
    """Trains, scores, chooses, asks and trains again, until the budget is spent.

    The same call on the same run folder goes on where a killed run stopped; a finished one is
    only read back.

    Args:
        task: builds a fresh LightningModule (a class, a function), or one to copy each round (its
            weights are then where each fit starts, and part of what makes a run the same run).
        datamodule: an ``ActiveDataModule``, or another of :mod:`lightning_al.datamodules`.
        trainer: Trainer arguments (copied anew each round) or a function that builds a Trainer.
        loggers: Lightning loggers, shared by all rounds.
        observers: watchers of the run (progress bar, logs), beside those that write ``files``;
            rank 0 calls them.
        config: plain values that identify the run; derived from the arguments by default.
    """

    @classmethod
    def from_plan(cls, plan: RunPlan, parts: Parts) -> ActiveLearner:
        """The learner of a plan, whose parts were built already."""
        live = {f.name: getattr(parts, f.name) for f in fields(parts)}
        if plan.first is None:
            live["first"] = None
        options = {
            each.name: live.get(each.name, getattr(plan, each.name)) for each, _ in options_of(plan)
        }
        return cls(**options, **{f.name: live[f.name] for f in fields(_Given)})

    def parts(self) -> Parts:
        """The live objects: what is named by a specification is built.

        Raises:
            LookupError, ValueError: a specification of nothing.
        """
        from lightning_al.assembly.families import built  # inside: a composition root
        from lightning_al.strategies import resolve

        check_handed(self.task, self.datamodule, self.trainer)
        strategy: Any = _own(resolve(self.strategy))
        name = strategy_name(self.strategy, strategy)
        if self.first is not None:
            first = _own(resolve(self.first))
            first_name = strategy_name(self.first, first)
        elif serves_cold(strategy):
            first, first_name = strategy, name
        else:
            first, first_name = resolve("random"), "random"
        return Parts(
            task=self.task,
            datamodule=self.datamodule,
            strategy=strategy,
            name=name,
            first=first,
            first_name=first_name,
            oracle=built("oracle", self.oracle) or SimulatedOracle(),
            trainer=self.trainer,
            posterior=built("posterior", self.posterior),
            adapter=self.adapter,
            features=built("features", self.features),
            stopping=tuple(built("stopping", rule) for rule in self.stopping),
            tuning=Tuning.of(self.tuning),
            loggers=self.loggers,
            observers=with_files(self.observers, self.loggers) if self.files else self.observers,
            config=self.config,
        )

    def recipe(self) -> Recipe:
        """How the fits of this learner are made."""
        return self.parts().recipe(self)

    def run(self) -> History:
        """Run, or go on with, all rounds.

        Raises:
            ValueError, LookupError: a setting that cannot work, before anything is fitted.
            JournalError: a damaged journal, or a run folder of another configuration.
        """
        return Run(self, self.parts()).rounds()

    def with_(self, **changes: Any) -> ActiveLearner:
        """The same learner with some arguments changed."""
        return replace(self, **changes)


def _own(strategy: Any) -> Any:
    """A strategy as a run has it: one that learns is copied, so that each run begins alike."""
    return copy.deepcopy(strategy) if remembers(strategy) else strategy


ActiveLearner.__doc__ = "\n".join(
    [
        (ActiveLearner.__doc__ or "").rstrip(),
        *(f"        {each.name}: {facts.help}." for each, facts in options_of(ActiveLearner)),
        "    ",
    ]
)
