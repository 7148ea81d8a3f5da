"""BALSA's published figures (Werner and Schmidt-Thieme 2025), and what came out here.

The areas of Parkinsons are printed in a legend; all others are read off the authors' pictures, to
one or two per cent of an axis. All are in units of the targets' range.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CLOSE", "COLUMNS", "Beside", "Figure", "beside", "published"]

CLOSE = 0.25
"""By which share of a published figure ours may be off to count as near."""

COLUMNS = {"mae": "test/mae_mode", "nll": "test/nll"}
"""Measure -> the metric that is the same; their MAE is that of a sampled mode."""

WORDS = {"area": "mean over the curve", "end": "at the end", "full": "on full data"}


@dataclass(frozen=True)
class Figure:
    """One published figure."""

    data: str
    head: str  # flow or gaussian
    query_size: int
    strategy: str
    measure: str  # mae or nll
    at: str  # area, end, full, or a number of labels
    value: float
    about: str  # why it is read with less care; empty for none

    @property
    def what(self) -> str:
        """In words."""
        return f"{self.measure.upper()} {WORDS.get(self.at, f'at {self.at} labels')}"


@dataclass(frozen=True)
class Beside:
    """A published figure and the runs of it."""

    figure: Figure
    values: Sequence[float]  # of the runs, [] where there is none

    @property
    def mean(self) -> float:
        """Of the runs; NaN without one."""
        return float(np.mean(self.values)) if len(self.values) else math.nan

    @property
    def spread(self) -> str:
        """The least and the largest of the runs; empty for fewer than two."""
        if len(self.values) < 2:
            return ""
        return f"{min(self.values):.4f} to {max(self.values):.4f}"

    @property
    def near(self) -> bool:
        """Whether the mean of the runs is within a quarter of what was published."""
        return abs(self.mean - self.figure.value) <= CLOSE * abs(self.figure.value)


def published() -> Iterator[Figure]:
    """All figures."""
    text = (files("lightning_al.studies.balsa") / "balsa.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        changes = {"query_size": int(row["query_size"]), "value": float(row["value"])}
        yield Figure(**{**row, **changes})  # type: ignore[arg-type]


def beside(figures: Iterable[Figure], frame: pd.DataFrame) -> list[Beside]:
    """Each figure with what the runs of its place and strategy have.

    Args:
        figures: of one place or several.
        frame: the tidy table, a row a round; those of failed runs are left out.
    """
    done = frame[frame["status"] == "done"] if len(frame) else frame
    return [Beside(figure, _values(figure, done)) for figure in figures]


def _values(figure: Figure, done: pd.DataFrame) -> list[float]:
    column = COLUMNS[figure.measure]
    if not len(done) or column not in done:
        return []
    here = (done["data"] == figure.data) & (done["model"] == figure.head)
    here &= done["query_size"] == figure.query_size
    full = figure.at == "full"
    here &= done["takes_all"].astype(bool) == full
    if not full:
        here &= done["strategy"] == figure.strategy
    found = [
        _of_run(figure, run.sort_values("round"), column) for _, run in done[here].groupby("run_id")
    ]
    return [value for value in found if math.isfinite(value)]


def _of_run(figure: Figure, run: pd.DataFrame, column: str) -> float:
    run = run.dropna(subset=[column])
    if not len(run):
        return math.nan
    values = run[column].to_numpy(dtype=float)
    if figure.at == "area":
        return float(values.mean())
    if figure.at in ("end", "full"):
        return float(values[-1])
    labels = run["n_labelled"].to_numpy()
    nearest = int(np.abs(labels - int(figure.at)).argmin())
    reached = abs(int(labels[nearest]) - int(figure.at)) < figure.query_size
    return float(values[nearest]) if reached else math.nan
