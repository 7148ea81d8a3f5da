"""The deployment table as text: columns of the report's page, sentences, Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_al.benchmark.statistics import Interval

from .deployment import POLICY, Deployed

__all__ = ["Column", "columns", "is_deployment", "markdown", "sentences"]


@dataclass(frozen=True)
class Column:
    """A column of the table: a field of :class:`Deployed` that holds an interval."""

    title: str
    field: str

    def cell(self, row: Deployed | None) -> str:
        """Mean ± half the interval; a dash where nothing is known."""
        return "–" if row is None else spread(getattr(row, self.field))


ERRORS = (Column("final RMSE", "rmse"), Column("final NLL", "nll"))
SAFETY = (Column("safe share", "safe_share"), Column("unsafe distance", "unsafe_distance"))
TIMES = (Column("ms fit", "ms_fit"), Column("ms query", "ms_query"))
FIRST = Column("ms first query", "ms_first")


def is_deployment(rows: Sequence[Deployed]) -> bool:
    """Whether there is more to tell than times: a policy, or measured safety."""
    return any(row.strategy == POLICY or row.safe_share.n for row in rows)


def columns(rows: Sequence[Deployed], *, first: bool = False) -> list[Column]:
    """What some row knows; of rows that are no deployment the times alone.

    Args:
        rows: of one setting or several.
        first: with the time of the first query.
    """
    kept = (*ERRORS, *SAFETY) if is_deployment(rows) else ()
    wanted = (*kept, *TIMES, *([FIRST] if first else []))
    return [c for c in wanted if any(getattr(row, c.field).n for row in rows)]


def sentences(rows: Sequence[Deployed]) -> Iterator[str]:
    """What the rows of one setting allow to say: of the policy, of safety, and what was not run.

    The comparison of final errors is told of the policy alone, the one that was planned.
    """
    for row in rows:
        if row.strategy == POLICY and row.words:
            words = list(row.words)
            if math.isfinite(row.p):
                gap = f"{abs(row.difference):.3g} {'higher' if row.difference > 0 else 'lower'}"
                words[0] += f" (final RMSE {gap} on average, paired t-test p = {row.p:.2g})"
            yield f"{row.strategy}: {'; '.join(words)}."
    others = [row for row in rows if row.strategy != POLICY]
    if unsafe := [row for row in others if row.unsafe]:
        said = next(word for word in unsafe[0].words if word.startswith("under"))
        yield f"{said}: {', '.join(row.strategy for row in unsafe)}."
    for row in others:
        if row.not_run:
            yield f"{row.strategy}: {row.words[-1]}."


def markdown(rows: Sequence[Deployed]) -> str:
    """One table for all problems, a row a problem and strategy."""
    shown = columns(rows, first=True)
    heads = ["problem", "strategy", "n", *(c.title for c in shown), "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.name, row.strategy, str(row.runs), *(c.cell(row) for c in shown), row.verdict]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def spread(value: Interval) -> str:
    """Mean ± half the interval, three digits and two; the mean alone of a single run.

    >>> spread(Interval(0.5, 0.4, 0.62, 5)), spread(Interval(1.0, -math.inf, math.inf, 1))
    ('0.5 ± 0.11', '1')
    """
    if not value.n:
        return "–"
    half = (value.high - value.low) / 2
    mean = _digits(value.mean)
    return f"{mean} ± {_digits(half, 2)}" if math.isfinite(half) else mean


def _digits(value: float, digits: int = 3) -> str:
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
