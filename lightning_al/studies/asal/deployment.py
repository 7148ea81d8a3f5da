"""What policies and baselines do at deployment: final error, safety, milliseconds a query.

From the tidy table of a benchmark of one query a round to one row a problem and strategy. A figure
that the results do not hold is NaN; a strategy of which no run ended well has a row that says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lightning_al.benchmark.ceilings import GREEDY
from lightning_al.benchmark.grid import FULL_DATA
from lightning_al.benchmark.statistics import Interval, bootstrap_mean, holm
from lightning_al.benchmark.summary import BLOCKS, SETTING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIGURES", "GP_AL", "POLICY", "Deployed", "deployment", "paired_t", "per_query"]

POLICY = "policy"
"""The strategy that the table is about: its verdict stands alone, those of others are corrected."""
GP_AL = ("safe-gp-al", "gp-al", "safe-variance", "variance")
"""Names of the baseline whose time a query is compared with; the first that there is counts."""
FIGURES = ("rmse", "nll", "safe_share", "unsafe_distance", "ms_fit", "ms_query", "ms_first")
Variant = Literal["corrected", "published"]
ROUNDING = 1e-9
NOTHING = Interval(math.nan, math.nan, math.nan, 0)


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
    ms_needed: float = math.nan  # a query with what it cannot do without: the fit, but of a policy
    speedup: float = math.nan  # GP-AL's ms_needed over this one's
    difference: float = math.nan  # mean paired difference of the RMSE to the reference
    p: float = math.nan  # of the paired t-test
    pairs: int = 0
    better: str = ""  # "better", "worse", "not told apart"; empty without a comparison
    unsafe: bool = False  # fewer safe queries than asked for
    runs: int = 0
    not_run: str = ""  # why runs are missing; all of them where runs is 0
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the problem."""
        return str(self.place[0])

    @property
    def verdict(self) -> str:
        """All that there is to say, in words."""
        return "; ".join(self.words)


def per_query(run: pd.DataFrame) -> dict[str, float]:
    """Figures of one run from its rounds, each NaN where the table does not hold it.

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
        "safe_share": _last(run, "safe_share"),
        "unsafe_distance": _last(run, "unsafe_distance"),
    }


def deployment(
    frame: pd.DataFrame,
    *,
    reference: str = "random",
    variant: Variant = "corrected",
    gamma: float = 0.05,
    alpha: float = 0.05,
) -> list[Deployed]:
    """One row a problem and strategy, in the order of their names.

    Args:
        frame: the tidy table.
        reference: strategy that the RMSE of the others is compared with, paired over the seeds.
        variant: "corrected" takes the model of all N0 + T points; "published" that of the last but
            one round, N0 + T - 1 points: Li et al. (2026) measure before they fit the new point.
        gamma: probability of an unsafe query that is tolerated: below a share of 1 - gamma safe
            queries a row is flagged.
        alpha: level of the comparisons. The policy's is the one that was planned, and is not
            corrected; those of the other strategies are, by Holm among themselves.

    Raises:
        ValueError: an unknown variant, or a gamma that is no probability.
    """
    if variant not in ("corrected", "published"):
        raise ValueError(f"variant is 'corrected' or 'published', got {variant!r}")
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is a probability in [0, 1], got {gamma}")
    if not len(frame):
        return []
    chosen = frame[~frame["strategy"].isin([FULL_DATA, GREEDY])]
    found: list[Deployed] = []
    for place, part in chosen.groupby(list(SETTING), sort=True):
        found += _of_setting(tuple(place), part, reference, variant, gamma, alpha)
    return found


def _of_setting(
    place: tuple[Any, ...],
    part: pd.DataFrame,
    reference: str,
    variant: Variant,
    gamma: float,
    alpha: float,
) -> Iterator[Deployed]:
    import pandas as pd

    at = -1 if variant == "corrected" else -2
    rows = []
    for _, run in part[part["status"] == "done"].groupby("run_id", sort=True):
        first = run.iloc[0]
        keys = {name: first[name] for name in ("strategy", *BLOCKS)}
        ends = {n: _last(run.sort_values("round"), f"test/{n}", at) for n in ("rmse", "nll")}
        rows.append({**keys, **ends, **per_query(run)})
    columns = ["strategy", *BLOCKS, "ms_needed", *FIGURES]
    runs = pd.DataFrame(rows, columns=columns)
    needed = runs.groupby("strategy")["ms_needed"].mean()
    baseline = next((name for name in GP_AL if name in needed), "")
    gp = float(needed.get(baseline, math.nan))
    against = _comparisons(runs, reference)
    for name in sorted(part["strategy"].unique(), key=lambda n: (n != POLICY, n)):
        mine = runs[runs["strategy"] == name]
        own = float(needed.get(name, math.nan))
        difference, p, pairs = against.get(name, (math.nan, math.nan, 0))
        figures: dict[str, Any] = {n: _interval(mine[n]) for n in FIGURES}
        row = Deployed(
            place,
            str(name),
            **figures,
            ms_needed=own,
            speedup=gp / own if own > 0 else math.nan,
            difference=difference,
            p=p,
            pairs=pairs,
            better=_better(difference, p, alpha) if name in against else "",
            unsafe=figures["safe_share"].mean < 1 - gamma - ROUNDING,
            runs=len(mine),
            not_run=_why(part[part["strategy"] == name]),
        )
        yield _worded(row, reference, gamma, baseline)


def _comparisons(runs: pd.DataFrame, reference: str) -> dict[str, tuple[float, float, int]]:
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
    others = [n for n in found if n != POLICY and math.isfinite(found[n][1])]
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


def _worded(row: Deployed, reference: str, gamma: float, gp: str) -> Deployed:
    words = []
    if not row.runs:
        return replace(row, words=(f"not run: {row.not_run}",))
    if row.better == "not told apart":
        words.append(f"not told apart from {reference} at n = {row.pairs}")
    elif row.better:
        words.append(f"{row.better} than {reference} at n = {row.pairs}")
    if row.unsafe:
        words.append(f"under {100 * (1 - gamma):g} % safe queries at gamma = {gamma:g}")
    if row.strategy == POLICY and math.isfinite(row.speedup):
        faster = row.speedup >= 1
        times = row.speedup if faster else 1 / row.speedup
        words.append(f"a query {_round(times)} times as {'fast' if faster else 'slow'} as {gp}'s")
    if row.not_run:
        words.append(f"some runs failed: {row.not_run}")
    return replace(row, words=tuple(words))


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _last(run: pd.DataFrame, column: str, at: int = -1) -> float:
    """A column at the last round, or another from the end; NaN where there is no such."""
    if column not in run or len(run) < -at:
        return math.nan
    value = run[column].iloc[at]
    return math.nan if value is None else float(value)


def _interval(values: pd.Series) -> Interval:
    finite = values.to_numpy(dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return bootstrap_mean(finite) if len(finite) else NOTHING


def _why(rows: pd.DataFrame) -> str:
    """The first line of each error, and how many runs had it."""
    failed = rows[rows["status"] == "failed"].drop_duplicates("run_id")
    if not len(failed):
        return ""
    lines = failed["error"].fillna("").astype(str).str.split("\n").str[0]
    total = rows["run_id"].nunique()
    counts = lines.value_counts().items()
    return "; ".join(f"{line} ({n} of {total} runs)" for line, n in counts)
