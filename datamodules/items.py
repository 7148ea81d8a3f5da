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
from lightning_al.records import label_place, named_label, with_label, without_label

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
            has the position ``label``, a mapping that holds it under ``label``, or inputs alone.
        label: key or position of the label; None says that items carry none; "auto" takes the
            second of two parts.
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
            return self.collate([self.split(item)[0] for item in items])
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
        raise ValueError(
            f"the label cannot be taken out of a batch of type {type(batch).__name__} that collate "
            "gives; let collate give (inputs, labels), a list of items, or a mapping with the "
            "label under the key that label='…' names"
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
        if self._kept is None:
            self._kept = KeptLabels(len(self))
        unread = self._kept.unread(index)
        if len(unread):
            with seeded(0, 0, "labels"):  # nothing random of an item may move what is drawn later
                for some in unread.split(READ):
                    pairs = zip(self.read(some), some.tolist(), strict=True)
                    self._kept.add(some, [_as_label(self.label_of(i), row) for i, row in pairs])
        return self._kept.get(index)

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
                raise ValueError(f"item {i} has no label in the data set and no answer was given")
            items.append(item if own else self._under(item, _as_label(label, i)))
        return self.collate(items)

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
    if value is None:
        raise ValueError(
            f"item {item} carries None for a label; name the items that have labels in given=[…], "
            "so that the others are a pool that only an oracle can answer"
        )
    try:
        return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise ValueError(
            f"labels must be numbers, tensors or class names, got {kind} {str(value)[:60]!r} for "
            f"item {item}; let the data set give the number of the class"
        ) from None


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
