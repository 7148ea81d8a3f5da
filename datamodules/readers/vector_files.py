"""Files of vectors: NumPy arrays (mapped, not read), parquet, folders of Hugging Face datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .encoding import check_columns, read_table
from .packed_files import npz_arrays

if TYPE_CHECKING:  # heavy, and not needed for arrays
    import pandas as pd

__all__ = ["read_columns", "read_vectors"]

PARQUET = (".parquet", ".pq")
STATE = "state.json"  # of a folder that Hugging Face's `save_to_disk` wrote
FORMS = ".npy, .npz, .parquet, or the folder that a Hugging Face dataset's save_to_disk wrote"


def read_vectors(path: Path, column: str) -> Tensor:
    """Vectors [N, E] of a file, float32 or as precise as they are; an ``.npy`` stays on the disk.

    Args:
        path: ``.npy`` [N, E], ``.npz``, ``.parquet``, or a folder that ``save_to_disk`` of a
            Hugging Face dataset wrote.
        column: that holds them, or the array of an ``.npz``.

    Raises:
        FileNotFoundError: nothing lies there.
        ValueError: another form, vectors of unequal length, or none in some rows.
    """
    if not path.exists():
        raise FileNotFoundError(f"no vectors at {path}; give {FORMS}")
    if path.is_dir() or path.suffix.lower() in PARQUET:
        found = _of_lists(_arrow_column(path, column), path, column)
    elif path.suffix.lower() == ".npy":
        try:
            found = np.load(path, mmap_mode="c", allow_pickle=False)  # a copy where written to
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} is no .npy file of numbers: {error}") from error
    elif path.suffix.lower() == ".npz":
        try:
            found = npz_arrays(path, [column])[column]
        except ValueError as error:
            raise ValueError(f"{path} holds no array {column!r}: {error}") from error
    else:
        raise ValueError(f"{path} is no file of vectors that is known; give {FORMS}")
    if found.ndim != 2 or found.dtype.kind not in "fiu" or not found.size:
        raise ValueError(
            f"{path} must hold vectors [N, E] of numbers, got {found.dtype} {list(found.shape)}"
        )
    if found.dtype not in (np.float16, np.float32, np.float64):
        found = found.astype(np.float32)
    return torch.from_numpy(found if found.flags.writeable else found.copy())


def read_columns(path: Path) -> pd.DataFrame:
    """The columns of a parquet file or of a Hugging Face folder that hold no lists.

    Raises:
        ValueError: neither of the two.
    """
    if path.is_dir():
        table = _arrow(path)
        flat = [f.name for f in table.schema if not str(f.type).startswith(("list", "fixed_size"))]
        frame: pd.DataFrame = table.select(flat).to_pandas()
        return frame
    if path.suffix.lower() not in PARQUET:
        raise ValueError(
            f"{path} holds vectors and no column beside them; say with labels=FILE where the "
            "labels lie (a table with the target column, or .npy)"
        )
    return read_table(path)


def _arrow(path: Path) -> Any:
    """The table of a folder that a Hugging Face dataset was saved to; its data are mapped."""
    import pyarrow as pa

    state = path / STATE
    if not state.is_file():
        raise ValueError(
            f"{path} is no folder of a saved Hugging Face dataset ({STATE} is missing); write one "
            "with dataset.save_to_disk(FOLDER), of one split"
        )
    try:
        names = [file["filename"] for file in json.loads(state.read_text())["_data_files"]]
        parts = [pa.ipc.open_stream(pa.memory_map(str(path / n))).read_all() for n in names]
        return pa.concat_tables(parts)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are among them
        raise ValueError(f"{path} is no whole Hugging Face dataset: {error}") from error


def _arrow_column(path: Path, column: str) -> Any:
    """One column of a table, in one piece."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = _arrow(path) if path.is_dir() else pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} is no parquet file: {error}") from error
    check_columns(table.slice(0, 0).to_pandas(), [column], "vector", path)
    return table.column(column).combine_chunks()


def _of_lists(column: Any, path: Path, name: str) -> npt.NDArray[Any]:
    """A column of lists of numbers as an array [N, E]."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or _fixed(kind)):
        raise ValueError(f"{path}: column {name!r} must hold vectors, it holds {kind}")
    if column.null_count:
        rows = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        raise ValueError(
            f"{path}: {len(rows)} rows of {name!r} hold no vector, first: rows "
            f"{rows[:5].tolist()}; leave them out"
        )
    if not _fixed(kind):
        lengths = np.diff(column.offsets.to_numpy())
        if len(lengths) and (odd := np.flatnonzero(lengths != lengths[0])).size:
            raise ValueError(
                f"{path}: the vectors of {name!r} must have one length, row 0 has {lengths[0]} and "
                f"{len(odd)} others do not, first: row {odd[0]} with {lengths[odd[0]]}"
            )
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1) if len(column) else values.reshape(0, 0)


def _fixed(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind))
