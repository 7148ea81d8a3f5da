"""Density regression on a benchmark's page, beside the figures that BALSA published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lightning_al.benchmark.shown_numbers import signed
from lightning_al.benchmark.statistics import bootstrap_mean
from lightning_al.benchmark.study import (
    STUDIES,
    Additions,
    Cell,
    Evidence,
    Study,
    Table,
    Verdict,
)
from lightning_al.benchmark.summary import paired, per_run, settings

from .figures_read import CLOSE, Beside, beside, published

if TYPE_CHECKING:
    import pandas as pd

    from lightning_al.benchmark.run_spec import RunSpec
    from lightning_al.benchmark.summary import Setting

__all__ = ["Balsa"]

TRACKS = ("corrected", "published")
REQUIRED = ("k-center", "random", "balsa-kl-pairs", "balsa-nflows-out")
"""Strategies whose published areas are held, in their order but for the two in the middle."""
SWAP = frozenset({"random", "balsa-kl-pairs"})


@STUDIES.register("balsa")
@dataclass(frozen=True)
class Balsa(Study):
    """Adds the other metrics, calibration and ranks of each data set, and what it comes to overall.

    Args:
        track: "corrected" compares strategies with each other alone; "published" also holds the
            figures of the paper beside those here, and fails where the areas of Parkinsons (flow,
            one item a query) that were run are not within a quarter of the printed ones, or in
            another order (random and KL Pairs may change places).
    """

    track: Literal["corrected", "published"] = "corrected"

    name: ClassVar[str] = "regression by distribution disagreement (BALSA 2025)"

    def __post_init__(self) -> None:
        if self.track not in TRACKS:
            raise ValueError(
                f"study balsa: track is one of {', '.join(TRACKS)}, got {self.track!r}"
            )

    def serves(self, settings: Mapping[str, Any]) -> bool:
        """A run whose task predicts densities."""
        model = settings.get("model")
        path = model.get("class_path", "") if isinstance(model, Mapping) else ""
        return str(path).rpartition(".")[2] == "DensityRegression"

    def additions(self, setting: Setting, evidence: Evidence) -> Additions:
        """Pictures of a setting, and on the published track its figures."""
        from .panels import pictures

        tables: list[Table] = []
        if self.track == "published":
            found = [row for row in _of_setting(setting, evidence.frame) if row.values]
            tables = [_table(found)] if found else []
        return Additions(pictures=list(pictures(setting, evidence.frame)), tables=tables)

    def verdict(self, runs: Sequence[RunSpec], evidence: Evidence) -> Verdict:
        """Strategies over the data sets as blocks; on the published track, whether it is met."""
        frame = evidence.frame
        done = per_run(frame, evidence.facts) if len(frame) else frame
        lines = list(_over_data_sets(done, str(evidence.facts.get("reference", "random"))))
        if self.track == "corrected":
            return Verdict(lines, True)
        held, holds = _held(frame)
        return Verdict([*lines, *held], holds)


def _of_setting(setting: Setting, frame: pd.DataFrame) -> list[Beside]:
    place = setting.place
    mine = [
        figure
        for figure in published()
        if (figure.data, figure.head) == (place["data"], place["model"])
        and figure.query_size == place["query_size"]
    ]
    return beside(mine, frame)


def _table(found: Sequence[Beside]) -> Table:
    rows = [
        [
            Cell(row.figure.strategy),
            Cell(row.figure.what),
            Cell(f"{row.figure.value:.4g}"),
            Cell(f"{row.mean:.4g}"),
            Cell(row.spread or "one run"),
            Cell("near" if row.near else "off", "better" if row.near else "worse"),
            Cell(row.figure.about),
        ]
        for row in found
    ]
    return Table(
        title="Beside the published figures",
        heads=("strategy", "what", "published", "here", "runs from, to", "verdict", "read off"),
        rows=rows,
        note=f"Near: within {CLOSE:.0%}. All but the means over the curve of Parkinsons are read "
        "off pictures. What was published as CRPS is the NLL, and is not compared.",
    )


def _over_data_sets(done: pd.DataFrame, reference: str) -> Iterator[str]:
    """The mean difference to the reference with the data sets as blocks, a line a strategy."""
    gaps: dict[str, dict[str, list[float]]] = {}
    for setting in settings(done):
        table = paired(setting)
        if reference not in table or not len(table):
            continue
        sign = 1.0 if setting.higher_is_better else -1.0
        scale = float(table[reference].std()) or 1.0
        for name in table:
            if name != reference:
                gap = sign * float((table[name] - table[reference]).mean()) / scale
                gaps.setdefault(str(name), {}).setdefault(str(setting.place["data"]), []).append(
                    gap
                )
    for name, blocks in sorted(gaps.items()):
        means = [sum(values) / len(values) for values in blocks.values()]
        if len(means) > 1 and all(m == m for m in means):
            found = bootstrap_mean(means)
            yield (
                f"{name} against {reference}, data sets as blocks: {signed(found.mean)} deviations "
                f"of {reference}'s runs [{signed(found.low)}, {signed(found.high)}], "
                f"{found.n} data sets; better above 0"
            )


def _held(frame: pd.DataFrame) -> tuple[list[str], bool]:
    """The areas that are required, each beside ours, and whether those that were run hold."""
    wanted = [f for f in published() if f.at == "area" and f.strategy in REQUIRED]
    found = sorted(
        (row for row in beside(wanted, frame) if row.values),
        key=lambda row: REQUIRED.index(row.figure.strategy),
    )
    lines = [
        f"{row.figure.strategy}: {row.figure.what} {row.mean:.4f}"
        f"{f' ({row.spread})' if row.spread else ''}, published {row.figure.value:.4f}, "
        f"{'within' if row.near else 'not within'} {CLOSE:.0%}"
        for row in found
    ]
    ordered = all(
        first.mean < second.mean or {first.figure.strategy, second.figure.strategy} == SWAP
        for i, first in enumerate(found)
        for second in found[i + 1 :]
    )
    if len(found) > 1:
        lines.append(f"in the published order: {'yes' if ordered else 'no'}")
    return lines, ordered and all(row.near for row in found)
