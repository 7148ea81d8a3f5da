"""Rounds: the driver, its journal, and everything a round does."""

from lightning_al.history.records import History, Round
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
