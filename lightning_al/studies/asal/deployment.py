"""What policies and baselines do at deployment: final error, safety, milliseconds a query.

From the tidy table of a benchmark of one query a round to one row a problem and strategy. A figure
that the results do not hold is NaN; a strategy of which no run ended well has a row that says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lightning_al.benchmark.query_times import (
    NOTHING,
    finite_mean,
    missing_runs,
    times_of_run,
    why_not_run,
)
from lightning_al.benchmark.statistics import Interval, holm
from lightning_al.benchmark.summary import BLOCKS, SETTING

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    *("FIGURES", "Deployed", "Plan", "deployment", "paired_t", "per_query", "too_few_safe"),
]

FIGURES = ("rmse", "nll", "safe_share", "unsafe_distance", "ms_fit", "ms_query", "ms_first")
Variant = Literal["corrected", "published"]
ROUNDING = 1e-9


@dataclass(frozen=True)
class Plan:
    """What was planned to be compared, before anything ran.

    Args:
        reference: strategy that the RMSE of the others is compared with, paired over the seeds.
        subject: the strategy that the table is about: its verdict is the one that was planned and
            is not corrected, those of the other strategies are, by Holm among themselves. None
            for the one beside the reference, where there is only one.
        baselines: strategies whose time a query the subject's is compared with; the first that a
            problem has counts. Without any, the reference, where it chooses with a model.
        gamma: probability of an unsafe query that is tolerated: below a share of 1 - gamma safe
            queries a row is flagged.
        alpha: level of the comparisons.
    """

    reference: str = "random"
    subject: str | None = None
    baselines: Sequence[str] = ()
    gamma: float = 0.05
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is a probability in [0, 1], got {self.gamma}")

    def about(self, strategies: Sequence[str]) -> str | None:
        """Which of some strategies the table is about."""
        others = [name for name in strategies if name != self.reference]
        if self.subject is None and len(others) == 1:
            return others[0]
        return self.subject if self.subject in others else None


@dataclass(frozen=True)
class Deployed:
    """One strategy on one problem; means over the seeds with 95 % bootstrap intervals."""

    place: tuple[Any, ...]  # a value for each of SETTING
    strategy: str
    rmse: Interval = NOTHING  # of the last model
    nll: Interval = NOTHING
    safe_share: Interval = NOTHING  # of all queries
    unsafe_distance: Interval = NOTHING
    ms_fit: Interval = NOTHING  # a query, without the first
    ms_query: Interval = NOTHING  # score and choose, without the first
    ms_first: Interval = NOTHING  # score and choose of the first query, which loads and indexes
    ms_needed: float = math.nan  # a query with what it cannot do without: its model's fit too
    speedup: float = math.nan  # the baseline's ms_needed over this one's
    difference: float = math.nan  # mean paired difference of the RMSE to the reference
    p: float = math.nan  # of the paired t-test
    pairs: int = 0
    better: str = ""  # "better", "worse", "not told apart"; empty without a comparison
    unsafe: bool = False  # fewer safe queries than asked for
    subject: bool = False  # the table is about it
    runs: int = 0
    not_run: str = ""  # why runs are missing; all of them where runs is 0
    words: tuple[str, ...] = ()  # what the runs allow to say

    @property
    def name(self) -> str:
        """Of the problem."""
        return str(self.place[0])

    @property
    def missing(self) -> str:
        """Which runs are missing and why, in words; empty where none is."""
        return missing_runs(self.runs, self.not_run)

    @property
    def verdict(self) -> str:
        """All that there is to say, in words."""
        return "; ".join([*self.words, *filter(None, [self.missing])])


def per_query(run: pd.DataFrame) -> dict[str, float]:
    """Times (:func:`.query_times.times_of_run`) and safety of one run from its rounds.

    Args:
        run: rows of one run.
    """
    last = run.sort_values("round")
    safety = {name: _last(last, name) for name in ("safe_share", "unsafe_distance")}
    return {**times_of_run(run), **safety}


def deployment(
    frame: pd.DataFrame, plan: Plan | None = None, *, variant: Variant = "corrected"
) -> list[Deployed]:
    """One row a problem and strategy, in the order of their names; ceilings are left out.

    Args:
        frame: the tidy table.
        plan: what is compared with what; by default with random, and about no strategy.
        variant: "corrected" takes the model of all N0 + T points; "published" that of the last but
            one round, N0 + T - 1 points: Li et al. (2026) measure before they fit the new point.

    Raises:
        ValueError: an unknown variant.
    """
    if variant not in ("corrected", "published"):
        raise ValueError(f"variant is 'corrected' or 'published', got {variant!r}")
    if not len(frame):
        return []
    found: list[Deployed] = []
    chosen = frame[frame["role"] == "strategy"]
    for place, part in chosen.groupby(list(SETTING), sort=True):
        found += _of_setting(tuple(place), part, plan or Plan(), variant)
    return found


def _of_setting(
    place: tuple[Any, ...], part: pd.DataFrame, plan: Plan, variant: Variant
) -> Iterator[Deployed]:
    runs = _finals(part, -1 if variant == "corrected" else -2)
    needed = runs.groupby("strategy")["ms_needed"].mean()
    names = [str(name) for name in part["strategy"].unique()]
    subject = plan.about(names)
    baseline = _baseline(runs, plan)
    theirs = float(needed.get(baseline, math.nan))
    against = _comparisons(runs, plan.reference, subject)
    for name in sorted(names, key=lambda n: (n != subject, n)):
        mine = runs[runs["strategy"] == name]
        own = float(needed.get(name, math.nan))
        difference, p, pairs = against.get(name, (math.nan, math.nan, 0))
        figures: dict[str, Any] = {n: finite_mean(mine[n]) for n in FIGURES}
        row = Deployed(
            place,
            name,
            **figures,
            ms_needed=own,
            speedup=theirs / own if own > 0 else math.nan,
            difference=difference,
            p=p,
            pairs=pairs,
            better=_better(difference, p, plan.alpha) if name in against else "",
            unsafe=figures["safe_share"].mean < 1 - plan.gamma - ROUNDING,
            subject=name == subject,
            runs=len(mine),
            not_run=why_not_run(part[part["strategy"] == name]),
        )
        yield _worded(row, plan, baseline)


def _finals(part: pd.DataFrame, at: int) -> pd.DataFrame:
    """One row a run that ended well, its errors those of a round counted from the end."""
    import pandas as pd

    rows = []
    for _, run in part[part["status"] == "done"].groupby("run_id", sort=True):
        first = run.iloc[0]
        keys = {name: first[name] for name in ("strategy", *BLOCKS)}
        ends = {n: _last(run.sort_values("round"), f"test/{n}", at) for n in ("rmse", "nll")}
        asks = "asks_model" in run and bool(run["asks_model"].eq(True).all())
        rows.append({**keys, **ends, **per_query(run), "asks_model": asks})
    return pd.DataFrame(rows, columns=["strategy", *BLOCKS, "ms_needed", "asks_model", *FIGURES])


def _baseline(runs: pd.DataFrame, plan: Plan) -> str:
    """Whose time a query the subject's is compared with; empty where nobody's."""
    there = set(runs["strategy"])
    if plan.baselines:
        return next((name for name in plan.baselines if name in there), "")
    asks = runs.loc[runs["strategy"] == plan.reference, "asks_model"]
    return plan.reference if len(asks) and bool(asks.all()) else ""


def _comparisons(
    runs: pd.DataFrame, reference: str, subject: str | None
) -> dict[str, tuple[float, float, int]]:
    """Strategy -> mean difference of its RMSE to the reference, p, pairs."""
    table = runs.pivot_table(index=list(BLOCKS), columns="strategy", values="rmse")
    if reference not in table:
        return {}
    found = {}
    for name in table.columns.drop(reference):
        both = table[[name, reference]].dropna()
        gap = (both[name] - both[reference]).to_numpy()
        if len(gap):
            found[str(name)] = float(gap.mean()), paired_t(gap), len(gap)
    others = [n for n in found if n != subject and math.isfinite(found[n][1])]
    for name, p in zip(others, holm([found[n][1] for n in others]), strict=True):
        found[name] = found[name][0], float(p), found[name][2]
    return found


def paired_t(differences: ArrayLike) -> float:
    """Two-sided p of the paired t-test [n]; NaN below two of them.

    With five seeds no rank test can reach 5 % (the least p of Wilcoxon's is 1/16), so this one
    takes the differences to be normal. Equal differences have p 0, or 1 where they are 0.
    """
    x = np.asarray(differences, dtype=np.float64)
    if len(x) < 2:
        return math.nan
    spread = x.std(ddof=1) / math.sqrt(len(x))
    if spread == 0:
        return 1.0 if x[0] == 0 else 0.0
    return float(2 * stats.t.sf(abs(x.mean()) / spread, len(x) - 1))


def _better(difference: float, p: float, alpha: float) -> str:
    if not p <= alpha:
        return "not told apart"
    return "better" if difference < 0 else "worse"


def _worded(row: Deployed, plan: Plan, baseline: str) -> Deployed:
    words = []
    if row.better == "not told apart":
        words.append(f"not told apart from {plan.reference} at n = {row.pairs}")
    elif row.better:
        words.append(f"{row.better} than {plan.reference} at n = {row.pairs}")
    if row.unsafe:
        words.append(too_few_safe(plan.gamma))
    if row.subject and math.isfinite(row.speedup):
        faster = row.speedup >= 1
        times = row.speedup if faster else 1 / row.speedup
        how = "fast" if faster else "slow"
        words.append(f"a query {_round(times)} times as {how} as {baseline}'s")
    return replace(row, words=tuple(words))


def too_few_safe(gamma: float) -> str:
    """What is said of a row that is unsafe at a tolerance.

    >>> too_few_safe(0.05)
    'under 95 % safe queries at gamma = 0.05'
    """
    return f"under {100 * (1 - gamma):g} % safe queries at gamma = {gamma:g}"


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _last(run: pd.DataFrame, column: str, at: int = -1) -> float:
    """A column at the last round, or another from the end; NaN where there is no such."""
    if column not in run or len(run) < -at:
        return math.nan
    value = run[column].iloc[at]
    return math.nan if value is None else float(value)
