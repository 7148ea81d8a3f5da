"""The history of a run: all its committed rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .records import Purchase, Round
from .shown import as_html, as_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["History"]


@dataclass(frozen=True, repr=False)
class History:
    """All committed rounds of one run, first to last."""

    run_dir: Path
    rounds: Sequence[Round]
    stopped: str = ""  # why the run ended; empty while it has not
    name: str = ""  # of the strategy, for legends
    waiting: bool = False  # somebody must answer before the same call goes on
    failed: bool = False  # an error ended it, which `stopped` names

    def __len__(self) -> int:
        return len(self.rounds)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

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
