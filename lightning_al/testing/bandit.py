"""A strategy that learns across rounds which of several to follow: a test double with a memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool
from lightning_al.strategies import resolve
from lightning_al.strategies.around.composition import Composition

__all__ = ["Bandit"]


@dataclass(repr=False, eq=False)
class Bandit(Composition):
    """Follows one of several strategies a round, the one of the largest upper bound (UCB1).

    The reward of a round is how much the mean of the first part's score fell over the pool until
    the next one. It is small, and meant for tests of what a memory needs: all that it has learnt
    lies in :meth:`state_dict`.

    Source of the rule: Auer, Cesa-Bianchi and Fischer, Finite-time Analysis of the Multiarmed
    Bandit Problem (2002), figure 1.

    Args:
        parts: strategies, or specifications; the first one scores.
    """

    parts: Sequence[Any] = ("entropy", "random", "margin")

    counts: Tensor = field(init=False, repr=False)  # [arms]
    rewards: Tensor = field(init=False, repr=False)  # [arms], sums
    last: int = field(default=-1, init=False, repr=False)  # the arm of the round before
    level: float = field(default=math.nan, init=False, repr=False)  # mean score of it

    def __post_init__(self) -> None:
        self._inside = tuple(map(resolve, self.parts))
        self.counts = torch.zeros(len(self._inside), dtype=torch.float64)
        self.rewards = torch.zeros(len(self._inside), dtype=torch.float64)

    @property
    def inside(self) -> tuple[Any, ...]:
        """The arms."""
        return self._inside

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """By the arm of this round; what the last one brought is taken in first."""
        table = self.table(candidates)
        level = float(table[:, 0].double().mean()) if table.numel() else 0.0
        if self.last >= 0:
            self.counts[self.last] += 1
            self.rewards[self.last] += self.level - level
        new = (self.counts == 0).nonzero().flatten()
        if len(new):
            arm = int(new[0])
        else:
            wide = (2 * self.counts.sum().log() / self.counts).sqrt()
            arm = int((self.rewards / self.counts + wide).argmax())
        chosen: Acquisition = self._inside[arm].choose(self.views(candidates)[arm], k, generator)
        self.last, self.level = arm, level
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, and the arms' own memory."""
        mine = {"counts": self.counts.clone(), "rewards": self.rewards.clone()}
        return {**super().state_dict(), **mine, "last": self.last, "level": self.level}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        super().load_state_dict(state)
        self.counts, self.rewards = state["counts"].clone(), state["rewards"].clone()
        self.last, self.level = int(state["last"]), float(state["level"])
