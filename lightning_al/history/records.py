"""What a run leaves behind of each round, and of each item that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Past", "Purchase", "Round"]


@dataclass(frozen=True)
class Purchase:
    """One item that was asked for: a line of the ledger, and where its label comes from."""

    index: int  # position in the data set
    round: int  # in which it was chosen
    strategy: str  # that chose it
    score: float | None
    cost: float  # paid so far, in the oracle's unit
    answered: int | None  # the round in which the answer came; None while it waits
    refused: bool = False
    annotators: str = ""  # who answered, where the oracle tells
    time: str = ""  # of the answer, UTC
    fixed: str = ""  # what became of the answer later, in words
    withdrawn: bool = False  # the answer was taken back: nothing is known of the item


@dataclass(frozen=True)
class Round:
    """One committed round: the network fitted on ``n_labelled`` items, and what was bought then."""

    round: int
    n_labelled: int  # items the network of this round was fitted on
    n_pool: int  # candidates left before the acquisition
    metrics: Mapping[str, float]  # "test/accuracy", "val/loss", ... after the fit
    batches: int  # training batches the fit saw
    checkpoint: str | None  # path relative to the run folder; None once it was removed
    seconds_fit: float = 0.0
    seconds_test: float = 0.0
    seconds_score: float = 0.0
    seconds_choose: float = 0.0
    acquired: Sequence[int] = ()  # positions in the data set, first choice first
    scores: Sequence[float] = ()  # of the acquired items; empty for strategies without scores
    refused: Sequence[int] = ()  # asked, but the oracle would not answer
    cost: float = 0.0  # of this round's answers
    notes: Mapping[str, Any] = field(default_factory=dict)
    pending: Sequence[int] = ()  # asked now, answered in a later round
    arrived: Sequence[Purchase] = ()  # asked earlier, answered before this round's fit
    ledger: Sequence[Purchase] = ()  # all that was asked now, first choice first
    amended: Sequence[str] = ()  # what was changed in the run ahead of this round's choice
    settings: Mapping[str, Any] = field(default_factory=dict)  # that were tuned, of this round
    trials: int = 0  # that this round has looked at
    tuned: float | None = None  # the objective of the best one
    seconds_tune: float = 0.0  # of them

    def row(self) -> dict[str, Any]:
        """One line of ``metrics.csv``."""
        late = {"n_pending": len(self.pending), "n_arrived": len(self.arrived)}
        return {
            "round": self.round,
            "n_labelled": self.n_labelled,
            "n_pool": self.n_pool,
            **self.metrics,
            "n_acquired": len(self.acquired),
            "cost": self.cost,
            **(late if self.pending or self.arrived else {}),
            "batches": self.batches,
            "seconds_fit": self.seconds_fit,
            "seconds_test": self.seconds_test,
            "seconds_score": self.seconds_score,
            "seconds_choose": self.seconds_choose,
            **self._tuning(),
            **({"amended": "; ".join(self.amended)} if self.amended else {}),
        }

    def _tuning(self) -> dict[str, Any]:
        """What of a line is there only where the run tunes."""
        if not self.settings:
            return {}
        counts = {"trials": self.trials, "tuned": self.tuned, "seconds_tune": self.seconds_tune}
        return {**counts, **{name: _cell(value) for name, value in self.settings.items()}}


def _cell(value: Any) -> Any:
    """A setting as a table takes it: a list as text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


class Past(Protocol):
    """What pictures and tables need of a history."""

    @property
    def rounds(self) -> Sequence[Round]:
        """First to last."""
        ...

    @property
    def name(self) -> str:
        """For legends."""
        ...
