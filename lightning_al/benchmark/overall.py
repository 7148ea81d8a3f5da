"""What holds over all settings: mean ranks, critical differences, penalties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import figures
from .inline_svg import Pictures
from .statistics import average_ranks, friedman, penalty_matrix
from .summary import Setting, paired, settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["overall"]


def overall(runs: pd.DataFrame, frame: pd.DataFrame, pictures: Pictures) -> dict[str, Any]:
    """Ranks, critical differences and penalties over everything, with what they rest on.

    Args:
        runs: of :func:`.summary.per_run`.
        frame: the tidy table.
        pictures: takes the figures.

    Returns:
        What the page shows; nothing where fewer than two strategies stand in every setting.
    """
    import pandas as pd

    tables = {s.name: paired(s) * (1 if s.higher_is_better else -1) for s in settings(runs)}
    names = [str(n) for n in runs.loc[runs["role"] == "strategy", "strategy"].unique()]
    shared = [n for n in names if all(n in t for t in tables.values())]
    if len(shared) < 2:
        return {}
    means = pd.DataFrame({name: t[shared].mean() for name, t in tables.items() if len(t)}).T
    blocks = pd.concat([t[shared] for t in tables.values()])
    several = means.index.size > 1
    complete = means.dropna()
    ranks = average_ranks(means.to_numpy())
    best = sorted(zip(shared, ranks, strict=True), key=lambda pair: pair[1])
    curves = [c for s in settings(runs) if (c := _curves(s, frame, shared)) is not None]
    matrix = penalty_matrix(curves) if curves else None
    return {
        "ranks": best,
        "settings": means.index.size,
        "blocks": len(blocks),
        "friedman_blocks": friedman(blocks.to_numpy()) if len(blocks) > 1 else math.nan,
        "friedman_settings": friedman(means.to_numpy()) if several else math.nan,
        "dependent": len(blocks) > means.index.size,
        "critical": None
        if len(shared) < 3 or len(blocks) < 2
        else pictures.add("critical-difference", figures.critical_difference(blocks)),
        "critical_settings": None
        if len(shared) < 3 or len(complete) < 2
        else pictures.add("critical-settings", figures.critical_difference(complete)),
        "penalties": None
        if matrix is None
        else pictures.add("penalties", figures.penalties(matrix, shared, len(curves))),
    }


def _curves(setting: Setting, frame: pd.DataFrame, names: Sequence[str]) -> Any:
    """[blocks, strategies, fits] where all runs of a setting have the same numbers of labels.

    Of metrics that should be low, the negative.
    """
    import numpy as np

    rows = frame[frame["run_id"].isin(setting.runs["run_id"]) & frame["strategy"].isin(names)]
    wide = rows.pivot_table(
        index=["fold", "seed"], columns=["strategy", "n_labelled"], values="value"
    ).dropna()
    parts = [wide[n].to_numpy() for n in names if n in wide.columns.get_level_values(0)]
    if len(parts) < len(names) or len({p.shape for p in parts}) > 1 or not len(wide):
        return None
    return np.stack(parts, axis=1) * (1 if setting.higher_is_better else -1)
