"""Pictures of a benchmark: learning curves, safety, critical differences, penalties, time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_al.history.history import History
from lightning_al.history.plots import COLOURS, INK, learning_curve
from lightning_al.history.records import Round

from .grid import FULL_DATA
from .statistics import average_ranks, cliques, compare_all

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .summary import Setting

__all__ = ["critical_difference", "curves", "penalties", "safety", "times"]


def curves(setting: Setting, frame: pd.DataFrame) -> Figure:
    """Mean learning curve of each strategy with its interval; full data as a dashed line."""
    metric = setting.metric
    rows = frame[frame["run_id"].isin(setting.runs["run_id"]) & frame["value"].notna()]
    order = setting.runs.groupby("strategy")["area"].mean()
    order = order.sort_values(ascending=not setting.higher_is_better)
    histories = []
    for name in order.index.drop(FULL_DATA, errors="ignore"):
        for _, run in rows[rows["strategy"] == name].groupby("run_id"):
            histories.append(_history(run.sort_values("round"), metric, name))
    figure = learning_curve(histories, metric=metric)
    full = setting.runs.loc[setting.runs["strategy"] == FULL_DATA, "final"]
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


def _history(
    run: pd.DataFrame, metric: str, name: str, column: str = "value", first: int = 0
) -> History:
    """The curve of a run: a column against the labelled items beyond the ``first`` ones."""
    rounds = [
        Round(i, int(n) - first, 0, {metric: float(v)}, 0, None)
        for i, (n, v) in enumerate(zip(run["n_labelled"], run[column], strict=True))
    ]
    return History(Path(), tuple(rounds), name=name)


def safety(setting: Setting, frame: pd.DataFrame, gamma: float = 0.05) -> Figure | None:
    """Share of safe queries until each fit against queries; None where none is known.

    Strategies have the colours of :func:`curves`. A dashed line is the share 1 - gamma.
    """
    if "safe_share" not in frame:
        return None
    rows = frame[frame["run_id"].isin(setting.runs["run_id"])]
    if rows["safe_share"].isna().all():
        return None
    order = setting.runs.groupby("strategy")["area"].mean()
    order = order.sort_values(ascending=not setting.higher_is_better)
    histories = []
    for name in order.index.drop(FULL_DATA, errors="ignore"):
        for _, run in rows[rows["strategy"] == name].groupby("run_id"):
            run = run.sort_values("round")
            first = int(run["n_labelled"].iloc[0])
            histories.append(_history(run, "safe_share", name, "safe_share", first))
    figure = learning_curve(histories, metric="safe_share")
    axes = figure.axes[0]
    axes.set_xlabel("queries")
    axes.set_ylabel("share of safe queries")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    low = min(1 - gamma, *(float(np.min(np.asarray(line.get_ydata()))) for line in axes.lines))
    axes.set_ylim(max(-0.02, low - 0.05), 1.02)
    axes.axhline(1 - gamma, color="#888888", linestyle="--", linewidth=1.2, zorder=1)
    if (names := axes.get_legend()) is not None:  # curves of shares fill the whole of the axes
        handles = [handle for handle in names.legend_handles if handle is not None]
        texts = [text.get_text() for text in names.get_texts()]
        names.remove()
        figure.legend(
            handles,
            texts,
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize=10,
            labelcolor=INK,
        )
    return figure


def critical_difference(
    table: pd.DataFrame, *, higher_is_better: bool = True, alpha: float = 0.05
) -> Figure:
    """Mean ranks on a line, best left; a bar joins strategies that no test tells apart.

    Source: Demšar (2006) for the form, Benavoli, Corani and Mangili (2016) for pairwise Wilcoxon
    tests with Holm's correction in place of Nemenyi's.

    Args:
        table: one value a block and strategy.
        higher_is_better: direction of the values.
        alpha: level of the family of all pairs.
    """
    ranks = average_ranks(table.to_numpy(), higher_is_better=higher_is_better)
    order = np.argsort(ranks, kind="stable")
    names = [str(table.columns[i]) for i in order]
    ranks = ranks[order]
    comparisons = compare_all(table.to_numpy()[:, order], names, alpha=alpha)
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
        label = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
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
    axes.set_xticks(range(m), names, rotation=40, ha="right", color=INK)
    axes.set_yticks(range(m + 1), [*names, "column mean"], color=INK)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def times(setting: Setting) -> Figure:
    """Seconds of fitting and of querying a round, by strategy: means over the runs."""
    runs = setting.runs[setting.runs["strategy"] != FULL_DATA]
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
    axes.set_yticks(places, [str(n) for n in mean.index], color=INK)
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
