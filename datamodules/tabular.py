"""A user's own table: CSV or parquet, features encoded and standardised, targets maybe missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from lightning_al.records import Inventory

from .partition import held_out, scaling
from .pool_data import PoolDataModule, Splits
from .readers.cells import cells_of
from .readers.class_columns import all_labelled, numbered, two_or_more
from .readers.encoding import (
    Encoder,
    check_columns,
    class_targets,
    number_targets,
    read_table,
    read_text,
)
from .readers.table_checks import marks_of, warn_of_marks, without_row_numbers
from .tensors import TensorItems

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TabularDataModule"]


class TabularDataModule(PoolDataModule):
    """A table of features and one target; rows with an empty target are pool items without label.

    Items are float32 [E]: numeric columns standardised on the labelled and pool rows (not on
    validation and test), categories one-hot in a fixed order. Positions are the rows of the file,
    counted from 0 after the header. Classes become 0..C-1 (``class_names`` tells which); regression
    targets keep their unit.

    Args:
        path: CSV (plain or compressed) or parquet file with column names.
        target: the column to predict.
        task: "classification" or "regression".
        categorical: columns to take as categories; None takes text, category and bool columns. An
            empty cell is a category of its own. Text is tried as numbers first ("1,234", "0,5",
            "5 mg"; "?" and "-" are gaps), and cells that are none in a column of numbers are named.
        drop: columns to leave out, for example identifiers.
        test: share or number of labelled rows held out for the test (class by class), or the path
            of a second table with the same columns.
        val: share or number of labelled rows for validation; None for none.
        missing: what to do with empty or infinite cells of numeric columns: "error", or "mean" of
            the labelled and pool rows.
        missing_label: cells of the target that mean that there is no label, such as "-1", "?" or
            "unlabeled"; [] for none, without a warning.
        separator: between the cells of a text file; None takes a tab for ``.tsv``, else a comma.
        split_seed: of the test and validation draws; they do not change with the seed of a run.
        initial: as in :class:`PoolDataModule`; None for all labelled rows where some rows have
            no label, else 10.
        kwargs: see :class:`PoolDataModule`.
    """

    grows = True
    feature_names: tuple[str, ...] = ()
    _features: tuple[str, ...] = ()  # columns of the file

    def __init__(
        self,
        path: str,
        target: str,
        *,
        task: Literal["classification", "regression"] = "classification",
        categorical: list[str] | None = None,
        drop: list[str] | tuple[str, ...] = (),
        test: int | float | str = 0.2,
        val: int | float | None = None,
        missing: Literal["error", "mean"] = "error",
        missing_label: int | float | str | list[int | float | str] | None = None,
        separator: str | None = None,
        split_seed: int = 0,
        initial: int | float | str | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, allowed in (
            ("task", task, ("classification", "regression")),
            ("missing", missing, ("error", "mean")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        super().__init__(
            collate=None,
            initial=10 if initial is None else initial,
            **kwargs,
        )
        self.path, self.target, self.task = Path(path).expanduser(), target, task
        self.categorical, self.drop = categorical, tuple(drop)
        self.test_size, self.val_size, self.split_seed = test, val, split_seed
        self.missing, self.separator = missing, separator
        self.missing_label = missing_label
        self._default_initial = initial is None

    def load(self) -> Splits:
        """Read, encode, draw the fixed parts, standardise.

        Raises:
            FileNotFoundError: no file at ``path``.
            ValueError: an empty table, an unknown column, a cell that is no number where one is
                needed, or fewer than two classes.
        """
        frame = read_table(self.path, self.separator)
        first = frame[: self.begun]  # what the run began with decides splits, classes and scales
        columns = self._columns(first)
        targets = self._targets(frame)
        known = ~targets.isnan() if targets.is_floating_point() else targets >= 0
        labelled = known[: self.begun].nonzero().flatten()
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
        encoder = Encoder.learn(first, columns, self.categorical)
        features = encoder(frame)
        mean, std = self._scaling(features[: self.begun], encoder, test, val)
        items = self._items(features, targets, encoder, mean, std, self.path)
        if not bool(known.all()):
            self.given = known.nonzero().flatten()
            if self._default_initial and len(labelled) < len(first):
                self.initial = "given"
        self.feature_names, self.in_features = encoder.names, features.shape[1]
        self._features = encoder.columns
        if other is None:
            return Splits(train=items, test=test, val=val)
        return Splits(train=items, test=self._read_test(other, encoder, mean, std), val=val)

    def written(self, index: Tensor) -> tuple[list[str], list[list[Any]]]:
        """Columns of the file less the target, and what it says there of some items [K].

        Columns that are no features, such as identifiers, come first.
        """
        frame = read_text(self.path, self.separator).drop(columns=self.target)
        others = [c for c in frame.columns if c not in self._features]
        return cells_of(frame[[*others, *self._features]].iloc[index.tolist()])

    def inventory(self) -> Inventory:
        """Each row of the file, as it is written there."""
        import pandas as pd

        frame = read_text(self.path, self.separator)
        if any(isinstance(cell, np.ndarray) for cell in frame.iloc[0]):  # vectors of parquet
            frame = frame.map(lambda cell: str(np.asarray(cell).tolist()))
        found = pd.util.hash_pandas_object(frame.astype(str), index=False).to_numpy(np.uint64)
        return Inventory(np.maximum(found, np.uint64(1)), what="row")

    def _columns(self, frame: pd.DataFrame) -> list[str]:
        check_columns(frame, [self.target], "target", self.path)
        check_columns(frame, self.drop, "drop", self.path)
        check_columns(frame, self.categorical or (), "categorical", self.path)
        if self.target in (*self.drop, *(self.categorical or ())):
            raise ValueError(f"{self.target!r} is the target; take it out of drop and categorical")
        columns = [c for c in frame.columns if c != self.target and c not in self.drop]
        columns = without_row_numbers(frame, columns, self.path)
        if not columns:
            raise ValueError(f"{self.path} has no column left besides the target {self.target!r}")
        return columns

    def _targets(self, frame: pd.DataFrame) -> Tensor:
        """Class of each row [N] (-1 where empty), or its number (NaN where empty)."""
        marks = marks_of(self.missing_label)
        if self.task == "regression":
            self.outputs = 1
            return number_targets(frame[self.target], self.path, marks)
        column = read_text(self.path, self.separator)[self.target]
        names, order = class_targets(column[: self.begun], marks)
        if self.begun is not None:
            names += self._later_names(column[self.begun :], marks, order)
        if self.missing_label is None:
            warn_of_marks(names, f"{self.path}: target {self.target!r}")
        two_or_more(order, self.path, self.target)
        self.classes, self.class_names = len(order), order
        return numbered(names, order, self.path, self.path)

    def _later_names(
        self, column: pd.Series, marks: Collection[str], order: Sequence[str]
    ) -> list[str | None]:
        """Class name of each row that joined later, None where the cell is empty."""
        names, found = class_targets(column, marks)
        if unseen := sorted(set(found) - set(order)):
            row = int(self.begun or 0) + names.index(unseen[0])
            raise ValueError(
                f"{self.path}: row {row} joins with the class {unseen[0]!r}, the run has "
                f"{', '.join(order)}; a new class needs a new run"
            )
        return names

    def _scaling(
        self, features: Tensor, encoder: Encoder, test: Tensor | None, val: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mean and deviation [E] of the numeric features; 0 and 1 for categories."""
        mean, std = scaling(features, test, val)
        if empty := [n for n, m in zip(encoder.names, mean, strict=True) if bool(m.isnan())]:
            raise ValueError(
                f"{self.path}: {', '.join(empty)} hold no number in any row; name them in drop"
            )
        return mean.where(encoder.numeric, 0.0), std.where(encoder.numeric, 1.0)

    def _items(
        self,
        features: Tensor,
        targets: Tensor,
        encoder: Encoder,
        mean: Tensor,
        std: Tensor,
        path: Path,
    ) -> TensorItems:
        gaps = features.isnan().sum(0)
        if self.missing == "error" and bool(gaps.any()):
            counts = zip(encoder.names, gaps.tolist(), strict=True)
            listed = ", ".join(f"{name} ({n})" for name, n in counts if n)
            raise ValueError(
                f"{path}: empty or infinite cells in numeric columns: {listed}; fill them, "
                'drop the columns, or say missing="mean"'
            )
        return TensorItems(((features - mean) / std).nan_to_num(0.0).float(), targets)

    def _read_test(self, path: Path, encoder: Encoder, mean: Tensor, std: Tensor) -> TensorItems:
        frame = read_table(path, self.separator)
        check_columns(frame, [self.target], "target", path)
        check_columns(frame, encoder.columns, "feature", path)
        marks = marks_of(self.missing_label)
        if self.task == "regression":
            targets = number_targets(frame[self.target], path, marks)
        else:
            names, _ = class_targets(read_text(path, self.separator)[self.target], marks)
            targets = numbered(names, self.class_names or (), path, self.path)
        all_labelled(targets, path, self.target)
        return self._items(encoder(frame), targets, encoder, mean, std, path)
