"""The cells of PyRelationAL's Tables 5 to 8 (Scherer et al. 2022), and what came out here."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FOLDS", "Cell", "compare", "published"]

FOLDS = 5
"""Of each cell, published and here."""


@dataclass(frozen=True)
class Cell:
    """One cell of Tables 5 to 8, and what came out here."""

    table: int
    data: str
    start: str
    strategy: str
    mean: str  # as printed
    deviation: str
    required: str  # the verdict that `pyrelational/exact` insists on; empty for none
    ours_mean: float = math.nan
    ours_deviation: float = math.nan
    folds: int = 0
    why: str = ""  # it was not run

    @property
    def verdict(self) -> str:
        """``exact | within 0.1 % | within one deviation | differs | not run: why``."""
        if self.folds < FOLDS:
            why = self.why.splitlines()[0] if self.why else f"{self.folds} of {FOLDS} folds"
            return f"not run: {why}"
        ours = f"{self.ours_mean:.4f}", f"{self.ours_deviation:.4f}"
        if ours == (self.mean, self.deviation):
            return "exact"
        gap = abs(self.ours_mean - float(self.mean))
        if gap <= 1e-3 * abs(float(self.mean)):
            return "within 0.1 %"
        return "within one deviation" if gap <= float(self.deviation) else "differs"

    @property
    def fails(self) -> bool:
        """Whether it is required to be better than it is."""
        met = {"exact": ("exact",), "within 0.1 %": ("exact", "within 0.1 %")}
        return self.required != "" and self.verdict not in met[self.required]


def published() -> Iterator[Cell]:
    """All 190 cells of Tables 5 to 8."""
    text = (files("lightning_al.studies.pyrelational") / "pyrelational.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        yield Cell(**{**row, "table": int(row["table"])})  # type: ignore[arg-type]


def compare(runs: pd.DataFrame, failed: Mapping[tuple[str, str, str], str]) -> list[Cell]:
    """Each published cell with mean and population deviation of the areas over the five folds.

    Args:
        runs: one row a run (:func:`.summary.per_run`), its area by the rule "unit-steps".
        failed: why runs failed, by data set, start and strategy.
    """
    found: list[Cell] = []
    for cell in published():
        key = (cell.data, cell.start, cell.strategy)
        mine: Any = np.empty(0)
        if len(runs):
            here = (runs["data"] == key[0]) & (runs["start"] == key[1])
            mine = runs.loc[here & (runs["strategy"] == key[2]), "area"].to_numpy()
        changes = {"folds": len(mine), "why": failed.get(key, "")}
        if len(mine):
            changes |= {"ours_mean": mine.mean(), "ours_deviation": mine.std()}
        found.append(replace(cell, **changes))  # type: ignore[arg-type]
    return found
