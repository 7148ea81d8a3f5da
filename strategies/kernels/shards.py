"""A pool that lies on several ranks: each holds one run of it, in rank order."""

from __future__ import annotations

from collections.abc import Sequence
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

    def rows(self, mine: Tensor, positions: Sequence[int]) -> Tensor:
        """Rows of the whole pool, of which this rank has ``mine`` [n, E]: float64 [m, E]."""
        at = torch.as_tensor(positions, dtype=torch.int64, device=mine.device) - self.start
        if self.group is None:
            return mine[at].double()
        found = mine.new_zeros((len(at), mine.shape[1]), dtype=torch.float64)
        held = (at >= 0) & (at < len(mine))
        found[held] = mine[at[held]].double()
        return self.sum(found)

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
