"""Pictures of a benchmark: learning curves, critical differences, penalties, time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_al.history.history import History
from lightning_al.history.plots import COLOURS, INK, learning_curve, plain_text
from lightning_al.history.records import Round

from .statistics import average_ranks, cliques, compare_all

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .summary import Setting

__all__ = ["critical_difference", "curves", "histories", "penalties", "times"]


def curves(setting: Setting, frame: pd.DataFrame) -> Figure:
    """Mean learning curve of each strategy with its interval; full data as a dashed line."""
    figure = learning_curve(histories(setting, frame, "value"), metric=setting.metric)
    full = setting.all_labelled
    if len(full):
        axes = figure.axes[0]
        axes.axhline(full.mean(), color="#888888", linestyle="--", linewidth=1.2, zorder=1)
        axes.annotate(
            "all data labelled",
            (0.01, full.mean()),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=10,
            color=INK,
        )
    return figure


def histories(
    setting: Setting, frame: pd.DataFrame, column: str, *, beyond_start: bool = False
) -> list[History]:
    """A column of each run against its labelled items, as runs that a learning curve takes.

    The best strategy first, so that all pictures of a setting have the same colours.

    Args:
        setting: whose runs; those that label everything at once are left out.
        frame: the tidy table.
        column: what is drawn; under its own name, or the metric's where it is "value".
        beyond_start: count the labelled items beyond the first ones, the queries.
    """
    name = setting.metric if column == "value" else column
    rows = frame[frame["run_id"].isin(setting.gradual["run_id"])]
    found = []
    for strategy in setting.order:
        for _, run in rows[rows["strategy"] == strategy].groupby("run_id"):
            run = run.sort_values("round")
            start = int(run["n_labelled"].iloc[0]) if beyond_start else 0
            rounds = [
                Round(i, int(n) - start, 0, {name: float(v)}, 0, None, amended=texts)
                for i, (n, v, texts) in enumerate(
                    zip(run["n_labelled"], run[column], _amended(run), strict=True)
                )
            ]
            found.append(History(Path(), tuple(rounds), name=strategy))
    return found


def _amended(run: pd.DataFrame) -> list[tuple[str, ...]]:
    """What was changed in a run ahead of each round; nothing where no single run is shown."""
    if "amended" not in run:
        return [()] * len(run)
    texts = [text if isinstance(text, str) else "" for text in run["amended"]]
    return [tuple(text.split("; ")) if text else () for text in texts]


def critical_difference(table: pd.DataFrame) -> Figure:
    """Mean ranks on a line, best left; a bar joins strategies that no test tells apart at 5 %.

    Source: Demšar (2006) for the form, Benavoli, Corani and Mangili (2016) for pairwise Wilcoxon
    tests with Holm's correction in place of Nemenyi's.

    Args:
        table: one value a block and strategy, the higher the better.
    """
    ranks = average_ranks(table.to_numpy())
    order = np.argsort(ranks, kind="stable")
    names = [str(table.columns[i]) for i in order]
    ranks = ranks[order]
    comparisons = compare_all(table.to_numpy()[:, order], names)
    groups = cliques(comparisons, names)
    m = len(names)
    lines = -(-m // 2)
    figure = Figure(figsize=(7.2, 1.1 + 0.3 * lines + 0.16 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(1 - 0.32 * (m - 1), m + 0.32 * (m - 1))
    top = 0.16 * len(groups) + 0.12
    axes.set_ylim(top + 0.3 * lines + 0.15, -0.5)
    axes.plot([1, m], [0, 0], color=INK, linewidth=1.2)
    for tick in range(1, m + 1):
        axes.plot([tick, tick], [-0.07, 0], color=INK, linewidth=1.2)
        axes.text(tick, -0.12, str(tick), ha="center", va="bottom", fontsize=10, color=INK)
    for i, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = i < lines
        y = top + 0.3 * ((i if left else m - 1 - i) + 0.5)
        edge = 1 - 0.02 * (m - 1) if left else m + 0.02 * (m - 1)
        axes.plot([rank, rank, edge], [0, y, y], color="#888888", linewidth=0.9)
        shown = plain_text(name)
        label = f"{shown}  {rank:.2f}" if left else f"{rank:.2f}  {shown}"
        pad = -0.01 * (m - 1) if left else 0.01 * (m - 1)
        side = "right" if left else "left"
        axes.text(edge + pad, y, label, ha=side, va="center", fontsize=10.5, color=INK)
    for i, group in enumerate(groups):
        inside = [ranks[names.index(name)] for name in group]
        y = 0.13 + 0.16 * i
        pad = 0.015 * (m - 1)
        ends = [min(inside) - pad, max(inside) + pad]
        axes.plot(ends, [y, y], color=COLOURS[1], linewidth=4, solid_capstyle="butt")
    return figure


def penalties(matrix: np.ndarray, names: Sequence[str], data_sets: int) -> Figure:
    """The pairwise penalty matrix: how often, of ``data_sets``, the row beats the column."""
    m = len(names)
    figure = Figure(figsize=(1.9 + 0.62 * m, 1.7 + 0.5 * m), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    whole = np.vstack([matrix, matrix.mean(0, keepdims=True)])
    axes.imshow(whole, cmap="Blues", vmin=0, vmax=max(1, data_sets), aspect="auto")
    for i, j in np.ndindex(whole.shape):
        dark = whole[i, j] > 0.6 * max(1, data_sets)
        text = "" if i == j else f"{whole[i, j]:.2g}"
        axes.text(j, i, text, ha="center", va="center", color="white" if dark else "#111111")
    axes.axhline(m - 0.5, color=INK, linewidth=1.5)
    shown = [plain_text(name) for name in names]
    axes.set_xticks(range(m), shown, rotation=40, ha="right", color=INK)
    axes.set_yticks(range(m + 1), [*shown, "column mean"], color=INK)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def times(setting: Setting) -> Figure:
    """Seconds of fitting and of querying a round, by strategy: means over the runs."""
    runs = setting.gradual
    each = runs[["seconds_fit", "seconds_query"]].div(runs["fits"], axis=0)
    mean = each.groupby(runs["strategy"]).mean()
    mean = mean.loc[mean.sum(axis=1).sort_values().index]
    figure = Figure(figsize=(4.6, 1.1 + 0.34 * len(mean)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(len(mean))
    left = np.zeros(len(mean))
    for column, label, colour in (
        ("seconds_fit", "fitting", COLOURS[5]),
        ("seconds_query", "scoring and choosing", COLOURS[1]),
    ):
        width = mean[column].to_numpy()
        axes.barh(places, width, left=left, label=label, color=colour, height=0.7)
        left = left + width
    axes.set_yticks(places, [plain_text(str(n)) for n in mean.index], color=INK)
    _plain(axes, "seconds a round")
    axes.legend(
        frameon=False, labelcolor=INK, fontsize=10, ncols=2, loc="lower left", bbox_to_anchor=(0, 1)
    )
    return figure


def _plain(axes: Axes, x: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.tick_params(color="#999999", labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
