"""The part of the page that is about one setting: its tables, pictures and sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_al.history.metric_names import human_name

from . import figures
from .inline_svg import Pictures
from .query_times import NOTHING, QueryTimes, query_times
from .shown_numbers import spread
from .study import Additions, Cell, Column, Evidence, Picture
from .summary import DROP, Setting, records
from .tuning_figures import judged, over_rounds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["section"]


def section(
    setting: Setting,
    table: pd.DataFrame,
    evidence: Evidence,
    added: Additions,
    pictures: Pictures,
) -> dict[str, Any]:
    """What the page shows of a setting.

    Args:
        setting: with its runs.
        table: of :func:`.summary.summary`.
        evidence: all that was found.
        added: what a study adds.
        pictures: takes the figures.
    """
    rows = records(setting.part_of(table))
    key = re.sub(r"[^a-z0-9]+", "-", setting.name.lower()).strip("-")
    drawn = [*added.pictures, *_tuning(setting, evidence)]
    shown = [(p, pictures.add(f"{p.name}-{key}", p.figure)) for p in drawn]
    full = setting.all_labelled
    return {
        "name": setting.name,
        "metric": human_name(setting.metric),
        "direction": "higher" if setting.higher_is_better else "lower",
        "rows": rows,
        "full": float(full.mean()) if rows and len(full) else None,
        "reference": evidence.facts.get("reference", "random"),
        "collapses": any(row["collapses"] == row["collapses"] for row in rows),
        "drop": evidence.facts.get("collapse") or DROP,
        "claims": list(_claims(setting, rows, evidence.facts)),
        "curve": pictures.add(f"curve-{key}", figures.curves(setting, evidence.frame)),
        "times": pictures.add(f"time-{key}", figures.times(setting)),
        "beside": [(p.caption, svg) for p, svg in shown if not p.wide],
        "wide": [(p.caption, svg) for p, svg in shown if p.wide],
        "end": added.title or "Time",
        "notes": added.notes,
        "tables": added.tables,
        **_strategies(setting, evidence, added),
    }


def _strategies(setting: Setting, evidence: Evidence, added: Additions) -> dict[str, Any]:
    """The table of strategies: what a study adds, then times; the best area first."""
    found = query_times(setting.part_of(evidence.frame), setting.order)
    columns = [*added.columns, *_times(found)]
    nothing = Cell(spread(NOTHING))
    missing = [f"{row.strategy}: {row.missing}." for row in found if row.missing]
    return {
        "sentences": [
            f"{setting.name}: {text}"
            for text in (*added.sentences, *missing, *_amendments(setting, evidence))
        ],
        "heads": [column.title for column in columns],
        "strategies": [
            {
                "strategy": row.strategy,
                "runs": row.runs,
                "cells": [column.cells.get(row.strategy, nothing) for column in columns],
                "not_run": row.not_run,
            }
            for row in found
        ],
    }


def _tuning(setting: Setting, evidence: Evidence) -> Iterator[Picture]:
    """The settings that runs have tuned, and how well their judges knew the test."""
    if (figure := over_rounds(setting, evidence.frame)) is not None:
        caption = "Settings of each round: the median over the runs, and the middle half of them."
        yield Picture("tuned", figure, caption, wide=True)
    if (figure := judged(setting, evidence.frame)) is not None:
        caption = (
            f"What the best trial of a round was judged to be worth, against the "
            f"{human_name(setting.metric)} of the fit that followed: a judge that knows the test "
            "gives a line."
        )
        yield Picture("judged", figure, caption, wide=True)


def _amendments(setting: Setting, evidence: Evidence) -> Iterator[str]:
    """What was changed in runs that went on, a sentence each."""
    rows = setting.part_of(evidence.frame)
    if "amended" not in rows:
        return
    for row in rows[rows["amended"].fillna("") != ""].itertuples():
        yield f"{row.strategy} was changed ahead of round {row.round}'s choice: {row.amended}."


def _times(found: Sequence[QueryTimes]) -> Iterator[Column]:
    fit = {row.strategy: row.ms_fit for row in found}
    query = {row.strategy: row.ms_query for row in found}
    for title, values in (("ms fit", fit), ("ms query", query)):
        if any(value.n for value in values.values()):
            yield Column(title, {name: Cell(spread(value)) for name, value in values.items()})


def _claims(
    setting: Setting, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> Iterator[str]:
    """One sentence a strategy, with the number of pairs it stands on."""
    reference = facts.get("reference", "random")
    for row in rows:
        if not row["better"]:
            continue
        n, gap = row["n"], f"{row['difference']:+.4g}"
        stands = f"{n} pairs, mean difference {gap}, corrected p {row['p']:.2g}"
        if row["better"] == "no difference shown":
            more = row["seeds_needed"]
            hint = "" if more != more else f"; about {more:.0f} pairs would show such a gap"
            said = f"and {reference} are not told apart ({stands}{hint})"
        else:
            said = f"is {row['better']} than {reference} ({stands})"
        yield f"{setting.name}: {row['strategy']} {said}."
