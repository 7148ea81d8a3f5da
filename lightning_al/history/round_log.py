"""Writes every committed round to the run folder and to the loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_al.files import if_writable

from .history import History
from .records import Round
from .round_tables import AcquiredItem, AcquiredTable, acquired_items, write_metrics_csv
from .sinks import sink_for

if TYPE_CHECKING:
    from PIL.Image import Image
    from pytorch_lightning.loggers import Logger

__all__ = ["RoundLog"]


class RoundLog:
    """Observer: ``metrics.csv``, ``acquired.csv``, and ``al/*`` values and tables in the loggers.

    The two files are always written; a run that goes on rebuilds them whole from the committed
    rounds, so that they are right whatever ended it. The loggers get ``al/n_labelled``,
    ``al/test/accuracy``, ``al/seconds_fit``, … over the number of labels, and what each round
    bought.

    Args:
        loggers: the run's Lightning loggers, the objects the Trainers log to.
        thumbnails: at most so many pictures a round, for data sets of images; 0 for none.
    """

    def __init__(self, loggers: Sequence[Logger] = (), thumbnails: int = 16) -> None:
        if thumbnails < 0:
            raise ValueError(f"thumbnails must be 0 or more, got {thumbnails}")
        self.thumbnails = thumbnails
        self._sinks = [sink for logger in loggers if (sink := sink_for(logger)) is not None]
        self._run_dir = Path()
        self._rounds: list[Round] = []
        self._table = AcquiredTable(self._run_dir)

    def run_started(self, plan: Mapping[str, Any], done: Sequence[Round]) -> None:
        """Take over the rounds of before; ``plan["datamodule"]``, if there, completes the items."""
        self._run_dir = Path(plan["run_dir"])
        self._rounds, self._table = list(done), AcquiredTable(self._run_dir)
        if done:
            with if_writable(self._run_dir):  # a run that is over may lie on a disk that is closed
                write_metrics_csv(self._run_dir, self._rounds)
                if plan.get("datamodule") is not None:
                    self._list_again(plan["datamodule"])
        for sink in self._sinks:
            sink.start(self._rounds)

    def stage_started(self, round: int, stage: str) -> None:
        """Nothing to log."""

    def round_ended(self, round: Round, datamodule: Any) -> None:
        """Write the round everywhere."""
        self._rounds.append(round)
        write_metrics_csv(self._run_dir, self._rounds)
        items = acquired_items(round, datamodule)
        if not self._table.add(items):
            self._list_again(datamodule)
        images = self._images(items, datamodule) if self._sinks else {}
        for sink in self._sinks:
            sink.write(round, items, images)

    def run_ended(self, history: History) -> None:
        """Nothing is open here; the one who built the loggers closes them."""

    def _list_again(self, datamodule: Any) -> None:
        found = [item for round in self._rounds for item in acquired_items(round, datamodule)]
        self._table.rewrite(found)

    def _images(self, items: Sequence[AcquiredItem], datamodule: Any) -> dict[int, Image]:
        thumbnail = getattr(datamodule, "thumbnail", None) or (lambda _: None)
        images = {item.index: thumbnail(item.index) for item in items[: self.thumbnails]}
        return {index: image for index, image in images.items() if image is not None}
