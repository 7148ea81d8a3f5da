"""Pictures of runs that tune: settings over rounds, and what judges said against the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_al.history.metric_names import human_name
from lightning_al.history.plots import COLOURS, INK, plain_text
from lightning_al.tuning.space import HEADS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .summary import Setting

__all__ = ["judged", "over_rounds", "tuned_settings"]

WIDE = 3  # panels in a row
DECADES = 30.0  # largest over smallest, from which an axis is logarithmic


def tuned_settings(frame: pd.DataFrame) -> list[str]:
    """Columns of settings that some runs have tuned, in order of appearance."""
    return [
        name
        for name in map(str, frame.columns)
        if name.partition(".")[0] in HEADS and "." in name and frame[name].notna().any()
    ]


def _rows(setting: Setting, frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["run_id"].isin(setting.gradual["run_id"])]
    return rows[rows["tuned"].notna()] if "tuned" in rows else rows[:0]


def over_rounds(setting: Setting, frame: pd.DataFrame) -> Figure | None:
    """A panel a setting: its median over the runs of each strategy, by round, and the middle half.

    Numbers over several decades lie on a logarithmic axis, words at the places of their order.
    None where no run has tuned anything.
    """
    rows = _rows(setting, frame)
    names = tuned_settings(rows)
    if not names:
        return None
    across, down = min(WIDE, len(names)), -(-len(names) // WIDE)
    figure = Figure(figsize=(3.3 * across + 0.4, 2.5 * down + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(names):
        axes = figure.add_subplot(down, across, place + 1)
        _panel(axes, setting, rows, name)
        axes.set_title(plain_text(name), fontsize=10, color=INK)
        axes.set_xlabel("labelled items", color=INK)
        if place == 0:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _panel(axes: Axes, setting: Setting, rows: pd.DataFrame, name: str) -> None:
    import pandas as pd

    values, between = pd.to_numeric(rows[name], errors="coerce"), "linear"
    if values.isna().all():
        between = "nearest"  # there is nothing between two words
        words = sorted(rows[name].dropna().astype(str).unique())
        values = rows[name].astype(str).map({word: i for i, word in enumerate(words)})
        axes.set_yticks(range(len(words)), [plain_text(word) for word in words])
        axes.set_ylim(-0.5, len(words) - 0.5)
    elif values.min() > 0 and values.max() / values.min() >= DECADES:
        axes.set_yscale("log")
    for colour, strategy in enumerate(setting.order):
        mine = rows["strategy"] == strategy
        grouped = values[mine].groupby(rows.loc[mine, "n_labelled"])
        if not mine.any():
            continue
        middle, low, high = (grouped.quantile(q, interpolation=between) for q in (0.5, 0.25, 0.75))
        line = COLOURS[colour % len(COLOURS)]
        axes.step(middle.index, middle, where="post", color=line, label=plain_text(strategy))
        axes.fill_between(middle.index, low, high, step="post", color=line, alpha=0.15, lw=0)
    _plain(axes)


def judged(setting: Setting, frame: pd.DataFrame) -> Figure | None:
    """The objective of each round's best trial against the metric of the fit that followed.

    None where no run has tuned anything.
    """
    rows = _rows(setting, frame)
    if not len(rows):
        return None
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for colour, strategy in enumerate(setting.order):
        mine = rows[rows["strategy"] == strategy]
        if len(mine):
            line = COLOURS[colour % len(COLOURS)]
            axes.scatter(
                mine["tuned"],
                mine["value"],
                s=14,
                color=line,
                alpha=0.6,
                label=plain_text(strategy),
            )
    axes.set_xlabel("objective of the best trial", color=INK)
    axes.set_ylabel(human_name(setting.metric), color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.tick_params(color="#999999", labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
