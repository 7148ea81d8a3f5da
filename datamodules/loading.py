"""A loader for small work: batches read in this process, tensors several batches at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["InProcess"]

CHUNK = 2**18  # numbers read at once: 1 MiB of float32


class BatchView(Protocol):
    """Rows [n] -> a batch; where ``plain``, one of tensors [n, ...] that may be cut along n."""

    @property
    def plain(self) -> bool: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> Any: ...


class InProcess:
    """What a ``DataLoader`` without workers does, without what only workers need.

    A small fit spends a tenth of its time in the stock loader. Lightning finds ``sampler`` here
    and tells it the epoch. Batches of one view in memory are cut from one reading.

    Args:
        view: takes the rows of a batch at once.
        sampler: iterable over the rows [n] of each batch, with a length.
    """

    batch_sampler = None  # Lightning asks
    batch_size = None  # as of a DataLoader whose sampler gives whole batches
    num_workers = 0
    drop_last = False
    in_process = True  # a bare loop may iterate over it: batches are read when they are asked for

    def __init__(self, view: BatchView, sampler: Any) -> None:
        self.view, self.sampler = view, sampler
        self._many = 1  # batches a reading; known after the first

    @property
    def dataset(self) -> BatchView:
        """What is read, with one entry an item, as a ``DataLoader`` has it."""
        return self.view

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        if self.view.plain:
            return self._cut()
        return (self.view[rows] for rows in self.sampler)

    def _cut(self) -> Iterator[tuple[Tensor, ...]]:
        order = iter(self.sampler)
        while some := list(islice(order, self._many)):
            sizes = [len(rows) for rows in some]
            read = self.view[torch.cat(some)]
            self._many = max(1, CHUNK * len(some) // max(1, sum(part.numel() for part in read)))
            yield from zip(*(part.split(sizes) for part in read), strict=True)
