"""The pool point nearest to a place, for strategies that name places: a tree, built once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_al.records import Pool

__all__ = ["Found", "Members", "Nearest", "PoolPoints"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
CHECKED = 16  # points of a remembered pool that are read again, to see that it is the same
MORE = 8  # times as many neighbours are asked for where those found are gone


@dataclass(frozen=True)
class Found:
    """A candidate near a place."""

    item: int  # position in the data set
    point: Array  # [D]
    distance: float


class Nearest:
    """Points in a k-d tree, of which ever fewer remain.

    Args:
        index: positions in the data set [N], int64, each once.
        points: [N, D], finite.
    """

    def __init__(self, index: Tensor, points: Array) -> None:
        from scipy.spatial import cKDTree  # inside: SciPy loads slowly

        self.ascending = bool((index[1:] > index[:-1]).all())  # as they came
        order = index.argsort()
        self.index: Rows = index[order].numpy()
        self.points: Array = np.ascontiguousarray(points[order.numpy()], dtype=np.float64)
        self._tree = cKDTree(self.points)
        self._gone: set[int] = set()  # rows; what was gone once does not come back

    def __len__(self) -> int:
        return len(self.index)

    def find(self, place: Array, members: Members, generator: torch.Generator) -> Found:
        """The nearest of the points that remain; of several, one drawn by the generator.

        Args:
            place: [D].
            members: who is still a candidate.
            generator: for ties.

        Raises:
            ValueError: none remains.
        """
        tied: list[int] = []
        distance = 0.0
        for rows, distances in self._rings(place):  # no two rings share a distance
            for row, away in zip(rows.tolist(), distances.tolist(), strict=True):
                if tied and away > distance:
                    break
                if self._here(row, members):
                    tied.append(row)
                    distance = away
            if tied:
                row = tied[self._drawn(len(tied), generator)]
                return Found(int(self.index[row]), self.points[row], distance)
        raise ValueError("no candidate is left in the pool; end the run, or lower the budget")

    def blocks(self, place: Array, members: Members) -> Iterator[Rows]:
        """Rows that remain, block by block, the nearest first."""
        for rows, _ in self._rings(place):
            here = rows[members.among(self.index[rows])]
            if len(here):
                yield here

    def _rings(self, place: Array) -> Iterator[tuple[Rows, Array]]:
        """All rows with their distances, ascending, in growing blocks.

        Among equal distances the order is that of the rows.
        """
        seen, ask = 0, 2
        while seen < len(self):
            ask = min(ask, len(self))
            distances, rows = self._tree.query(place, k=np.arange(1, ask + 1))
            whole = ask
            if ask < len(self):  # which of those as far as the last one were given is chance
                whole = int(np.searchsorted(distances, distances[-1]))
            if whole > seen:
                part = slice(seen, whole)
                order = np.lexsort((rows[part], distances[part]))
                yield rows[part][order], distances[part][order]
                seen = whole
            ask *= MORE

    def _here(self, row: int, members: Members) -> bool:
        if row in self._gone:
            return False
        if int(self.index[row]) in members:
            return True
        self._gone.add(row)
        return False

    @staticmethod
    def _drawn(n: int, generator: torch.Generator) -> int:
        """One of n, in the order of their positions, so that the order of the pool is nothing."""
        if n == 1:
            return 0
        return int(torch.randint(n, (1,), generator=generator, device=generator.device))


class Members:
    """Who is a candidate: ``item in members``, without a copy of the pool.

    Args:
        index: positions [N], in any order.
        ascending: they are known to ascend, so that nobody is looked for twice.
    """

    def __init__(self, index: Tensor, ascending: bool = False) -> None:
        self.index: Rows = index.cpu().numpy()
        self.ascending = ascending

    def __contains__(self, item: int) -> bool:
        place = int(np.searchsorted(self.index, item))
        if place < len(self.index) and int(self.index[place]) == item:
            return True
        return not self.ascending and bool((self.index == item).any())

    def among(self, items: Rows) -> NDArray[np.bool_]:
        """Which of some items [n] are candidates."""
        places = np.searchsorted(self.index, items).clip(max=max(len(self.index) - 1, 0))
        here: NDArray[np.bool_] = self.index[places] == items
        if not self.ascending and not here.all():
            here[~here] = np.isin(items[~here], self.index)
        return here


@dataclass
class PoolPoints:
    """The points of a run's pool, remembered from round to round.

    A run's pool only ever shrinks, and keeps its order. What is remembered serves as long as the
    rounds go on and a sample of the points reads as before; a new run, or a part of a pool, begins
    anew.
    """

    _tree: Nearest | None = None
    _round: int = -1
    _scale: Any = field(default=None)

    def of(self, pool: Pool, scaled: Callable[[Tensor], Array], scale: Any) -> Nearest:
        """The tree of a pool of N >= 1 candidates.

        Args:
            pool: its ``bench`` gives the inputs.
            scaled: inputs [n, ...] -> points [n, D].
            scale: what ``scaled`` depends on; compared with that of the round before.
        """
        whole = len(pool) == pool.context.n_pool
        tree = self._tree
        later = pool.context.round > self._round and scale == self._scale
        if tree is None or not (whole and later and self._same(tree, pool, scaled)):
            tree = Nearest(pool.index.cpu(), scaled(inputs_of(pool)))
        self._tree, self._round, self._scale = tree if whole else None, pool.context.round, scale
        return tree

    @staticmethod
    def _same(tree: Nearest, pool: Pool, scaled: Callable[[Tensor], Array]) -> bool:
        if len(pool) > len(tree):
            return False
        count = min(CHECKED, len(pool))
        rows = torch.arange(count) * (len(pool) - 1) // max(count - 1, 1)
        items = pool.index[rows].cpu().numpy()
        places = np.searchsorted(tree.index, items).clip(max=len(tree) - 1)
        read = scaled(inputs_of(pool, rows))
        if tree.ascending and not (items[1:] > items[:-1]).all():
            return False
        return bool(
            (tree.index[places] == items).all() and np.array_equal(tree.points[places], read)
        )

    def __reduce__(self) -> Any:
        return PoolPoints, ()  # a copy remembers nothing


def inputs_of(pool: Pool, rows: Tensor | None = None) -> Tensor:
    """Raw inputs [n, ...] of a pool, or of some rows of it, in that order; the labels stay away.

    Raises:
        ValueError: items that are not one tensor each.
    """
    batches = list(pool.bench.inputs(pool.index if rows is None else pool.index[rows]))
    if not batches or not all(isinstance(batch, Tensor) for batch in batches):
        kind = type(batches[0]).__name__ if batches else "nothing"
        raise ValueError(
            f"places need items that are one tensor of numbers each, got {kind}; let the data set "
            "give its inputs as a tensor [n, D]"
        )
    return torch.cat(batches)
