"""Policies and baselines at deployment, as Li et al. (2026) measure them, on the report's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_al.benchmark.study import (
    STUDIES,
    Additions,
    Cell,
    Column,
    Evidence,
    Picture,
    Study,
    Table,
)

from .deployment import Deployed, Plan, deployment
from .deployment_table import columns, sentences

if TYPE_CHECKING:
    from lightning_al.benchmark.run_spec import RunSpec
    from lightning_al.benchmark.summary import Setting

__all__ = ["Asal"]

SAFE = "safe is a safety measurement of at least 0, of all queries of a run"


@STUDIES.register("asal")
@dataclass(frozen=True)
class Asal(Study):
    """Adds final errors, safety, maps of the queries and what may be declared safe.

    Args:
        subject: the strategy of the grid that the table is about.
        baselines: those whose time a query the subject's is compared with; the first that a
            problem has counts.
        gamma: probability of an unsafe query that is tolerated.
    """

    subject: str | None = None
    baselines: Sequence[str] = ()
    gamma: float = 0.05

    name: ClassVar[str] = "policies at deployment (Li et al. 2026)"

    def __post_init__(self) -> None:
        self.plan("")  # a wrong gamma is said at once

    def plan(self, reference: str) -> Plan:
        """What is compared with what, in a benchmark with that reference."""
        return Plan(reference, self.subject, tuple(self.baselines), self.gamma)

    def check(self, runs: Sequence[RunSpec]) -> None:
        """Refuse names that no strategy of the grid has.

        Raises:
            ValueError: there are such.
        """
        there = {str(run.place["strategy"]): None for run in runs if run.role == "strategy"}
        named = [*([] if self.subject is None else [self.subject]), *self.baselines]
        if unknown := [name for name in named if name not in there]:
            raise ValueError(
                f"study asal: subject and baselines are strategies of the grid, which has "
                f"{', '.join(there)}; got {', '.join(unknown)}"
            )

    def serves(self, settings: Mapping[str, Any]) -> bool:
        """A run whose data have a problem with known truth, or measure safety."""
        from .traces import Landscape, rebuilt

        datamodule = rebuilt(settings.get("data"))
        known = isinstance(getattr(datamodule, "problem", None), Landscape)
        outcomes = getattr(datamodule, "outcomes", None)
        return known or getattr(outcomes, "safety", None) is not None

    def additions(self, setting: Setting, evidence: Evidence) -> Additions:
        """The table at deployment, the curve of safety, the map, and the safe area."""
        plan = self.plan(evidence.facts.get("reference", "random"))
        rows = deployment(setting.part_of(evidence.frame), plan)
        safe = any(row.safe_share.n for row in rows)
        return Additions(
            title="At deployment",
            columns=list(_columns(rows)),
            notes=[SAFE] if safe else [],
            sentences=list(sentences(rows, gamma=self.gamma, missing=False)),
            pictures=list(self._pictures(setting, evidence)),
            tables=list(self._areas(setting, evidence)),
        )

    def _pictures(self, setting: Setting, evidence: Evidence) -> Iterator[Picture]:
        from .maps import draw
        from .safety_curve import safety_curve
        from .traces import first_traces

        curve = safety_curve(setting, evidence.frame, self.gamma)
        if curve is not None:
            yield Picture(
                "safety",
                curve,
                "Share of safe queries among those asked so far; dashed: "
                f"{100 * (1 - self.gamma):g}\N{NO-BREAK SPACE}%.",
            )
        if traces := first_traces(setting, evidence.folders):
            yield Picture(
                "map",
                draw(traces),
                "Where each strategy asked, in the run of the least seed: queries by their order "
                "over the true function.",
                wide=True,
            )

    def _areas(self, setting: Setting, evidence: Evidence) -> Iterator[Table]:
        from .safe_area import areas

        found = areas(setting, evidence.folders, gamma=self.gamma)
        if found:
            yield Table(
                "What may be declared safe at the end",
                ["strategy", "runs", "safe, and declared so", "declared safe wrongly"],
                [
                    [
                        *map(
                            Cell,
                            (row.strategy, str(row.runs), _share(row.found), _share(row.wrong)),
                        )
                    ]
                    for row in found
                ],
                f"Shares of the whole domain, of which {_share(found[0].safe)} is safe, by a "
                "Gaussian process of all safety measurements of a run: declared safe is where a "
                "measurement would be safe with a probability of "
                f"{100 * (1 - self.gamma):g}\N{NO-BREAK SPACE}%.",
            )


def _columns(rows: Sequence[Deployed]) -> Iterator[Column]:
    """What the table of strategies shows beside the times; too few safe queries stand out."""
    for column in columns(rows, times=False):
        cells = {}
        for row in rows:
            flagged = column.field == "safe_share" and row.unsafe
            cells[row.strategy] = Cell(column.cell(row), "worse" if flagged else "")
        yield Column(column.title, cells)


def _share(value: float) -> str:
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
