"""PyRelationAL's published cells beside ours, behind ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lightning_al.benchmark.study import STUDIES, Evidence, Study, Verdict
from lightning_al.benchmark.summary import per_run, records

from .cells import FOLDS, Cell, compare
from .honest_track import Honest, honest

if TYPE_CHECKING:
    from lightning_al.benchmark.run_spec import RunSpec

__all__ = ["PyRelational"]

TRACKS = ("tables", "honest")
VERDICTS = ("exact", "within 0.1 %", "within one deviation", "differs", "not run")
PLACE = ("data", "start", "strategy")
"""What names a cell, in a table and in a grid."""


@STUDIES.register("pyrelational")
@dataclass(frozen=True)
class PyRelational(Study):
    """Says of each published cell of the grid how near ours comes.

    Args:
        track: "tables" holds the cells as they are printed, and fails where one that is required
            to be met is not; "honest" those of regression under a sound model, and fails where a
            row has no strategy that is better than all that was printed.
    """

    track: Literal["tables", "honest"] = "tables"

    name: ClassVar[str] = "the tables of PyRelationAL (Scherer et al. 2022)"

    def __post_init__(self) -> None:
        if self.track not in TRACKS:
            raise ValueError(
                f"study pyrelational: track is one of {', '.join(TRACKS)}, got {self.track!r}"
            )

    def verdict(self, runs: Sequence[RunSpec], evidence: Evidence) -> Verdict:
        """Each published cell beside ours, and whether all that is required of the grid holds."""
        frame = evidence.frame
        broken = (
            frame[frame["status"] == "failed"].drop_duplicates(list(PLACE)) if len(frame) else frame
        )
        why = {tuple(r[k] for k in PLACE): r["error"] for r in records(broken)}
        done = per_run(frame, evidence.facts) if len(frame) else frame
        mine = {tuple(run.place[k] for k in PLACE) for run in runs}
        if self.track == "honest":
            return _of_honest([h for h in honest(done, why) if _key(h.cell) in mine])
        return _of_tables([c for c in compare(done, why) if _key(c) in mine])


def _of_tables(cells: Sequence[Cell]) -> Verdict:
    lines = [f"\ntable  {', '.join(PLACE):45} {'published':>27} {'ours':>27}  verdict"]
    for cell in cells:
        missed = f"  <- must be {cell.required}" if cell.fails else ""
        lines.append(f"{_beside(cell)} {cell.verdict}{missed}")
    counts = {v: sum(c.verdict.partition(":")[0] == v for c in cells) for v in VERDICTS}
    lines.append(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
    return Verdict(lines, not any(cell.fails for cell in cells))


def _of_honest(rows: Sequence[Honest]) -> Verdict:
    lines = [
        f"\ntable  {', '.join(PLACE):45} {'published':>27} {'ours':>27}  "
        f"{'best of row':>12} {'constant':>12} {'full data':>12}"
    ]
    for row in rows:
        verdict = "better" if row.holds else "not better"
        verdict = verdict if row.cell.folds == FOLDS else row.cell.verdict
        references = f"{row.best:12.4f} {row.constant:12.4f} {row.full_data:12.4f}"
        lines.append(f"{_beside(row.cell)} {references}  {verdict}")
    run = [row for row in rows if row.cell.folds == FOLDS]
    topped = {(row.cell.data, row.cell.start): False for row in run}
    for row in run:
        topped[row.cell.data, row.cell.start] |= row.tops_the_row
    lines.append(
        f"{sum(row.holds for row in run)} of {len(run)} cells that were run are better than the "
        f"printed one and a constant; in {sum(topped.values())} of {len(topped)} rows a strategy "
        "is better than every printed cell"
    )
    return Verdict(lines, all(topped.values()))


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.data, cell.start, cell.strategy


def _beside(cell: Cell) -> str:
    ours = f"{cell.ours_mean:.4f} ± {cell.ours_deviation:.4f}" if cell.folds == FOLDS else ""
    theirs = f"{cell.mean} ± {cell.deviation}"
    return f"{cell.table:5}  {', '.join(_key(cell)):45} {theirs:>27} {ours:>27} "
