"""From the tidy table of a benchmark to what it says: one number a run, one line a strategy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .areas import area, collapse_count, final_value, label_efficiency
from .statistics import bootstrap_mean, holm, seeds_needed, wilcoxon

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SETTING", "Setting", "paired", "per_run", "records", "settings", "summary"]

SETTING = ("data", "model", "start", "query_size")
"""What has to be equal for strategies to be compared."""
BLOCKS = ("fold", "seed")
"""What a comparison is paired over."""
COUNTS = ("metric", "higher_is_better")
DROP = 0.05
"""Of an accuracy, that counts as a collapse."""
PART = ("role", "takes_all")
"""What part a run plays, see :class:`.run_spec.RunSpec`."""


def per_run(frame: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """One row a run that ended well: its place and part, ``area``, ``final``, ``curve``, times.

    ``collapses`` counts the fits that fell behind the best one before them; NaN where nobody says
    by how much of this metric that is (accuracies have a default).

    Args:
        frame: the tidy table.
        facts: ``area`` (the rule) of the benchmark, and ``collapse``.

    Raises:
        LookupError: no value of the metric in the table.
    """
    import pandas as pd

    done = frame[frame["status"] == "done"]
    if len(done) and done["value"].isna().all():
        have = ", ".join(c for c in done.columns if "/" in c)
        raise LookupError(
            f"the results hold no {done['metric'].iloc[0]!r}; their metrics are {have}"
        )
    rows = []
    for run_id, run in done.groupby("run_id", sort=True):
        run = run.sort_values("round").dropna(subset=["value"])
        if not len(run):
            continue
        # a run may fit again at a number of labels where it was (late answers, a raised budget)
        last = run.drop_duplicates("n_labelled", keep="last").sort_values("n_labelled")
        labels, values = last["n_labelled"].tolist(), last["value"].tolist()
        first = run.iloc[0]
        rows.append(
            {
                "run_id": run_id,
                **{k: first[k] for k in (*SETTING, "strategy", *BLOCKS, *COUNTS, *PART)},
                "area": area(labels, values, facts.get("area", "budget")),
                "final": final_value(labels, values),
                "collapses": _collapses(run, first, facts),
                "curve": (labels, values),
                "fits": len(run),
                "seconds_fit": float(run["seconds_fit"].sum()),
                "seconds_query": float(run["seconds_score"].sum() + run["seconds_choose"].sum()),
            }
        )
    return pd.DataFrame(rows)


def _collapses(run: pd.DataFrame, first: Any, facts: Mapping[str, Any]) -> float:
    """The collapse count of a run's fits, in their order."""
    drop = facts.get("collapse")
    if drop is None and "accuracy" not in str(first["metric"]):
        return math.nan
    higher = bool(first["higher_is_better"])
    values = run["value"].tolist()
    return float(collapse_count(values, DROP if drop is None else drop, higher_is_better=higher))


@dataclass(frozen=True)
class Setting:
    """The runs of all strategies on one data set, model, start and query size."""

    place: Mapping[str, Any]  # a value for each of SETTING
    runs: pd.DataFrame  # rows of per_run

    @property
    def metric(self) -> str:
        """The column that counts."""
        return str(self.runs["metric"].iloc[0])

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""
        return bool(self.runs["higher_is_better"].iloc[0])

    def part_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of this setting, of a table with the columns of :data:`SETTING`."""
        for name in SETTING:
            table = table[table[name] == self.place[name]]
        return table

    @property
    def gradual(self) -> pd.DataFrame:
        """The runs that label little by little, which have a curve."""
        return self.runs[~self.runs["takes_all"].astype(bool)]

    @property
    def all_labelled(self) -> pd.Series:
        """Final values of the runs that label everything at once; empty without that ceiling."""
        return self.runs.loc[self.runs["takes_all"].astype(bool), "final"]

    @property
    def order(self) -> list[str]:
        """The strategies that have a curve, the best mean area first."""
        area = self.gradual.groupby("strategy")["area"].mean()
        return list(area.sort_values(ascending=not self.higher_is_better).index)

    @property
    def name(self) -> str:
        """In words: what is empty is left out."""
        words = [str(self.place["data"])]
        words += [str(self.place[k]) for k in ("model", "start") if self.place[k] != ""]
        return ", ".join([*words, f"{self.place['query_size']} a query"])


def settings(runs: pd.DataFrame) -> Iterator[Setting]:
    """The settings of a benchmark, in the order of their names."""
    if len(runs):
        for place, part in runs.groupby(list(SETTING), sort=True):
            yield Setting(dict(zip(SETTING, place, strict=True)), part)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, by column."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def paired(setting: Setting) -> pd.DataFrame:
    """Areas [blocks, strategies] of the blocks in which every strategy has a finite one."""
    runs = setting.gradual
    table = runs.pivot_table(index=list(BLOCKS), columns="strategy", values="area", dropna=False)
    return table.replace([np.inf, -np.inf], np.nan).dropna()


def summary(
    runs: pd.DataFrame, facts: Mapping[str, Any], *, alpha: float = 0.05, share: float = 0.9
) -> pd.DataFrame:
    """One row a setting and strategy, the best first: mean area with interval, against reference.

    ``difference`` is the mean of the paired differences to the reference strategy, ``p`` that of
    the paired Wilcoxon test, corrected by Holm over the strategies of a setting, ``seeds_needed``
    how many pairs would show the difference that was seen with power 0.8, at the level that Holm
    asks of the smallest p. ``full_data`` is the final value of the runs that labelled everything,
    ``labels_needed`` the median number of labels at which a curve first is ``share`` of the way
    from its first value to that; infinite where it never is.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for setting in settings(runs):
        table = paired(setting)
        if not len(table):
            continue
        reference = table.get(facts.get("reference", "random"))
        everything = setting.all_labelled
        names = table.mean().sort_values(ascending=not setting.higher_is_better).index
        others = [n for n in names if reference is not None and n != reference.name]
        raw = [wilcoxon(table[n], reference) for n in others]
        p = dict(zip(others, holm(raw), strict=True)) if others else {}
        for name in names:
            interval = bootstrap_mean(table[name])
            mine = setting.runs[setting.runs["strategy"] == name]
            final = mine["final"].mean()
            gaps = table[name] - reference if name in p else None
            rows.append(
                {
                    **setting.place,
                    **{
                        "metric": setting.metric,
                        "strategy": name,
                        "area": interval.mean,
                        "low": interval.low,
                    },
                    **{"high": interval.high, "n": interval.n, "final": final},
                    "collapses": mine["collapses"].mean(),
                    "full_data": everything.mean() if len(everything) else math.nan,
                    "labels_needed": _labels_needed(setting, name, everything, share),
                    "difference": math.nan if gaps is None else gaps.mean(),
                    "p": p.get(name, math.nan),
                    "better": _verdict(
                        gaps, p.get(name, math.nan), setting.higher_is_better, alpha
                    ),
                    "seeds_needed": _seeds(gaps, alpha / max(1, len(others))),
                }
            )
    return pd.DataFrame(rows)


def _labels_needed(setting: Setting, name: str, everything: Any, share: float) -> float:
    if not len(everything):
        return math.nan
    full = float(everything.mean())
    found = [
        label_efficiency(
            labels,
            values,
            values[0] + share * (full - values[0]),
            higher_is_better=setting.higher_is_better,
        )
        for labels, values in setting.runs.loc[setting.runs["strategy"] == name, "curve"]
    ]
    return float(np.median(found))


def _verdict(gaps: Any, p: float, higher_is_better: bool, alpha: float) -> str:
    if gaps is None:
        return ""
    if not p <= alpha:
        return "no difference shown"
    up = gaps.mean() > 0
    return "better" if up == higher_is_better else "worse"


def _seeds(gaps: Any, alpha: float) -> float:
    """Pairs that show such a gap at the level that Holm asks of the smallest p."""
    if gaps is None or len(gaps) < 2 or gaps.mean() == 0:
        return math.nan
    fewest = math.ceil(1 - math.log2(alpha))  # with n pairs Wilcoxon's p is at least 2 ** (1 - n)
    return float(max(fewest, seeds_needed(gaps, abs(gaps.mean()), alpha=alpha)))
