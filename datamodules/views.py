"""Read-only views of a data set: labelled batches with the answers laid over, bare pool batches.

All of them take a whole batch of rows at once, so one loader (:func:`batches`) serves tensors and
any map-style data set alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lightning_al.randomness import generator

from .items import Items
from .loading import InProcess

__all__ = ["Bare", "Batches", "Labelled", "batches", "drawn_rows"]


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
