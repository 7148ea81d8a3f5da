"""The deployment table as text: columns of the report's page, sentences, Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_al.benchmark.shown_numbers import spread

from .deployment import Deployed, too_few_safe

__all__ = ["TableColumn", "columns", "markdown", "sentences"]


@dataclass(frozen=True)
class TableColumn:
    """A column of the table: a field of :class:`Deployed` that holds an interval."""

    title: str
    field: str

    def cell(self, row: Deployed | None) -> str:
        """Mean ± half the interval; a dash where nothing is known."""
        return "–" if row is None else spread(getattr(row, self.field))


ERRORS = (TableColumn("final RMSE", "rmse"), TableColumn("final NLL", "nll"))
SAFETY = (
    TableColumn("safe share", "safe_share"),
    TableColumn("unsafe distance", "unsafe_distance"),
)
TIMES = (
    TableColumn("ms fit", "ms_fit"),
    TableColumn("ms query", "ms_query"),
    TableColumn("ms first query", "ms_first"),
)


def columns(rows: Sequence[Deployed], *, times: bool = True) -> list[TableColumn]:
    """Those that some row knows.

    Args:
        rows: of one setting or several.
        times: with the times.
    """
    wanted = (*ERRORS, *SAFETY, *(TIMES if times else ()))
    return [c for c in wanted if any(getattr(row, c.field).n for row in rows)]


def sentences(
    rows: Sequence[Deployed], *, gamma: float = 0.05, missing: bool = True
) -> Iterator[str]:
    """What the rows of one setting allow to say: of the subject, of safety, and what was not run.

    The comparison of final errors is told of the subject alone, the one that was planned.

    Args:
        rows: of one setting.
        gamma: of the plan that they are from.
        missing: say what was not run.
    """
    for row in rows:
        if row.subject and row.words:
            words = list(row.words)
            if math.isfinite(row.p):
                gap = f"{abs(row.difference):.3g} {'higher' if row.difference > 0 else 'lower'}"
                words[0] += f" (final RMSE {gap} on average, paired t-test p = {row.p:.2g})"
            yield f"{row.strategy}: {'; '.join(words)}."
    if unsafe := [row.strategy for row in rows if row.unsafe and not row.subject]:
        yield f"{too_few_safe(gamma)}: {', '.join(unsafe)}."
    for row in rows:
        if missing and row.missing:
            yield f"{row.strategy}: {row.missing}."


def markdown(rows: Sequence[Deployed]) -> str:
    """One table for all problems, a row a problem and strategy."""
    shown = columns(rows)
    heads = ["problem", "strategy", "n", *(c.title for c in shown), "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.name, row.strategy, str(row.runs), *(c.cell(row) for c in shown), row.verdict]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"
