"""Who fits the model of a round: the seam between rounds and whatever trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from lightning_al.history.records import Round
from lightning_al.history.trigger import QueryRule
from lightning_al.records import Due

__all__ = ["FitBackend", "FitRequest", "Fitted", "TrialFit", "Watch"]


@dataclass(frozen=True)
class FitRequest:
    """One round's fit and test.

    Args:
        round: of the run; keys all draws.
        rule: what follows the fit.
        previous: weights to go on from, where the weights policy asks for any.
        done: the rounds before.
        figures: metrics of the round that its fit does not log.
    """

    round: int
    rule: QueryRule
    previous: Mapping[str, Tensor] | None = None
    done: Sequence[Round] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What came of a fit: the module, what it logged, and what follows."""

    task: Any  # the module, on all ranks with the weights of rank 0
    metrics: Mapping[str, float]
    batches: int  # training batches that it saw
    due: Due
    checkpoint: str  # relative to the run folder
    seconds_fit: float
    seconds_test: float
    backend: str = "lightning"  # that did it
    reason: str = ""  # why not another, where the run wants one
    stack: Sequence[str] = ()  # runs that were fitted as one, this one among them


@dataclass(frozen=True)
class Watch:
    """Looks at a metric while a fit goes on, and may end it.

    Args:
        metric: that a validation logs.
        begin: called when the fit begins, or begins anew.
        report: takes in (share of the fit in (0, 1], value); whether to end it. Collective.
    """

    metric: str
    begin: Callable[[], None]
    report: Callable[[float, float], bool]


@dataclass(frozen=True)
class TrialFit:
    """A fit that is only judged: nothing of it is kept, tested or told.

    Args:
        recipe: under the settings of the trial, without loggers.
        data: that it is fitted on.
        judge: whose validation set judges it.
        watch: looks at it meanwhile; None for nobody. A fit that it ends is not judged.
    """

    recipe: Any
    data: Any
    judge: Any
    watch: Watch | None = None


class FitBackend(Protocol):
    """Answers fit requests; the module is built, fitted, kept and tested."""

    def fit(self, request: FitRequest) -> Fitted:
        """Do one; collective: every rank calls it."""
        ...

    def load(self, checkpoint: Mapping[str, Any], round: int) -> Any:
        """The module of a round from its checkpoint."""
        ...

    def judge(self, trial: TrialFit, *, round: int, previous: Any = None) -> dict[str, float]:
        """What a module logs in a validation after a fit to other data; collective."""
        ...

    def refit(self, recipe: Any, datamodule: Any, *, seed: int, round: int) -> Any:
        """A module fitted on other data than the run's, on one device; unheard by loggers."""
        ...

    def refits(
        self, recipe: Any, datamodules: Sequence[Any], *, seed: int, round: int
    ) -> list[Any]:
        """Several :meth:`refit` at once, one for each data module."""
        ...
