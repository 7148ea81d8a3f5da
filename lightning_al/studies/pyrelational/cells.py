"""The tables of PyRelationAL (Scherer et al. 2022): their strategies, and ours beside theirs.

The strategies here choose as the published code did: on scores in float64 and by the first of
equal ones, not by a random one. For everything else there are the registered strategies.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool
from lightning_al.scores.regression import expected_improvement

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    *("Cell", "Honest", "PublishedStrategy", "compare", "constant_reference", "honest"),
    "published",
]

Scores = Callable[[Pool, Tensor], Tensor]


def _moments(pool: Pool, inputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = pool.bench.task.moments(inputs)
    return mean[:, 0], variance[:, 0]


def _probs(pool: Pool, inputs: Tensor) -> Tensor:
    """Class probabilities [N, C], sorted, the largest first."""
    probs: Tensor = pool.bench.task.probabilities(inputs)
    return probs.reshape(len(inputs), -1).double().sort(dim=1, descending=True).values


def _least_confidence(pool: Pool, inputs: Tensor) -> Tensor:
    if pool.context.classes is None:
        return _moments(pool, inputs)[1].sqrt()
    return 1 - _probs(pool, inputs)[:, 0]


def _bald(pool: Pool, inputs: Tensor) -> Tensor:
    return 0.5 * torch.log1p(_moments(pool, inputs)[1])


def _improvement(pool: Pool, inputs: Tensor) -> Tensor:
    mean, variance = _moments(pool, inputs)
    targets = pool.context.targets
    best = -math.inf if targets is None else float(targets.double().max())
    members = mean.double()[:, None, None], variance.double()[:, None, None]  # [N, S = 1, D = 1]
    return expected_improvement(*members, best=best, xi=0.01)


def _margin(pool: Pool, inputs: Tensor) -> Tensor:
    probs = _probs(pool, inputs)
    return 1 - (probs[:, 0] - probs[:, 1])


def _entropy(pool: Pool, inputs: Tensor) -> Tensor:
    return torch.special.entr(_probs(pool, inputs)).sum(1)


def _representative(pool: Pool, inputs: Tensor) -> Tensor:
    return -(inputs.double() - inputs.double().mean(0)).square().sum(1)


RULES: dict[str, Scores] = {
    "least-confidence": _least_confidence,
    "bald": _bald,
    "expected-improvement": _improvement,
    "margin": _margin,
    "entropy": _entropy,
    "representative": _representative,
}


@dataclass(frozen=True)
class PublishedStrategy:
    """A strategy of the tables, on a Gaussian process with ``hyperparameters="published"``.

    "representative" is the item nearest to the mean of the pool, which k-means with one centre
    comes to when one item is asked for at a time.

    Args:
        rule: one of ``RULES``.
    """

    rule: str

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule is one of {', '.join(RULES)}, got {self.rule!r}")

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The k best, the first of equal ones first."""
        batches = list(candidates.bench.inputs(candidates.index))
        inputs = torch.cat([b.flatten(1) for b in batches])
        scores = RULES[self.rule](candidates, inputs)
        rows = np.argsort(-scores.numpy(), kind="stable")[:k]
        chosen = torch.from_numpy(rows.copy())
        return Acquisition(candidates.index[chosen], scores=scores[chosen])


# --- the tables ----------------------------------------------------------------------------------


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
        if self.folds < 5:
            why = self.why.splitlines()[0] if self.why else f"{self.folds} of 5 folds"
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
    from dataclasses import replace

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


# --- a sound model on the same data --------------------------------------------------------------


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
        return self.cell.folds == 5 and self.cell.ours_mean < min(
            float(self.cell.mean), self.constant
        )

    @property
    def tops_the_row(self) -> bool:
        """Whether it is below every printed cell of its row as well."""
        return self.holds and self.cell.ours_mean < self.best


def honest(runs: pd.DataFrame, failed: Mapping[tuple[str, str, str], str]) -> list[Honest]:
    """The cells of Tables 7 and 8 as :func:`compare` gives them, with their references."""
    from lightning_al.benchmark.grid import FULL_DATA

    cells = [c for c in compare(runs, failed) if c.table in (7, 8)]
    found = []
    for cell in cells:
        row = [float(c.mean) for c in cells if (c.data, c.start) == (cell.data, cell.start)]
        full = math.nan
        constant = math.nan
        if cell.folds:
            here = runs[runs["data"] == cell.data]
            full = float(here.loc[here["strategy"] == FULL_DATA, "final"].mean())  # of any start
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
            table.targets, int(fold), 5, stratified=False, seed=table.fold_seed
        )
        error = (targets[test] - targets[train].mean()).square().mean()
        areas.append(float(error) * (n - 1) / n)
    return float(np.mean(areas)) if areas else math.nan
