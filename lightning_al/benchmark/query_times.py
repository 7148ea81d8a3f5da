"""What a query costs, in milliseconds: by run, and by strategy of a setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    *("NOTHING", "QueryTimes", "finite_mean", "missing_runs", "query_times", "times_of_run"),
    "why_not_run",
]

NOTHING = Interval(math.nan, math.nan, math.nan, 0)
"""Of figures that no run has."""


@dataclass(frozen=True)
class QueryTimes:
    """One strategy; means over its runs with 95 % bootstrap intervals."""

    strategy: str
    runs: int  # that ended well
    ms_fit: Interval  # a query, without the first
    ms_query: Interval  # score and choose, without the first
    not_run: str  # why runs are missing; all of them where runs is 0

    @property
    def missing(self) -> str:
        """Which runs are missing and why, in words; empty where none is."""
        return missing_runs(self.runs, self.not_run)


def times_of_run(run: pd.DataFrame) -> dict[str, float]:
    """Milliseconds of one run from its rounds, NaN where the table does not hold them.

    ``ms_fit`` and ``ms_query`` (score and choose) are means without the first query, which loads
    and indexes and is ``ms_first``; ``ms_needed`` is a query with what it cannot do without: the
    fit too, but of a strategy that asks no model.

    Args:
        run: rows of one run; the rounds that asked nothing do not count.
    """
    run = run.sort_values("round")
    asked = run[run["n_acquired"] > 0] if "n_acquired" in run else run.iloc[:-1]
    later = asked.iloc[1:] if len(asked) > 1 else asked
    query = 1000 * (asked["seconds_score"] + asked["seconds_choose"])
    # a model that nobody asked to choose with is no part of the price of a query
    known: list[Any] = run["asks_model"].dropna().tolist() if "asks_model" in run else []
    free = len(known) > 0 and not any(known)
    fit = 1000 * float(later["seconds_fit"].mean())
    mean = float(query.loc[later.index].mean())
    return {
        "ms_fit": fit,
        "ms_query": mean,
        "ms_first": float(query.iloc[0]) if len(query) else math.nan,
        "ms_needed": mean if free else fit + mean,
    }


def query_times(rows: pd.DataFrame, order: Sequence[str]) -> list[QueryTimes]:
    """The strategies of a setting, those of ``order`` first; without the ceilings.

    Args:
        rows: of the tidy table, all of one setting, failed runs too.
        order: of the strategies.
    """
    rows = rows[rows["role"] == "strategy"]
    place = {name: i for i, name in enumerate(order)}
    found = []
    for name in sorted(rows["strategy"].unique(), key=lambda n: (place.get(n, len(place)), n)):
        mine = rows[rows["strategy"] == name]
        runs = [times_of_run(r) for _, r in mine[mine["status"] == "done"].groupby("run_id")]
        fit, query = (finite_mean([r[key] for r in runs]) for key in ("ms_fit", "ms_query"))
        found.append(QueryTimes(str(name), len(runs), fit, query, why_not_run(mine)))
    return found


def finite_mean(values: ArrayLike) -> Interval:
    """Mean and interval of those values [n] that are finite; nothing where none is."""
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    return bootstrap_mean(x) if len(x) else NOTHING


def why_not_run(rows: pd.DataFrame) -> str:
    """The first line of each error of some runs, and how many of them had it; empty without one."""
    failed = rows[rows["status"] == "failed"].drop_duplicates("run_id")
    if not len(failed):
        return ""
    lines = failed["error"].fillna("").astype(str).str.split("\n").str[0]
    total = rows["run_id"].nunique()
    counts = lines.value_counts().items()
    return "; ".join(f"{line} ({n} of {total} runs)" for line, n in counts)


def missing_runs(done: int, why: str) -> str:
    """What is said of a strategy of which runs are missing; empty where there is no reason why.

    >>> missing_runs(0, "no table (5 of 5 runs)"), missing_runs(4, "it broke (1 of 5 runs)")
    ('not run: no table (5 of 5 runs)', 'some runs failed: it broke (1 of 5 runs)')
    """
    if not why:
        return ""
    return f"{'some runs failed' if done else 'not run'}: {why}"
