"""What strategies that combine others trusted, read from the journals of their runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from lightning_al.history.plots import COLOURS, INK, MARKERS, plain_text
from lightning_al.journal.journal import read_journal
from lightning_al.journal.standing import history_rounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from lightning_al.benchmark.summary import Setting

__all__ = ["Trusted", "draw", "of_setting", "read_trusted", "trusted_of"]

NOTES = ("trusted", "overlap")
BY_CLASS = "trusted by class"


@dataclass(frozen=True)
class Trusted:
    """What one strategy trusted in R rounds, the mean over its runs."""

    strategy: str
    names: Sequence[str]  # of the K candidates
    labelled: np.ndarray  # [R] items when it chose
    weights: np.ndarray  # [R, K] mean weight of each
    overlap: np.ndarray  # [R, K] share of the batch that each would have chosen too; NaN: not told
    classes: Sequence[str] = ()
    by_class: np.ndarray | None = None  # [C, K] in the last round that tells; NaN: no such items
    runs: int = 1


def read_trusted(folder: Path) -> list[Mapping[str, Any]]:
    """The notes of each round of a run that tells what was trusted, with ``n_labelled``.

    Raises:
        JournalError: a damaged journal.
    """
    records, _ = read_journal(folder / "journal.jsonl")
    if not records:
        return []
    rounds, _ = history_rounds(records, folder)
    return [{**r.notes, "n_labelled": r.n_labelled} for r in rounds if NOTES[0] in r.notes]


def trusted_of(strategy: str, runs: Iterable[Sequence[Mapping[str, Any]]]) -> Trusted | None:
    """The mean over the runs of a strategy, of the rounds that all have; None where none tells.

    Args:
        strategy: its name.
        runs: for each its rounds, as :func:`read_trusted` gives them.
    """
    told = [run for run in runs if run]
    if not told:
        return None
    length = min(map(len, told))
    first = told[0][0][NOTES[0]]
    names = list(first)

    def mean(note: str) -> np.ndarray:
        values = [
            [[run[r].get(note, {}).get(n, np.nan) for n in names] for r in range(length)]
            for run in told
        ]
        return np.asarray(values, dtype=float).mean(0)

    last = [run[length - 1].get(BY_CLASS, {}) for run in told]
    classes = sorted({c for found in last for c in found}, key=lambda c: (len(c), c))
    table = None
    if classes:
        table = np.full((len(classes), len(names)), np.nan)
        for i, c in enumerate(classes):
            rows = [[found[c][n] for n in names] for found in last if c in found]
            table[i] = np.mean(rows, axis=0)
    return Trusted(
        strategy=strategy,
        names=names,
        labelled=np.mean([[r["n_labelled"] for r in run[:length]] for run in told], axis=0),
        weights=mean(NOTES[0]),
        overlap=mean(NOTES[1]),
        classes=classes,
        by_class=table,
        runs=len(told),
    )


def of_setting(setting: Setting, folders: Mapping[str, Path]) -> list[Trusted]:
    """What each strategy of a setting trusted, in the order of its curves."""
    found = []
    for strategy in setting.order:
        mine = setting.runs[setting.runs["strategy"] == strategy]
        runs = [read_trusted(folders[i]) for i in mine["run_id"] if i in folders]
        if (told := trusted_of(strategy, runs)) is not None:
            found.append(told)
    return found


def draw(found: Sequence[Trusted]) -> Figure:
    """A row a strategy: mean weights and overlaps over the rounds, weights by class at the end."""
    wide = 3 if any(t.by_class is not None for t in found) else 2
    figure = Figure(figsize=(4.2 * wide, 3.1 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), wide, squeeze=False)
    names = list(dict.fromkeys(name for told in found for name in told.names))
    lines: dict[str, Line2D] = {}
    for row, told in zip(axes, found, strict=True):
        lines |= _lines(row[0], told, told.weights, "mean weight", names)
        _lines(row[1], told, told.overlap, "share of the batch", names)
        row[0].set_title(plain_text(told.strategy), loc="left", fontsize=11, color=INK)
        if wide == 3:
            _by_class(row[2], told)
    look: dict[str, Any] = {"fontsize": 9, "frameon": False, "labelcolor": INK}
    figure.legend(handles=list(lines.values()), loc="outside upper center", ncols=4, **look)
    return figure


def _lines(
    axes: Axes, told: Trusted, values: np.ndarray, what: str, names: Sequence[str]
) -> dict[str, Line2D]:
    """Draw a line a candidate, in the colour of its place among all names; the lines by name."""
    drawn = {}
    for column, name in zip(values.T, told.names, strict=True):
        k = names.index(name)
        (drawn[name],) = axes.plot(
            told.labelled,
            column,
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            label=plain_text(name),
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("labelled items")
    axes.set_ylabel(what)
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def _by_class(axes: Axes, told: Trusted) -> None:
    if told.by_class is None:
        axes.set_axis_off()
        return
    axes.imshow(told.by_class, aspect="auto", cmap="Blues", vmin=0)
    axes.set_xticks(range(len(told.names)), map(plain_text, told.names), rotation=45, ha="right")
    axes.set_yticks(range(len(told.classes)), told.classes)
    axes.set_ylabel("class it is taken for")
