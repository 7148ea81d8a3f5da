"""Maps of queries: where each strategy asked, over the true function of one or two inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_al.history.plots import COLOURS, GRID, INK, plain_text

from .traces import Array, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

FINE = 81  # points of the truth along each side of a map, ten times as many along a line
WIDE = 6.5  # inches
COLUMNS = 4
ORDER = "plasma"
BOUNDARY = "#111111"
UNSAFE = COLOURS[1]


def draw(traces: Sequence[Trace]) -> Figure:
    """One panel a run, all of one problem: the truth, the initial points, queries by their order.

    Of two inputs: contours of f, and the line g = 0. Of one input: f, and what was measured.
    Queries that were not safe are crosses.

    Raises:
        ValueError: no runs, or runs of problems of different names.
    """
    if len({trace.problem.name for trace in traces}) != 1:
        raise ValueError(
            f"a map takes runs of one problem, got {[t.problem.name for t in traces]}; draw one "
            "for each"
        )
    flat = traces[0].problem.dimension == 1
    columns = min(len(traces) if len(traces) <= COLUMNS else -(-len(traces) // 2), COLUMNS)
    rows = -(-len(traces) // columns)
    # never narrower than the legend under it
    width, height = max(columns * (3.0 if flat else 2.6) + 0.9, 5.4), 2.3 if flat else 2.75
    figure = Figure(figsize=(width, rows * height + 0.75), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    last = max(2, *(len(trace.queries) for trace in traces))
    for axes, trace in zip(panels.flat, traces, strict=False):
        (_line if flat else _map)(axes, trace, last)
        axes.set_title(plain_text(trace.strategy), fontsize=11, color=INK)
        axes.tick_params(labelsize=9, color="#999999", labelcolor=INK)
        axes.spines[:].set_color("#999999")
    for axes in panels.flat[len(traces) - columns : len(traces)]:
        axes.tick_params(labelbottom=True)  # nothing below may stand there
    for axes in panels.flat[len(traces) :]:
        axes.set_axis_off()
    order = ScalarMappable(Normalize(1, last), ORDER)
    bar = figure.colorbar(order, ax=panels, shrink=0.85, aspect=15 * rows + 10, pad=0.02)
    bar.set_label("query", color=INK, fontsize=11)
    bar.ax.tick_params(labelsize=9, color="#999999", labelcolor=INK)
    step = max(5, round(last / 30) * 5)
    bar.set_ticks([1, *(t for t in range(step, last, step) if last - t > step / 2), last])
    bar.outline.set_edgecolor("#999999")
    _legend(figure, panels)
    return figure


def _map(axes: Axes, trace: Trace, last: int) -> None:
    side = np.linspace(0, 1, FINE)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    f, g = _truth(trace, grid)
    low, high = float(f.min()), float(f.max())
    # the darkest grey stays far from black: points and lines stand out; as pixels, for their number
    filled = axes.contourf(
        *(side, side, f.reshape(FINE, FINE).T),
        levels=np.linspace(low, high, 11),
        cmap="Greys",
        vmin=low - 0.1 * (high - low),
        vmax=low + 1.9 * (high - low),
    )
    filled.set_rasterized(True)
    filled.set_label("_f")
    if g is not None:
        lines = axes.contour(
            side, side, g.reshape(FINE, FINE).T, levels=[0.0], colors=BOUNDARY, linewidths=1.6
        )
        lines.set_label("safe boundary")
    axes.set_aspect("equal")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    _points(axes, trace, trace.initial[:, 1], trace.queries[:, 1], last)


def _line(axes: Axes, trace: Trace, last: int) -> None:
    x = np.linspace(0, 1, 10 * FINE)[:, None]
    f, g = _truth(trace, x)
    axes.plot(x[:, 0], f, color="#999999", linewidth=1.6, zorder=1, label="true function")
    if g is not None:
        low = axes.get_xaxis_transform()
        axes.fill_between(x[:, 0], 0, 1, where=g < 0, transform=low, color=UNSAFE, alpha=0.12)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(-0.03, 1.03)
    _points(axes, trace, trace.initial_y, trace.y, last)


def _points(axes: Axes, trace: Trace, start: Array, height: Array, last: int) -> None:
    """Initial points, then queries by their order, those that were not safe as crosses."""
    axes.scatter(
        trace.initial[:, 0],
        start,
        marker="s",
        s=26,
        c="white",
        edgecolors=BOUNDARY,
        linewidths=1.3,
        zorder=3,
        clip_on=False,
        label="initial points",
    )
    number = np.arange(1, len(trace.queries) + 1)
    kinds: list[tuple[Any, Any, float, str, str]] = [
        (~trace.unsafe, "o", 36, "white", "queries"),
        (trace.unsafe, "X", 62, BOUNDARY, "queries that were not safe"),
    ]
    for which, marker, size, edge, label in kinds:
        if which.any():
            axes.scatter(
                trace.queries[which, 0],
                height[which],
                c=number[which],
                marker=marker,
                s=size,
                cmap=ORDER,
                vmin=1,
                vmax=last,
                edgecolors=edge,
                linewidths=0.8,
                zorder=4,
                clip_on=False,
                label=label,
            )


def _truth(trace: Trace, x: Array) -> tuple[Array, Array | None]:
    f, g = trace.problem.truth(torch.from_numpy(x))
    return f.numpy(), None if g is None else g.numpy()


def _legend(figure: Figure, panels: NDArray[Any]) -> None:
    """What the marks mean, once under all panels."""
    from matplotlib.lines import Line2D

    seen: dict[str, Any] = {}
    for axes in panels.flat:
        for artist in (*axes.lines, *axes.collections):
            label = str(artist.get_label())
            if not label.startswith("_"):
                seen.setdefault(label, artist)
    if "safe boundary" in seen:
        seen["safe boundary"] = Line2D([], [], color=BOUNDARY, linewidth=1.6)
    figure.legend(
        list(seen.values()),
        list(seen),
        loc="outside lower center",
        ncols=len(seen) if figure.get_figwidth() > WIDE else 2,  # four marks in a line need it
        frameon=False,
        fontsize=10,
        labelcolor=INK,
    )
