"""How one round is written to each kind of Lightning logger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from .records import Round
from .round_tables import AcquiredItem, columns_of
from .thumbnails import as_grid, contained

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Sink", "al_values", "sink_for"]

X_AXIS = "al/n_labelled"
TABLE = "al/acquired"
THUMBNAIL_SIDE = 128  # pixels at most, in W&B tables


def al_values(round: Round) -> dict[str, float]:
    """The ``al/*`` values of one round, such as ``al/n_labelled`` and ``al/test/accuracy``.

    A note of the strategy that holds a number for each of some names is a value each, such as
    ``al/trusted/margin``.
    """
    row: dict[str, Any] = {**round.row()}
    for note, values in round.notes.items():
        if isinstance(values, Mapping):
            row |= {f"{note}/{n}": v for n, v in values.items() if isinstance(v, int | float)}
    return {f"al/{name}": value for name, value in row.items() if not isinstance(value, str)}


class Sink(Protocol):
    """Writes rounds to one logger."""

    def start(self, done: Sequence[Round]) -> None:
        """Before the first new round; ``done`` were committed before a resume."""

    def write(
        self, round: Round, items: Sequence[AcquiredItem], images: Mapping[int, Image]
    ) -> None:
        """One committed round, what it bought, and thumbnails by position in the data set."""


def sink_for(logger: Logger) -> Sink | None:
    """The sink of a logger; None for the CSV logger, whose run folder has ``metrics.csv``."""
    if isinstance(logger, WandbLogger):
        return WandbSink(logger)
    if isinstance(logger, TensorBoardLogger):
        return TensorBoardSink(logger)
    return None if isinstance(logger, CSVLogger) else ScalarSink(logger)


class ScalarSink:
    """Any Lightning logger: ``al/*`` values with the number of labels as step."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def start(self, done: Sequence[Round]) -> None:
        """Write the last round again: a kill may have come between its commit and its log."""
        for round in done[-1:]:
            self.logger.log_metrics(al_values(round), step=round.n_labelled)
            self.logger.save()

    def write(
        self, round: Round, items: Sequence[AcquiredItem], images: Mapping[int, Image]
    ) -> None:
        """Write the values only."""
        self.logger.log_metrics(al_values(round), step=round.n_labelled)
        self.logger.save()


class TensorBoardSink(ScalarSink):
    """TensorBoard: values, a picture of the bought items, and their table as text."""

    logger: TensorBoardLogger

    def write(
        self, round: Round, items: Sequence[AcquiredItem], images: Mapping[int, Image]
    ) -> None:
        """Write values, table and thumbnails with the number of labels as step."""
        writer = self.logger.experiment
        if items:
            writer.add_text(TABLE, _markdown(items), round.n_labelled)
        if images:
            writer.add_image(TABLE, as_grid(list(images.values())), round.n_labelled)
        super().write(round, items, images)


class WandbSink:
    """W&B: ``al/*`` over ``al/n_labelled``, and a table of the bought items with thumbnails.

    No explicit step is passed: W&B's own counter only grows, and rows below it are dropped.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self.logger = logger
        self._known: set[str] = set()

    def start(self, done: Sequence[Round]) -> None:
        """Declare the axis; after a resume, go on above the steps of earlier starts."""
        run = self.logger.experiment
        run.define_metric(X_AXIS)
        run.define_metric("al/*", step_metric=X_AXIS)
        if run.offline and (floor := _steps_used(run, self.logger.save_dir)):
            run.log({"al/resumed_after": len(done)}, step=floor)
        for round in done if run.offline else done[-1:]:  # an online run is resumed, rows and all
            self._log(al_values(round))

    def write(
        self, round: Round, items: Sequence[AcquiredItem], images: Mapping[int, Image]
    ) -> None:
        """Write values and table in one row."""
        row: dict[str, Any] = al_values(round)
        if items:
            row[TABLE] = _wandb_table(items, images)
        self._log(row)

    def _log(self, row: Mapping[str, Any]) -> None:
        run = self.logger.experiment
        for name in row.keys() - self._known - {X_AXIS}:
            # by name too: Lightning declares "*" over its own step, and two globs would compete
            run.define_metric(name, step_metric=X_AXIS)
            self._known.add(name)
        run.log(dict(row))


def _steps_used(run: Any, save_dir: str | Path | None) -> int:
    """A step above all that earlier offline starts of this run used.

    Offline, W&B counts every start from 0 in a folder of its own, and a later sync drops what is
    not above what it has. A row takes more than 16 bytes, so the files' sizes bound their rows.
    """
    files = Path(save_dir or ".").glob(f"wandb/offline-run-*-{run.id}/*.wandb")
    here = Path(run.dir).parent.resolve()
    return sum(f.stat().st_size for f in files if f.parent.resolve() != here) // 16


def _wandb_table(items: Sequence[AcquiredItem], images: Mapping[int, Image]) -> Any:
    import wandb

    pictures = {
        i: wandb.Image(contained(image, THUMBNAIL_SIDE), file_type="png")
        for i, image in images.items()
    }
    names = columns_of(items)
    columns: list[str | int] = [*names, *(["image"] if pictures else [])]
    table = wandb.Table(columns=columns, allow_mixed_types=True)
    for item in items:
        row = [_plain(getattr(item, name)) for name in names]
        table.add_data(*row, *([pictures.get(item.index)] if pictures else []))
    return table


def _plain(label: Any) -> Any:
    return label if label is None or isinstance(label, (bool, int, float, str)) else str(label)


def _markdown(items: Sequence[AcquiredItem]) -> str:
    def cell(value: Any) -> str:
        if value is None:
            return ""
        return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|")

    columns = columns_of(items)
    rows = [columns, ["---"] * len(columns)]
    rows += [[cell(getattr(item, c)) for c in columns] for item in items]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
