"""What a data set is, as data: columns, task, accepted files; and how a table comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..readers.table_files import Array
from ..sources import Resource

__all__ = ["Published", "Table", "TableSpec", "Task", "Variant", "numbered"]

Task: TypeAlias = Literal["classification", "regression"]
Variant: TypeAlias = Literal["corrected", "published"]


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Column names: name0, name1 and so on, ``count`` of them."""
    return tuple(f"{name}{i}" for i in range(count))


@dataclass(frozen=True)
class Published:
    """How the paper that a set is here for read it, where that differs.

    Scherer et al. (2022, appendix C), and for ``unit_range`` Werner and Schmidt-Thieme (2025).

    Args:
        lost_rows: first rows that were taken for a header.
        row_number: the running number of the row was the first feature (its name).
        leaked: dropped columns that were features there.
        permuted: rows were shuffled before the folds were cut. The paper's order was not seeded;
            this one is NumPy's ``default_rng(0)``, as in the library's later versions.
        unit_range: features and targets were brought to [0, 1] by the range of what is not test.
    """

    lost_rows: int = 0
    row_number: str | None = None
    leaked: tuple[str, ...] = ()
    permuted: bool = False
    unit_range: bool = False


@dataclass(frozen=True)
class TableSpec:
    """One table, as a row of ``sets.toml`` describes it (or a function of your own).

    Args:
        name: as in :func:`names`.
        task: what the target asks for.
        rows: of the whole table.
        columns: all columns of its sources, in order; None where their number is not known (the
            last is the target then).
        target: the column to predict.
        dropped: columns that are no features: identifiers (left out by the parser where a source
            has them) and other targets.
        marks: the dropped column that marks some items by 1, others by 0: honeypots, say.
        categories: columns of categories, each with its levels as the files write them; each level
            becomes a feature of 0 and 1.
        parts: files; those of one row lie side by side, the rows below each other.
        draw: makes the table where it is no file: variant -> float64 [rows, columns].
        labels: class labels as they stand in the table, in the order of the classes 0..C-1.
        class_names: their names.
        counts: how many rows each class has, where it is known.
        own_split: the first so many rows are the training part where the set comes with a split.
        fold_seed: of the shuffled folds.
        published: how the paper read it.
        licence: of the data.
        citation: of the data, author and year.
        source: page of the original.
        title: the name in words, for messages.
    """

    name: str
    task: Task
    rows: int
    columns: tuple[str, ...] | None
    target: str
    dropped: tuple[str, ...] = ()
    marks: str | None = None
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parts: tuple[tuple[Resource[Array], ...], ...] = ()
    draw: Callable[[Variant], Array] | None = None
    labels: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    counts: tuple[int, ...] | None = None
    own_split: int | None = None
    fold_seed: int = 0
    published: Published = Published()
    licence: str = ""
    citation: str = ""
    source: str = ""
    title: str = ""

    @property
    def resources(self) -> tuple[Resource[Array], ...]:
        """All files of the table."""
        return tuple(resource for row in self.parts for resource in row)

    def load(self, root: Path, variant: Variant = "corrected") -> Table:
        """Read (or draw) the table; never downloads.

        Raises:
            FileNotFoundError: a file is missing; says where it was looked for and where it is from.
            ValueError: an unknown variant, or a file that is not as expected.
        """
        if variant not in ("corrected", "published"):
            raise ValueError(f"variant must be 'corrected' or 'published', got {variant!r}")
        if self.draw is not None:
            array = self.draw(variant)
        else:
            rows = [np.hstack([part.read(root) for part in row]) for row in self.parts]
            array = np.vstack(rows)
        return _table(self, variant, array)


@dataclass(frozen=True, eq=False)
class Table:
    """Features and targets of a data set.

    Rows keep the order of the file, counted from 0, unless ``variant="published"`` loses or
    shuffles some.
    """

    spec: TableSpec
    variant: Variant
    features: Tensor  # [N, E] float64; float32 where published
    targets: Tensor  # [N] int64 classes, or numbers of the features' type
    feature_names: tuple[str, ...]  # E
    marked: Tensor | None = None  # [N] bool, where the specification marks some

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def fold_seed(self) -> int | None:
        """Seed of the shuffled folds; None for folds in the order of the rows (published)."""
        return None if self.variant == "published" else self.spec.fold_seed

    @property
    def own_split(self) -> int | None:
        """How many of the first rows are the training part; None for a set without a split."""
        return self.spec.own_split


def _table(spec: TableSpec, variant: Variant, array: Array) -> Table:
    """Choose columns and, for the published variant, repeat what was lost and leaked."""
    columns = spec.columns or (*numbered("feature", array.shape[1] - 1), spec.target)
    if array.shape != (spec.rows, len(columns)):
        raise ValueError(
            f"{spec.name} must have {spec.rows:,} rows x {len(columns)} columns, "
            f"got {array.shape[0]:,} x {array.shape[1]}"
        )
    how = spec.published if variant == "published" else Published()
    names = tuple(
        c for c in columns if c != spec.target and (c not in spec.dropped or c in how.leaked)
    )
    kept = [(name, array[:, columns.index(name)]) for name in names]
    names, features = _features(kept, spec.categories)
    targets = array[:, columns.index(spec.target)]
    if spec.task == "classification":
        targets = _classes(spec, targets)
    if how.row_number:
        names = (how.row_number, *names)
        features = np.column_stack([np.arange(1, len(array) + 1), features])
    order = np.arange(how.lost_rows, len(array))
    if how.permuted:
        order = order[np.random.default_rng(0).permutation(len(order))]
    dtype = torch.float32 if variant == "published" else torch.float64
    y = torch.from_numpy(targets[order])
    marked = None
    if spec.marks is not None:
        marked = torch.from_numpy(array[order, columns.index(spec.marks)] != 0)
    return Table(
        spec,
        variant,
        torch.from_numpy(features[order]).to(dtype),
        y.to(dtype) if y.is_floating_point() else y,
        names,
        marked,
    )


def _features(
    columns: Sequence[tuple[str, Array]], categories: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], Array]:
    """Columns by name, categories by their levels, as features [N, E] with their names."""
    names, found = [], []
    for name, column in columns:
        levels = categories.get(name)
        if levels is None:
            names.append(name)
            found.append(column)
        for i, level in enumerate(levels or ()):
            names.append(f"{name}={level}")
            found.append((column == i).astype(np.float64))
    return tuple(names), np.column_stack(found)


def _classes(spec: TableSpec, targets: Array) -> np.ndarray:
    """Labels of the file [N] as 0..C-1."""
    labels = np.array(spec.labels, dtype=np.float64)
    found = np.unique(targets)
    if not np.isin(found, labels).all() or len(found) != len(labels):
        raise ValueError(
            f"{spec.name} must have the classes {', '.join(map(str, spec.labels))}, "
            f"got {', '.join(f'{v:g}' for v in found[:20])}"
        )
    ordered = np.argsort(labels)
    classes = ordered[np.searchsorted(labels[ordered], targets)]
    counts = tuple(np.bincount(classes).tolist())
    if spec.counts is not None and counts != spec.counts:
        raise ValueError(f"{spec.name} must have {spec.counts} rows of its classes, got {counts}")
    return classes
