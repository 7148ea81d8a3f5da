"""Readers of table files: text, Excel, NumPy, Matlab, R, ARFF, SVMlight, plain or in an archive."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_al.registry import Registry

from .packed_files import bounded_zip, npz_arrays, zip_member

if TYPE_CHECKING:  # pandas is imported by the functions that need it: it is heavy
    import pandas as pd

__all__ = ["FORMS", "Arff", "Array", "Excel", "Matlab", "NumPy", "Parser", "R", "SvmLight", "Text"]

Array: TypeAlias = npt.NDArray[np.float64]
File: TypeAlias = Path | BytesIO
Form: TypeAlias = "Callable[[File, tuple[str, ...]], pd.DataFrame]"  # file, names -> cells

FORMS: Registry[Form] = Registry("form of table files", "forms of table files")


@FORMS.register("text")
@dataclass(frozen=True)
class Text:
    """A text file of cells.

    Args:
        separator: between the cells; None for any white space.
        header: whether the first line names the columns; it must name the ones that are expected.
    """

    separator: str | None = ","
    header: bool = False

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The cells [rows, columns]; numbers read to the last bit."""
        import pandas as pd

        # from pandas 3 on, numbers are read to the last bit anyway
        exact: Any = {"float_precision": "round_trip"} if pd.__version__ < "3" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the first line's
            try:
                frame = pd.read_csv(
                    file,
                    sep=r"\s+" if self.separator is None else self.separator,
                    header=0 if self.header else None,
                    index_col=False,
                    skipinitialspace=True,
                    **exact,
                )
            except pd.errors.ParserWarning:
                raise ValueError("its rows have more cells than its first line has names") from None
        found = [str(c).strip().casefold() for c in frame.columns]
        if self.header and found != [n.casefold() for n in names]:
            raise ValueError(f"its first line must name {', '.join(names)}; got {', '.join(found)}")
        return frame


@FORMS.register("spaced")
def spaced(header: bool = False) -> Text:
    """A text file whose cells stand between any white space."""
    return Text(separator=None, header=header)


@FORMS.register("excel")
@dataclass(frozen=True)
class Excel:
    """The first sheet of an ``.xls`` or ``.xlsx`` file with one line of names; no empty rows."""

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The cells [rows, columns] without the empty rows and columns around them."""
        import pandas as pd

        bounded_zip(file)
        engine: Any = "calamine" if find_spec("python_calamine") else None
        try:
            frame = pd.read_excel(file, engine=engine)
        except ImportError as error:
            raise ImportError(
                f"Excel files need a reader; pip install python-calamine ({error})"
            ) from error
        except Exception as error:  # each engine has errors of its own
            raise ValueError(f"it is no Excel file: {error}") from error
        return frame.dropna(axis=0, how="all").dropna(axis=1, how="all")


@FORMS.register("numpy")
@dataclass(frozen=True)
class NumPy:
    """Arrays of an ``.npz`` file side by side; none may need pickle."""

    keys: tuple[str, ...] = ("x", "y")

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The arrays as one [rows, columns]."""
        import pandas as pd

        try:
            arrays = npz_arrays(file, self.keys)
        except ValueError as error:
            raise ValueError(f"it holds no arrays {', '.join(self.keys)}: {error}") from error
        return pd.DataFrame(np.column_stack([arrays[key] for key in self.keys]))


@FORMS.register("matlab")
@dataclass(frozen=True)
class Matlab:
    """The one array of a ``.mat`` file (up to version 7)."""

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The array [rows, columns]."""
        import pandas as pd
        from scipy.io import loadmat

        try:
            arrays = {k: v for k, v in loadmat(file).items() if not k.startswith("_")}
        except Exception as error:  # a damaged file may raise anything
            raise ValueError(f"it is no Matlab file: {error}") from error
        if len(arrays) != 1:
            raise ValueError(f"it must hold one array, it holds {', '.join(arrays) or 'none'}")
        return pd.DataFrame(next(iter(arrays.values())))


@FORMS.register("r")
@dataclass(frozen=True)
class R:
    """The one data frame of an ``.Rdata`` file."""

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The data frame [rows, columns]."""
        try:
            import pyreadr
        except ImportError as error:
            raise ImportError("R files need a reader; pip install pyreadr") from error
        try:
            frames = list(pyreadr.read_r(str(file)).values())
        except pyreadr.LibrdataError as error:
            raise ValueError(f"it is no R file: {error}") from error
        if len(frames) != 1:
            raise ValueError(f"it must hold one data frame, it holds {len(frames)}")
        frame: pd.DataFrame = frames[0]
        return frame


@FORMS.register("arff")
@dataclass(frozen=True)
class Arff:
    """A file of Weka's attribute-relation format, dense; names of attributes are not compared."""

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The cells [rows, columns]; nominal ones as text."""
        import pandas as pd

        raw = file.read_bytes() if isinstance(file, Path) else file.read()
        head, *rest = re.split(r"(?im)^\s*@data\s*$", raw.decode("utf-8", "replace"), maxsplit=1)
        attributes = len(re.findall(r"(?im)^\s*@attribute\s", head))
        if not rest or not attributes or rest[0].lstrip().startswith("{"):
            raise ValueError("it is no dense ARFF file: @ATTRIBUTE lines, @DATA, rows of cells")
        frame = pd.read_csv(
            StringIO(rest[0]),
            header=None,
            comment="%",
            quotechar="'",
            skipinitialspace=True,
            float_precision="round_trip" if pd.__version__ < "3" else None,
        )
        if len(frame.columns) != attributes:
            raise ValueError(
                f"it names {attributes} attributes, its rows have {len(frame.columns)}"
            )
        return frame


@FORMS.register("svmlight")
@dataclass(frozen=True)
class SvmLight:
    """A text file of the SVMlight form: a label, then index:value of what is not zero, from 1.

    Args:
        features: how many there are; the label becomes the column behind them.
    """

    features: int

    def __call__(self, file: File, names: tuple[str, ...]) -> pd.DataFrame:
        """The cells [rows, features + 1]."""
        import pandas as pd
        from sklearn.datasets import load_svmlight_file

        source = str(file) if isinstance(file, Path) else file
        found, labels = load_svmlight_file(source, n_features=self.features, zero_based=False)
        return pd.DataFrame(np.column_stack([found.toarray(), labels]))


@dataclass(frozen=True)
class Parser:
    """A file as numbers: ``parser(path)`` gives float64 [rows, columns].

    Args:
        form: how the cells are read.
        names: the columns of the file, in order; None where their number is not known.
        rows: how many the file has; nothing less is accepted.
        skip: columns that are left out (an identifier, say); they need not be numbers.
        member: name of the file inside a zip archive, in any folder there; None for no archive.
        categories: columns of categories with their levels, which become 0, 1, 2 and so on.
    """

    form: Form
    names: tuple[str, ...] | None
    rows: int
    skip: tuple[str, ...] = ()
    member: str | None = None
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, path: Path) -> Array:
        """Read and check a file.

        Raises:
            ValueError: not this form, other rows x columns, or a cell that is no finite number;
                the file is named.
            ImportError: a library for this form is not installed; says which.
        """
        where = str(path) if self.member is None else f"{path}:{self.member}"
        try:
            frame = self.form(self._open(path), self.names or ())
        except (ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{where}: {error}") from error
        columns = len(frame.columns) if self.names is None else len(self.names)
        if frame.shape != (self.rows, columns):
            raise ValueError(
                f"{where} must hold {self.rows:,} rows x {columns} columns, "
                f"it holds {frame.shape[0]:,} x {frame.shape[1]}; is it the right file, and whole?"
            )
        names = self.names or tuple(f"column {i}" for i in range(columns))
        kept = [i for i, name in enumerate(names) if name not in self.skip]
        return np.column_stack([self._column(frame.iloc[:, i], names[i], where) for i in kept])

    def _column(self, column: pd.Series, name: str, where: str) -> Array:
        """A column [rows] as numbers, a category by its place among the levels."""
        levels = self.categories.get(name)
        if levels is None:
            return _numbers(column, name, where)
        cells = [_text(cell) for cell in column]
        place = {level: float(i) for i, level in enumerate(levels)}
        if odd := [(row, cell) for row, cell in enumerate(cells) if cell not in place]:
            raise ValueError(
                f"{where}: {name!r} must be one of {', '.join(levels)}, row {odd[0][0]} is "
                f"{odd[0][1]!r}"
            )
        return np.array([place[cell] for cell in cells])

    def _open(self, path: Path) -> File:
        if self.member is None:
            return path
        with zipfile.ZipFile(path) as archive:
            found = [n for n in archive.namelist() if n.rsplit("/", 1)[-1] == self.member]
            return BytesIO(zip_member(archive, found[0] if found else self.member))


def _text(cell: Any) -> str:
    """A cell as it is written: 3 for 3.0, no quotes around."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip().strip("'\"")


def _numbers(column: pd.Series, name: str, where: str) -> Array:
    """A column [rows] as float64, from numbers or their text (R's factors)."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype(object)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(
            f"{where}: {name!r} must hold finite numbers, row {row} is {str(column.iloc[row])!r}"
        )
    return numbers
