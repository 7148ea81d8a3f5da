"""Whether learning which strategy to trust pays, beside the best one chosen in hindsight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_al.benchmark.shown_numbers import signed
from lightning_al.benchmark.statistics import Interval, bootstrap_mean
from lightning_al.benchmark.study import STUDIES, Additions, Cell, Column, Evidence, Picture, Study
from lightning_al.registry import Registry
from lightning_al.strategies import STRATEGIES
from lightning_al.strategies.around.candidates import Candidates

if TYPE_CHECKING:
    import pandas as pd

    from lightning_al.benchmark.run_spec import RunSpec
    from lightning_al.benchmark.summary import Setting

__all__ = ["AutoAL", "beside_the_best"]


@STUDIES.register("autoal")
@dataclass(frozen=True)
class AutoAL(Study):
    """Adds what was trusted, and the difference to the best single strategy of the other seeds.

    Args:
        singles: the strategies of the grid that a user would choose from; by default there is no
            such column.
    """

    singles: Sequence[str] = ()

    name: ClassVar[str] = "strategies that learn which strategy to trust (Wang et al. 2025)"

    def check(self, runs: Sequence[RunSpec]) -> None:
        """Refuse names that no strategy of the grid has.

        Raises:
            ValueError: there are such.
        """
        there = {str(run.place["strategy"]): None for run in runs if run.role == "strategy"}
        if unknown := [name for name in self.singles if name not in there]:
            raise ValueError(
                f"study autoal: singles are strategies of the grid, which has {', '.join(there)}; "
                f"got {', '.join(unknown)}"
            )

    def serves(self, settings: Mapping[str, Any]) -> bool:
        """A run whose strategy combines candidates."""
        given = settings.get("strategy")
        if isinstance(given, Mapping):
            given = given.get("name", given.get("class_path"))
        name = str(given or "")
        known = name in STRATEGIES and combines(STRATEGIES, name)
        return known or name.rpartition(".")[2] in ("AutoAL", "RegressionAutoAL")

    def additions(self, setting: Setting, evidence: Evidence) -> Additions:
        """A column of differences, and the picture of what was trusted."""
        found = beside_the_best(setting.runs, self.singles, setting.higher_is_better)
        columns, sentences = [], []
        if found:
            cells = {name: Cell(_shown(gap), _mark(gap)) for name, gap in found.items()}
            columns.append(Column("against the best single", cells))
            sentences = [
                f"{name} is {_shown(gap)} from the best single strategy of the other seeds "
                f"({gap.n} seeds)."
                for name, gap in found.items()
                if name not in self.singles
            ]
        notes = [
            "the best single strategy is chosen, for each seed, by the mean area of the others"
        ]
        return Additions(
            title="Against the best single strategy" if found else "",
            columns=columns,
            notes=notes if found else [],
            sentences=sentences,
            pictures=list(_pictures(setting, evidence)),
        )


def combines(registry: Registry[Any], name: str) -> bool:
    """Whether a registered strategy is made of candidates."""
    factory = registry.factory(name)
    return isinstance(factory, type) and issubclass(factory, Candidates)


def beside_the_best(
    runs: pd.DataFrame, singles: Sequence[str], higher: bool
) -> dict[str, Interval]:
    """By strategy, the mean difference of its area to that of the best single one, better above 0.

    For each seed the best one is chosen by the mean area of the *other* seeds, as nobody can choose
    by what is yet to come. Empty where there are fewer than two seeds, or no singles.

    Args:
        runs: a row a run, with ``strategy``, ``seed``, ``fold`` and ``area``.
        singles: names of strategies.
        higher: whether a larger area is better.
    """
    table = runs.pivot_table(index=["fold", "seed"], columns="strategy", values="area")
    known = [name for name in singles if name in table]
    if not known or len(table) < 2:
        return {}
    sign = 1.0 if higher else -1.0
    gaps: dict[str, list[float]] = {str(name): [] for name in table}
    for place in table.index:
        others = table.drop(index=place)[known].mean() * sign
        if others.isna().all():
            continue
        best = sign * float(table.loc[place, others.idxmax()])
        for name, values in gaps.items():
            gap = sign * float(table.loc[place, name]) - best
            if math.isfinite(gap):
                values.append(gap)
    return {name: bootstrap_mean(values) for name, values in gaps.items() if values}


def _shown(gap: Interval) -> str:
    return f"{signed(gap.mean)} [{signed(gap.low)}, {signed(gap.high)}]"


def _mark(gap: Interval) -> Any:
    return "better" if gap.low > 0 else "worse" if gap.high < 0 else ""


def _pictures(setting: Setting, evidence: Evidence) -> Iterator[Picture]:
    from .trusted import draw, of_setting

    if found := of_setting(setting, evidence.folders):
        yield Picture(
            "trusted",
            draw(found),
            "What AutoAL trusted: the mean weight of each candidate over the pool, the share of "
            "the batch that each would have chosen too, and, in the last round, the mean weights "
            "over the items that are taken for each class.",
            wide=True,
        )
