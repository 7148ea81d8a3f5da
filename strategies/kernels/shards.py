"""A pool that lies on several ranks: each holds one run of it, in rank order."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Shards"]


@dataclass(frozen=True)
class Shards:
    """Where this rank's rows lie in the whole pool, and the few collectives a kernel needs.

    ``group=None`` in a kernel means one process with the whole pool; ``Shards.of(n, group)`` asks
    the ranks of a ``torch.distributed`` group.
    """

    start: int  # position of this rank's first row in the whole pool
    total: int  # rows of the whole pool
    group: dist.ProcessGroup | None = field(default=None, repr=False)
    world: int = 1
    rank: int = 0

    @staticmethod
    def of(rows: int, group: dist.ProcessGroup | None) -> Shards:
        """The layout, from each rank's number of rows."""
        if group is None:
            return Shards(0, rows)
        world = dist.get_world_size(group)
        counts = [0] * world
        dist.all_gather_object(counts, rows, group=group)
        rank = dist.get_rank(group)
        return Shards(sum(counts[:rank]), sum(counts), group, world, rank)

    def holds(self, position: int, rows: int) -> bool:
        """Whether a position of the whole pool is one of this rank's ``rows``."""
        return self.start <= position < self.start + rows

    def gather(self, values: Tensor) -> Tensor:
        """Every rank's float64 values [m], in rank order: [world, m]."""
        if self.group is None:
            return values[None]
        everyone = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(everyone, values.contiguous(), group=self.group)
        return torch.stack(everyone)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def agree(self, problem: Exception | None) -> None:
        """Raise on every rank what any rank met, so that none waits for another for ever."""
        if self.group is not None:
            problems: list[Exception | None] = [None] * self.world
            dist.all_gather_object(problems, problem, group=self.group)
            problem = next((p for p in problems if p is not None), None)
        if problem is not None:
            raise problem
