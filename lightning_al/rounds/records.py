"""What a run leaves behind: one record a round, and the history of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["History", "Round"]


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

    def row(self) -> dict[str, Any]:
        """One line of ``metrics.csv``."""
        return {
            "round": self.round,
            "n_labelled": self.n_labelled,
            "n_pool": self.n_pool,
            **self.metrics,
            "n_acquired": len(self.acquired),
            "cost": self.cost,
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

    def __len__(self) -> int:
        return len(self.rounds)

    @property
    def final_checkpoint(self) -> Path | None:
        """Checkpoint of the last round; loads with ``Task.load_from_checkpoint``."""
        kept = [r.checkpoint for r in self.rounds if r.checkpoint]
        return self.run_dir / kept[-1] if kept else None

    @property
    def acquired(self) -> list[int]:
        """Everything bought, in the order of buying."""
        return [i for r in self.rounds for i in r.acquired]

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
