"""Texts of a user's own table, and labels for some of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from lightning_al.identity import digest

from .partition import held_out
from .pool_data import PoolDataModule, Splits
from .readers.class_columns import all_labelled, numbered, two_or_more
from .readers.encoding import check_columns, class_targets, read_text
from .readers.table_checks import marks_of, warn_of_marks

__all__ = ["TextDataModule", "TextItems"]


class TextItems(Dataset):
    """Items ``(text, class)``.

    Args:
        texts: [N].
        targets: classes [N]; -1 for none.
    """

    labels_are_targets = True

    def __init__(self, texts: Sequence[str], targets: Tensor) -> None:
        self.texts, self.targets = list(texts), targets

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        return self.texts[index], self.targets[index]

    def portrait(self) -> Any:
        """What tells these items: all of them."""
        return {"texts": digest(self.texts, 20), "targets": digest(self.targets.tolist())}


class TextDataModule(PoolDataModule):
    """A table with a column of texts and one of classes; rows without a class are pool items.

    Items are ``(text, class)``, batches lists of texts unless ``collate`` makes token ids of them.
    Positions are the rows of the file, counted from 0 after the header.

    Args:
        path: CSV (plain or compressed) or parquet file with column names.
        text: the column of texts.
        target: the column of classes.
        test: share or number of labelled rows held out for the test (class by class), or the path
            of a second table with the same columns.
        val: share or number of labelled rows for validation; None for none.
        missing_label: cells of the target that mean that there is no label, such as "-1"; [] for
            none, without a warning.
        separator: between the cells of a text file; None takes a tab for ``.tsv``, else a comma.
        split_seed: of the test and validation draws; they do not change with the seed of a run.
        initial: as in :class:`PoolDataModule`; None for all labelled rows where some rows have
            no label, else 10.
        kwargs: see :class:`PoolDataModule`; ``collate`` joins pairs (text, class) to a batch.
    """

    def __init__(
        self,
        path: str,
        text: str = "text",
        target: str = "label",
        *,
        test: int | float | str = 0.2,
        val: int | float | None = None,
        missing_label: int | float | str | list[int | float | str] | None = None,
        separator: str | None = None,
        split_seed: int = 0,
        initial: int | float | str | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(initial=10 if initial is None else initial, **kwargs)
        self.path, self.text, self.target = Path(path).expanduser(), text, target
        self.test_size, self.val_size, self.split_seed = test, val, split_seed
        self.missing_label, self.separator = missing_label, separator
        self._default_initial = initial is None

    def load(self) -> Splits:
        """Read the table, draw the fixed parts.

        Raises:
            FileNotFoundError: no file.
            ValueError: an unknown column, an empty text, or fewer than two classes.
        """
        texts, names, order = self._read(self.path)
        if self.missing_label is None:
            warn_of_marks(names, f"{self.path}: target {self.target!r}")
        two_or_more(order, self.path, self.target)
        self.classes, self.class_names = len(order), order
        targets = numbered(names, order, self.path, self.path)
        labelled = (targets >= 0).nonzero().flatten()
        other = Path(self.test_size).expanduser() if isinstance(self.test_size, str) else None
        test: Any
        test, val = held_out(
            labelled,
            test=None if isinstance(self.test_size, str) else self.test_size,
            val=self.val_size,
            seed=self.split_seed,
            classes=targets[labelled],
        )
        if len(labelled) < len(targets):
            self.given = labelled
            if self._default_initial:
                self.initial = "given"
        if other is not None:
            texts_there, names_there, _ = self._read(other)
            found = numbered(names_there, order, other, self.path)
            all_labelled(found, other, self.target)
            test = TextItems(texts_there, found)
        return Splits(train=TextItems(texts, targets), test=test, val=val)

    def _read(self, path: Path) -> tuple[list[str], list[str | None], tuple[str, ...]]:
        """Texts, class names (None where there is none), and the classes in order."""
        frame = read_text(path, self.separator)
        check_columns(frame, [self.text], "text", path)
        check_columns(frame, [self.target], "target", path)
        column = frame[self.text]
        texts = column.astype(object).where(column.notna(), "").astype(str).tolist()
        if bare := [row for row, text in enumerate(texts) if not text.strip()]:
            raise ValueError(
                f"{path}: {len(bare)} rows have no {self.text!r}, first: rows {bare[:5]}; leave "
                "them out"
            )
        return texts, *class_targets(frame[self.target], marks_of(self.missing_label))

    def written(self, index: Tensor) -> tuple[list[str], list[list[Any]]]:
        """The column of texts, and what it says of some items [K]."""
        texts = self.splits.train.texts
        return [self.text], [[texts[i]] for i in index.tolist()]
