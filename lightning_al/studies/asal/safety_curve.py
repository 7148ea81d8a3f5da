"""How safe the queries of each strategy were until each fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import PercentFormatter

from lightning_al.benchmark.figures import histories
from lightning_al.history.plots import INK, learning_curve

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lightning_al.benchmark.summary import Setting

__all__ = ["safety_curve"]

SHARE = "safe_share"  # the metric of a round, see lightning_al.history.safety


def safety_curve(setting: Setting, frame: pd.DataFrame, gamma: float = 0.05) -> Figure | None:
    """Share of safe queries until each fit against queries; None where none is known.

    Strategies have the colours of the learning curve. A dashed line is the share 1 - gamma.
    """
    if SHARE not in frame:
        return None
    if frame.loc[frame["run_id"].isin(setting.runs["run_id"]), SHARE].isna().all():
        return None
    figure = learning_curve(histories(setting, frame, SHARE, beyond_start=True), metric=SHARE)
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
