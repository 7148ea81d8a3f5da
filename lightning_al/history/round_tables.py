"""Tables of a run folder: ``metrics.csv`` (a row a round) and ``acquired.csv`` (a row an item).

Both are rebuilt from the committed rounds and replaced whole, so they are right after a resume.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from lightning_al.files import cell, replacing

from .records import Purchase, Round

__all__ = [
    "AcquiredItem",
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

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the columns that every table has."""
        return [f.name for f in fields(cls) if f.name != "x"]


def columns_of(items: Sequence[AcquiredItem]) -> list[str]:
    """Columns of a table of these items; ``x`` only where they have places."""
    places = any(item.x is not None for item in items)
    return [*AcquiredItem.columns(), *(["x"] if places else [])]


def acquired_items(round: Round, datamodule: Any = None) -> list[AcquiredItem]:
    """The items whose answers came in one round: late ones, then its own, first choice first.

    Args:
        round: the committed round.
        datamodule: asked for ``item_path(index)`` and ``answer(index)`` where it has them.
    """
    path = getattr(datamodule, "item_path", None) or (lambda _: None)
    at = getattr(datamodule, "coordinates", None)
    answer = getattr(datamodule, "answer", None) or (lambda _: None)
    refused = set(round.refused)
    scores: Sequence[float | None] = round.scores or [None] * len(round.acquired)
    bought = {p.index: p for p in round.ledger}
    rows = [p for p in round.arrived if not p.refused]
    for i, score in zip(round.acquired, scores, strict=True):
        by_hand = Purchase(i, round.round, "", score, 1.0, round.round)
        rows.append(bought.get(i, by_hand))
    return [
        AcquiredItem(
            round=p.round,
            index=p.index,
            path=path(p.index),
            score=p.score,
            label=None if p.index in refused else answer(p.index),
            strategy=p.strategy,
            cost=p.cost,
            annotators=p.annotators,
            answered=p.answered,
            time=p.time,
            x=None if at is None else at(torch.tensor([p.index]))[0].tolist(),
        )
        for p in rows
    ]


def write_metrics_csv(run_dir: str | Path, rounds: Sequence[Round]) -> Path:
    """Write ``metrics.csv`` anew from all committed rounds; returns its path."""
    rows = [r.row() for r in rounds]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["round", "n_labelled"]
    return _write(Path(run_dir) / "metrics.csv", columns, rows)


def write_acquired_csv(run_dir: str | Path, items: Iterable[AcquiredItem]) -> Path:
    """Write ``acquired.csv`` anew: a row an item, where its label comes from; its path."""
    items = list(items)
    columns = columns_of(items)
    rows = [{name: getattr(item, name) for name in columns} for item in items]
    return _write(Path(run_dir) / "acquired.csv", columns, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return path
