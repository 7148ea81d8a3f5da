"""Tables of a run folder: ``metrics.csv`` (a row a round) and ``acquired.csv`` (a row an item).

Both can be rebuilt from the committed rounds, and are at each start of a run: what a crash left of
them does not matter, so none is forced to the disk.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from lightning_al.files import cell, disk_errors, replacing

from .records import Purchase, Round

__all__ = [
    "AcquiredItem",
    "AcquiredTable",
    "acquired_items",
    "columns_of",
    "write_acquired_csv",
    "write_metrics_csv",
]


@dataclass(frozen=True)
class AcquiredItem:
    """One bought item: a row of ``acquired.csv``."""

    round: int  # in which it was chosen
    index: int  # position in the data set
    path: str | None  # its file, for data sets made of files
    score: float | None
    label: Any  # the answer, a plain value; None where the oracle refused
    strategy: str = ""  # that chose it
    cost: float | None = None
    annotators: str = ""  # who answered, where the oracle tells
    answered: int | None = None  # the round in which the answer came
    time: str = ""  # of the answer, UTC
    x: Any = None  # its place, where the domain is a box
    fixed: str = ""  # what became of the answer later

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the columns that every table has."""
        return [f.name for f in fields(cls) if f.name not in ("x", "fixed")]


def columns_of(items: Sequence[AcquiredItem]) -> list[str]:
    """Columns of a table of these items; ``x`` where they have places, ``fixed`` where one was."""
    places = any(item.x is not None for item in items)
    fixed = any(item.fixed for item in items)
    more = [*(["x"] if places else []), *(["fixed"] if fixed else [])]
    return [*AcquiredItem.columns(), *more]


def acquired_items(round: Round, datamodule: Any = None) -> list[AcquiredItem]:
    """The items whose answers came in one round: late ones, then its own, first choice first.

    Args:
        round: the committed round.
        datamodule: asked for ``item_path(index)``, ``answers_to(indices)`` or ``answer(index)``,
            and ``coordinates(indices)``, where it has them.
    """
    refused = set(round.refused)
    scores: Sequence[float | None] = round.scores or [None] * len(round.acquired)
    bought = {p.index: p for p in round.ledger}
    rows = [p for p in round.arrived if not p.refused]
    for i, score in zip(round.acquired, scores, strict=True):
        asked = bought.get(i)
        rows.append(asked or Purchase(i, round.round, "", score, 1.0, round.round))
    path = getattr(datamodule, "item_path", None) or (lambda _: None)
    known = [p.index for p in rows if p.index not in refused and not p.withdrawn]
    labels = _answers(known, datamodule)
    places = _places([p.index for p in rows], datamodule)
    return [
        AcquiredItem(
            round=p.round,
            index=p.index,
            path=path(p.index),
            score=p.score,
            label=None if p.withdrawn else labels.get(p.index),
            strategy=p.strategy,
            cost=p.cost,
            annotators=p.annotators,
            answered=p.answered,
            time=p.time,
            x=places.get(p.index),
            fixed=p.fixed,
        )
        for p in rows
    ]


def _answers(index: Sequence[int], datamodule: Any) -> dict[int, Any]:
    """What was answered to some items [K], by item."""
    if (many := getattr(datamodule, "answers_to", None)) is not None and index:
        return dict(zip(index, many(torch.tensor(index)), strict=True))
    one = getattr(datamodule, "answer", None) or (lambda _: None)
    return {i: one(i) for i in index}


def _places(index: Sequence[int], datamodule: Any) -> dict[int, Any]:
    """Where some items [K] of a box lie, by item; nothing where the domain is finite."""
    at = getattr(datamodule, "coordinates", None)
    if at is None or not index:
        return {}
    return dict(zip(index, at(torch.tensor(index)).tolist(), strict=True))


def write_metrics_csv(run_dir: str | Path, rounds: Sequence[Round]) -> Path:
    """Write ``metrics.csv`` anew from all committed rounds; returns its path."""
    rows = [r.row() for r in rounds]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["round", "n_labelled"]
    return _write(Path(run_dir) / "metrics.csv", columns, rows)


def write_acquired_csv(run_dir: str | Path, items: Iterable[AcquiredItem]) -> Path:
    """Write ``acquired.csv`` anew: a row an item, where its label comes from; its path."""
    table = AcquiredTable(Path(run_dir))
    table.rewrite(list(items))
    return table.path


class AcquiredTable:
    """``acquired.csv``, to which each round adds its rows.

    Rows are added only to the file as it was left; one that was changed or lost meanwhile, or that
    needs another column, must be written anew.

    Args:
        run_dir: the run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "acquired.csv"
        self._columns: list[str] | None = None  # of the file; None before it was written
        self._size = 0  # bytes

    def rewrite(self, items: Sequence[AcquiredItem]) -> None:
        """The file anew, of these items alone; the old one or the new one stands at any time."""
        columns = columns_of(items)
        with replacing(self.path, sync=False) as temporary:
            data = (_line(columns) + _lines(items, columns)).encode()
            temporary.write_bytes(data)
        self._columns, self._size = columns, len(data)

    def add(self, items: Sequence[AcquiredItem]) -> bool:
        """Add rows; False, and nothing is done, where the file must be written anew instead.

        Raises:
            OSError: the disk would not take it.
        """
        if self._columns is None or not {*columns_of(items)} <= {*self._columns}:
            return False
        try:
            if self.path.stat().st_size != self._size:
                return False
        except FileNotFoundError:
            return False
        data = _lines(items, self._columns).encode()
        failed = f"cannot write {self.path}"
        with disk_errors(failed, self.path.parent, len(data)), open(self.path, "ab") as file:
            file.write(data)
        self._size += len(data)
        return True


def _lines(items: Sequence[AcquiredItem], columns: Sequence[str]) -> str:
    """Lines of a table."""
    text = io.StringIO()
    values = attrgetter(*columns)
    csv.writer(text, lineterminator="\n").writerows(map(cell, values(item)) for item in items)
    return text.getvalue()


def _line(columns: Sequence[str]) -> str:
    """The first line of a table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    return text.getvalue()


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    with (
        replacing(path, sync=False) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return path
