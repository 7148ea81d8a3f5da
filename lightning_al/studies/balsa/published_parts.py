"""Parts that choose as BALSA's released code chose (Werner and Schmidt-Thieme 2025).

What else is its own is said in a configuration: early stopping that takes the worse for the better
(``EarlyStopping(monitor="val/nll", mode="max", patience=6)``), the last weights instead of the
best, weights that go on from round to round, an encoder without activations, the window of nodes,
and strategies under ``variant: published``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool
from lightning_al.strategies import resolve
from lightning_al.strategies.around.composition import Composition
from lightning_al.strategies.selection import check_k, top_k
from lightning_al.strategies.sets import SetStrategy, closest, covered_embedding

__all__ = ["FarthestAtOnce", "OneRefitAPoint"]


@dataclass(frozen=True, repr=False, eq=False)
class FarthestAtOnce(SetStrategy):
    """The k candidates farthest from any labelled one, without an eye on each other.

    Their coreset: no distance is looked at again inside a batch, which may hold near copies. The
    greedy one is ``k-center``, the same for one item a query.
    """

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The k largest distances; without labelled items all are equally far."""
        points, labelled = pool.embedding, covered_embedding(pool)
        far = torch.zeros(len(points), dtype=torch.float64)
        if len(labelled):
            far = closest(points, labelled)[0].sqrt()
        return top_k(far, k, generator)


@dataclass(repr=False, eq=False)
class OneRefitAPoint(Composition):
    """Chooses ``batch`` items at a time and asks for them query by query, with a fit behind each.

    With one item a query, their refits: the model is fitted once for each item of a batch, while
    all of the batch was chosen before the first of these.

    Args:
        strategy: that chooses the batch, or its specification.
        batch: how many.
    """

    strategy: Any = "random"
    batch: int = 50

    waiting: list[int] = field(default_factory=list, init=False, repr=False)  # positions, in order

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"a batch holds at least 1 item, got {self.batch}")
        self.strategy = resolve(self.strategy)

    @property
    def inside(self) -> tuple[Any, ...]:
        """The strategy."""
        return (self.strategy,)

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The next k of what was chosen; a new batch where none is left.

        Raises:
            ValueError: more asked than there are.
        """
        check_k(candidates.index, k)
        there = set(candidates.index.tolist())
        self.waiting = [item for item in self.waiting if item in there]
        view, asked = self.views(candidates)[0], list[int]()
        while len(asked) < k:
            if not self.waiting:
                left = ~torch.isin(view.index, view.index.new_tensor(asked))
                rest = view.subset(left.nonzero().squeeze(1))
                chosen = self.strategy.choose(rest, min(self.batch, len(rest)), generator)
                self.waiting = chosen.index.tolist()
            asked.append(self.waiting.pop(0))
        return Acquisition(index=candidates.index.new_tensor(asked))

    def state_dict(self) -> dict[str, Any]:
        """What is yet to be asked for, and the strategy's own memory."""
        return {**super().state_dict(), "waiting": list(self.waiting)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        super().load_state_dict(state)
        self.waiting = list(state["waiting"])
