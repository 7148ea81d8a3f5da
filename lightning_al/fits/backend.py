"""Who fits the model of a round: the seam between rounds and whatever trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from lightning_al.history.records import Round
from lightning_al.history.trigger import QueryRule
from lightning_al.records import Due

__all__ = ["FitBackend", "FitRequest", "Fitted"]


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


class FitBackend(Protocol):
    """Answers fit requests; the module is built, fitted, kept and tested."""

    def fit(self, request: FitRequest) -> Fitted:
        """Do one; collective: every rank calls it."""
        ...

    def load(self, checkpoint: Mapping[str, Any], round: int) -> Any:
        """The module of a round from its checkpoint."""
        ...

    def refit(self, recipe: Any, datamodule: Any, *, seed: int, round: int) -> Any:
        """A module fitted on other data than the run's, on one device; unheard by loggers."""
        ...

    def refits(
        self, recipe: Any, datamodules: Sequence[Any], *, seed: int, round: int
    ) -> list[Any]:
        """Several :meth:`refit` at once, one for each data module."""
        ...
