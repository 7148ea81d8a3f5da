"""Tables read from files, and turned into numbers: one-hot categories, class indices."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:  # pandas is imported by the functions that need it: it is heavy
    import pandas as pd

__all__ = ["Encoder", "check_columns", "class_targets", "number_targets", "read_table", "read_text"]

PARQUET = (".parquet", ".pq")
MISSING = "(missing)"  # the category of empty cells
NOT_A_VALUE = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "-nan", "#n/a"})


def read_table(path: Path, separator: str | None = None) -> pd.DataFrame:
    """Read a table with a header line from CSV (plain or compressed) or parquet.

    Args:
        path: ``.parquet`` or ``.pq`` is parquet, anything else is text.
        separator: between the cells of a text file; None takes a tab for ``.tsv``, else a comma.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table, or one without rows or columns.
        ImportError: parquet without pyarrow.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    parquet = path.suffix.lower() in PARQUET
    frame = _read_parquet(path) if parquet else _read_csv(path, separator)
    if frame.empty:
        raise ValueError(
            f"{path} holds {len(frame)} rows x {len(frame.columns)} columns; "
            "expected a header line and at least one row"
        )
    frame.columns = frame.columns.map(str)
    return frame


def _read_csv(path: Path, separator: str | None, **more: Any) -> pd.DataFrame:
    import pandas as pd

    if separator is None:
        separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        with warnings.catch_warnings():  # a surplus cell is a warning there, and cut off
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                path, sep=separator, skipinitialspace=True, index_col=False, **more
            )
    except pd.errors.ParserWarning:
        raise ValueError(
            f"{path}: the rows have more cells than the header line has names"
        ) from None
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty; expected a header line and rows") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no table separated by {separator!r}: {error}") from error
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among them
        raise ValueError(f"{path} is no parquet file: {error}") from error


def read_text(path: Path, separator: str | None = None) -> pd.DataFrame:
    """Like :func:`read_table`, but CSV cells as they are written: a class "NA" stays one."""
    if path.suffix.lower() in PARQUET or not path.is_file():
        return read_table(path, separator)
    frame = _read_csv(path, separator, dtype=str, keep_default_na=False)
    frame.columns = frame.columns.map(str)
    return frame


def check_columns(frame: pd.DataFrame, names: Iterable[str], what: str, path: Path) -> None:
    """Refuse names that are no columns of the table.

    Raises:
        ValueError: lists the columns, with a near match.
    """
    columns = list(frame.columns)
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"{path} has no {what} column {name!r}{hint}; its columns are {', '.join(columns)}"
            )


def class_targets(column: pd.Series) -> tuple[list[str | None], tuple[str, ...]]:
    """Class name of each row, None where the cell is empty, and the names in order.

    Numbers are sorted as numbers and named without a needless ``.0``; anything else is text in
    alphabetical order. Among numbers, cells such as "NA" are empty; among text only blanks are.
    """
    import pandas as pd

    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    empty = text.str.lower().isin(NOT_A_VALUE)
    numbers = pd.to_numeric(text.mask(empty), errors="coerce")
    if numbers.notna().equals(~empty) and not empty.all():
        named = {v: str(int(v)) if float(v).is_integer() else str(v) for v in numbers.dropna()}
        order = tuple(named[v] for v in sorted(named))
        return [named[v] if v == v else None for v in numbers], order
    names = [value or None for value in text]
    return names, tuple(sorted({name for name in names if name is not None}))


def number_targets(column: pd.Series, path: Path) -> Tensor:
    """Targets of a regression [N] float32 in their own unit; NaN where the cell is empty.

    Raises:
        ValueError: a cell that is no finite number; rows are named.
    """
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = (numbers.isna() & column.notna()) | np.isinf(numbers)
    if wrong.any():
        rows = np.flatnonzero(wrong)
        raise ValueError(
            f"{path}: target {column.name!r} must be finite numbers or empty, got "
            f"{str(column.iloc[rows[0]])!r} in row {rows[0]} ({len(rows)} such rows); "
            'for classes say task="classification"'
        )
    return torch.tensor(numbers.to_numpy(), dtype=torch.float32)


@dataclass(frozen=True)
class Encoder:
    """Columns of a table as numbers [N, E]: numeric ones as they are, categories one-hot."""

    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]  # of the categorical ones, in order

    @classmethod
    def learn(
        cls, frame: pd.DataFrame, columns: Sequence[str], categorical: Collection[str] | None = None
    ) -> Encoder:
        """Take the categories from all rows of ``frame``.

        Args:
            frame: the table.
            columns: the features.
            categorical: which of them are categories; None takes text, category and bool columns.

        Raises:
            ValueError: a column that is neither numeric nor to be taken as categories.
        """
        if categorical is None:
            categorical = [
                c for c in columns if not _is_number(frame[c]) and not _is_time(frame[c])
            ]
        wrong = [c for c in columns if c not in categorical and not _is_number(frame[c])]
        if wrong:
            raise ValueError(
                f"columns {', '.join(wrong)} are not numeric; name them in categorical or in drop"
            )
        categories = {c: _categories(frame[c]) for c in columns if c in categorical}
        for name, values in categories.items():
            if len(values) > max(50, len(frame) // 2):
                warnings.warn(
                    f"column {name!r} has {len(values)} different values in {len(frame)} rows and "
                    "looks like an identifier; name it in drop if it is one",
                    stacklevel=2,
                )
        return cls(tuple(columns), categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the E features: ``column``, or ``column=category``."""
        return tuple(
            name
            for column in self.columns
            for name in (
                [f"{column}={value}" for value in self.categories[column]]
                if column in self.categories
                else [column]
            )
        )

    @property
    def numeric(self) -> Tensor:
        """Which of the E features are numbers: bool [E]."""
        widths = [(c, len(self.categories.get(c, ("",)))) for c in self.columns]
        return torch.tensor(
            [c not in self.categories for c, w in widths for _ in range(w)], dtype=torch.bool
        )

    def __call__(self, frame: pd.DataFrame) -> Tensor:
        """Features [N, E] float64; NaN where a number is missing or infinite.

        A category that was not learnt becomes zeros, with a warning.
        """
        blocks = []
        for column in self.columns:
            if column not in self.categories:
                values = frame[column].to_numpy(dtype="float64", na_value=np.nan)
                blocks.append(np.where(np.isfinite(values), values, np.nan)[:, None])
                continue
            known = self.categories[column]
            written = _written(frame[column])
            if unseen := sorted(set(written) - set(known)):
                warnings.warn(
                    f"column {column!r}: {', '.join(unseen[:10])} never occur in the training "
                    "table; such rows get zeros",
                    stacklevel=2,
                )
            blocks.append(written.to_numpy()[:, None] == np.array(known, dtype=object)[None])
        return torch.from_numpy(np.concatenate(blocks, 1, dtype="float64"))


def _is_number(column: pd.Series) -> bool:
    from pandas.api import types

    return bool(types.is_numeric_dtype(column) and not types.is_bool_dtype(column))


def _is_time(column: pd.Series) -> bool:
    from pandas.api import types

    return bool(types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column))


def _written(column: pd.Series) -> pd.Series:
    """Each cell as text; whole floats without ``.0``, as integers beside a gap read as floats."""

    def text(value: Any) -> str:
        whole = isinstance(value, (float, np.floating)) and value.is_integer()
        return str(int(value)) if whole else str(value).strip()

    return column.astype(object).map(text).where(column.notna(), MISSING).astype(object)


def _categories(column: pd.Series) -> tuple[str, ...]:
    values = set(_written(column))

    def key(value: str) -> tuple[bool, float, str]:
        try:
            return value == MISSING, float(value), value
        except ValueError:
            return value == MISSING, 0.0, value

    return tuple(sorted(values, key=key))
