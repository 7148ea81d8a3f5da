"""The regression tables under a sound model: beside what was printed, a constant, and full data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .cells import FOLDS, Cell, compare

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Honest", "constant_reference", "honest"]


@dataclass(frozen=True)
class Honest:
    """One cell of Tables 7 and 8 under a sound model, beside what was printed and references."""

    cell: Cell
    best: float  # of all strategies in the printed row
    constant: float  # a model that always answers the mean of the training part
    full_data: float  # the mean squared error with everything labelled

    @property
    def holds(self) -> bool:
        """Whether it is below the printed cell, and below a constant."""
        return self.cell.folds == FOLDS and self.cell.ours_mean < min(
            float(self.cell.mean), self.constant
        )

    @property
    def tops_the_row(self) -> bool:
        """Whether it is below every printed cell of its row as well."""
        return self.holds and self.cell.ours_mean < self.best


def honest(runs: pd.DataFrame, failed: Mapping[tuple[str, str, str], str]) -> list[Honest]:
    """The cells of Tables 7 and 8 as :func:`compare` gives them, with their references."""
    cells = [c for c in compare(runs, failed) if c.table in (7, 8)]
    found = []
    for cell in cells:
        row = [float(c.mean) for c in cells if (c.data, c.start) == (cell.data, cell.start)]
        full = math.nan
        constant = math.nan
        if cell.folds:
            here = runs[runs["data"] == cell.data]
            full = float(here.loc[here["takes_all"].astype(bool), "final"].mean())  # of any start
            mine = here[(here["strategy"] == cell.strategy) & (here["start"] == cell.start)]
            constant = constant_reference(
                cell.data, dict(zip(mine["fold"], mine["fits"], strict=True))
            )
        found.append(Honest(cell, min(row), constant, full))
    return found


def constant_reference(data: str, fits: Mapping[int, int]) -> float:
    """Area, by the rule "unit-steps", of always answering the mean of the training part.

    Args:
        data: name of the data set, in its published variant.
        fits: points of the curve, by fold.
    """
    from lightning_al.datamodules import named as datasets

    table = datasets.load(data, "published")
    targets = table.targets.double().flatten()
    areas = []
    for fold, n in fits.items():
        train, test = datasets.split(
            table.targets, int(fold), FOLDS, stratified=False, seed=table.fold_seed
        )
        error = (targets[test] - targets[train].mean()).square().mean()
        areas.append(float(error) * (n - 1) / n)
    return float(np.mean(areas)) if areas else math.nan
