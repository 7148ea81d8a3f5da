"""Who watches a run: those that were given, and those that write its tables and picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .curves import LearningCurve
from .round_log import RoundLog

if TYPE_CHECKING:
    from lightning_al.protocols import RunObserver

__all__ = ["with_files"]


def with_files(observers: Sequence[RunObserver], loggers: Sequence[Any]) -> tuple[Any, ...]:
    """Observers, ahead of them what writes ``metrics.csv``, ``acquired.csv`` and ``curve.png``.

    Args:
        observers: those that were given; one that writes these files already is enough.
        loggers: of the run, which are told of its rounds too.
    """
    more: list[Any] = []
    if not any(isinstance(each, RoundLog) for each in observers):
        more.append(RoundLog(loggers))
    if not any(isinstance(each, LearningCurve) for each in observers):
        more.append(LearningCurve())
    return (*more, *observers)
