"""What a run leaves behind: one record a round, and the history of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["History", "Purchase", "Round"]


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
        }


@dataclass(frozen=True)
class History:
    """All committed rounds of one run, first to last."""

    run_dir: Path
    rounds: Sequence[Round]
    stopped: str = ""  # why the run ended; empty while it has not
    name: str = ""  # of the strategy, for legends
    waiting: bool = False  # somebody must answer before the same call goes on
    failed: bool = False  # an error ended it; ``stopped`` says which

    def __len__(self) -> int:
        return len(self.rounds)

    @property
    def final_checkpoint(self) -> Path | None:
        """Checkpoint of the last round; loads with ``Task.load_from_checkpoint``."""
        kept = [r.checkpoint for r in self.rounds if r.checkpoint]
        return self.run_dir / kept[-1] if kept else None

    @property
    def acquired(self) -> list[int]:
        """Everything that was answered, in the order of the answers."""
        found: list[int] = []
        for r in self.rounds:
            found += [late.index for late in r.arrived if not late.refused]
            found += r.acquired
        return found

    @property
    def ledger(self) -> list[Purchase]:
        """Every item that was asked for, in the order of asking: by whom, at what cost."""
        lines: dict[int, Purchase] = {}
        for r in self.rounds:
            lines |= {late.index: late for late in r.arrived}
            lines |= {bought.index: bought for bought in r.ledger}
        return list(lines.values())

    @property
    def costs(self) -> list[float]:
        """What each round cost, in the oracle's unit."""
        return [r.cost for r in self.rounds]

    @property
    def cost(self) -> float:
        """What all answers cost together."""
        return sum(self.costs)

    def to_frame(self) -> pd.DataFrame:
        """A row a round: ``round, n_labelled, test/<metric>, seconds_fit, …``."""
        import pandas as pd

        return pd.DataFrame([r.row() for r in self.rounds])

    def plot(
        self,
        path: str | Path | None = None,
        *,
        metric: str | None = None,
        beside: Sequence[History] = (),
    ) -> Figure:
        """Learning curve: ``metric`` on the test set against the number of labels.

        Args:
            path: where to save the picture (PNG or SVG by suffix); nothing is saved without.
            metric: which column; the first test metric by default.
            beside: further runs drawn into the same axes.
        """
        from .plots import learning_curve

        return learning_curve([self, *beside], metric=metric, path=path)
