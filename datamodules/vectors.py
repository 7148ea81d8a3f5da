"""Vectors that a foundation model gave, and labels for some of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_al.identity import array_digest

from .partition import held_out
from .pool_data import PoolDataModule, Splits
from .readers.class_columns import all_labelled, numbered, two_or_more
from .readers.encoding import check_columns, class_targets, number_targets, read_text
from .readers.table_checks import marks_of, warn_of_marks
from .readers.vector_files import read_columns, read_vectors
from .splits import spread
from .tensors import TensorItems

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EmbeddingsDataModule", "Scale", "VectorItems", "scaled"]

Scale = Literal["none", "unit", "standard"]
LOOKED_AT = 1024  # rows of a file whose numbers are part of its identity
BLOCK = 2**26  # bytes that are read at a time


class VectorItems(TensorItems):
    """Vectors [N, E] that may lie on the disk; their identity is that of their file.

    Args:
        vectors: [N, E].
        targets: [N]; None for no labels.
        transform: acts on a batch [n, E].
        name: what they are, in plain values; hashing all of a million vectors in each run would
            take longer than the run.
        finite: they were looked through for NaN and infinities.
    """

    def __init__(
        self,
        vectors: Tensor,
        targets: Tensor | None,
        transform: Callable[[Tensor], Tensor] | None,
        name: Any,
        *,
        finite: bool = False,
    ) -> None:
        super().__init__(vectors, targets, transform)
        self.name, self.finite = name, finite

    def portrait(self) -> Any:
        """Plain values that differ where the vectors, their scale or their labels do."""
        return {"vectors": self.name, "targets": self.targets, "scale": self.transform}


@dataclass(frozen=True)
class Unit:
    """Batch transform: [n, E] -> each row of length 1; a row of zeros stays."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """The rows, float32."""
        return torch.nn.functional.normalize(vectors.float(), dim=1)


@dataclass(frozen=True, eq=False)
class Standard:
    """Batch transform: [n, E] -> (x - mean) / std by column."""

    mean: Tensor  # [E]
    std: Tensor  # [E]

    def __call__(self, vectors: Tensor) -> Tensor:
        """The scaled batch, float32."""
        return (vectors.float() - self.mean) / self.std


def scaled(vectors: Tensor, scale: Scale, *held: Tensor | None) -> Any:
    """The transform that brings vectors [N, E] to a scale; None where they stay as they are.

    Args:
        vectors: they are read in blocks, once.
        scale: "none"; "unit" for rows of length 1; "standard" for columns of mean 0 and deviation
            1 on the rows that are not held out.
        held: positions of held-out rows.
    """
    if scale == "unit":
        return Unit()
    if scale == "none":
        return None if vectors.dtype == torch.float32 else Tensor.float
    kept = torch.ones(len(vectors), dtype=torch.bool)
    for part in held:
        if part is not None:
            kept[part] = False
    start = vectors[int(kept.nonzero()[0])].double()  # near the data: no digits are lost
    total, squares = torch.zeros_like(start), torch.zeros_like(start)
    for rows in kept.nonzero().flatten().split(max(1, BLOCK // (8 * vectors.shape[1]))):
        block = vectors[rows].double() - start
        total, squares = total + block.sum(0), squares + block.square().sum(0)
    n = int(kept.sum())
    mean, std = total / n, (squares / n - (total / n).square()).clamp_min(0).sqrt()
    std = torch.where(std > 1e-7 * mean.abs().clamp_min(1e-30), std, 1.0)
    return Standard((start + mean).float(), std.float())


def _file_name(path: Path, vectors: Tensor) -> Any:
    """What tells a file of vectors: its size, and the numbers of some of its rows."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    some = vectors[spread(len(vectors), LOOKED_AT)]
    return [sum(os.stat(p).st_size for p in files), list(vectors.shape), array_digest(some)]


class EmbeddingsDataModule(PoolDataModule):
    """Vectors of a foundation model as they lie in a file; rows without a target are pool items.

    Items are float32 [E]; positions are rows of the file. An ``.npy`` stays on the disk and is
    mapped, so that a pool of millions needs no memory. Classes become 0..C-1 (``class_names`` tells
    which).

    Args:
        path: ``.npy`` [N, E], ``.npz``, ``.parquet``, or the folder that a Hugging Face dataset's
            ``save_to_disk`` wrote (one split).
        target: the column to predict, in that table or in ``labels``.
        column: that holds the vectors; of an ``.npz`` the array.
        labels: where the labels lie, if not beside the vectors: a table with the column
            ``target``, a row a vector, or an ``.npy`` [N].
        task: "classification" or "regression".
        scale: "none"; "unit" makes each vector one of length 1, "standard" each column one of mean
            0 and deviation 1 on the rows that are not held out.
        test: share or number of labelled rows held out for the test (class by class), or the path
            of a second file of the same form.
        test_labels: its labels, as ``labels``.
        val: share or number of labelled rows for validation; None for none.
        missing_label: cells of the target that mean that there is no label, such as "-1"; [] for
            none, without a warning.
        split_seed: of the test and validation draws; they do not change with the seed of a run.
        initial: as in :class:`PoolDataModule`; None for all labelled rows where some rows have
            no label, else 10.
        kwargs: see :class:`PoolDataModule`.
    """

    def __init__(
        self,
        path: str,
        target: str = "label",
        *,
        column: str = "embedding",
        labels: str | None = None,
        task: Literal["classification", "regression"] = "classification",
        scale: Scale = "none",
        test: int | float | str = 0.2,
        test_labels: str | None = None,
        val: int | float | None = None,
        missing_label: int | float | str | list[int | float | str] | None = None,
        split_seed: int = 0,
        initial: int | float | str | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        allowed = {"task": ("classification", "regression"), "scale": ("none", "unit", "standard")}
        for name, value in (("task", task), ("scale", scale)):
            if value not in allowed[name]:
                raise ValueError(f"{name} must be one of {', '.join(allowed[name])}, got {value!r}")
        if test_labels is not None and not isinstance(test, str):
            raise ValueError("test_labels needs test, the file that its vectors lie in")
        super().__init__(collate=None, initial=10 if initial is None else initial, **kwargs)
        self.path, self.target, self.column = Path(path).expanduser(), target, column
        self.label_file = None if labels is None else Path(labels).expanduser()
        self.test_file = None if test_labels is None else Path(test_labels).expanduser()
        self.task, self.scale, self.test_size, self.val_size = task, scale, test, val
        self.missing_label, self.split_seed = missing_label, split_seed
        self._default_initial = initial is None

    def load(self) -> Splits:
        """Open the vectors, read the labels, draw the fixed parts.

        Raises:
            FileNotFoundError: no file.
            ValueError: vectors of unequal length or that are not finite, labels of another number,
                or fewer than two classes.
        """
        vectors = read_vectors(self.path, self.column)
        targets = self._targets(self.path, self.label_file, len(vectors), first=True)
        known = ~targets.isnan() if targets.is_floating_point() else targets >= 0
        labelled = known.nonzero().flatten()
        if not len(labelled):
            raise ValueError(f"{self.path}: no row has a {self.target!r}; label some rows first")
        other = Path(self.test_size).expanduser() if isinstance(self.test_size, str) else None
        test, val = held_out(
            labelled,
            test=None if isinstance(self.test_size, str) else self.test_size,
            val=self.val_size,
            seed=self.split_seed,
            classes=targets[labelled] if self.task == "classification" else None,
        )
        transform = scaled(vectors, self.scale, test, val)
        items = VectorItems(vectors, targets, transform, _file_name(self.path, vectors))
        if not bool(known.all()):
            self.given = labelled
            if self._default_initial:
                self.initial = "given"
        self.in_features = vectors.shape[1]
        if other is None:
            return Splits(train=items, test=test, val=val)
        return Splits(train=items, test=self._read_test(other, transform), val=val)

    def _targets(self, path: Path, file: Path | None, n: int, *, first: bool) -> Tensor:
        """Class of each row [N] (-1 for none), or its number (NaN for none)."""
        column = self._column(path if file is None else file, beside=file is None)
        where = path if file is None else file
        if len(column) != n:
            raise ValueError(f"{where} holds {len(column)} labels for the {n} vectors of {path}")
        marks = marks_of(self.missing_label)
        if self.task == "regression":
            self.outputs = 1
            return number_targets(column, where, marks)
        names, order = class_targets(column, marks)
        if first:
            if self.missing_label is None:
                warn_of_marks(names, f"{where}: target {self.target!r}")
            two_or_more(order, where, self.target)
            self.classes, self.class_names = len(order), order
        return numbered(names, self.class_names or (), where, self.path)

    def _column(self, path: Path, *, beside: bool) -> pd.Series:
        """The cells of the target."""
        import pandas as pd

        if path.suffix.lower() == ".npy" and not beside:
            try:
                found = np.load(path, allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise ValueError(f"{path} is no .npy file of labels: {error}") from error
            if found.ndim != 1:
                raise ValueError(f"{path} must hold labels [N], got {list(found.shape)}")
            return pd.Series(found, name=self.target)
        frame = read_columns(path) if beside or path.is_dir() else read_text(path)
        check_columns(frame, [self.target], "target", path)
        return frame[self.target]

    def _read_test(self, path: Path, transform: Any) -> VectorItems:
        vectors = read_vectors(path, self.column)
        if vectors.shape[1] != self.in_features:
            raise ValueError(
                f"the vectors of {path} have length {vectors.shape[1]}, those of {self.path} "
                f"{self.in_features}"
            )
        targets = self._targets(path, self.test_file, len(vectors), first=False)
        all_labelled(targets, path, self.target)
        return VectorItems(vectors, targets, transform, _file_name(path, vectors))
