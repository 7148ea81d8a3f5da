"""Rounds: the driver, the stages of a round, and who answers what they ask for."""

from __future__ import annotations

from lightning_al.history.history import History
from lightning_al.history.records import Round
from lightning_al.journal.journal import JournalError

from .driver import ActiveLearner
from .stopping import MetricTarget, NoImprovement

__all__ = [
    "ActiveLearner",
    "History",
    "JournalError",
    "MetricTarget",
    "NoImprovement",
    "Round",
]
