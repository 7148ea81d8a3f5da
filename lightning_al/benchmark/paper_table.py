"""The table for papers: data sets down, strategies across."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_al.history.metric_names import human_name

from .shown_numbers import number
from .summary import SETTING, records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["markdown_page", "markdown_table"]


def markdown_table(table: pd.DataFrame) -> str:
    """Mean area ± half the interval, data sets down, strategies across; the best in bold.

    Args:
        table: of :func:`.summary.summary`.
    """
    lines = []
    strategies = list(dict.fromkeys(table["strategy"]))
    lines.append("| | " + " | ".join(strategies) + " |")
    lines.append("|---" * (len(strategies) + 1) + "|")
    for place, part in table.groupby(list(SETTING), sort=True):
        by_name = {row["strategy"]: row for row in records(part)}
        best = part.iloc[0]["strategy"]
        cells = []
        for name in strategies:
            row = by_name.get(name)
            text = "" if row is None else f"{number(row['area'])} ± {number(_half(row))}"
            cells.append(f"**{text}**" if name == best else text)
        label = ", ".join(str(p) for p in place if p != "")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _half(row: Mapping[str, Any]) -> float:
    return (row["high"] - row["low"]) / 2


def markdown_page(table: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """The table under its title, with what its numbers are.

    Args:
        table: of :func:`.summary.summary`.
        facts: ``title`` and ``area`` (the rule) of the benchmark.
    """
    pairs = sorted(set(table["n"]))
    seen = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    metrics = ", ".join(human_name(m) for m in dict.fromkeys(table["metric"]))
    return (
        f"{facts.get('title') or 'Benchmark'}\n\n{metrics}: area under the learning curve (rule "
        f"{facts.get('area', 'budget')}); mean ± half the 95 % bootstrap interval over {seen} "
        "paired runs; best mean of a row in bold.\n\n" + markdown_table(table)
    )
