"""What a round asks for while it goes: each request is answered by whoever drives it.

A round touches no Trainer, no file and no other process; so one driver may answer many rounds, and
a backend may answer the fits of many at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from lightning_al.history.records import Round
from lightning_al.history.trigger import QueryRule
from lightning_al.records import Acquisition, Pool

__all__ = [
    "Ask",
    "Choose",
    "Chosen",
    "Collect",
    "Contents",
    "Fit",
    "Load",
    "Request",
    "Score",
    "Scored",
    "Try",
    "Unpaid",
    "Write",
]


@dataclass(frozen=True)
class Request:
    """Anything a round asks for."""

    stage: ClassVar[str] = ""  # that it belongs to; shown, timed and seeded by it


@dataclass(frozen=True)
class Collect(Request):
    """What has come for items that wait: answered by ``Answers`` or ``Later``."""

    stage: ClassVar[str] = "collect"
    index: Tensor  # [W]
    asked: Tensor  # [W], the rounds in which they were asked for


@dataclass(frozen=True)
class Unpaid(Request):
    """Why nothing can be paid any more: answered by a text, empty where something can."""


@dataclass(frozen=True)
class Try(Request):
    """The next trial of settings: answered by a line and its fields, or None."""

    stage: ClassVar[str] = "tune"


@dataclass(frozen=True)
class Fit(Request):
    """The fit and test of a round: answered by ``Fitted``."""

    stage: ClassVar[str] = "fit"
    rule: QueryRule
    done: Sequence[Round] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Load(Request):
    """The module of a checkpoint."""

    checkpoint: str


@dataclass(frozen=True)
class Score(Request):
    """The candidates, scored: answered by :class:`Scored`."""

    stage: ClassVar[str] = "score"
    model: Any  # fitted; None where nothing is labelled


@dataclass(frozen=True)
class Scored:
    """The candidates as the strategy will see them; None on ranks that do not choose."""

    pool: Pool | None
    n: int
    seconds: float


@dataclass(frozen=True)
class Choose(Request):
    """Which candidates: answered by :class:`Chosen`."""

    stage: ClassVar[str] = "choose"
    pool: Pool | None
    count: int


@dataclass(frozen=True)
class Chosen:
    """A choice as the journal has it."""

    acquisition: Acquisition
    strategy: str  # that made it
    memory: str = ""  # where the strategy's memory lies


@dataclass(frozen=True)
class Contents(Request):
    """What some items are: answered by a text each."""

    index: Tensor  # [K]


@dataclass(frozen=True)
class Ask(Request):
    """Answers for items: answered by ``Answers`` or ``Later``."""

    stage: ClassVar[str] = "ask"
    index: Tensor  # [K]
    contents: Sequence[str] | None = None  # what they were when they were first asked for


@dataclass(frozen=True)
class Write(Request):
    """One line of the journal: answered by the line as a reader gets it."""

    event: str
    fields: Mapping[str, Any]
