"""Tables read from files, and turned into numbers: one-hot categories, class indices."""

from __future__ import annotations

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.values import narrowed

from .numbers import Form, Numbers, written_numbers
from .packed_files import plain_stream
from .table_checks import is_marked, names_once, refuse_dull

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
        names_once(path, separator)
        with warnings.catch_warnings(), plain_stream(path) as file:
            # a surplus cell is a warning there, and cut off
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                file, sep=separator, skipinitialspace=True, index_col=False, **more
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


def class_targets(
    column: pd.Series, missing_label: Collection[str] = ()
) -> tuple[list[str | None], tuple[str, ...]]:
    """Class name of each row, None where the cell is empty, and the names in order.

    Numbers are sorted as numbers and named without a needless ``.0``; anything else is text in
    alphabetical order. Among numbers, cells such as "NA" are empty; among text only blanks are, and
    everywhere the cells that are one of ``missing_label``.
    """
    import pandas as pd

    column = column.mask(is_marked(column, missing_label))
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    empty = text.str.lower().isin(NOT_A_VALUE)
    numbers = pd.to_numeric(text.mask(empty), errors="coerce")
    if numbers.notna().equals(~empty) and not empty.all():
        named = {v: str(int(v)) if float(v).is_integer() else str(v) for v in numbers.dropna()}
        order = tuple(named[v] for v in sorted(named))
        return [named[v] if v == v else None for v in numbers], order
    names = [value or None for value in text]
    return names, tuple(sorted({name for name in names if name is not None}))


def number_targets(column: pd.Series, path: Path, missing_label: Collection[str] = ()) -> Tensor:
    """Targets of a regression [N] float32 in their own unit; NaN where the cell is empty.

    Args:
        column: the cells.
        path: of the table.
        missing_label: cells that say that there is no target.

    Raises:
        ValueError: a cell that is no finite number; rows are named.
    """
    marked = is_marked(column, missing_label)
    column = column.mask(marked)
    odd: tuple[tuple[int, str], ...] = ()
    if _is_number(column):
        numbers = column.to_numpy(dtype="float64", na_value=np.nan)
    else:
        found = written_numbers(column)
        if found is None:
            cells = column.astype(str).str.strip()
            odd = tuple((int(i), cells.iloc[i]) for i in np.flatnonzero(column.notna()))
            numbers = np.full(len(column), np.nan)
        else:
            numbers, odd = found[1].values, found[1].odd
            _tell(f"{path}: target {column.name!r}", *found, "are rows without a target")
    infinite = np.flatnonzero(np.isinf(numbers))
    odd = (*odd, *((int(i), str(column.iloc[i])) for i in infinite))
    if odd:
        raise ValueError(
            f"{path}: target {column.name!r} must be finite numbers or empty, got "
            f"{odd[0][1]!r} in row {odd[0][0]} ({len(odd)} such rows); name a mark of no target in "
            'missing_label, or say task="classification" for classes'
        )
    return narrowed(torch.tensor(numbers, dtype=torch.float64), f"{path}: targets {column.name!r}")


def _tell(what: str, form: Form, numbers: Numbers, gaps: str) -> None:
    """Warn that text was read as numbers, and how."""
    said = [f"{mark!r} in {n} cell(s) {gaps}" for mark, n in sorted(numbers.gaps.items())]
    if numbers.example is not None:
        said.append(f"{numbers.example[0]!r} is read as {numbers.example[1]:g}")
    if any(form.unit):
        said.append(f"the unit {''.join(form.unit)!r} is left out")
    if said:
        warnings.warn(f"{what} is read as numbers: {', '.join(said)}", stacklevel=3)


@dataclass(frozen=True)
class Encoder:
    """Columns of a table as numbers [N, E].

    Numeric ones are as they are, vectors side by side, categories one-hot.
    """

    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]  # of the categorical ones, in order
    widths: Mapping[str, int] = field(default_factory=dict)  # of those that hold vectors
    forms: Mapping[str, Form] = field(default_factory=dict)  # of numbers that are written as text

    @classmethod
    def learn(
        cls, frame: pd.DataFrame, columns: Sequence[str], categorical: Collection[str] | None = None
    ) -> Encoder:
        """Take the categories from all rows of ``frame``.

        Text is tried as numbers first: columns most of whose cells are numbers must be so in all.

        Args:
            frame: the table.
            columns: the features.
            categorical: which of them are categories; None takes text, category and bool columns.

        Raises:
            ValueError: a column that is neither numeric nor to be taken as categories, or cells
                that are no numbers in one that is numeric otherwise.
        """
        widths: dict[str, int] = {}
        forms: dict[str, Form] = {}
        texts = [c for c in columns if c not in (categorical or ()) and _is_text(frame[c])]
        for name in texts:
            if (width := vector_width(frame[name])) is not None:
                widths[name] = width
            elif (found := written_numbers(frame[name])) is not None:
                _refuse_odd(name, found[1])
                forms[name] = found[0]
                _tell(f"column {name!r}", *found, "are missing")
        numeric = {*widths, *forms, *(c for c in columns if _is_number(frame[c]))}
        if categorical is None:
            categorical = [c for c in columns if c not in numeric and not _is_time(frame[c])]
        wrong = [c for c in columns if c not in categorical and c not in numeric]
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
        refuse_dull(frame, columns, {c for c, v in categories.items() if len(v) == len(frame)})
        return cls(tuple(columns), categories, widths, forms)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the E features: ``column``, ``column[place]``, or ``column=category``."""
        return tuple(name for column in self.columns for name in self._names(column))

    def _names(self, column: str) -> list[str]:
        if column in self.categories:
            return [f"{column}={value}" for value in self.categories[column]]
        if column in self.widths:
            return [f"{column}[{place}]" for place in range(self.widths[column])]
        return [column]

    @property
    def numeric(self) -> Tensor:
        """Which of the E features are numbers: bool [E]."""
        return torch.tensor(
            [c not in self.categories for c in self.columns for _ in self._names(c)],
            dtype=torch.bool,
        )

    def __call__(self, frame: pd.DataFrame) -> Tensor:
        """Features [N, E] float64; NaN where a number is missing or infinite.

        A category that was not learnt becomes zeros, with a warning.

        Raises:
            ValueError: cells that are no numbers, or vectors of another length.
        """
        blocks = []
        for column in self.columns:
            if column not in self.categories:
                values = self._numbers(frame[column])
                blocks.append(np.where(np.isfinite(values), values, np.nan))
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

    def _numbers(self, column: pd.Series) -> np.ndarray[Any, Any]:
        """A numeric column [N, 1], or one of vectors [N, width]."""
        name = str(column.name)
        if (width := self.widths.get(name)) is not None:
            if vector_width(column) != width:
                raise ValueError(f"column {name!r} must hold {width} numbers a row, as in training")
            return np.stack([np.asarray(cell, dtype="float64") for cell in column])
        if _is_number(column):
            return column.to_numpy(dtype="float64", na_value=np.nan)[:, None]
        found = written_numbers(column, self.forms.get(name, Form()))
        assert found is not None
        _refuse_odd(name, found[1])
        return found[1].values[:, None]


def vector_width(column: pd.Series) -> int | None:
    """How many numbers each cell of a column holds; None where cells are no vectors.

    Raises:
        ValueError: some are and some are not, or of several lengths, or vectors as text.
    """
    cells = [cell for cell, empty in zip(column, _empty(column), strict=True) if not empty]
    if not cells:
        return None
    name = column.name
    shapes = Counter(
        np.shape(cell) if isinstance(cell, (list, tuple, np.ndarray)) else None for cell in cells
    )
    if set(shapes) == {None}:
        listed = [c for c in cells if isinstance(c, str) and re.fullmatch(r"\s*\[.*\]\s*", c, re.S)]
        if len(listed) == len(cells):
            raise ValueError(
                f"column {name!r} holds lists as text, such as {listed[0][:30]!r}; save it as "
                "parquet, write a column for each number, or name it in categorical or drop"
            )
        return None
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(cells) < len(column) or shape is None or len(shape) != 1:
        raise ValueError(
            f"column {name!r} must hold one vector of the same length a row, got "
            f"{len(column) - len(cells)} empty cells and the shapes "
            f"{', '.join(str(s) for s in list(shapes)[:4])}; mend it or name it in drop"
        )
    if any(np.asarray(cell).dtype.kind not in "fiub" for cell in cells):
        raise ValueError(f"column {name!r} holds lists that are no numbers; name it in drop")
    return int(shape[0])


def _empty(column: pd.Series) -> list[bool]:
    return [bool(flag) for flag in column.isna()]


def _refuse_odd(name: str, numbers: Numbers) -> None:
    """Refuse a column of numbers in which some cells are none."""
    if not numbers.odd:
        return
    counts = Counter(cell for _, cell in numbers.odd)
    shown = ", ".join(f"{cell!r}" for cell in list(counts)[:5])
    raise ValueError(
        f"column {name!r} holds numbers, but {len(numbers.odd)} of its {len(numbers.values)} cells "
        f"are none, first in row {numbers.odd[0][0]}: {shown}; mend or empty them, or name the "
        "column in categorical or in drop"
    )


def _is_text(column: pd.Series) -> bool:
    """Whether the cells are text or objects, which may be numbers all the same."""
    from pandas.api import types

    return bool(types.is_object_dtype(column) or types.is_string_dtype(column)) and (
        str(column.dtype) != "category"
    )


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
