"""How the items of a data set are read: inputs and label apart, many at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from lightning_al.randomness import seeded
from lightning_al.records import (
    label_place,
    labelled_attribute,
    named_label,
    with_attribute,
    with_label,
    without_label,
)

from .kept_labels import KeptLabels
from .splits import base_positions, spread
from .tensors import TensorItems, as_tensor_items

__all__ = ["Items", "no_label", "parts_that_count"]

READ = 256  # items that are read at once for their labels
ALIKE = 16  # items whose own labels are compared with what lies beside the data set


class Items:
    """How to read the items of one data set.

    A label is always the item's own. What a data set keeps beside its items (``targets``) serves
    draws that go class by class, and only where the items looked at agree with it.

    Args:
        dataset: any map-style data set. An item is ``(inputs, label)``, a longer tuple whose label
            has the position ``label``, a mapping that holds it under ``label``, an object (a graph,
            say) that has it as the attribute ``label``, or inputs alone.
        label: key, position or attribute of the label; None says that items carry none; "auto"
            takes the second of two parts.
        collate: joins a list of items, as in a ``DataLoader``; torch's default.
        names: number of each class, where labels are words.
    """

    def __init__(
        self,
        dataset: Any,
        label: str | int | None = "auto",
        collate: Callable[..., Any] | None = None,
        names: Mapping[str, int] | None = None,
    ) -> None:
        self.dataset = dataset
        # tensors are read in batches, unless a collation of the user's joins the items
        self.tensors: TensorItems | None = (
            as_tensor_items(dataset, label) if collate is None else None
        )
        self.collate = collate or default_collate
        self.foreign = collate is not None
        self.label, self.names = label, names
        self.stand_in: Any = 0  # label of items that have none, where a collation wants one
        self._kept: KeptLabels | None = None  # labels that were read
        self._bare_rows: set[int] = set()  # items that had none when they were read
        self._labelled: bool | None = None if label is not None else False
        if self.tensors is not None and label is not None:
            self._labelled = self.tensors.targets is not None

    def __len__(self) -> int:
        return len(self.tensors if self.tensors is not None else self.dataset)

    def like(self, dataset: Any) -> Items:
        """Other items that are read in the same way."""
        other = Items(dataset, self.label, self.collate if self.foreign else None, self.names)
        other.stand_in = self.stand_in
        return other

    # --- one item ------------------------------------------------------------------------------

    def split(self, item: Any) -> tuple[Any, Any]:
        """Inputs and label of an item as the data set gives it; None for no label.

        Raises:
            ValueError: it is not known which part is the label.
        """
        if self.label is None:
            return item, None
        if type(item) is tuple and len(item) == 2 and self.label == "auto":
            return item  # the usual case, and there are many
        if isinstance(item, Mapping):
            if not isinstance(self.label, str) or self.label not in item:
                raise ValueError(
                    f"items are mappings with the keys {sorted(map(str, item))}; say which holds "
                    "the label with label='…', or label=None for items without labels"
                )
            return {k: v for k, v in item.items() if k != self.label}, item[self.label]
        if isinstance(item, (tuple, list)):
            if len(item) < 2:
                return item[0], None
            place = label_place(len(item), self.label)
            return without_label(item, place), item[place]
        if (name := labelled_attribute(item, self.label)) is not None:
            return with_attribute(item, name, None), getattr(item, name)
        if isinstance(self.label, str) and self.label != "auto":
            raise ValueError(
                f"label={self.label!r}, but an item is a {type(item).__name__} without such a key "
                "or attribute; name the one that holds the label, or label=None where items carry "
                "none"
            )
        return item, None

    def label_of(self, item: Any) -> Any:
        """Its label, a class for a word; None where it has none.

        Raises:
            ValueError: a word that is no class.
        """
        label = self.split(item)[1]
        if self.names is None or not isinstance(label, str):
            return label
        if label not in self.names:
            raise ValueError(
                f"the label {label!r} is none of the {len(self.names)} classes "
                f"{', '.join(list(self.names)[:10])}; mend it, or set class_names to all of them"
            )
        return self.names[label]

    def _under(self, item: Any, label: Any) -> Any:
        """The item, of its own form, under another label (or under its first one)."""
        if isinstance(item, Mapping):
            key = self.label if self.label not in (None, "auto") else "label"
            return {**item, key: label}
        if (name := labelled_attribute(item, self.label)) is not None:
            return with_attribute(item, name, _shaped(label, getattr(item, name)))
        if not isinstance(item, (tuple, list)):
            return item, label
        if self.label is None or len(item) < 2:
            return (*item, label)
        return with_label(item, label_place(len(item), self.label), label)

    # --- many ----------------------------------------------------------------------------------

    @property
    def labelled(self) -> bool:
        """Whether the items carry labels, or some of them."""
        if self._labelled is None:
            self._labelled = len(self) > 0 and self.split(self.dataset[0])[1] is not None
        return self._labelled

    @labelled.setter
    def labelled(self, value: bool) -> None:
        self._labelled = value

    def read(self, index: Tensor) -> list[Any]:
        """The items as the data set gives them, all at once where it can."""
        rows = index.tolist()
        if callable(many := getattr(self.dataset, "__getitems__", None)):
            found = many(rows)
            if isinstance(found, (list, tuple)) and len(found) == len(rows):
                return list(found)
        return [self.dataset[row] for row in rows]

    def inputs(self, index: Tensor) -> Any:
        """Inputs of some items, joined to a batch; no label is part of it.

        A collation of the user's gets whole items, as in a ``DataLoader``; the label is taken out
        of what it gives.
        """
        if self.tensors is not None:
            return self.tensors.read(index)
        items = self.read(index)
        if not self.foreign or not self.labelled:
            return self._joined([self.split(item)[0] for item in items])
        whole = [
            self._under(item, self.stand_in if no_label(label) else label)
            if no_label(label) or self.names is not None
            else item
            for item in items
            for label in (self.label_of(item),)
        ]
        return self._bare(self.collate(whole))

    def _bare(self, batch: Any) -> Any:
        """The inputs of a batch that the user's collation gave."""
        if isinstance(batch, Mapping):
            key = named_label(batch, self.label)
            if key is not None:
                return {k: v for k, v in batch.items() if k != key}
        elif isinstance(batch, (list, tuple)):
            if self._lists:
                return [self.split(item)[0] for item in batch]
            if len(batch) > 1:
                return without_label(batch, label_place(len(batch), self.label, "a batch"))
        elif (name := labelled_attribute(batch, self.label)) is not None:
            return with_attribute(batch, name, None)
        raise ValueError(
            f"the label cannot be taken out of a batch of type {type(batch).__name__} that collate "
            "gives; let collate give (inputs, labels), a list of items, or a mapping or object "
            "with the label under the key or attribute that label='…' names"
        )

    @cached_property
    def _lists(self) -> bool:
        """Whether the user's collation gives a list with an entry an item: it is as long."""
        rows = torch.arange(5) % len(self)
        items = [self._under(item, self.stand_in) for item in self.read(rows)]
        return all(len(self.collate(items[:n])) == n for n in (4, 5))

    def labels(self, index: Tensor) -> Tensor:
        """Labels [K, ...] of some items, each the item's own; read once.

        Raises:
            ValueError: an item without one.
        """
        if self.tensors is not None:
            assert self.tensors.targets is not None
            return self.tensors.targets[index]
        if (known := self._told) is not None:
            return known[index]
        kept = self._read_labels(index)
        if self._bare_rows and (bare := sorted(self._bare_rows & set(index.tolist()))):
            raise ValueError(
                f"item {bare[0]} carries None or NaN for a label; name the items that have labels "
                "in given=[…], so that the others are a pool that only an oracle can answer"
            )
        return kept.get(index)

    def known(self, index: Tensor) -> Tensor:
        """Which of some items [K] turn out to carry a label when they are read, bool [K].

        A data set that can only be read item by item is not read whole when a run begins.
        """
        if self.tensors is None and self._told is None:
            self._read_labels(index)
        return torch.tensor([row not in self._bare_rows for row in index.tolist()]).bool()

    def _read_labels(self, index: Tensor) -> KeptLabels:
        """All labels that were read, those of some items among them."""
        if self._kept is None:
            self._kept = KeptLabels(len(self))
        unread = self._kept.unread(index)
        if len(unread):
            with seeded(0, 0, "labels"):  # nothing random of an item may move what is drawn later
                for some in unread.split(READ):
                    self._keep(some, self.read(some))
        return self._kept

    def _keep(self, rows: Tensor, items: list[Any]) -> None:
        """Keep the labels of items that were read, and which have none."""
        assert self._kept is not None
        found: dict[int, Tensor] = {}
        for row, item in zip(rows.tolist(), items, strict=True):
            label = self.label_of(item)
            if no_label(label):
                self._bare_rows.add(row)
            else:
                own = labelled_attribute(item, self.label) is not None
                kept = _as_label(label, row)  # objects often hold a class as [1]
                found[row] = kept.reshape(()) if own and kept.numel() == 1 else kept
        if found:
            self._kept.add(torch.tensor(list(found)), list(found.values()))

    @cached_property
    def _told(self) -> Tensor | None:
        """Labels of all items of a data set of ours that says that it knows them without a look."""
        base, rows = base_positions(self.dataset)
        if not getattr(base, "labels_are_targets", False):
            return None
        told: Tensor = base.targets[rows]
        return told

    def strata(self, index: Tensor) -> Tensor:
        """Labels [K] to draw by, from ``dataset.targets`` where the items agree with them."""
        beside = None if self.tensors is not None else self._beside
        return self.labels(index) if beside is None else beside[index]

    @cached_property
    def _beside(self) -> Tensor | None:
        base, rows = base_positions(self.dataset)
        try:
            beside = torch.as_tensor(getattr(base, "targets", None))
        except (TypeError, ValueError, RuntimeError):
            return None
        if beside.ndim != 1 or len(beside) != len(base):
            return None
        beside, some = beside[rows], spread(len(self), ALIKE)
        with seeded(0, 0, "labels"):
            own = [self.label_of(item) for item in self.read(some)]
        try:
            alike = all(float(a) == float(b) for a, b in zip(own, beside[some], strict=True))
        except (TypeError, ValueError, RuntimeError):
            return None
        return beside if alike else None

    def batch(self, index: Tensor, overlay: tuple[Tensor, Tensor] | None = None) -> Any:
        """A batch as the data set's own collation would give it.

        Args:
            index: positions [n].
            overlay: (answers [n, ...], answered [n] bool): labels that replace the data set's own.

        Raises:
            ValueError: an item without a label and without an answer.
        """
        if self.tensors is not None:
            return self._tensor_batch(index, overlay)
        items = []
        own = overlay is None and self.names is None  # items go on as they are
        for row, (i, item) in enumerate(zip(index.tolist(), self.read(index), strict=True)):
            label = self.label_of(item)
            if overlay is not None and overlay[1][row]:
                label = overlay[0][row]
            if no_label(label):
                raise ValueError(
                    f"item {i} has no label in the data set and no answer was given; name the "
                    "items that have labels in given=[…], or remove it"
                )
            items.append(item if own else self._under(item, _as_label(label, i)))
        return self._joined(items)

    def _joined(self, items: list[Any]) -> Any:
        """Items as a batch."""
        try:
            return self.collate(items)
        except (TypeError, RuntimeError) as error:
            if self.foreign:
                raise
            raise type(error)(
                f"torch cannot join items to a batch ({error}); give collate=…, as in a DataLoader"
            ) from error

    def _tensor_batch(self, index: Tensor, overlay: tuple[Tensor, Tensor] | None) -> Any:
        assert self.tensors is not None
        inputs, own = self.tensors.read(index), self.tensors.targets
        if overlay is None and own is None:
            raise ValueError("these items have no labels; give answers for them")
        if own is None:
            assert overlay is not None
            answers, answered = overlay
            if not bool(answered.all()):
                bare = index[~answered].tolist()
                raise ValueError(f"items {bare[:5]} have neither label nor answer")
            labels = answers
        else:
            labels = own[index]
            if overlay is not None:
                labels[overlay[1]] = overlay[0][overlay[1]].to(labels.dtype)
        return (*inputs, labels) if isinstance(inputs, tuple) else (inputs, labels)


def no_label(value: Any) -> bool:
    """Whether what stands where a label should is none: None, or a number that is NaN."""
    if value is None:
        return True
    if isinstance(value, Tensor):
        return value.ndim == 0 and value.is_floating_point() and bool(value.isnan())
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _as_label(value: Any, item: int) -> Tensor:
    """One label as a tensor; of the type that torch's collation gives it."""
    try:
        return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise ValueError(
            f"labels must be numbers, tensors or class names, got {kind} {str(value)[:60]!r} for "
            f"item {item}; let the data set give the number of the class"
        ) from None


def _shaped(label: Any, own: Any) -> Any:
    """A label in the form in which an object holds its own, which may be [1] for a number."""
    alike = isinstance(label, Tensor) and isinstance(own, Tensor)
    return label.reshape(own.shape) if alike and label.numel() == own.numel() else label


def parts_that_count(items: Sequence[Any], index: Tensor) -> list[int]:
    """Which parts of some tuples are their own positions [n], as an index beside them is."""
    rows = index.tolist()
    return [
        place
        for place in range(len(items[0]))
        if all(_equals(item[place], row) for item, row in zip(items, rows, strict=True))
    ]


def _equals(value: Any, number: int) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim == 0 and bool(value == number)
    return isinstance(value, (int, np.integer)) and int(value) == number
