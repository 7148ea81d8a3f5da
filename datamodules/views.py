"""Read-only views of a data set: labelled batches with the answers laid over, bare pool batches.

All of them take a whole batch of rows at once, so one loader (:func:`batches`) serves tensors and
any map-style data set alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from lightning_al.randomness import generator

from .loading import InProcess
from .tensors import TensorItems, as_tensor_items

__all__ = ["Bare", "Batches", "Items", "Labelled", "batches", "drawn_rows"]


class Items:
    """How to read the items of one data set: inputs and label apart.

    Args:
        dataset: any map-style data set. An item is a tuple whose last part is the label, a mapping
            that holds it under ``label``, or inputs alone (``label=None``).
        label: key of the label in mappings; None says that items carry no label; "auto" takes the
            last part of tuples.
        collate: joins a list of items; torch's default.
    """

    def __init__(
        self, dataset: Any, label: str | None = "auto", collate: Callable[..., Any] | None = None
    ) -> None:
        self.dataset = dataset
        # tensors are read in batches, unless a collation of the user's joins the items
        self.tensors: TensorItems | None = as_tensor_items(dataset) if collate is None else None
        self.collate = collate or default_collate
        self.label = label
        self._labelled: bool | None = None if label is not None else False
        if self.tensors is not None and label is not None:
            self._labelled = self.tensors.targets is not None

    def __len__(self) -> int:
        return len(self.tensors if self.tensors is not None else self.dataset)

    def _split(self, item: Any) -> tuple[Any, Any]:
        if self.label is None:
            return item, None
        if isinstance(item, dict):
            if self.label not in item:
                raise ValueError(
                    f"items are mappings with the keys {sorted(map(str, item))}; say which holds "
                    "the label with label='…', or label=None for items without labels"
                )
            return {k: v for k, v in item.items() if k != self.label}, item[self.label]
        if isinstance(item, (tuple, list)) and len(item) > 1:
            inputs = item[0] if len(item) == 2 else tuple(item[:-1])
            return inputs, item[-1]
        return (item[0] if isinstance(item, (tuple, list)) else item), None

    @property
    def labelled(self) -> bool:
        """Whether the items carry labels."""
        if self._labelled is None:
            self._labelled = len(self) > 0 and self._split(self.dataset[0])[1] is not None
        return self._labelled

    def inputs(self, index: Tensor) -> Any:
        """Inputs of some items, joined to a batch; no label is part of it."""
        if self.tensors is not None:
            return self.tensors.read(index)
        return self.collate([self._split(self.dataset[int(i)])[0] for i in index])

    def labels(self, index: Tensor) -> Tensor:
        """Labels [K, ...] of some items, from ``dataset.targets`` where those are the labels."""
        if self.tensors is not None:
            assert self.tensors.targets is not None
            return self.tensors.targets[index]
        data = self.dataset
        targets = getattr(data, "targets", None)
        if getattr(data, "target_transform", None) is not None:  # the items' labels are others
            targets = None
        if targets is not None and len(targets) == len(data):
            return torch.stack([_as_label(targets[int(i)]) for i in index])
        return torch.stack([_as_label(self._split(data[int(i)])[1]) for i in index])

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
        for row, i in enumerate(index.tolist()):
            item = self.dataset[i]
            label = self._split(item)[1]
            if overlay is not None and overlay[1][row]:
                label = overlay[0][row]
            if label is None:
                raise ValueError(f"item {i} has no label in the data set and no answer was given")
            items.append(item if overlay is None else self._relabelled(item, _as_label(label)))
        return self.collate(items)

    def _relabelled(self, item: Any, label: Tensor) -> Any:
        """The item, of its own form, under another label (or under its first one)."""
        if isinstance(item, dict):
            key = self.label if self.label not in (None, "auto") else "label"
            return {**item, key: label}
        if not isinstance(item, (tuple, list)):
            return item, label
        inputs = item[:-1] if self.label is not None and len(item) > 1 else item
        return (*inputs, label)

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


def _as_label(value: Any) -> Tensor:
    """One label as a tensor; of the type that torch's collation gives it."""
    return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


@dataclass(frozen=True)
class Labelled(Dataset):
    """Rows -> training or evaluation batch of the items ``index[rows]``."""

    items: Items
    index: Tensor  # [n] positions in the data set
    overlay: tuple[Tensor, Tensor] | None = None  # answers [n, ...], answered [n] bool

    @property
    def plain(self) -> bool:
        """Whether batches are tensors as they lie in memory, so that many are read as one."""
        return self.items.tensors is not None and self.items.tensors.transform is None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> Any:
        laid = None if self.overlay is None else (self.overlay[0][rows], self.overlay[1][rows])
        return self.items.batch(self.index[rows], laid)


@dataclass(frozen=True)
class Bare(Dataset):
    """Rows -> (positions in the data set [n], inputs [n, ...]): nothing of a label."""

    items: Items
    index: Tensor
    plain: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Any]:
        index = self.index[rows]
        return index, self.items.inputs(index)


class Batches(DistributedSampler[Tensor]):
    """Batches of rows of one epoch, the same order on every rank.

    Rank ``r`` of ``world`` takes ``order[r::world]``, so the union of the ranks' batches is the
    batch that one process with ``world`` times the batch size would see. Being a
    ``DistributedSampler`` it is left alone by Lightning. In order, all ranks take the same number
    of steps: a last batch with less than a row each joins the one before it. When padded, so does a
    last batch of one row (batch normalisation cannot train on a single row).

    Args:
        n: rows.
        size: batch size a process.
        shuffle: (seed, round) that keys the order of each epoch; None keeps the order.
        pad: repeat rows so that every rank takes the same number of steps (training).
        odds: [n]; an epoch is then n draws of rows by these, instead of each row once.
    """

    def __init__(
        self,
        n: int,
        size: int,
        *,
        shuffle: tuple[int, int] | None = None,
        rank: int = 0,
        world: int = 1,
        pad: bool = False,
        odds: Tensor | None = None,
    ) -> None:
        self.n, self.size, self.shuffle_key = n, size, shuffle
        self.rank, self.world, self.pad, self.odds = rank, world, pad, odds
        self.epoch = 0

    def _rows(self) -> int:
        if self.pad:
            return -(-self.n // self.world)
        return len(range(self.rank, self.n, self.world))

    def __len__(self) -> int:
        if self._in_order:
            return len(self._starts())
        rows = self._rows()
        full = -(-rows // self.size)
        return full - 1 if self._joins(rows) else full

    @property
    def _in_order(self) -> bool:
        return self.shuffle_key is None and not self.pad

    def _joins(self, rows: int) -> bool:
        return self.pad and rows > self.size > 1 and rows % self.size == 1

    def _starts(self) -> range:
        """First rows of the batches of all ranks together; each rank has a part of each."""
        stride = self.size * self.world
        starts = range(0, self.n if self.rank < self.n else 0, stride)
        return starts[:-1] if len(starts) > 1 and self.n - starts[-1] < self.world else starts

    def __iter__(self) -> Iterator[Tensor]:
        if self._in_order:  # no index of all rows is built
            starts = self._starts()
            stride = self.size * self.world
            return (
                torch.arange(s + self.rank, self.n if s == starts[-1] else s + stride, self.world)
                for s in starts
            )
        if self.shuffle_key is None:
            order = torch.arange(self.n)
        else:
            drawn = generator(*self.shuffle_key, "shuffle", self.epoch)
            if self.odds is None:
                order = torch.randperm(self.n, generator=drawn)
            else:
                order = drawn_rows(self.odds, drawn)
        if self.pad and self.n % self.world:
            short = self.world - self.n % self.world
            order = torch.cat([order, order.repeat(-(-short // max(self.n, 1)))[:short]])
        order = order[self.rank :: self.world]
        chunks: Sequence[Tensor] = order.split(self.size) if len(order) else ()
        if self._joins(len(order)):
            chunks = [*chunks[:-2], torch.cat(tuple(chunks[-2:]))]
        return iter(chunks)


def drawn_rows(odds: Tensor, drawn: torch.Generator) -> Tensor:
    """N rows drawn by their odds [n], with replacement; by inversion, so that n has no limit."""
    edges = odds.double().cumsum(0)
    points = torch.rand(len(odds), generator=drawn, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, points, right=True).clamp_max(len(odds) - 1)


def _same(batch: Any) -> Any:
    return batch


def batches(
    view: Labelled | Bare, sampler: Batches, workers: int = 0, **more: Any
) -> DataLoader | InProcess:
    """A loader that hands whole batches of rows to ``view``."""
    if not workers:
        return InProcess(view, sampler)
    return DataLoader(
        view,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_same,
        persistent_workers=False,
        **more,
    )
