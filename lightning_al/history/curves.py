"""The learning curve of a run as a picture in its folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_al.files import if_writable

from .history import History
from .metric_names import speaks
from .records import Round

__all__ = ["LearningCurve"]


class LearningCurve:
    """Observer: keeps ``curve.png`` in the run folder up to date.

    Args:
        metric: what to draw; the main test metric by default.
        every: seconds between two pictures while the run goes on; the last one is always drawn.
        file: name in the run folder, .png or .svg.
    """

    def __init__(
        self, metric: str | None = None, every: float = 60.0, file: str = "curve.png"
    ) -> None:
        self.metric = metric
        self.every = every
        self.file = file
        self._run_dir = Path()
        self._name = ""
        self._rounds: list[Round] = []
        self._drawn = 0.0

    def run_started(self, plan: Mapping[str, Any], done: Sequence[Round]) -> None:
        """Take over the rounds of before."""
        self._run_dir, self._name = Path(plan["run_dir"]), str(plan.get("strategy") or "")
        self._rounds = list(done)
        self._drawn = time.monotonic()

    def stage_started(self, round: int, stage: str) -> None:
        """Nothing to draw."""

    def round_ended(self, round: Round, datamodule: Any) -> None:
        """Draw again if the last picture is old."""
        self._rounds.append(round)
        if time.monotonic() - self._drawn >= self.every:
            self._draw(History(self._run_dir, self._rounds, name=self._name))

    def run_ended(self, history: History) -> None:
        """Draw the whole run."""
        self._draw(history)

    def _draw(self, history: History) -> None:
        if self.metric is not None or speaks([history]):
            with if_writable(self._run_dir / self.file):
                history.plot(self._run_dir / self.file, metric=self.metric)
        self._drawn = time.monotonic()
