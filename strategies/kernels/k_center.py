"""k-center greedy: again and again the item farthest from everything labelled or chosen."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ..selection import check_k
from .distances import MEMORY, Space, check_finite
from .frontier import Frontier
from .shards import Shards

__all__ = ["k_center_greedy"]


def k_center_greedy(
    pool: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator | None = None,
    *,
    memory: int = MEMORY,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Greedy k-center: pool [N, E] (, labelled [L, E]) -> rows [K], in the order of choice.

    Each pick is the row whose Euclidean distance to the nearest labelled or chosen row is
    largest. Without labelled rows the first pick is drawn by the generator (Gonzalez allows any);
    the covering radius is then at most twice the best one.

    The picks are those of brute force in float64 whose squared distances are rounded to float32;
    what is equal then is a tie, settled by a random order of the items that the generator gives
    (a fixed one if None). A row is chosen once; duplicates of what is covered have distance 0 and
    come last, in that random order.

    Exact, yet without a pass over the pool for each pick: a distance from the past is an upper
    bound, so only rows whose bound exceeds the best exact distance are looked at again.

    Args:
        pool: the candidates; any float type, any device that knows float64.
        labelled: what is covered already; None or [0, E] for a cold start.
        k: how many, 0 to N.
        generator: for ties and a cold start.
        memory: bytes that blocks may take, beside the input and about 25 bytes an item.
        group: the process group of a pool that is sharded over ranks: ``pool`` is then this
            rank's run of rows, in rank order; ``labelled``, ``k`` and the generator's state are
            the same on all ranks, and so is the result, positions in the whole pool.

    Source: Gonzalez, Clustering to minimize the maximum intercluster distance (1985); Sener and
    Savarese, Active Learning for CNNs: A Core-Set Approach (2018), algorithm 1; lazy evaluation
    after Minoux (1978).

    Raises:
        ValueError: not two axes, another number of features, k > N, rows that are not finite.

    >>> k_center_greedy(torch.tensor([[0.0], [1.0], [5.0], [9.0]]), torch.tensor([[0.0]]), 2)
    tensor([3, 2])
    """
    shards, problem, frontier = Shards.of(len(pool), group), None, None
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    seed = _draw(2**62, generator)
    try:
        _check(pool, labelled, k, shards)
        if k > 0:
            space = Space([pool], memory, "pool [N, E]")
            covered = space.outside([pool[:0] if labelled is None else labelled])
            frontier = Frontier(space, covered, k, seed, shards.start)
    except ValueError as error:
        problem = error
    shards.agree(problem)
    rows: list[int] = []
    if frontier is not None:
        if labelled is None or len(labelled) == 0:
            rows.append(_draw(shards.total, generator))
            _begin(frontier, shards, rows[0])
        while len(rows) < k:
            rows.append(_step(frontier, shards))
    return torch.tensor(rows, dtype=torch.int64, device=pool.device)


def _check(pool: Tensor, labelled: Tensor | None, k: int, shards: Shards) -> None:
    if pool.ndim == 2:  # what counts is the size of the whole pool
        pool = pool[:1].new_empty(1, pool.shape[1]).expand(shards.total, -1)
    check_k(pool, k, axes=2)
    if labelled is None:
        return
    if labelled.ndim != 2 or labelled.shape[1] != pool.shape[1]:
        raise ValueError(
            f"k_center_greedy needs labelled [L, E] with the pool's E = {pool.shape[1]} features, "
            f"got {list(labelled.shape)}; take both from the same layer"
        )
    check_finite(labelled.double().square().sum(1), "labelled [L, E]")


def _draw(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (1,), generator=generator, device=generator.device).item())


def _begin(frontier: Frontier, shards: Shards, position: int) -> None:
    """Count the row at a position of the whole pool as the first centre, on every rank."""
    space = frontier.space
    point = shards.rows(space.factors[0], [position])[0]
    if 0 <= position - shards.start < len(space):
        frontier.remove(position - shards.start)
    frontier.add(_relative(space, point))


def _step(frontier: Frontier, shards: Shards) -> int:
    """One pick: the best of the ranks' best, which then is a centre on every rank."""
    value, key, row = frontier.best()
    if shards.group is None:
        frontier.choose()
        return row
    space = frontier.space
    # float64 has 53 bits: the 64-bit key travels in two halves, in its order
    head = [value, float(key >> 32), float(key & 0xFFFFFFFF), float(shards.start + row)]
    point = (
        space.factors[0][row].double()
        if row >= 0
        else space.factors[0].new_zeros(space.factors[0].shape[1], dtype=torch.float64)
    )
    offers = shards.gather(torch.cat([point.new_tensor(head), point]))
    table = offers[:, :4].tolist()
    winner = min(table, key=lambda offer: (-offer[0], offer[1], offer[2]))
    position = int(winner[3])
    if row >= 0 and position == shards.start + row:
        frontier.choose()
    else:
        frontier.add(_relative(space, offers[table.index(winner), 4:]))
    return position


def _relative(space: Space, point: Tensor) -> Tensor:
    return space.outside([point[None]]).factors[0][0]
