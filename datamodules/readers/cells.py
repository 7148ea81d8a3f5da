"""Rows of a table as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cells_of"]

VECTOR = 8
"""Numbers of a vector in a cell that are written out."""


def cells_of(frame: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Names of the columns, and the cells of each row; an empty cell is ""."""
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return [str(name) for name in frame.columns], rows


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        parts = [f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in value[:VECTOR]]
        shown = " ".join(parts)
        return shown + (" …" if len(value) > VECTOR else "")
    if value is None or value != value:  # NaN, NaT
        return ""
    return value.item() if isinstance(value, np.generic) else value
