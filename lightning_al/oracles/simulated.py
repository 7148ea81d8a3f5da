"""The oracle that knows: the labels that the data set carries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers

__all__ = ["SimulatedOracle"]


@dataclass(frozen=True)
class SimulatedOracle:
    """Answers with the labels that the data set carries; each costs ``cost``.

    Args:
        cost: of each answer.
    """

    cost: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise ValueError(f"cost must be a finite number from 0, got {self.cost}")

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers:
        """The data set's own labels [K, ...] of the items ``index`` [K].

        Raises:
            ValueError: items that carry no label; a person or a file must answer for those.
        """
        bare = index[~datamodule.has_label(index)]
        if len(bare):
            raise ValueError(
                f"the simulated oracle has no label for {len(bare)} of {len(index)} items, first: "
                f"{bare.tolist()[:5]}; the data set carries none: give another oracle, or use "
                "`suggest` and label them yourself"
            )
        values = datamodule.outcomes.named(datamodule.labels(index))
        return Answers(values=values, cost=self.price(index, datamodule))

    def check(self, datamodule: Any) -> None:
        """Refuse a pool with items that carry no label.

        Raises:
            ValueError: there are some.
        """
        bare = datamodule.pool[~datamodule.has_label(datamodule.pool)]
        if len(bare):
            raise ValueError(
                f"the simulated oracle has no label for {len(bare)} of {len(datamodule.pool)} "
                f"candidates, first: {bare.tolist()[:5]}; give another oracle (--oracle File asks "
                "people), or use `suggest` and label them yourself"
            )

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What each item [K] costs."""
        return torch.full((len(index),), self.cost, dtype=torch.float64)
