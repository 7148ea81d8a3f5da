"""What in a table is probably not what it seems: row numbers, and marks for no label."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .packed_files import plain_stream

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    *("MARKS", "is_marked", "marks_of", "names_once", "refuse_dull", "warn_of_marks"),
    "without_row_numbers",
]

NAMELESS = re.compile(r"(Unnamed: \d+(_level_\d+)?|__index_level_\d+__)?")
FEW = 20  # rows from which on numbers that count up are no chance

MARKS = frozenset(
    {"?", "-", "--", "na", "n/a", "nan", "none", "null", "nil", "missing", "unknown", "undefined"}
    | {"unlabeled", "unlabelled", "not labeled", "not labelled", "no label", "nolabel", "no_label"}
    | {"unannotated", "todo", "tbd", "-1", "-99", "-999", "-9999"}
)
"""Names of classes, in small letters, that often mean that there is no label."""


def names_once(path: Path, separator: str) -> None:
    """Refuse a text file whose header line names two columns alike.

    A reader would number the second one, which may be the target under another name.

    Raises:
        ValueError: they are named.
    """
    import pandas as pd

    with plain_stream(path) as file:
        first = pd.read_csv(
            file,
            sep=separator,
            header=None,
            nrows=1,
            dtype=str,
            skipinitialspace=True,
            keep_default_na=False,
        )
    counts = Counter(str(name) for name in first.iloc[0] if str(name).strip())
    if twice := [f"{name!r} ({n} times)" for name, n in counts.items() if n > 1]:
        raise ValueError(
            f"{path}: the header line names {', '.join(twice)}; give each column a name of its own"
        )


def refuse_dull(frame: pd.DataFrame, columns: Sequence[str], unlike: Collection[str]) -> None:
    """Refuse features that say nothing of any row; a warning names those that others stand beside.

    Args:
        frame: the table.
        columns: its features.
        unlike: those that are categories of which each row has its own.

    Raises:
        ValueError: all of them are constant, or names of the rows.
    """
    if len(frame) < FEW:
        return
    single = [c for c in columns if _is_single(frame[c])]
    if set(columns) <= {*single, *unlike}:
        parts = [f"{c!r} has one value in all rows" for c in single]
        parts += [f"{c!r} has another in each, as an identifier" for c in columns if c in unlike]
        raise ValueError(
            f"nothing can be learned from these features: {', '.join(parts)}; add columns that say "
            "what the rows are like"
        )
    if single:
        warnings.warn(
            f"column(s) {', '.join(map(repr, single))} have one value in all rows and say nothing; "
            "name them in drop",
            stacklevel=2,
        )


def _is_single(column: pd.Series) -> bool:
    try:
        return bool(column.nunique(dropna=False) == 1)
    except TypeError:  # lists
        return False


def without_row_numbers(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> list[str]:
    """The features without nameless columns that number the rows; a warning names them.

    Columns that have a name are kept, with a warning where they count up row by row.
    """
    kept = []
    for name in columns:
        numbering = _numbers_rows(frame[name])
        nameless = NAMELESS.fullmatch(name) is not None
        if nameless and numbering:
            warnings.warn(
                f"{path}: the nameless column {name!r} numbers the rows and is left out; write "
                "tables with index=False, or give the column a name to keep it",
                stacklevel=2,
            )
            continue
        if numbering and len(frame) >= FEW:
            warnings.warn(
                f"{path}: column {name!r} numbers the rows, so their order may give the answer "
                "away; name it in drop unless it is a measurement",
                stacklevel=2,
            )
        elif nameless:
            warnings.warn(
                f"{path}: column {name!r} has no name in the header line; name it, or name it in "
                "drop",
                stacklevel=2,
            )
        kept.append(name)
    return kept


def _numbers_rows(column: pd.Series) -> bool:
    """Whether the cells are 0…N-1 or 1…N, in any order."""
    from pandas.api import types

    if not types.is_numeric_dtype(column) or types.is_bool_dtype(column) or column.hasnans:
        return False
    values = np.sort(column.to_numpy(dtype="float64"))
    n = len(values)
    return n > 1 and values[0] in (0, 1) and bool((np.diff(values) == 1).all())


def marks_of(given: Any) -> frozenset[str]:
    """Marks for no label as they are given, one or a list, as text.

    >>> sorted(marks_of([-1, "?"])), sorted(marks_of(None)), sorted(marks_of(-1.0))
    (['-1', '?'], [], ['-1'])
    """
    if given is None:
        return frozenset()
    several = given if isinstance(given, (list, tuple, set, frozenset)) else [given]
    return frozenset(_text(each) for each in several)


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def is_marked(column: pd.Series, marks: Collection[str]) -> Any:
    """Which cells [N] are one of the marks; numbers also where they are written as ``-1.0``."""
    if not marks:
        return np.zeros(len(column), dtype=bool)
    numbers = {float(mark) for mark in marks if _is_float(mark)}

    def marked(cell: Any) -> bool:
        text = str(cell).strip()
        return text in marks or (_is_float(text) and float(text) in numbers)

    return column.map(marked).to_numpy(dtype=bool)


def _is_float(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def warn_of_marks(labels: Iterable[str | None], where: str) -> None:
    """Say which classes have the name of a mark for no label.

    -1 is one beside 0 only: -1 and 1 are two classes.

    Args:
        labels: class names of the rows; None for none.
        where: the table and column, or the folder.
    """
    counts = Counter(label for label in labels if label is not None)
    total = sum(counts.values())
    found = [name for name in counts if name.strip().lower() in MARKS]
    if any(_is_float(name) for name in found):
        found = [name for name in found if not _is_float(name) or "0" in counts]
    for name in sorted(found):
        warnings.warn(
            f"{where}: {name!r} is a class of {counts[name]} of {total} labels, and often means "
            f"that there is none; say missing_label={name!r} to make these a pool without labels, "
            "or missing_label=[] where it is a class",
            stacklevel=3,
        )
