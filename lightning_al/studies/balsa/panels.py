"""Pictures that density regression adds to a setting: other metrics, calibration, ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lightning_al.benchmark import figures
from lightning_al.benchmark.study import Picture
from lightning_al.benchmark.summary import Setting, paired
from lightning_al.history.plots import COLOURS, INK, MARKERS, learning_curve, plain_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["pictures"]

CURVES = {"test/nll": "NLL", "test/mae": "MAE", "test/mae_mode": "MAE of a mode"}
CURVES |= {"test/crps": "CRPS"}
NOMINAL = {"test/coverage_50": 0.5, "test/coverage_90": 0.9}
ENOUGH = 3  # strategies that a diagram of ranks is worth


def pictures(setting: Setting, frame: pd.DataFrame) -> Iterator[Picture]:
    """Those that the results of a setting allow.

    Args:
        setting: with its runs.
        frame: the tidy table.
    """
    table = paired(setting)
    if table.shape[1] >= ENOUGH and len(table) > 1:
        sign = 1 if setting.higher_is_better else -1
        yield Picture(
            "ranks",
            figures.critical_difference(sign * table),
            f"Mean ranks over {len(table)} paired runs of this data set. A bar joins strategies "
            "that no pairwise Wilcoxon test with Holm's correction tells apart at 5 %.",
            wide=True,
        )
    rows = setting.part_of(frame)
    for column, name in CURVES.items():
        if column != setting.metric and column in rows and rows[column].notna().any():
            drawn = learning_curve(figures.histories(setting, frame, column), metric=column)
            yield Picture(f"curve-{column.rpartition('/')[2]}", drawn, f"{name}, lower is better.")
    there = [c for c in NOMINAL if c in rows and rows[c].notna().any()]
    if there:
        yield Picture(
            "calibration",
            _calibration(setting, rows, there),
            "Calibration: the share of test targets inside the central intervals that are to hold "
            "half and nine tenths of them (dashed); mean over the runs.",
            wide=True,
        )


def _calibration(setting: Setting, rows: pd.DataFrame, columns: list[str]) -> Figure:
    figure = Figure(figsize=(4.2 * len(columns), 3.2), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    gradual = rows[rows["run_id"].isin(setting.gradual["run_id"])]
    for place, column in zip(axes, columns, strict=True):
        place.axhline(NOMINAL[column], color="#888888", linestyle="--", linewidth=1.2)
        for i, strategy in enumerate(setting.order):
            mine = gradual[gradual["strategy"] == strategy].groupby("n_labelled")[column].mean()
            place.plot(
                mine.index,
                mine.to_numpy(),
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=3.5,
                linewidth=1.3,
                label=plain_text(strategy),
            )
        place.set_xlabel("labelled items")
        place.set_title(f"{NOMINAL[column]:.0%} intervals", loc="left", fontsize=11, color=INK)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of targets inside")
    axes[-1].legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure
